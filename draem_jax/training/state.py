"""What training changes, and how it begins."""

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
from draem_jax.training.optimizer import create_optimizer


class TrainState(flax.struct.PyTreeNode):
    """Everything that a run needs besides its config to go on.

    Attributes:
        step: steps made so far, an int32 scalar.
        params: the networks' parameters, float32.
        batch_stats: running means and variances of the batch normalisations, float32.
        opt_state: the optimizer's moments and count; () where only the networks were loaded.
    """

    step: Any
    params: Any
    batch_stats: Any
    opt_state: Any

    @property
    def variables(self) -> dict[str, Any]:
        """What `DraemNetwork.apply` takes, to predict with."""
        return {"params": self.params, "batch_stats": self.batch_stats}

    def networks(self) -> "TrainState":
        """What predicts, without what only training needs."""
        return TrainState(step=self.step, **self.variables, opt_state=())

    def after_step(self, *, params: Any, batch_stats: Any, opt_state: Any) -> "TrainState":
        """The state after one more step, by what the step has made of its parts."""
        return self.replace(
            step=self.step + 1, params=params, batch_stats=batch_stats, opt_state=opt_state
        )


class AveragedState(TrainState):
    """A state that predicts with an average of the networks over the steps so far.

    Of the average each step keeps `decay`, and takes the rest from the networks after it. In the
    first steps it keeps no more than (1 + t) / (10 + t) after t of them, so that what the networks
    began with is soon forgotten.

    Attributes:
        step: as in `TrainState`.
        params: the same; they are what goes on learning.
        batch_stats: the same.
        opt_state: the same.
        average: of the parameters and running statistics, as `variables` gives them, float32.
        decay: the share that is kept, in (0, 1); another one is another program.

    References:
        Polyak, Juditsky: Acceleration of stochastic approximation by averaging, SIAM Journal on
        Control and Optimization 1992.
    """

    average: Any
    decay: float = flax.struct.field(pytree_node=False)

    @property
    def variables(self) -> dict[str, Any]:
        """The average."""
        return self.average

    def after_step(self, *, params: Any, batch_stats: Any, opt_state: Any) -> "TrainState":
        """The state after one more step, with the average of what the step has made."""
        state = super().after_step(params=params, batch_stats=batch_stats, opt_state=opt_state)
        steps = state.step.astype(jnp.float32)
        kept = jnp.minimum(self.decay, (1 + steps) / (10 + steps))
        made = {"params": params, "batch_stats": batch_stats}
        return state.replace(average=optax.incremental_update(made, self.average, 1 - kept))


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


def create_state(config: ConfigDict) -> TrainState:
    """Initialises networks and optimizer from the config's seed."""
    init_key, _ = run_keys(config)
    network = create_network(config)
    return begin_with(config, initialise(network, init_key, start=config.model.initialisation))


def begin_with(config: ConfigDict, variables: Mapping[str, Any]) -> TrainState:
    """The state before the first step of a run.

    Args:
        config: the config of the run.
        variables: `params` and `batch_stats` that it begins with.
    """
    state = TrainState(
        step=jnp.zeros((), jnp.int32),
        params=variables["params"],
        batch_stats=variables["batch_stats"],
        # As one program, or each shape among the parameters is one.
        opt_state=jax.jit(create_optimizer(config).init)(variables["params"]),
    )
    if not config.optimizer.average:
        return state
    # Copied, since the parts of a state are given away to the step one by one.
    average = jax.tree.map(jnp.copy, dict(variables))
    return AveragedState(**vars(state), average=average, decay=config.optimizer.average)


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
