"""How much anomalies differ from the picture, and where they are labelled; see `CONTRASTS`."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from draem_jax.anomalies.blending import BLENDS
from draem_jax.anomalies.borders import fade
from draem_jax.anomalies.draws import draw, draw_log, happens
from draem_jax.anomalies.params import AnomalyParams, Contrast, SubtleParams

Image = Float[Array, "H W 3"]
Mask = Float[Array, "H W 1"]


def plain_contrast(
    key: PRNGKeyArray, image: Image, texture: Image, mask: Mask, *, params: AnomalyParams
) -> tuple[Image, Mask]:
    """The texture, mixed with the image by the opacity (paper, equation 2).

    Args:
        key: a random key.
        image: in [0, 1].
        texture: the same.
        mask: 1 where the anomaly goes, else 0.
        params: `opacity` and `blend` are used.

    Returns:
        The augmented image in [0, 1], and the mask.
    """
    return _mix(image, texture, mask, opacity=draw(key, params.opacity), params=params), mask


def subtle_contrast(
    key: PRNGKeyArray, image: Image, texture: Image, mask: Mask, *, params: AnomalyParams
) -> tuple[Image, Mask]:
    """For shares of the samples less than `plain_contrast`, softer, and labelled as far as seen.

    Args:
        key: a random key.
        image: in [0, 1].
        texture: the same.
        mask: 1 where the anomaly goes, else 0.
        params: `opacity`, `blend` and `subtle` are used.

    Returns:
        The augmented image in [0, 1], and the part of the mask where it differs from the image.
    """
    opacity_key, source_key, feather_key = jax.random.split(key, 3)
    source = resemble(source_key, image, texture, mask, params=params.subtle)
    opacity = draw_opacity(opacity_key, params=params)
    augmented = _mix(image, source, mask, opacity=opacity, params=params)
    # Not before they are blended: Poisson's looks at the source around the mask as well.
    augmented = fade(image, augmented, mask, width=draw(feather_key, params.subtle.feather))
    label = keep_changed(mask, image, augmented, threshold=params.subtle.label_threshold)
    return augmented, label


CONTRASTS: Mapping[Contrast, Callable[..., tuple[Image, Mask]]] = {
    "plain": plain_contrast,
    "subtle": subtle_contrast,
}
"""How `AnomalyParams.contrast` puts a texture on an image, and what it labels.

All are called alike: with a key, the image, the texture, the mask and, by keyword, the parameters.
"""


def _mix(
    image: Image, source: Image, mask: Mask, *, opacity: Array, params: AnomalyParams
) -> Image:
    # Of two ones, rounding can make more than one.
    anomaly = jnp.minimum(opacity * source + (1 - opacity) * image, 1)
    return BLENDS[params.blend](image, anomaly, mask)


def draw_opacity(key: PRNGKeyArray, *, params: AnomalyParams) -> Float[Array, ""]:
    """The weight of the texture inside the mask, uniform or, for a share, low and log-uniform.

    Args:
        key: a random key.
        params: `opacity`, `subtle.opacity_share` and `subtle.opacity` are used.
    """
    share_key, low_key, key = jax.random.split(key, 3)
    is_low = happens(share_key, params.subtle.opacity_share)
    low = draw_log(low_key, params.subtle.opacity)
    return jnp.where(is_low, low, draw(key, params.opacity))


def resemble(
    key: PRNGKeyArray, image: Image, texture: Image, mask: Mask, *, params: SubtleParams
) -> Image:
    """For shares of the samples a texture of about the picture's colour, or the picture, shaded.

    Args:
        key: a random key.
        image: the picture, in [0, 1].
        texture: in [0, 1].
        mask: 1 where the anomaly goes, else 0.
        params: `matched_*` and `shade*` are used.

    Returns:
        What to put on the picture, in [0, 1].
    """
    keys = jax.random.split(key, 5)
    pixels = jnp.maximum(jnp.sum(mask), 1)
    gap = jnp.sum((image - texture) * mask, axis=(0, 1), keepdims=True) / pixels
    matched = jnp.clip(texture + gap + draw(keys[1], params.matched_shift) / 255, 0, 1)
    factor, shift = draw(keys[3], params.shade_factor), draw(keys[4], params.shade_shift)
    shaded = jnp.clip(image * factor + shift / 255, 0, 1)
    texture = jnp.where(happens(keys[0], params.matched_share), matched, texture)
    return jnp.where(happens(keys[2], params.shaded_share), shaded, texture)


def keep_changed(mask: Mask, image: Image, augmented: Image, *, threshold: Array | float) -> Mask:
    """The part of a mask in which the picture really changed.

    Args:
        mask: 1 on the anomaly, else 0.
        image: the normal picture, in [0, 1].
        augmented: the picture with the anomaly, in [0, 1].
        threshold: levels of 255 by which some channel must differ; 0 keeps the whole mask.

    Returns:
        1 on what is kept, else 0.
    """
    change = 255 * jnp.max(jnp.abs(augmented - image), axis=-1, keepdims=True)
    return jnp.where(change >= threshold, mask, 0)
