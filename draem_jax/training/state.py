"""What training changes, and the optimizer that changes it."""

import functools
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from draem_jax.networks import (
    RECONSTRUCTIVE_INPUTS,
    SIZE_MULTIPLE,
    DraemNetwork,
    NetworkOptions,
    default_dtype,
    initialise,
)


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
    options = {field.name: config.model[field.name] for field in fields(NetworkOptions)}
    return DraemNetwork(
        reconstructive_width=config.model.reconstructive_width,
        discriminative_width=config.model.discriminative_width,
        dtype=default_dtype() if dtype == "auto" else jnp.dtype(dtype),
        remat=config.model.remat,
        axis_name=axis_name,
        variant=config.model.variant,
        options=NetworkOptions(**options),
    )


def create_optimizer(config: ConfigDict) -> optax.GradientTransformation:
    """Adam whose rate is multiplied by a factor at given shares of the steps.

    Both schedules of the method have this form: the authors' code's with × 0.2 at 80 % and 90 %
    of the epochs, the paper's with × 0.1 at epochs 400 and 600 of 700. The same schedule gives the
    same object.
    """
    steps = config.train.steps
    boundaries: dict[int, float] = {}
    for share in config.optimizer.milestones:
        at = round(share * steps)
        boundaries[at] = boundaries.get(at, 1.0) * config.optimizer.factor
    return _adam(config.optimizer.learning_rate, tuple(boundaries.items()))


@functools.cache
def _adam(
    learning_rate: float, boundaries: tuple[tuple[int, float], ...]
) -> optax.GradientTransformation:
    return optax.adam(optax.piecewise_constant_schedule(learning_rate, dict(boundaries)))


def create_tuning_optimizer(config: ConfigDict) -> optax.GradientTransformation:
    """Adam for fine-tuning, whose rate rises over the first tenth of the steps and falls to 0.

    It starts with moments of its own: beside those of training, which ended on small gradients, the
    first ones of pictures that the network gets wrong would make steps too long.
    """
    finetune = config.finetune
    rate = config.optimizer.learning_rate * finetune.relative_rate
    return _cosine_adam(rate, finetune.steps)


@functools.cache
def _cosine_adam(learning_rate: float, steps: int) -> optax.GradientTransformation:
    return optax.adam(
        optax.warmup_cosine_decay_schedule(
            learning_rate / 10, learning_rate, warmup_steps=steps // 10, decay_steps=steps
        )
    )


def create_state(config: ConfigDict) -> TrainState:
    """Initialises networks and optimizer from the config's seed."""
    init_key, _ = run_keys(config)
    variables = initialise(create_network(config), init_key)
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
            network's first kernel tell the shapes of all the others but those in optional parts.
    """
    found = {name: _NetworkShape.of(part) for name, part in params.items()}
    described = _described_shapes(create_network(config))
    if found != described:
        raise ValueError(
            f"its networks are {_listed(found)}, those of the config {_listed(described)}"
        )


class _NetworkShape(NamedTuple):
    """What tells the shapes of all of a network's parameters.

    Attributes:
        width: channels of its first block.
        seen: channels that it sees.
        optional: how many parts it has that the paper's has not.
    """

    width: int
    seen: int
    optional: int

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> "_NetworkShape":
        """That of the network that has these parameters."""
        *_, seen, width = params["encoder1"]["unit1"]["conv"]["kernel"].shape
        optional = sum(name.startswith(("head", "predictive")) for name in params)
        return cls(width, seen, optional)


def _described_shapes(network: DraemNetwork) -> dict[str, _NetworkShape]:
    # To trace the networks would tell as much, and take longer than to read them.
    options, described = network.options, {}
    if network.reconstructs:
        look = RECONSTRUCTIVE_INPUTS[options.reconstructive_input]
        picture = jax.ShapeDtypeStruct((1, SIZE_MULTIPLE, SIZE_MULTIPLE, 3), jnp.float32)
        seen = jax.eval_shape(look, picture).shape[-1]
        described["reconstructive"] = _NetworkShape(
            network.reconstructive_width, seen, int(options.sspcab)
        )
    if network.discriminates:
        seen = 3 * (1 + network.reconstructs + options.difference)
        described["discriminative"] = _NetworkShape(
            network.discriminative_width, seen, options.deep_supervision
        )
    return described


def _listed(shapes: Mapping[str, _NetworkShape]) -> str:
    return " and ".join(
        f"{name} (width {width}, {seen} channels in"
        + (f", {optional} optional parts)" if optional else ")")
        for name, (width, seen, optional) in sorted(shapes.items())
    )


def run_keys(config: ConfigDict) -> tuple[jax.Array, jax.Array]:
    """The keys that parameters and samples come from."""
    init_key, sample_key = jax.random.split(jax.random.key(config.seed))
    return init_key, sample_key
