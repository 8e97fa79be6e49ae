"""The operations that make a texture look unlike itself; `OPERATIONS` names them.

One contract for all: the image is (H, W, 3) RGB in levels, float32 that holds whole numbers from 0
to 255, and so is the result; further arguments go by keyword; a function whose name starts with
`random_` takes a key first and the ranges to draw from. The arithmetic is that of the 8-bit
operations of imgaug 0.4.0, which the authors' code uses, down to where they truncate and where they
round; each docstring says what differs.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int, PRNGKeyArray, UInt8

from draem_jax.anomalies.colour import CONVERSIONS, Planes, hsv_to_rgb, rgb_to_hsv
from draem_jax.anomalies.draws import draw, draw_whole, happens
from draem_jax.anomalies.levels import Levels, count_levels, from_levels, look_up, to_levels
from draem_jax.anomalies.params import OperationWeights, TextureParams
from draem_jax.anomalies.rotation import rotate_image

Image = Float[Array, "H W 3"]
Operation = Callable[..., Levels]
Conversion = Callable[[Planes], Planes]


def gamma_contrast(image: Levels, *, gamma: Float[Array, "3"]) -> Levels:
    """Raises each channel to its own power.

    As imgaug's `GammaContrast`, which truncates to whole levels, up to a level where float32 rounds
    otherwise.
    """
    # A power in this form is vectorised on CPUs. The small number keeps whole levels, up to
    # rounding, from being truncated to one below.
    curve = jnp.exp(gamma[None, None, :] * jnp.log(image / 255))
    return jnp.minimum(jnp.floor(255 * curve + 1e-3), 255)


def change_brightness(
    image: Levels,
    *,
    space: ArrayLike,
    factor: ArrayLike,
    shift: ArrayLike,
    shift_first: ArrayLike = False,
) -> Levels:
    """Multiplies and shifts the brightness channel of a colour space.

    As imgaug's `MultiplyAndAddToBrightness` up to the colour conversions' rounding, see `colour`.

    Args:
        image: as the module says.
        space: a `colour.ColourSpace`, or a traced integer that stands for one.
        factor: what brightness is multiplied by; the product is truncated to whole levels.
        shift: what is added, levels; rounded to whole levels.
        shift_first: whether to add before multiplying.
    """

    def multiplied(brightness: Array) -> Array:
        return jnp.clip(jnp.floor(brightness * factor), 0, 255)

    def shifted(brightness: Array) -> Array:
        return jnp.clip(brightness + jnp.round(shift), 0, 255)

    def change_in(there: Conversion, back: Conversion, channel: int) -> Callable[[Planes], Planes]:
        def change(rgb: Planes) -> Planes:
            planes = list(there(rgb))
            planes[channel] = jnp.where(
                shift_first,
                multiplied(shifted(planes[channel])),
                shifted(multiplied(planes[channel])),
            )
            first, second, third = planes
            return back((first, second, third))

        return change

    branches = [change_in(*conversion) for conversion in CONVERSIONS]
    return _from_planes(lax.switch(space, branches, _to_planes(image)))


def enhance_sharpness(image: Levels, *, factor: ArrayLike) -> Levels:
    """Blends between a smoothed copy (0), the image (1) and beyond; the border stays as it is.

    As imgaug's `EnhanceSharpness`, which is Pillow's: the mean over 3 × 3 with weight 5 in the
    middle.
    """
    height, width, channels = image.shape
    if height < 3 or width < 3:
        return image
    # Columns and channels on one axis, a neighbour being `channels` further, are read in order.
    levels = image.reshape(height, width * channels)
    rows = levels[:-2] + levels[1:-1] + levels[2:]
    inner = levels[1:-1, channels:-channels]
    total = rows[:, : -2 * channels] + rows[:, channels:-channels] + rows[:, 2 * channels :]
    smooth = jnp.floor((total + 4 * inner) / 13 + 0.5)
    # Whole levels, up to rounding of the product, truncate to themselves and not to one below.
    blended = jnp.clip(jnp.floor(smooth + factor * (inner - smooth) + 1e-4), 0, 255)
    sharpened = lax.dynamic_update_slice(levels, blended, (1, channels))
    return sharpened.reshape(image.shape)


def shift_hue_and_saturation(image: Levels, *, hue: ArrayLike, saturation: ArrayLike) -> Levels:
    """Shifts hue, which wraps, and saturation, which does not.

    As imgaug's `AddToHueAndSaturation` up to the colour conversions' rounding, see `colour`.

    Args:
        image: as the module says.
        hue: levels, 255 for a full turn; truncated to whole steps of 2°.
        saturation: levels.
    """
    hue_before, saturation_before, value = rgb_to_hsv(_to_planes(image))
    turned = hue_before + jnp.trunc(jnp.asarray(hue, jnp.float32) * (180 / 255))
    turned = turned - 180 * jnp.floor(turned / 180)
    saturated = jnp.clip(saturation_before + saturation, 0, 255)
    return _from_planes(hsv_to_rgb((turned, saturated, value)))


def solarize(image: Levels, *, threshold: ArrayLike) -> Levels:
    """Inverts values from the threshold (levels) on. Exactly imgaug's `Solarize`."""
    return jnp.where(image >= threshold, 255 - image, image)


