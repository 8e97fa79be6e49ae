"""Batch normalisation and ReLU as one unit, with as few passes over the activations as it takes."""

import functools
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array, Float

from draem_jax.networks.initialisation import norm_scale_init, parameter
from draem_jax.platforms import by_platform

FACTORS = "factors"
"""By this name `jax.checkpoint` knows what is kept of the batch's statistics for the gradient."""

EPSILON = 1e-5
"""What is added to variances, so that none is 0."""

_MOMENTUM = 0.9  # PyTorch's 0.1
_OVER = (0, 1, 2)  # batch, height and width


class Statistics(NamedTuple):
    """Mean and biased variance of each channel.

    Attributes:
        mean: float32, or float64 where the activations are.
        var: the same.
    """

    mean: Float[Array, " C"]
    var: Float[Array, " C"]


class NormRelu(nn.Module):
    """Batch normalisation → ReLU of what a convolution makes.

    Attributes:
        axis_name: mapped axis over which batch statistics are averaged, None for none.
    """

    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, x: Float[Array, "B H W C"], offset: Float[Array, " C"], *, train: bool
    ) -> Float[Array, "B H W C"]:
        """Normalises `x` + `offset`.

        Args:
            x: what the convolution makes without its bias.
            offset: the bias. The batch's own statistics take it away again, so that it matters to
                the running ones alone, and its gradient is 0.
            train: use the batch's own statistics and update the running ones.
        """
        channels = x.shape[-1]
        scale = parameter(self, "scale", norm_scale_init, (channels,))
        shift = parameter(self, "bias", nn.initializers.zeros, (channels,))
        mean = self.variable("batch_stats", "mean", jnp.zeros, (channels,), jnp.float32)
        var = self.variable("batch_stats", "var", jnp.ones, (channels,), jnp.float32)
        if not train:
            factors = _factors(Statistics(mean.value, var.value), scale, shift, offset)
            return nn.relu(_normalised(x, factors)).astype(x.dtype)
        axis_name = None if self.is_initializing() else self.axis_name
        y, batch = _normalise_by_batch(x, scale, shift, offset, mean.value, axis_name)
        if not self.is_initializing():
            mean.value = _MOMENTUM * mean.value + (1 - _MOMENTUM) * batch.mean
            var.value = _MOMENTUM * var.value + (1 - _MOMENTUM) * batch.var
        return y


@functools.partial(jax.custom_vjp, nondiff_argnums=(5,))
def _normalise_by_batch(
    x: Float[Array, "B H W C"],
    scale: Float[Array, " C"],
    shift: Float[Array, " C"],
    offset: Float[Array, " C"],
    near: Float[Array, " C"],
    axis_name: str | None,
) -> tuple[Float[Array, "B H W C"], Statistics]:
    """Normalises by the statistics of the batch, and rectifies.

    Forward it reads `x` twice and writes once, and so it does backward; kept are `x` and a few
    numbers a channel.

    Args:
        x: the activations without `offset`.
        scale: of the normalised ones.
        shift: what is added to them.
        offset: what belongs to the activations, and falls out again.
        near: numbers near the means of `x` + `offset`. Accelerators take the variance in one pass,
            from sums around them: within a few deviations of the means as exact as from sums around
            the means themselves, 30 deviations off to three digits.
        axis_name: mapped axis that the batch is spread over, None for none.

    Returns:
        The activations after the ReLU, and the statistics of `x` + `offset`, which no gradient
        flows through.
    """
    return _forward(x, scale, shift, offset, near, axis_name)[0]


def _forward(x, scale, shift, offset, near, axis_name):
    statistics = _statistics(x, offset, near, axis_name)
    factors = checkpoint_name(_factors(statistics, scale, shift, offset), FACTORS)
    y = nn.relu(_normalised(x, factors)).astype(x.dtype)
    return (y, statistics), (x, factors)


def _backward(axis_name, kept, cotangents):
    x, factors = kept
    gradient, _ = cotangents
    # The barriers keep XLA from computing once, and writing to memory, what both passes need.
    x = lax.optimization_barrier(x)
    here, standardised = _behind_relu(x, gradient, factors)
    of_shift, of_scale = _sums(here, here * standardised)
    count = x.size // x.shape[-1]
    means = _averaged((of_shift / count, of_scale / count), axis_name)
    x, means = lax.optimization_barrier((x, means))
    here, standardised = _behind_relu(x, gradient, factors)
    _, _, _, factor, _ = factors
    of_x = (here - _wide(means[0]) - standardised * _wide(means[1])) * _wide(factor)
    none = jnp.zeros_like(of_shift)
    return of_x.astype(x.dtype), of_scale, of_shift, none, none


