"""The train step: from a key to updated parameters, all of it on the device."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, ArrayLike, Int, Key

from draem_jax.anomalies import AnomalyParams
from draem_jax.losses import PAPER_WEIGHTS, Losses, LossWeights, draem_losses
from draem_jax.networks import DraemNetwork, DraemOutput, forward, forward_in_training
from draem_jax.training.pictures import Chosen, Pictures
from draem_jax.training.samples import Draw, Samples, draw_samples
from draem_jax.training.state import TrainState


def sample_losses(
    network: DraemNetwork,
    output: DraemOutput,
    samples: Samples,
    weights: LossWeights = PAPER_WEIGHTS,
    auxiliary: Mapping[str, tuple[Array, ...]] | None = None,
) -> Losses:
    """The losses of what the networks made of samples; `auxiliary` as in `TrainingOutput`."""
    return draem_losses(
        images=samples.normal,
        masks=samples.mask,
        reconstruction=output.reconstruction if network.reconstructs else None,
        logits=output.logits if network.discriminates else None,
        auxiliary=auxiliary,
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
        weights: the weights of the loss's terms.
        network: the networks.
        optimizer: what `state.opt_state` belongs to.

    Returns:
        The state after the step, and the losses before it.
    """

    def loss(params):
        variables = {"params": params, "batch_stats": state.batch_stats}
        output, batch_stats, auxiliary = forward_in_training(network, variables, samples.augmented)
        losses = sample_losses(network, output, samples, weights, auxiliary)
        return losses.total, (losses, batch_stats)

    gradients, (losses, batch_stats) = jax.grad(loss, has_aux=True)(state.params)
    if network.axis_name is not None:
        gradients, losses = lax.pmean((gradients, losses), network.axis_name)
    updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    state = state.after_step(params=params, batch_stats=batch_stats, opt_state=opt_state)
    return state, losses


def tuning_step(
    state: TrainState,
    samples: Samples,
    weights: LossWeights = PAPER_WEIGHTS,
    *,
    network: DraemNetwork,
    optimizer: optax.GradientTransformation,
) -> tuple[TrainState, Losses]:
    """Makes one step that changes the discriminative network's parameters alone.

    Both networks work as in evaluation, so that what is tuned is what predicts: a batch of few
    given pictures, drawn again and again, has statistics of its own. Gradients and losses are
    averaged as in `train_step`.

    Args:
        state: before the step.
        samples: this device's share of the batch; `normal` is not looked at.
        weights: the weights of the loss's terms, of which the focal one counts.
        network: the networks, of which one is discriminative.
        optimizer: what `state.opt_state` belongs to.

    Returns:
        The state after the step, and the losses before it.
    """

    def loss(tuned):
        variables = {
            "params": {**state.params, "discriminative": tuned},
            "batch_stats": state.batch_stats,
        }
        losses = draem_losses(
            images=samples.normal,
            masks=samples.mask,
            reconstruction=None,
            logits=forward(network, variables, samples.augmented).logits,
            weights=weights,
        )
        return losses.total, losses

    gradients, losses = jax.grad(loss, has_aux=True)(state.params["discriminative"])
    if network.axis_name is not None:
        gradients, losses = lax.pmean((gradients, losses), network.axis_name)
    # The optimizer's state has the shape that it has in training, so that checkpoints are alike.
    none = jax.tree.map(jnp.zeros_like, state.params)
    updates, opt_state = optimizer.update(
        {**none, "discriminative": gradients}, state.opt_state, state.params
    )
    tuned = optax.apply_updates(state.params["discriminative"], updates["discriminative"])
    return (
        state.replace(
            step=state.step + 1,
            params={**state.params, "discriminative": tuned},
            opt_state=opt_state,
        ),
        losses,
    )


def make_train_steps(
    network: DraemNetwork, optimizer: optax.GradientTransformation, *, max_steps: int
) -> Callable[..., tuple[TrainState, Losses]]:
    """Makes the function that one call to the devices runs; see `repeat_steps`.

    Args:
        network: the networks; their `axis_name` is the mapped axis.
        optimizer: what the state's `opt_state` belongs to.
        max_steps: the most steps that a call makes.

    Returns:
        `train_steps(state, sample_indices, key, pictures, params, weights, steps)` → (state,
        losses); `pictures` stay on the device, or are those of the call's steps where they stream,
        and the numbers of `params` and `weights` are traced.
    """

    def one(
        i: Int[ArrayLike, ""],
        state: TrainState,
        sample_indices: Int[Array, " B"],
        key: Key[Array, ""],
        pictures: Pictures | Chosen,
        params: AnomalyParams,
        weights: LossWeights,
    ) -> tuple[TrainState, Losses]:
        draw = Draw(key, state.step, sample_indices)
        samples = draw_samples(draw, pictures, params, i=i)
        return train_step(state, samples, weights, network=network, optimizer=optimizer)

    return repeat_steps(one, max_steps=max_steps)


def repeat_steps(
    step: Callable[..., tuple[TrainState, Losses]], *, max_steps: int
) -> Callable[..., tuple[TrainState, Losses]]:
    """Makes a function that takes some steps, one after the other.

    Args:
        step: from (number of the step within the call, state, sample indices, key, pictures,
            parameters, weights) to the state after the step and the losses before it.
        max_steps: the most steps that a call makes.

    Returns:
        `steps(state, sample_indices, key, pictures, params, weights, count)` → (state, losses),
        where `count` ≤ `max_steps` is traced, so that a call of any length runs the same program;
        and the losses are arrays of `max_steps`, NaN behind the steps made.
    """

    def steps(
        state: TrainState,
        sample_indices: Int[Array, " B"],
        key: Key[Array, ""],
        pictures: Any,
        params: Any,
        weights: LossWeights,
        count: Int[Array, ""],
    ) -> tuple[TrainState, Losses]:
        def one(i, carry):
            state, log = carry
            state, losses = step(i, state, sample_indices, key, pictures, params, weights)
            return state, jax.tree.map(lambda values, value: values.at[i].set(value), log, losses)

        log = Losses(*(jnp.full((max_steps,), jnp.nan) for _ in Losses._fields))
        if max_steps == 1:
            return one(0, (state, log))
        return lax.fori_loop(0, count, one, (state, log))

    return steps
