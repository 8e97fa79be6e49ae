"""The regions that are made anomalous, of any shape in `MASKS` and at any place in `PLACES`."""

import math
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray

from draem_jax.anomalies.cracks import crack_mask
from draem_jax.anomalies.draws import draw, draw_whole
from draem_jax.anomalies.foreground import foreground
from draem_jax.anomalies.params import (
    MAX_PERLIN_EXPONENT,
    MAX_RECTANGLES,
    AnomalyParams,
    MaskPlace,
    MaskShape,
    Range,
)
from draem_jax.anomalies.perlin import perlin_noise
from draem_jax.anomalies.rotation import rotate_image
from draem_jax.anomalies.spots import spots_mask

Image = Float[Array, "H W 3"]
Mask = Float[Array, "H W 1"]


def draw_mask(key: PRNGKeyArray, image: Image, *, params: AnomalyParams) -> Mask:
    """Draws a mask of the shape and at the place that `params` names; see `MASKS` and `PLACES`.

    Args:
        key: a random key.
        image: that the mask is for, in [0, 1].
        params: the generator's choices and numbers.

    Returns:
        1 in the regions that are made anomalous, 0 outside. It may come out empty.
    """
    mask = MASKS[params.mask](key, image, params=params)
    return PLACES[params.place](mask, image, params=params)


def perlin_mask(key: PRNGKeyArray, image: Image, *, params: AnomalyParams) -> Mask:
    """Where turned Perlin noise exceeds a threshold, fixed or drawn (paper, section 3.3).

    As in the authors' code, the noise's cells are drawn for each axis, and 0 fills the corners that
    its rotation uncovers. `perlin_exponent`, `noise_rotation` and `threshold` are used.
    """
    return _above(*_turned_noise(key, image, params=params), params.threshold)


def union_mask(key: PRNGKeyArray, image: Image, *, params: AnomalyParams) -> Mask:
    """Two Perlin masks together, of which the first is what `perlin_mask` draws from the key."""
    first, second = _two_noises(key, image, params=params)
    return jnp.maximum(_above(*first, params.threshold), _above(*second, params.threshold))


def intersection_mask(key: PRNGKeyArray, image: Image, *, params: AnomalyParams) -> Mask:
    """What two Perlin masks share, at a threshold of its own, `shapes.intersection_threshold`."""
    first, second = _two_noises(key, image, params=params)
    threshold = params.shapes.intersection_threshold
    return _above(*first, threshold) * _above(*second, threshold)


def magnitude_mask(key: PRNGKeyArray, image: Image, *, params: AnomalyParams) -> Mask:
    """Small and thin shapes: where the absolute value of Perlin noise exceeds a high threshold.

    The threshold is drawn from `shapes.magnitude_threshold`.
    """
    noise, threshold_key = _turned_noise(key, image, params=params)
    return _above(jnp.abs(noise), threshold_key, params.shapes.magnitude_threshold)


def foreground_mask(key: PRNGKeyArray, image: Image, *, params: AnomalyParams) -> Mask:
    """The part of a Perlin mask that lies on the object, as with `place` "foreground".

    `shapes.foreground_border` is used, and what `perlin_mask` uses.
    """
    return on_object(perlin_mask(key, image, params=params), image, params=params)


def rectangle_mask(key: PRNGKeyArray, image: Image, *, params: AnomalyParams) -> Mask:
    """Some upright rectangles (paper, table 3, "rectangle"), which may overlap.

    Each is at least one pixel high and wide and lies wholly inside the picture. `shapes.rectangles`
    and `shapes.rectangle_side` are used.
    """
    height, width, _ = image.shape
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

    rows, columns = spans(height, *keys[:2]), spans(width, *keys[2:])
    rows = rows & (jnp.arange(MAX_RECTANGLES) < count)[:, None]
    covered = jnp.any(rows[:, :, None] & columns[:, None, :], axis=0)
    return covered[..., None].astype(jnp.float32)


