"""Telling an object from a plain background, on the device."""

import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Int

from draem_jax.anomalies.levels import count_levels, to_levels


def foreground(
    image: Float[Array, "H W 3"], *, border_share: ArrayLike = 0.9
) -> Bool[Array, "H W"]:
    """Where the object is, in a picture of an object on a background of about one colour.

    The background's colour is the median of the picture's frame: the first and the last pixel of
    each row and column. A pixel is foreground if its distance from that colour, the largest over
    the channels, is above Otsu's threshold. If less than `border_share` of the frame is background
    then, as in most pictures of a surface, or if the whole picture is, the picture has no
    background, and all of it is foreground.

    Pixels that are exactly black, as the corners that `rotate_normals` leaves, are background in
    any case, and so are those beside them; the frame is taken around them. But if they are more
    than `border_share` of the picture's outermost pixels, black is the background's colour.

    `draem_jax.data.overview.foreground` finds the same on the host.

    Args:
        image: in [0, 1].
        border_share: the least share of the frame that a background takes, in [0, 1].

    Returns:
        True on the object.

    References:
        Otsu: A threshold selection method from gray-level histograms, IEEE Trans. SMC 1979.
    """
    levels = to_levels(image)
    black = jnp.all(image == 0, axis=-1).astype(jnp.float32)
    bare = lax.reduce_window(black, 0.0, lax.max, (3, 3), (1, 1), "SAME") > 0
    outermost = jnp.concatenate([bare[0], bare[-1], bare[:, 0], bare[:, -1]])
    on_black = jnp.mean(outermost) > border_share

    ends = _ends(~bare)
    counted = ~_along(bare, ends)
    frame = jnp.where(counted[:, None], _along(levels, ends), jnp.nan)
    median = jnp.nan_to_num(jnp.nanmedian(frame, axis=0))  # of no pixels, NaN
    colour = jnp.where(on_black, 0.0, jnp.round(median))
    distance = jnp.max(jnp.abs(levels - colour[None, None]), axis=-1)
    counts = count_levels(jnp.broadcast_to(distance[..., None], levels.shape))[0]
    is_far = distance > _otsu(counts)

    near = jnp.sum(counted & ~_along(is_far, ends)) / jnp.maximum(jnp.sum(counted), 1)
    is_surface = (~on_black & (near < border_share)) | ~jnp.any(is_far)
    return ~bare & (is_far | is_surface)


def _ends(inside: Bool[Array, "H W"]) -> tuple[Int[Array, "N"], Int[Array, "N"]]:
    """Row and column of the first and the last pixel inside of each row and each column."""
    height, width = inside.shape
    rows, columns = jnp.arange(height), jnp.arange(width)
    left, right = jnp.argmax(inside, axis=1), width - 1 - jnp.argmax(inside[:, ::-1], axis=1)
    top, bottom = jnp.argmax(inside, axis=0), height - 1 - jnp.argmax(inside[::-1], axis=0)
    return (
        jnp.concatenate([rows, rows, top, bottom]),
        jnp.concatenate([left, right, columns, columns]),
    )


def _along(plane: Array, places: tuple[Array, Array]) -> Array:
    return plane.at[places].get(mode="promise_in_bounds")


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
