"""Soft borders of masks."""

import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float

Mask = Float[Array, "H W 1"]


def soften(mask: Mask, *, width: ArrayLike) -> Mask:
    """Weights of an anomaly that fades out towards the border of its mask.

    They are the mask's mean over a square of 2 · width + 1 pixels, as if it was seen out of focus,
    cut off at the mask's border, where half is left. A mask that is thinner than the square is
    brought back to its full weight, so that thin anomalies fade no more than thick ones.

    Args:
        mask: 1 on the anomaly, else 0.
        width: pixels over which it fades, 0 or more, which need not be whole.

    Returns:
        In [0, 1]; 0 outside the mask, with a largest weight of 1 inside; the mask itself, exactly,
        where the width is 0.
    """
    height, columns, _ = mask.shape
    rows = _mean_along(height, width)
    mean = jnp.matmul(rows, mask[..., 0], precision=lax.Precision.HIGHEST)
    mean = jnp.matmul(mean, _mean_along(columns, width).T, precision=lax.Precision.HIGHEST)
    inside = mean[..., None] * mask
    return inside / jnp.maximum(jnp.max(inside), 1e-6)


def _mean_along(size: int, width: ArrayLike) -> Float[Array, "size size"]:
    """The product with it is the mean over the neighbours that lie within the picture."""
    pixel = jnp.arange(size, dtype=jnp.float32)
    share = jnp.clip(width + 1 - jnp.abs(pixel[:, None] - pixel[None, :]), 0, 1)
    return share / jnp.sum(share, axis=1, keepdims=True)
