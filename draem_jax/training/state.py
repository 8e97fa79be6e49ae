"""What training changes, and how it begins."""

from collections.abc import Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from draem_jax.networks import DraemNetwork, default_dtype, initialise
from draem_jax.training.optimizer import create_optimizer


class TrainState(flax.struct.PyTreeNode):
    """Everything that a run needs besides its config to go on.

    Attributes:
        step: steps made so far, an int32 scalar.
        params: the networks' parameters, float32.
        batch_stats: running means and variances of the batch normalisations, float32.
        opt_state: Adam's moments and count; () where only the networks were loaded.
    """

    step: Any
    params: Any
    batch_stats: Any
    opt_state: Any

    @property
    def variables(self) -> dict[str, Any]:
        """What `DraemNetwork.apply` takes."""
        return {"params": self.params, "batch_stats": self.batch_stats}


def create_network(config: ConfigDict, *, axis_name: str | None = None) -> DraemNetwork:
    """Builds the networks that the config describes."""
    dtype = config.model.dtype
    return DraemNetwork(
        reconstructive_width=config.model.reconstructive_width,
        discriminative_width=config.model.discriminative_width,
        dtype=default_dtype() if dtype == "auto" else jnp.dtype(dtype),
        remat=config.model.remat,
        axis_name=axis_name,
        variant=config.model.variant,
    )


def create_state(config: ConfigDict) -> TrainState:
    """Initialises networks and optimizer from the config's seed."""
    init_key, _ = run_keys(config)
    variables = initialise(create_network(config), init_key, start=config.model.initialisation)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=variables["params"],
        batch_stats=variables["batch_stats"],
        # As one program, or each shape among the parameters is one.
        opt_state=jax.jit(create_optimizer(config).init)(variables["params"]),
    )


def check_params(config: ConfigDict, params: Mapping[str, Any]) -> None:
    """Raises ValueError unless parameters are of the networks that the config describes.

    Args:
        config: the config of a run.
        params: those that some run has saved. They fit together, so that the channels of each
            network's first kernel tell the shapes of all the others.
    """
    network = create_network(config)
    described = {}
    if network.reconstructs:
        described["reconstructive"] = network.reconstructive_width
    if network.discriminates:
        described["discriminative"] = network.discriminative_width
    found = {
        name: part["encoder1"]["unit1"]["conv"]["kernel"].shape[-1] for name, part in params.items()
    }
    if found != described:
        raise ValueError(
            f"its widths are {_listed(found)}, those of the config {_listed(described)}"
        )


def _listed(widths: Mapping[str, int]) -> str:
    return " and ".join(f"{width} ({name})" for name, width in sorted(widths.items()))


def run_keys(config: ConfigDict) -> tuple[jax.Array, jax.Array]:
    """The keys that parameters and samples come from."""
    init_key, sample_key = jax.random.split(jax.random.key(config.seed))
    return init_key, sample_key
