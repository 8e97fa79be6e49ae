"""Whether the devices still agree: each holds a copy of the state, of which only the first is read.

A step gives all of them the same numbers, so that copies that differ come from a device or its
memory, or from a program that does not average what it must.
"""

from typing import Any

import jax
import numpy as np

from draem_jax.errors import UserError
from draem_jax.training.state import TrainState


def refuse_different(state: TrainState) -> None:
    """Compares the copies of the networks on this host's devices, bit by bit.

    The optimizer's part is left out: what differs there differs in the networks a step later.

    Args:
        state: that is replicated over devices.

    Raises:
        UserError: they differ.
    """
    for path, array in jax.tree_util.tree_leaves_with_path(state.networks()):
        if (device := _differing(array)) is None:
            continue
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        raise UserError(
            f"after step {int(state.step)} the devices do not agree: {device} has other numbers "
            f"in {name} than the first, so that it or its memory is at fault; this state was not "
            "saved, the last checkpoint stays, and the same command goes on from there"
        )


def _differing(array: Any) -> jax.Device | None:
    """A device whose copy of an array differs from that of the first; None if there is none."""
    shards = array.addressable_shards if isinstance(array, jax.Array) else []
    for shard in shards:
        shard.data.copy_to_host_async()
    copies = [np.asarray(shard.data).reshape(-1).view(np.uint8) for shard in shards]
    for shard, copy in zip(shards, copies, strict=True):
        if not np.array_equal(copy, copies[0]):
            return shard.device
    return None
