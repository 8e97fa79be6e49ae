"""Batch normalisation and ReLU as one unit, with as few passes over the activations as it takes."""

import functools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from draem_jax.networks.initialisation import norm_scale_init

_EPSILON = 1e-5
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
        dtype: the dtype of the activations; statistics and parameters are float32.
        axis_name: mapped axis over which batch statistics are averaged, None for none.
    """

    dtype: Any = jnp.float32
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
        scale = self.param("scale", norm_scale_init, (channels,), jnp.float32)
        shift = self.param("bias", nn.initializers.zeros, (channels,), jnp.float32)
        mean = self.variable("batch_stats", "mean", jnp.zeros, (channels,), jnp.float32)
        var = self.variable("batch_stats", "var", jnp.ones, (channels,), jnp.float32)
        if not train:
            return _rectified(
                x + _wide(offset.astype(x.dtype)), Statistics(mean.value, var.value), scale, shift
            )
        axis_name = None if self.is_initializing() else self.axis_name
        near = lax.stop_gradient(mean.value - offset)
        y, batch = _normalise_by_batch(x, scale, shift, near, axis_name)
        if not self.is_initializing():
            offset = lax.stop_gradient(offset)
            mean.value = _MOMENTUM * mean.value + (1 - _MOMENTUM) * (batch.mean + offset)
            var.value = _MOMENTUM * var.value + (1 - _MOMENTUM) * batch.var
        return y


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _normalise_by_batch(
    x: Float[Array, "B H W C"],
    scale: Float[Array, " C"],
    shift: Float[Array, " C"],
    near: Float[Array, " C"],
    axis_name: str | None,
) -> tuple[Float[Array, "B H W C"], Statistics]:
    """Normalises by the statistics of the batch, and rectifies.

    Forward it reads `x` twice and writes once, and so it does backward; kept are `x` and two
    numbers a channel.

    Args:
        x: the activations.
        scale: of the normalised ones.
        shift: what is added to them.
        near: numbers near the means. The variance is taken in one pass from sums around them: as
            exact as one from sums around the means, as long as they are not many deviations off.
        axis_name: mapped axis that the batch is spread over, None for none.

    Returns:
        The activations after the ReLU, and the statistics, which no gradient flows through.
    """
    return _forward(x, scale, shift, near, axis_name)[0]


def _forward(x, scale, shift, near, axis_name):
    statistics = _statistics(x, near, axis_name)
    y = _rectified(x, statistics, scale, shift)
    return (y, statistics), (x, statistics, scale, shift)


def _backward(axis_name, kept, cotangents):
    x, statistics, scale, shift = kept
    gradient, _ = cotangents
    normalised = _normalised(x, statistics)
    positive = normalised * _wide(scale) + _wide(shift) > 0
    gradient = jnp.where(positive, gradient.astype(normalised.dtype), 0)
    of_shift = gradient.sum(_OVER)
    of_scale = (gradient * normalised).sum(_OVER)
    count = x.size // x.shape[-1]
    mean_gradient, mean_product = _averaged((of_shift / count, of_scale / count), axis_name)
    inverse = lax.rsqrt(statistics.var + _EPSILON)
    of_x = gradient - _wide(mean_gradient) - normalised * _wide(mean_product)
    of_x = of_x * _wide(inverse * scale)
    return (
        of_x.astype(x.dtype),
        of_scale.astype(scale.dtype),
        of_shift.astype(shift.dtype),
        jnp.zeros_like(statistics.mean),
    )


_normalise_by_batch.defvjp(_forward, _backward)


def _statistics(
    x: Float[Array, "B H W C"], near: Float[Array, " C"], axis_name: str | None
) -> Statistics:
    precise = jnp.promote_types(x.dtype, jnp.float32)
    off = x.astype(precise) - _wide(near)
    first, second = _averaged((off.mean(_OVER), lax.square(off).mean(_OVER)), axis_name)
    return Statistics(near + first, jnp.maximum(second - lax.square(first), 0))


def _averaged(values: tuple[Array, Array], axis_name: str | None) -> tuple[Array, Array]:
    """Means over the devices, by one collective."""
    if axis_name is None:
        return values
    both = lax.pmean(jnp.stack(values), axis_name)
    return both[0], both[1]


def _normalised(x: Float[Array, "B H W C"], statistics: Statistics) -> Float[Array, "B H W C"]:
    return (x - _wide(statistics.mean)) * _wide(lax.rsqrt(statistics.var + _EPSILON))


def _rectified(
    x: Float[Array, "B H W C"],
    statistics: Statistics,
    scale: Float[Array, " C"],
    shift: Float[Array, " C"],
) -> Float[Array, "B H W C"]:
    factor = lax.rsqrt(statistics.var + _EPSILON) * scale
    y = (x - _wide(statistics.mean)) * _wide(factor) + _wide(shift)
    return nn.relu(y).astype(x.dtype)


def _wide(channels: Float[Array, " C"]) -> Float[Array, "1 1 1 C"]:
    return channels.reshape(1, 1, 1, -1)
