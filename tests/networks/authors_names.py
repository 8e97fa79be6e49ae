"""The authors' state dicts as our parameter tree."""

import jax.numpy as jnp

from draem_jax.pytorch.names import NETWORKS, entries


def from_authors(arrays):
    """Arranges a flat state dict of both networks as {"params": …, "batch_stats": …}.

    What it lacks is left out, as the statistics are among gradients.
    """
    variables = {"params": {}, "batch_stats": {}}
    for network in NETWORKS:
        for entry in entries(network):
            if (name := f"{network}.{entry.name}") not in arrays:
                continue
            tree = variables[entry.collection].setdefault(network, {})
            for part in entry.path[:-1]:
                tree = tree.setdefault(part, {})
            tree[entry.path[-1]] = entry.from_torch(arrays[name])
    return variables


def nhwc(array):
    return jnp.moveaxis(jnp.asarray(array), 1, -1)
