"""Adam or Muon, and how their rate changes over the steps."""

import functools
from typing import Any

import jax
import optax
from ml_collections import ConfigDict

from draem_jax.training.muon import muon


def create_optimizer(config: ConfigDict) -> optax.GradientTransformation:
    """The optimizer of training, whose rate falls by one of `draem_jax.config.SCHEDULES`.

    Of kernels that stand before a normalisation, `muon` may take the steps, with Adam for all else:
    narrow networks learn more by it in few steps.

    By milestones the rate is multiplied by a factor at given shares of the steps. Both schedules of
    the method have this form: the authors' code's with × 0.2 at 80 % and 90 % of the epochs, and
    the paper's with × 0.1 at epochs 400 and 600 of 700. By cosine it falls all the time, to 0.
    Before either it may rise, over a share of the steps. The same config gives the same object, and
    the optimizer's state has the same form whatever the numbers are.

    References:
        Kingma, Ba: Adam: a method for stochastic optimization, ICLR 2015.
        Loshchilov, Hutter: SGDR: stochastic gradient descent with warm restarts, ICLR 2017, for the
        cosine.
    """
    optimizer, steps = config.optimizer, config.train.steps
    rate, warmup = optimizer.learning_rate, round(optimizer.warmup * steps)
    if optimizer.schedule == "cosine":
        schedule = _by_cosine(rate, steps, warmup)
    else:
        boundaries: dict[int, float] = {}
        for share in optimizer.milestones:
            at = round(share * steps)
            boundaries[at] = boundaries.get(at, 1.0) * optimizer.factor
        schedule = _by_milestones(rate, tuple(boundaries.items()), warmup)
    return _optimizer(optimizer.name, schedule, optimizer.b1, optimizer.b2)


@functools.cache
def _by_milestones(
    rate: float, boundaries: tuple[tuple[int, float], ...], warmup: int
) -> optax.Schedule:
    return _warmed_up(optax.piecewise_constant_schedule(rate, dict(boundaries)), warmup)


@functools.cache
def _by_cosine(rate: float, steps: int, warmup: int) -> optax.Schedule:
    return _warmed_up(optax.cosine_decay_schedule(rate, steps), warmup)


def _warmed_up(schedule: optax.Schedule, warmup: int) -> optax.Schedule:
    if not warmup:
        return schedule
    # The first step is made at a share of the rate, not at 0.
    rise = optax.linear_schedule(1 / (warmup + 1), 1, warmup)
    return lambda count: rise(count) * schedule(count)


@functools.cache
def _optimizer(
    name: str, schedule: optax.Schedule, b1: float, b2: float
) -> optax.GradientTransformation:
    adam = optax.adam(schedule, b1=b1, b2=b2)
    if name == "adam":
        return adam
    return optax.partition({"kernel": muon(schedule), "other": adam}, _parts)


def _parts(params: Any) -> Any:
    """Whether each parameter is a kernel before a normalisation, or something else."""

    def part(path: tuple[Any, ...], _: Any) -> str:
        return "kernel" if [node.key for node in path[-2:]] == ["conv", "kernel"] else "other"

    return jax.tree_util.tree_map_with_path(part, params)


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
