"""Perlin noise as small matrix products."""

import math

import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float


def perlin_noise(
    angles: Float[Array, "rows columns"],
    *,
    shape: tuple[int, int],
    resolution: tuple[ArrayLike, ArrayLike],
) -> Float[Array, "H W"]:
    """Perlin noise for given gradients.

    The noise at a pixel mixes the four gradients around it, each weighted by the product of one
    number that depends on the row and one that depends on the column. Written over all lattice
    lines, with a weight of 0 for those further than one cell away, this is a matrix product from
    either side: no gather, and any size and resolution, also not whole or traced.

    Args:
        angles: direction of the gradient at each lattice point, radians; 0 points down the image
            (rising row index), π/2 to the right. At least resolution + 1 lattice lines along each
            axis; those beyond play no part.
        shape: height and width of the noise, pixels.
        resolution: cells along the height and along the width.

    Returns:
        Noise, 0 at the lattice points, between about -1 and 1.

    References:
        Perlin, "Improving noise", SIGGRAPH 2002; the scale of √2 is the authors' code's.
    """
    falloff_y, ramp_y = _along_axis(shape[0], resolution[0], angles.shape[0])
    falloff_x, ramp_x = _along_axis(shape[1], resolution[1], angles.shape[1])

    def product(a: Array, b: Array) -> Array:
        # In TF32 or bfloat16 the edges of a mask would differ from one platform to the next.
        return jnp.matmul(a, b, precision=lax.Precision.HIGHEST)

    noise = product(product(ramp_y, jnp.cos(angles)), falloff_x.T)
    return math.sqrt(2) * (noise + product(product(falloff_y, jnp.sin(angles)), ramp_x.T))


def _along_axis(
    size: int, resolution: ArrayLike, lines: int
) -> tuple[Float[Array, "size lines"], Float[Array, "size lines"]]:
    """Each lattice line's falloff at each pixel, and that falloff times the distance in cells."""
    position = jnp.arange(size, dtype=jnp.float32) * (jnp.asarray(resolution, jnp.float32) / size)
    distance = position[:, None] - jnp.arange(lines, dtype=jnp.float32)[None, :]
    t = jnp.maximum(1.0 - jnp.abs(distance), 0.0)
    falloff = t * t * t * (t * (t * 6.0 - 15.0) + 10.0)
    return falloff, falloff * distance
