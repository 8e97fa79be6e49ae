"""Masks of small spots: pits, inclusions, grains of dirt."""

import functools
import operator

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from draem_jax.anomalies.draws import draw, draw_log, draw_whole
from draem_jax.anomalies.params import MAX_SPOTS, AnomalyParams
from draem_jax.anomalies.perlin import perlin_noise

# At 128 pixels a side, cells of four pixels make the outlines uneven.
_CELLS = 32


def spots_mask(
    key: PRNGKeyArray, image: Float[Array, "H W 3"], *, params: AnomalyParams
) -> Float[Array, "H W 1"]:
    """Some spots of uneven outline, which may overlap or be cut off by the picture's border.

    Each is an ellipse whose radius Perlin noise changes from place to place. Areas are drawn
    log-uniformly, so that there are as many spots of 4 to 8 pixels as of 40 to 80; at least the
    pixel in its middle belongs to a spot. `shapes.spots`, `shapes.spot_area`,
    `shapes.spot_elongation` and `shapes.spot_roughness` are used.

    Args:
        key: a random key.
        image: that the mask is for.
        params: the generator's numbers.

    Returns:
        1 on the spots, 0 elsewhere.
    """
    height, width, _ = image.shape
    keys = jax.random.split(key, 7)
    shapes, each = params.shapes, (MAX_SPOTS,)
    count = draw_whole(keys[0], shapes.spots)
    radius = jnp.sqrt(draw_log(keys[1], shapes.spot_area, each) * (height * width / jnp.pi))
    elongation = jnp.sqrt(draw(keys[2], shapes.spot_elongation, each))
    radians = draw(keys[3], (0.0, jnp.pi), each)
    middle = jnp.floor(jax.random.uniform(keys[4], (*each, 2)) * jnp.array([[height, width]]))
    angles = draw(keys[5], (0.0, 2 * jnp.pi), (_CELLS + 1, _CELLS + 1))
    noise = perlin_noise(angles, shape=(height, width), resolution=(_CELLS, _CELLS))
    # As a share of the radius; what is negative would be a radius once more when it is squared.
    outline = jnp.maximum(1 + draw(keys[6], shapes.spot_roughness) * noise, 0)

    def is_on(i: int) -> Bool[Array, "H W"]:
        y = (jnp.arange(height) - middle[i, 0])[:, None] * (1 / radius[i])
        x = (jnp.arange(width) - middle[i, 1])[None, :] * (1 / radius[i])
        sin, cos = jnp.sin(radians[i]), jnp.cos(radians[i])
        along, across = x * cos + y * sin, y * cos - x * sin
        along, across = along * (1 / elongation[i]), across * elongation[i]
        return (along * along + across * across <= outline * outline) & (i < count)

    # One after the other, which CPUs compute as a single pass.
    covered = functools.reduce(operator.or_, map(is_on, range(MAX_SPOTS)))
    return covered[..., None].astype(jnp.float32)
