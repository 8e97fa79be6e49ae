"""Soft borders of masks."""

import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from draem_jax.anomalies.params import MAX_FEATHER

Image = Float[Array, "H W 3"]
Mask = Float[Array, "H W 1"]


def fade(image: Image, augmented: Image, mask: Mask, *, width: ArrayLike) -> Image:
    """Mixes an augmented image with the image towards the border of the mask; see `soften`.

    Args:
        image: in [0, 1].
        augmented: the same with an anomaly.
        mask: 1 on the anomaly, else 0.
        width: pixels over which it fades, from 0 to `MAX_FEATHER`.

    Returns:
        The mixture; the augmented image itself, exactly, where the width is 0.
    """
    weight = soften(mask, width=width)
    mixed = image + weight * (augmented - image)
    return jnp.where((weight < 1) & (mask > 0), mixed, augmented)


def soften(mask: Mask, *, width: ArrayLike) -> Mask:
    """Weights of an anomaly that fades out towards the border of its mask.

    They are the mask's mean over a square of 2 · width + 1 pixels, as if it was seen out of focus,
    cut off at the mask's border, where half is left. A mask that is thinner than the square is
    brought back to its full weight, so that thin anomalies fade no more than thick ones.

    Args:
        mask: 1 on the anomaly, else 0.
        width: pixels over which it fades, from 0 to `MAX_FEATHER`, which need not be whole.

    Returns:
        In [0, 1]; 0 outside the mask, with a largest weight of 1 inside; the mask itself, exactly,
        where the width is 0.
    """
    mean = _mean_along(_mean_along(mask, width=width, axis=0), width=width, axis=1)
    inside = mean * mask
    return inside / jnp.maximum(jnp.max(inside), 1e-6)


def _mean_along(mask: Mask, *, width: ArrayLike, axis: int) -> Mask:
    """The mean over the neighbours along an axis; beyond the picture, the mask goes on."""
    size = mask.shape[axis]
    padding = [(0, 0)] * mask.ndim
    padding[axis] = (MAX_FEATHER, MAX_FEATHER)
    padded = jnp.pad(mask, padding, mode="edge")
    total = jnp.zeros_like(mask)
    for i in range(2 * MAX_FEATHER + 1):
        share = jnp.clip(width + 1 - abs(i - MAX_FEATHER), 0, 1)
        total = total + share * lax.slice_in_dim(padded, i, i + size, axis=axis)
    return total / (2 * width + 1)