def posterize(image: Levels, *, bits: ArrayLike) -> Levels:
    """Keeps the given number of leading bits of each value. Exactly imgaug's `Posterize`."""
    step = jnp.left_shift(1, 8 - jnp.asarray(bits, jnp.int32)).astype(jnp.float32)
    return jnp.floor(image / step) * step


def invert(image: Levels) -> Levels:
    """255 minus each value. Exactly imgaug's `Invert`."""
    return 255 - image


def autocontrast(image: Levels, *, cutoff: ArrayLike) -> Levels:
    """Stretches each channel to the full range after cutting its darkest and brightest pixels.

    As imgaug's `Autocontrast`, which is Pillow's, up to a level where float32 rounds otherwise.

    Args:
        image: as the module says.
        cutoff: percent of the pixels that are cut at each end, below 50.
    """
    pixels = image.shape[0] * image.shape[1]
    counts = count_levels(image)
    cut = jnp.floor(pixels * jnp.asarray(cutoff, jnp.float32) / 100).astype(jnp.int32)
    from_below = jnp.cumsum(counts, axis=1)
    from_above = pixels - from_below + counts
    lowest = jnp.argmax(from_below > cut, axis=1).astype(jnp.float32)[:, None]
    highest = 255 - jnp.argmax((from_above > cut)[:, ::-1], axis=1).astype(jnp.float32)[:, None]
    level = jnp.arange(256, dtype=jnp.float32)[None, :]
    stretched = jnp.floor((level - lowest) * 255 / jnp.maximum(highest - lowest, 1))
    tables = jnp.where(highest > lowest, jnp.clip(stretched, 0, 255), level)
    return look_up(image, tables=tables)


