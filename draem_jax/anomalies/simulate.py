"""Simulated anomalies, batch by batch, from keys to pictures inside one compiled program."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Key, PRNGKeyArray

from draem_jax.anomalies.contrast import CONTRASTS
from draem_jax.anomalies.draws import draw, happens
from draem_jax.anomalies.masks import draw_mask
from draem_jax.anomalies.params import AnomalyParams
from draem_jax.anomalies.rotation import rotate_image
from draem_jax.anomalies.samples import map_samples
from draem_jax.anomalies.texture_operations import augment_texture

# By these numbers nothing else is drawn from the key of a normal image, which is split in two.
_FLIPS = (2, 3)
_BRIGHTNESS = 4

Images = Float[Array, "B H W 3"]
Masks = Float[Array, "B H W 1"]
Keys = Key[Array, "B"]


class Simulated(NamedTuple):
    """A batch of samples.

    Attributes:
        augmented: the images with anomalies, in [0, 1].
        mask: 1 where an anomaly is, else 0.
        has_anomaly: whether the mask has any 1.
    """

    augmented: Float[Array, "B H W 3"]
    mask: Float[Array, "B H W 1"]
    has_anomaly: Bool[Array, "B"]


def simulate(
    key: PRNGKeyArray,
    images: Images,
    textures: Images,
    params: AnomalyParams,
    *,
    masks: Masks | None = None,
) -> Simulated:
    """Puts a simulated anomaly on each image of a batch, as the paper's section 3.3 describes.

    Works under `jit`, `scan`, `pmap` and `shard_map`, on any platform. Other numbers in the
    parameters run the same compiled program; another mask shape or blend compiles another. Sample i
    draws from `fold_in(key, i)` and from nothing else; where a batch is split over devices, give
    each sample its own key by `simulate_with_keys`.

    Args:
        key: a random key.
        images: normal images, float32 in [0, 1], of any height and width.
        textures: where anomalies come from, float32 RGB in [0, 1], resized to the images' size.
            They are rounded to the 256 levels of 8-bit images.
        params: what the generator does.
        masks: where anomalies go, 1 on them and 0 elsewhere; drawn as `params.mask` says if None.

    Returns:
        The augmented images, the masks, and whether each sample has an anomaly. A mask that came
        out empty makes a normal sample. Outside the mask, and everywhere in untouched samples,
        augmented images equal the images; with `subtle.label_threshold`, they differ there by less
        than that.

    Example:
        >>> images = textures = jnp.full((2, 64, 96, 3), 0.5)
        >>> augmented, mask, has_anomaly = simulate(
        ...     jax.random.key(0), images, textures, AnomalyParams()
        ... )
        >>> augmented.shape, mask.shape, has_anomaly.shape
        ((2, 64, 96, 3), (2, 64, 96, 1), (2,))
    """
    return simulate_with_keys(_sample_keys(key, images), images, textures, params, masks=masks)


def simulate_with_keys(
    keys: Keys,
    images: Images,
    textures: Images,
    params: AnomalyParams,
    *,
    masks: Masks | None = None,
    inside: Bool[Array, "B H W 1"] | None = None,
) -> Simulated:
    """`simulate` with a key for each sample, on which alone its draws depend.

    Args:
        keys: the keys.
        images: see `simulate`.
        textures: the same.
        params: the same.
        masks: the same.
        inside: true where anomalies may be, whatever the masks; everywhere if None.
    """

    def sample(
        key: PRNGKeyArray, image: Array, texture: Array, mask: Any, inside: Any
    ) -> Simulated:
        return Simulated(*_simulate_one(key, image, texture, params, mask, inside))

    return map_samples(sample, keys, images, textures, masks, inside)


def rotate_normals(key: PRNGKeyArray, images: Images, params: AnomalyParams) -> Images:
    """Mirrors and turns shares of the normal images, the latter by random angles.

    The turned images are what `simulate` then puts anomalies on, and what the reconstruction is
    compared with.

    Args:
        key: a random key; sample i draws from `fold_in(key, i)`. Not the key given to `simulate`.
        images: float32 in [0, 1].
        params: `normal_rotation_share`, `normal_rotation`, `normal_corners` and
            `normal_flip_share` are used.
    """
    return rotate_normals_with_keys(_sample_keys(key, images), images, params)


def rotate_normals_with_keys(
    keys: Keys, images: Float[Array, "B H W C"], params: AnomalyParams
) -> Float[Array, "B H W C"]:
    """`rotate_normals` with a key for each sample, on which alone its draws depend.

    What belongs to the images, such as where to look in them, turns as they do with the same keys;
    it may have any number of channels.
    """

    def sample(key: PRNGKeyArray, image: Array) -> Array:
        for axis, number in enumerate(_FLIPS):
            image = lax.cond(
                happens(jax.random.fold_in(key, number), params.normal_flip_share),
                lambda image, axis=axis: jnp.flip(image, axis),
                lambda image: image,
                image,
            )
        share_key, rotation_key = jax.random.split(key)
        degrees = draw(rotation_key, params.normal_rotation)
        return lax.cond(
            happens(share_key, params.normal_rotation_share),
            lambda image: rotate_image(image, degrees=degrees, corners=params.normal_corners),
            lambda image: image,
            image,
        )

    return map_samples(sample, keys, images)


def brighten_normals_with_keys(keys: Keys, images: Images, params: AnomalyParams) -> Images:
    """Makes normal images brighter or darker, each by a factor, before anomalies are put on them.

    Args:
        keys: those given to `rotate_normals_with_keys`.
        images: float32 in [0, 1]; what becomes brighter than white is white.
        params: `normal_brightness` is used.
    """

    def sample(key: PRNGKeyArray, image: Array) -> Array:
        factor = draw(jax.random.fold_in(key, _BRIGHTNESS), params.normal_brightness)
        return jnp.minimum(factor * image, 1)

    return jax.vmap(sample)(keys, images)


def _sample_keys(key: PRNGKeyArray, images: Images) -> Keys:
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, jnp.arange(images.shape[0]))


def _simulate_one(
    key: PRNGKeyArray,
    image: Float[Array, "H W 3"],
    texture: Float[Array, "H W 3"],
    params: AnomalyParams,
    mask: Float[Array, "H W 1"] | None,
    inside: Bool[Array, "H W 1"] | None,
) -> tuple[Float[Array, "H W 3"], Float[Array, "H W 1"], Bool[Array, ""]]:
    share_key, mask_key, texture_key, opacity_key = jax.random.split(key, 4)
    height, width, _ = image.shape

    def untouched(image: Array, texture: Array) -> tuple[Array, Array]:
        del texture
        return image, jnp.zeros((height, width, 1), jnp.float32)

    def touched(image: Array, texture: Array) -> tuple[Array, Array]:
        region = draw_mask(mask_key, image, params=params) if mask is None else mask
        if inside is not None:
            region = jnp.where(inside, region, 0)
        source = augment_texture(texture_key, texture, params=params.texture)
        return CONTRASTS[params.contrast](opacity_key, image, source, region, params=params)

    augmented, region = lax.cond(
        happens(share_key, params.untouched_share), untouched, touched, image, texture
    )
    return augmented, region, jnp.any(region > 0)
