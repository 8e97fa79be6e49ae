"""Adam, and how its rate changes over the steps."""

import functools

import optax
from ml_collections import ConfigDict


def create_optimizer(config: ConfigDict) -> optax.GradientTransformation:
    """Adam as training takes it, whose rate falls by one of `draem_jax.config.SCHEDULES`.

    By milestones it is multiplied by a factor at given shares of the steps. Both schedules of the
    method have this form: the authors' code's with × 0.2 at 80 % and 90 % of the epochs, and the
    paper's with × 0.1 at epochs 400 and 600 of 700. By cosine it falls all the time, to 0. Before
    either it may rise, over a share of the steps. The same numbers give the same object, and the
    optimizer's state has the same form whatever they are.

    References:
        Loshchilov, Hutter: SGDR: stochastic gradient descent with warm restarts, ICLR 2017, for the
        cosine.
    """
    optimizer, steps = config.optimizer, config.train.steps
    rate, warmup = optimizer.learning_rate, round(optimizer.warmup * steps)
    moments = optimizer.b1, optimizer.b2
    if optimizer.schedule == "cosine":
        return _cosine_adam(rate, steps, warmup, moments)
    boundaries: dict[int, float] = {}
    for share in optimizer.milestones:
        at = round(share * steps)
        boundaries[at] = boundaries.get(at, 1.0) * optimizer.factor
    return _milestones_adam(rate, tuple(boundaries.items()), warmup, moments)


@functools.cache
def _milestones_adam(
    rate: float,
    boundaries: tuple[tuple[int, float], ...],
    warmup: int,
    moments: tuple[float, float],
) -> optax.GradientTransformation:
    falling = optax.piecewise_constant_schedule(rate, dict(boundaries))
    return _adam(_warmed_up(falling, warmup), moments)


@functools.cache
def _cosine_adam(
    rate: float, steps: int, warmup: int, moments: tuple[float, float]
) -> optax.GradientTransformation:
    return _adam(_warmed_up(optax.cosine_decay_schedule(rate, steps), warmup), moments)


def _warmed_up(schedule: optax.Schedule, warmup: int) -> optax.Schedule:
    if not warmup:
        return schedule
    # The first step is made at a share of the rate, not at 0.
    rise = optax.linear_schedule(1 / (warmup + 1), 1, warmup)
    return lambda count: rise(count) * schedule(count)


def _adam(rate: optax.Schedule, moments: tuple[float, float]) -> optax.GradientTransformation:
    b1, b2 = moments
    return optax.adam(rate, b1=b1, b2=b2)


def create_tuning_optimizer(config: ConfigDict) -> optax.GradientTransformation:
    """Adam for fine-tuning, whose rate rises over the first tenth of the steps and falls to 0.

    It starts with moments of its own: beside those of training, which ended on small gradients, the
    first ones of pictures that the network gets wrong would make steps too long.
    """
    finetune = config.finetune
    rate = config.optimizer.learning_rate * finetune.relative_rate
    return _tuning_adam(rate, finetune.steps)


@functools.cache
def _tuning_adam(learning_rate: float, steps: int) -> optax.GradientTransformation:
    return optax.adam(
        optax.warmup_cosine_decay_schedule(
            learning_rate / 10, learning_rate, warmup_steps=steps // 10, decay_steps=steps
        )
    )