def equalize(image: Levels) -> Levels:
    """Flattens each channel's histogram. As imgaug's `Equalize`, which is Pillow's."""
    pixels = image.shape[0] * image.shape[1]
    counts = count_levels(image)
    occurring = counts > 0
    last = 255 - jnp.argmax(occurring[:, ::-1], axis=1)
    count_of_last = jnp.sum(
        jnp.where(jnp.arange(256)[None, :] == last[:, None], counts, 0), axis=1
    )[:, None]
    step = (pixels - count_of_last) // 255
    below = jnp.cumsum(counts, axis=1) - counts
    # A whole division, in floats since XLA makes it for each pixel, where integers are slow.
    flat = jnp.floor((step // 2 + below + 0.5) / jnp.maximum(step, 1))
    level = jnp.arange(256, dtype=jnp.float32)[None, :]
    tables = jnp.where(step > 0, jnp.minimum(flat, 255), level)
    return look_up(image, tables=tables)


def rotate(image: Levels, *, degrees: ArrayLike) -> Levels:
    """Turns clockwise about the centre, corners black; as imgaug's `Affine` up to a few levels.

    See `rotation.rotate_image` for the difference.
    """
    return jnp.round(rotate_image(image, degrees=degrees))


def _to_planes(image: Levels) -> Planes:
    return image[..., 0], image[..., 1], image[..., 2]


def _from_planes(planes: Planes) -> Levels:
    return jnp.stack(planes, axis=-1)


def random_gamma_contrast(key: PRNGKeyArray, image: Levels, *, params: TextureParams) -> Levels:
    """`gamma_contrast`, the exponent drawn for each channel."""
    return gamma_contrast(image, gamma=draw(key, params.gamma, (3,)))


def random_brightness(key: PRNGKeyArray, image: Levels, *, params: TextureParams) -> Levels:
    """`change_brightness` in one of the colour spaces, in either order."""
    space_key, factor_key, shift_key, order_key = jax.random.split(key, 4)
    return change_brightness(
        image,
        space=jax.random.randint(space_key, (), 0, len(CONVERSIONS)),
        factor=draw(factor_key, params.brightness_factor),
        shift=draw(shift_key, params.brightness_shift),
        shift_first=happens(order_key, 0.5),
    )


def random_sharpness(key: PRNGKeyArray, image: Levels, *, params: TextureParams) -> Levels:
    """`enhance_sharpness`, the factor drawn."""
    return enhance_sharpness(image, factor=draw(key, params.sharpness))


def random_hue_and_saturation(key: PRNGKeyArray, image: Levels, *, params: TextureParams) -> Levels:
    """`shift_hue_and_saturation`, each drawn."""
    hue_key, saturation_key = jax.random.split(key)
    return shift_hue_and_saturation(
        image,
        hue=draw_whole(hue_key, params.hue_shift),
        saturation=draw_whole(saturation_key, params.saturation_shift),
    )


def random_solarize(key: PRNGKeyArray, image: Levels, *, params: TextureParams) -> Levels:
    """`solarize` in a share of the cases, the threshold drawn."""
    share_key, threshold_key = jax.random.split(key)
    threshold = draw(threshold_key, params.solarize_threshold)
    acts = happens(share_key, params.solarize_share)
    return solarize(image, threshold=jnp.where(acts, threshold, 256.0))


def random_posterize(key: PRNGKeyArray, image: Levels, *, params: TextureParams) -> Levels:
    """`posterize`, the number of bits drawn."""
    return posterize(image, bits=draw_whole(key, params.posterize_bits))


def random_invert(key: PRNGKeyArray, image: Levels, *, params: TextureParams) -> Levels:
    """`invert`; nothing is drawn."""
    del key, params
    return invert(image)


def random_autocontrast(key: PRNGKeyArray, image: Levels, *, params: TextureParams) -> Levels:
    """`autocontrast`, the cutoff drawn."""
    return autocontrast(image, cutoff=draw_whole(key, params.autocontrast_cutoff))


def random_equalize(key: PRNGKeyArray, image: Levels, *, params: TextureParams) -> Levels:
    """`equalize`; nothing is drawn."""
    del key, params
    return equalize(image)


def random_rotate(key: PRNGKeyArray, image: Levels, *, params: TextureParams) -> Levels:
    """`rotate`, the angle drawn."""
    return rotate(image, degrees=draw(key, params.rotation))


OPERATIONS: Mapping[str, Operation] = {
    "gamma_contrast": random_gamma_contrast,
    "brightness": random_brightness,
    "sharpness": random_sharpness,
    "hue_and_saturation": random_hue_and_saturation,
    "solarize": random_solarize,
    "posterize": random_posterize,
    "invert": random_invert,
    "autocontrast": random_autocontrast,
    "equalize": random_equalize,
    "rotate": random_rotate,
}
"""All operations by their names, which are the fields of `OperationWeights` as well.

Samples depend on how many there are and on their order.
"""
_LEAVE_ALONE = len(OPERATIONS)


def draw_operations(key: PRNGKeyArray, weights: OperationWeights) -> Int[Array, "operations"]:
    """Draws all operations, one after the other, of which a texture takes the first few.

    Returns:
        Places in `OPERATIONS`; the place behind its end, to leave the texture alone, instead of
        the operations of weight 0, which come last.
    """
    values = [jnp.asarray(getattr(weights, name), jnp.float32) for name in OPERATIONS]
    logits = jnp.log(jnp.stack(values))
    # The Gumbel-max trick: the order of the perturbed logits is that of drawing one by one.
    scores, operations = lax.top_k(logits + jax.random.gumbel(key, logits.shape), len(OPERATIONS))
    return jnp.where(jnp.isneginf(scores), _LEAVE_ALONE, operations)


def augment_texture(key: PRNGKeyArray, texture: Image, *, params: TextureParams) -> Image:
    """Applies distinct operations in random order, three in the paper's section 3.3.

    Args:
        key: a random key.
        texture: float32 in [0, 1].
        params: `operations` says how many. It is the bound of a loop, so fewer take less time.

    Returns:
        What is made of the texture, float32 in [0, 1], rounded to the 256 levels of an 8-bit image.
    """
    order_key, *operation_keys = jax.random.split(key, 1 + len(OPERATIONS))
    operations, keys = draw_operations(order_key, params.weights), jnp.stack(operation_keys)

    def branch(operation: Operation) -> Callable[[PRNGKeyArray, Levels], Planes]:
        return lambda key, image: _to_planes(operation(key, image, params=params))

    branches = [*map(branch, OPERATIONS.values()), lambda _, image: _to_planes(image)]
    count = jnp.clip(jnp.asarray(params.operations, jnp.float32), 0, len(OPERATIONS))

    # Between two operations there are bytes, and where all operations are computed to choose one,
    # it is chosen plane by plane: both are less to write.
    def step(i: Array, image: UInt8[Array, "H W 3"]) -> UInt8[Array, "H W 3"]:
        planes = lax.switch(operations[i], branches, keys[i], image.astype(jnp.float32))
        return _from_planes(planes).astype(jnp.uint8)

    levels = lax.fori_loop(0, count.astype(jnp.int32), step, to_levels(texture).astype(jnp.uint8))
    return from_levels(levels.astype(jnp.float32))
