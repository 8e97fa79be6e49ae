"""The train step: from a key to updated parameters, all of it on the device."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Int, Key

from draem_jax.anomalies import AnomalyParams
from draem_jax.losses import PAPER_WEIGHTS, Losses, LossWeights, draem_losses
from draem_jax.networks import DraemNetwork, DraemOutput
from draem_jax.training.pictures import Pictures, StreamedPictures
from draem_jax.training.samples import Samples, draw_samples, make_samples
from draem_jax.training.state import TrainState


def sample_losses(
    network: DraemNetwork,
    output: DraemOutput,
    samples: Samples,
    weights: LossWeights = PAPER_WEIGHTS,
) -> Losses:
    """The losses of what the networks made of samples."""
    return draem_losses(
        images=samples.normal,
        masks=samples.mask,
        reconstruction=output.reconstruction if network.reconstructs else None,
        logits=output.logits if network.discriminates else None,
        weights=weights,
    )


def train_step(
    state: TrainState,
    samples: Samples,
    weights: LossWeights = PAPER_WEIGHTS,
    *,
    network: DraemNetwork,
    optimizer: optax.GradientTransformation,
) -> tuple[TrainState, Losses]:
    """Makes one step of gradient descent on samples.

    Gradients, losses and batch statistics are averaged over `network.axis_name` if it has one, so
    that all devices leave with the same state.

    Args:
        state: before the step.
        samples: this device's share of the batch.
        weights: of the loss's terms.
        network: the networks.
        optimizer: what `state.opt_state` belongs to.

    Returns:
        The state after the step, and the losses before it.
    """

    def loss(params):
        output, updates = network.apply(
            {"params": params, "batch_stats": state.batch_stats},
            samples.augmented,
            train=True,
            mutable=["batch_stats"],
        )
        losses = sample_losses(network, output, samples, weights)
        return losses.total, (losses, updates["batch_stats"])

    gradients, (losses, batch_stats) = jax.grad(loss, has_aux=True)(state.params)
    if network.axis_name is not None:
        gradients, losses = lax.pmean((gradients, losses), network.axis_name)
    updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
    return (
        TrainState(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            batch_stats=batch_stats,
            opt_state=opt_state,
        ),
        losses,
    )


def make_train_steps(
    network: DraemNetwork, optimizer: optax.GradientTransformation, *, max_steps: int
) -> Callable[..., tuple[TrainState, Losses]]:
    """Makes the function that one call to the devices runs: some steps, one after the other.

    Args:
        network: the networks; their `axis_name` is the mapped axis.
        optimizer: what the state's `opt_state` belongs to.
        max_steps: the most steps that a call makes.

    Returns:
        `train_steps(state, sample_indices, key, pictures, params, weights, steps)` → (state,
        losses), where `steps` ≤ `max_steps` is traced, so that a call of any length runs the same
        program, and so are the numbers of `params` and `weights`; `pictures` stay on the device, or
        are those of the call's steps where they stream; and the losses are arrays of `max_steps`,
        NaN behind the steps made.
    """

    def train_steps(
        state: TrainState,
        sample_indices: Int[Array, " B"],
        key: Key[Array, ""],
        pictures: Pictures | StreamedPictures,
        params: AnomalyParams,
        weights: LossWeights,
        steps: Int[Array, ""],
    ) -> tuple[TrainState, Losses]:
        def one(i, carry):
            state, log = carry
            if isinstance(pictures, StreamedPictures):
                samples = make_samples(
                    key,
                    state.step,
                    sample_indices,
                    pictures.normal[i],
                    pictures.textures[i],
                    pictures.parts.replace(indices=pictures.parts.indices[i]),
                    params,
                )
            else:
                samples = draw_samples(key, state.step, sample_indices, pictures, params)
            state, losses = train_step(
                state, samples, weights, network=network, optimizer=optimizer
            )
            return state, jax.tree.map(lambda values, value: values.at[i].set(value), log, losses)

        log = Losses(*(jnp.full((max_steps,), jnp.nan) for _ in Losses._fields))
        if max_steps == 1:
            return one(0, (state, log))
        return lax.fori_loop(0, steps, one, (state, log))

    return train_steps