_normalise_by_batch.defvjp(_forward, _backward)


def _factors(
    statistics: Statistics,
    scale: Float[Array, " C"],
    shift: Float[Array, " C"],
    offset: Float[Array, " C"],
) -> Float[Array, "5 C"]:
    """What activations are normalised by, given those without `offset`.

    Returns:
        The two of `_centring`, 1 / the deviation, that times `scale`, and `shift`. In one array, or
        XLA copies the parameters among them, which the optimiser writes over.
    """
    inverse = lax.rsqrt(statistics.var + EPSILON)
    added, subtracted = _centring(offset, statistics.mean)
    return jnp.stack([added, subtracted, inverse, inverse * scale, shift])


def _centring(offset: Float[Array, " C"], mean: Float[Array, " C"]) -> tuple[Array, Array]:
    """What to add to activations and what to subtract from them, so that they are centred."""
    return by_platform(
        offset,
        mean,
        # In this order the sums are those of a convolution with a bias, as the authors have it;
        # accelerators need not read the bias once more.
        cpu=lambda offset, mean: (offset, mean),
        default=lambda offset, mean: (jnp.zeros_like(offset), mean - offset),
    )


def _normalised(x: Float[Array, "B H W C"], factors: Float[Array, "5 C"]) -> Array:
    _, _, _, factor, shift = factors
    return _centred(x, factors) * _wide(factor) + _wide(shift)


def _centred(x: Float[Array, "B H W C"], factors: Float[Array, "5 C"]) -> Array:
    added, subtracted, _, _, _ = factors
    return x + _wide(added) - _wide(subtracted)


def _behind_relu(
    x: Float[Array, "B H W C"], gradient: Float[Array, "B H W C"], factors: Float[Array, "5 C"]
) -> tuple[Float[Array, "B H W C"], Float[Array, "B H W C"]]:
    """The gradient where ReLU lets it pass, else 0; and the activations, standardised."""
    _, _, inverse, _, _ = factors
    normalised, standardised = _normalised(x, factors), _centred(x, factors) * _wide(inverse)
    here = by_platform(
        normalised,
        gradient.astype(normalised.dtype),
        cpu=lambda z, gradient: jnp.where(z > 0, gradient, 0),
        # XLA would write the comparison to memory on the way forward, and read it again.
        default=lambda z, gradient: lax.sign(nn.relu(z)) * gradient,
    )
    return here, standardised


def _statistics(
    x: Float[Array, "B H W C"],
    offset: Float[Array, " C"],
    near: Float[Array, " C"],
    axis_name: str | None,
) -> Statistics:
    x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    added, subtracted = _centring(offset, near)
    off = x + _wide(added) - _wide(subtracted)
    mean, var = by_platform(off, cpu=_in_two_passes, default=_in_one_pass)
    if axis_name is not None:
        mean, square = _averaged((mean, var + lax.square(mean)), axis_name)
        var = jnp.maximum(square - lax.square(mean), 0)
    return Statistics(near + mean, var)


def _in_one_pass(off: Float[Array, "B H W C"]) -> tuple[Array, Array]:
    first, second = _sums(off, lax.square(off))
    count = off.size // off.shape[-1]
    mean = first / count
    return mean, jnp.maximum(second / count - lax.square(mean), 0)


def _in_two_passes(off: Float[Array, "B H W C"]) -> tuple[Array, Array]:
    # CPUs add up one after the other, and the less that is added up the more exact it is.
    mean = off.mean(_OVER)
    return mean, lax.square(off - _wide(mean)).mean(_OVER)


def _sums(a: Float[Array, "B H W C"], b: Float[Array, "B H W C"]) -> tuple[Array, Array]:
    """Both sums over all but the channels."""
    zero = jnp.zeros((), a.dtype)
    return by_platform(
        a,
        b,
        cpu=lambda a, b: (a.sum(_OVER), b.sum(_OVER)),
        # As one operation, or XLA writes to memory first what both are made of.
        default=lambda a, b: tuple(
            lax.reduce((a, b), (zero, zero), lambda p, q: (p[0] + q[0], p[1] + q[1]), _OVER)
        ),
    )


def _averaged(values: tuple[Array, Array], axis_name: str | None) -> tuple[Array, Array]:
    """Means over the devices, by one collective."""
    if axis_name is None:
        return values
    both = lax.pmean(jnp.stack(values), axis_name)
    return both[0], both[1]


def _wide(channels: Float[Array, " C"]) -> Float[Array, "1 1 1 C"]:
    return channels.reshape(1, 1, 1, -1)
