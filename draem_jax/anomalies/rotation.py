"""Rotation about the centre."""

from typing import Literal

import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float

Corners = Literal["black", "reflect"]


def rotate_image(
    image: Float[Array, "H W C"], *, degrees: ArrayLike, corners: Corners = "black"
) -> Float[Array, "H W C"]:
    """Turns an image about its centre, at the same size.

    Bilinear, as imgaug's `Affine(rotate=degrees)`, and a pixel beyond the border counts as 0.
    imgaug has OpenCV round the coordinates to 1/32 pixel; here they are exact, so values differ by
    a few levels of 255 at sharp edges.

    Args:
        image: any values, any number of channels.
        degrees: clockwise.
        corners: what fills them: "black", zeros; "reflect", the image mirrored at its outer pixels.
    """
    height, width, channels = image.shape
    radians = jnp.deg2rad(jnp.asarray(degrees, jnp.float32))
    cos, sin = jnp.cos(radians), jnp.sin(radians)
    centre_y, centre_x = (height - 1) / 2, (width - 1) / 2
    y = jnp.arange(height, dtype=jnp.float32) - centre_y
    x = jnp.arange(width, dtype=jnp.float32) - centre_x
    # Positions in the image with its frame of zeros.
    source_y = _outer_sum(cos * y + centre_y + 1, -sin * x)
    source_x = _outer_sum(sin * y + centre_x + 1, cos * x)
    if corners == "reflect":
        source_y, source_x = _mirrored(source_y, height), _mirrored(source_x, width)
    source_y, source_x = jnp.clip(source_y, 0, height + 1), jnp.clip(source_x, 0, width + 1)
    framed = jnp.pad(image, ((1, 2), (1, 2), (0, 0))).reshape(-1, channels)

    top, left = jnp.floor(source_y), jnp.floor(source_x)
    row = width + 3
    corner = top.astype(jnp.int32) * row + left.astype(jnp.int32)
    down, right = (source_y - top)[..., None], (source_x - left)[..., None]

    def neighbour(offset: int) -> Array:
        return framed.at[corner + offset].get(mode="promise_in_bounds")

    above = neighbour(0) * (1 - right) + neighbour(1) * right
    below = neighbour(row) * (1 - right) + neighbour(row + 1) * right
    return above * (1 - down) + below * down


def _mirrored(position: Float[Array, "H W"], size: int) -> Float[Array, "H W"]:
    """Positions from 1 to `size` in place of those beyond, to and fro."""
    span = max(size - 1, 1)
    return span - jnp.abs(jnp.mod(position - 1, 2 * span) - span) + 1


def _outer_sum(rows: Float[Array, "H"], columns: Float[Array, "W"]) -> Float[Array, "H W"]:
    """The sum of each row's and each column's number, as a matrix product.

    XLA:CPU would compute a sum, and the cosines in it, anew for each of the values that are read at
    its place; a product it computes once.
    """
    left = jnp.stack([rows, jnp.ones_like(rows)], axis=1)
    right = jnp.stack([jnp.ones_like(columns), columns], axis=0)
    return jnp.matmul(left, right, precision=lax.Precision.HIGHEST)
