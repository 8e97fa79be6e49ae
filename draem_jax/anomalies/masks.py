"""The regions that are made anomalous."""

import math

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray

from draem_jax.anomalies.draws import draw, draw_whole
from draem_jax.anomalies.foreground import foreground
from draem_jax.anomalies.params import (
    MAX_PERLIN_EXPONENT,
    MAX_RECTANGLES,
    AnomalyParams,
    Range,
)
from draem_jax.anomalies.perlin import perlin_noise
from draem_jax.anomalies.rotation import rotate_image

Mask = Float[Array, "H W 1"]


def draw_mask(key: PRNGKeyArray, image: Float[Array, "H W 3"], *, params: AnomalyParams) -> Mask:
    """Draws a mask of 0 and 1 for an image; it may come out empty.

    `params.mask` says of which shape:

    - "perlin": where Perlin noise exceeds a threshold, fixed or drawn, see `perlin_mask`.
    - "rectangles": up to some upright rectangles (paper, table 3, "rectangle").
    - "union": of two Perlin masks; the first is the one that "perlin" draws from the same key.
    - "intersection": of two Perlin masks, at a threshold of its own.
    - "magnitude": where the absolute value of Perlin noise exceeds a high, drawn threshold: small
      and thin shapes.
    - "scar": a thin turned rectangle, as the scars of CutPaste (Li et al., CVPR 2021).
    - "foreground": the part of a Perlin mask that lies on the object, see `foreground`.

    Args:
        key: a random key.
        image: that the mask is for, in [0, 1].
        params: the generator's choices and numbers.
    """
    height, width, _ = image.shape
    shape, shapes = (height, width), params.shapes
    match params.mask:
        case "perlin":
            return perlin_mask(key, shape=shape, params=params)
        case "rectangles":
            return rectangle_mask(key, shape=shape, params=params)
        case "union":
            first, second = _two_noises(key, shape=shape, params=params)
            return jnp.maximum(_above(*first, params.threshold), _above(*second, params.threshold))
        case "intersection":
            first, second = _two_noises(key, shape=shape, params=params)
            threshold = shapes.intersection_threshold
            return _above(*first, threshold) * _above(*second, threshold)
        case "magnitude":
            noise, threshold_key = _turned_noise(key, shape=shape, params=params)
            return _above(jnp.abs(noise), threshold_key, shapes.magnitude_threshold)
        case "scar":
            return scar_mask(key, shape=shape, params=params)
        case "foreground":
            on_object = foreground(image, border_share=shapes.foreground_border)
            return perlin_mask(key, shape=shape, params=params) * on_object[..., None]


def perlin_mask(key: PRNGKeyArray, *, shape: tuple[int, int], params: AnomalyParams) -> Mask:
    """A mask of 0 and 1 where turned Perlin noise exceeds a threshold; it may come out empty.

    Paper, section 3.3. As in the authors' code, the noise's cells are drawn for each axis, and 0
    fills the corners that its rotation uncovers.

    Args:
        key: a random key.
        shape: height and width in pixels.
        params: `perlin_exponent`, `noise_rotation` and `threshold` are used.
    """
    return _above(*_turned_noise(key, shape=shape, params=params), params.threshold)


