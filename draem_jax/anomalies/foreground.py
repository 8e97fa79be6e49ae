"""Telling an object from a plain background, on the device."""

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

from draem_jax.anomalies.levels import count_levels, to_levels


def foreground(
    image: Float[Array, "H W 3"], *, border_share: ArrayLike = 0.8
) -> Bool[Array, "H W"]:
    """Where the object is, in a picture of an object on a background of about one colour.

    The background's colour is the median of the frame of border pixels. Each pixel's distance
    from it, the largest over the channels, is cut in two by Otsu's threshold; what is further is
    foreground. If less than `border_share` of the frame is background by this, as in a picture of
    a surface, there is no background and all is foreground. Pixels that are exactly black, as the
    corners that `rotate_normals` uncovers, are background in any case and no part of the frame.

    Args:
      image: in [0, 1].
      border_share: see above.

    References:
      Otsu: A threshold selection method from gray-level histograms, IEEE Trans. SMC 1979.
    """
    levels = to_levels(image)
    bare = jnp.all(image == 0, axis=-1)
    frame, bare_frame = _frame(levels), _frame(bare[..., None])
    colour = jnp.nanmedian(jnp.where(bare_frame, jnp.nan, frame), axis=0)
    colour = jnp.nan_to_num(jnp.round(colour))
    distance = jnp.max(jnp.abs(levels - colour[None, None]), axis=-1)
    counts = count_levels(jnp.broadcast_to(distance[..., None], levels.shape))[0]
    is_far = distance > _otsu(counts)
    near_frame = ~_frame(is_far[..., None]) & ~bare_frame
    share = jnp.sum(near_frame) / jnp.maximum(jnp.sum(~bare_frame), 1)
    return ~bare & (is_far | (share < border_share))


def _frame(plane: Array) -> Array:
    """The pixels along the border, (2H + 2W, C); corners come twice."""
    return jnp.concatenate([plane[0], plane[-1], plane[:, 0], plane[:, -1]])


def _otsu(counts: Int[Array, "256"]) -> Int[Array, ""]:
    """The level up to which the lower class goes, where the variance between both is largest."""
    level = jnp.arange(256, dtype=jnp.float32)
    share = counts / jnp.sum(counts)
    below = jnp.cumsum(share)
    mean_below = jnp.cumsum(share * level)
    mean = mean_below[-1]
    spread = below * (1 - below)
    between = jnp.square(mean * below - mean_below) / jnp.maximum(spread, 1e-6)
    return jnp.argmax(jnp.where(spread > 1e-6, between, -1.0))
