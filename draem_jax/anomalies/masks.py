"""The regions that are made anomalous."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from draem_jax.anomalies.draws import draw, draw_whole
from draem_jax.anomalies.params import MAX_PERLIN_EXPONENT, AnomalyParams
from draem_jax.anomalies.perlin import perlin_noise
from draem_jax.anomalies.rotation import rotate_image


def perlin_mask(
    key: PRNGKeyArray, *, shape: tuple[int, int], params: AnomalyParams
) -> Float[Array, "H W 1"]:
    """A mask of 0 and 1 where turned Perlin noise exceeds a threshold; it may come out empty.

    Paper, section 3.3. As in the authors' code, the noise's cells are drawn for each axis, and 0
    fills the corners that its rotation uncovers.

    Args:
      key: a random key.
      shape: height and width in pixels.
      params: `perlin_exponent`, `noise_rotation` and `threshold` are used.
    """
    cells_key, angles_key, rotation_key, threshold_key = jax.random.split(key, 4)
    exponents = draw_whole(cells_key, params.perlin_exponent, (2,)).astype(jnp.int32)
    cells = jnp.left_shift(1, jnp.clip(exponents, 0, MAX_PERLIN_EXPONENT))
    # Traced exponents leave the size of the lattice open: draw the largest, use a part.
    lines = 2**MAX_PERLIN_EXPONENT + 1
    angles = draw(angles_key, (0.0, 2 * jnp.pi), (lines, lines))
    noise = perlin_noise(angles, shape=shape, resolution=(cells[0], cells[1]))
    noise = rotate_image(noise[..., None], degrees=draw(rotation_key, params.noise_rotation))
    return (noise > draw(threshold_key, params.threshold)).astype(jnp.float32)