def scar_mask(key: PRNGKeyArray, image: Image, *, params: AnomalyParams) -> Mask:
    """A thin rectangle at any angle, its middle anywhere, as the scars of CutPaste.

    Its width is at least √2 pixels, without which a slanting one would fall apart.
    `shapes.scar_length`, `shapes.scar_width` and `shapes.scar_rotation` are used.

    References:
        Li et al.: CutPaste: self-supervised learning for anomaly detection, CVPR 2021.
    """
    length_key, width_key, rotation_key, place_key = jax.random.split(key, 4)
    height, width, _ = image.shape
    side = min(height, width)
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


def mixed_mask(key: PRNGKeyArray, image: Image, *, params: AnomalyParams) -> Mask:
    """A mask of a shape that is drawn for each sample by `shapes.weights`."""
    shape_key, mask_key = jax.random.split(key)
    weights = params.shapes.weights
    names = [name for name in MASKS if hasattr(weights, name)]
    values = [jnp.asarray(getattr(weights, name), jnp.float32) for name in names]
    shape = jax.random.categorical(shape_key, jnp.log(jnp.stack(values)))

    # All get the same key, so that accelerators, which compute every branch, make a noise that
    # several shapes are cut from once.
    def branch(name: MaskShape) -> Callable[[PRNGKeyArray], Mask]:
        return lambda key: MASKS[name](key, image, params=params)

    return lax.switch(shape, [branch(name) for name in names], mask_key)


MASKS: Mapping[MaskShape, Callable[..., Mask]] = {
    "perlin": perlin_mask,
    "rectangles": rectangle_mask,
    "union": union_mask,
    "intersection": intersection_mask,
    "magnitude": magnitude_mask,
    "scar": scar_mask,
    "foreground": foreground_mask,
    "crack": crack_mask,
    "spots": spots_mask,
    "mixed": mixed_mask,
}
"""What draws each shape of masks.

All are called alike: with a key, the image that the mask is for and, by keyword, the parameters.
"""


def anywhere(mask: Mask, image: Image, *, params: AnomalyParams) -> Mask:
    """The mask itself."""
    del image, params
    return mask


def on_object(mask: Mask, image: Image, *, params: AnomalyParams) -> Mask:
    """The part of a mask that lies on the object in a picture, see `foreground.foreground`.

    In a picture without a background, that is the mask itself. `shapes.foreground_border` is used.
    """
    found = foreground(image, border_share=params.shapes.foreground_border)
    return mask * found[..., None]


PLACES: Mapping[MaskPlace, Callable[..., Mask]] = {
    "anywhere": anywhere,
    "foreground": on_object,
}
"""What is kept of a mask: from the mask, the image that it is for and, by keyword, the parameters.
"""


def _turned_noise(
    key: PRNGKeyArray, image: Image, *, params: AnomalyParams
) -> tuple[Mask, PRNGKeyArray]:
    """Perlin noise of drawn resolution and rotation, and a key to draw its threshold from."""
    height, width, _ = image.shape
    cells_key, angles_key, rotation_key, threshold_key = jax.random.split(key, 4)
    exponents = draw_whole(cells_key, params.perlin_exponent, (2,)).astype(jnp.int32)
    cells = jnp.left_shift(1, jnp.clip(exponents, 0, MAX_PERLIN_EXPONENT))
    # Traced exponents leave the size of the lattice open: draw the largest, use a part.
    lines = 2**MAX_PERLIN_EXPONENT + 1
    angles = draw(angles_key, (0.0, 2 * jnp.pi), (lines, lines))
    noise = perlin_noise(angles, shape=(height, width), resolution=(cells[0], cells[1]))
    noise = rotate_image(noise[..., None], degrees=draw(rotation_key, params.noise_rotation))
    return noise, threshold_key


def _two_noises(
    key: PRNGKeyArray, image: Image, *, params: AnomalyParams
) -> list[tuple[Mask, PRNGKeyArray]]:
    """`_turned_noise` of the key and of another one."""
    keys = jnp.stack([key, jax.random.fold_in(key, 1)])
    # One after the other, so that the noise is compiled once.
    noises, threshold_keys = lax.map(lambda key: _turned_noise(key, image, params=params), keys)
    return [(noises[i], threshold_keys[i]) for i in range(2)]


def _above(noise: Mask, threshold_key: PRNGKeyArray, threshold: Range) -> Mask:
    return (noise > draw(threshold_key, threshold)).astype(jnp.float32)