def rectangle_mask(key: PRNGKeyArray, *, shape: tuple[int, int], params: AnomalyParams) -> Mask:
    """Upright rectangles of at least one pixel, wholly inside the picture; they may overlap.

    Args:
        key: a random key.
        shape: height and width in pixels.
        params: `shapes.rectangles` and `shapes.rectangle_side` are used.
    """
    count_key, *keys = jax.random.split(key, 5)
    count = draw_whole(count_key, params.shapes.rectangles)

    def spans(size: int, side_key: PRNGKeyArray, place_key: PRNGKeyArray) -> Array:
        """Which of the pixels along an axis each rectangle takes."""
        share = draw(side_key, params.shapes.rectangle_side, (MAX_RECTANGLES,))
        length = jnp.clip(jnp.round(share * size), 1, size)
        room = size - length + 1
        # Rounding may lift the product to `room`.
        first = jnp.floor(jax.random.uniform(place_key, (MAX_RECTANGLES,)) * room)
        first = jnp.minimum(first, size - length)[:, None]
        pixel = jnp.arange(size)[None, :]
        return (pixel >= first) & (pixel < first + length[:, None])

    rows, columns = spans(shape[0], *keys[:2]), spans(shape[1], *keys[2:])
    rows = rows & (jnp.arange(MAX_RECTANGLES) < count)[:, None]
    covered = jnp.any(rows[:, :, None] & columns[:, None, :], axis=0)
    return covered[..., None].astype(jnp.float32)


def scar_mask(key: PRNGKeyArray, *, shape: tuple[int, int], params: AnomalyParams) -> Mask:
    """A thin rectangle at any angle, its middle anywhere in the picture.

    Its width is at least √2 pixels, without which a slanting one would fall apart.

    Args:
        key: a random key.
        shape: height and width in pixels.
        params: `shapes.scar_length`, `shapes.scar_width` and `shapes.scar_rotation` are used.
    """
    length_key, width_key, rotation_key, place_key = jax.random.split(key, 4)
    height, width = shape
    side = min(shape)
    half_length = draw(length_key, params.shapes.scar_length) * side / 2
    half_width = draw(width_key, params.shapes.scar_width) * side / 2
    half_width = jnp.maximum(half_width, math.sqrt(0.5))
    half_length = jnp.maximum(half_length, half_width)
    radians = jnp.deg2rad(draw(rotation_key, params.shapes.scar_rotation))
    cos, sin = jnp.cos(radians), jnp.sin(radians)
    middle = jax.random.uniform(place_key, (2,))
    y = (jnp.arange(height) + 0.5 - middle[0] * height)[:, None]
    x = (jnp.arange(width) + 0.5 - middle[1] * width)[None, :]
    along, across = x * cos + y * sin, y * cos - x * sin
    covered = (jnp.abs(along) <= half_length) & (jnp.abs(across) <= half_width)
    return covered[..., None].astype(jnp.float32)


def _turned_noise(
    key: PRNGKeyArray, *, shape: tuple[int, int], params: AnomalyParams
) -> tuple[Mask, PRNGKeyArray]:
    """Perlin noise of drawn resolution and rotation, and a key to draw its threshold from."""
    cells_key, angles_key, rotation_key, threshold_key = jax.random.split(key, 4)
    exponents = draw_whole(cells_key, params.perlin_exponent, (2,)).astype(jnp.int32)
    cells = jnp.left_shift(1, jnp.clip(exponents, 0, MAX_PERLIN_EXPONENT))
    # Traced exponents leave the size of the lattice open: draw the largest, use a part.
    lines = 2**MAX_PERLIN_EXPONENT + 1
    angles = draw(angles_key, (0.0, 2 * jnp.pi), (lines, lines))
    noise = perlin_noise(angles, shape=shape, resolution=(cells[0], cells[1]))
    noise = rotate_image(noise[..., None], degrees=draw(rotation_key, params.noise_rotation))
    return noise, threshold_key


def _two_noises(
    key: PRNGKeyArray, *, shape: tuple[int, int], params: AnomalyParams
) -> list[tuple[Mask, PRNGKeyArray]]:
    """`_turned_noise` of the key and of another one."""
    keys = jnp.stack([key, jax.random.fold_in(key, 1)])
    # One after the other, so that the noise is compiled once.
    noises, threshold_keys = lax.map(
        lambda key: _turned_noise(key, shape=shape, params=params), keys
    )
    return [(noises[i], threshold_keys[i]) for i in range(2)]


def _above(noise: Mask, threshold_key: PRNGKeyArray, threshold: Range) -> Mask:
    return (noise > draw(threshold_key, threshold)).astype(jnp.float32)
