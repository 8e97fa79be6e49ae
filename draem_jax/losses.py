"""The three losses of DRÆM and their sum (paper, equations 1 to 3)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

_WINDOW = 11
_SIGMA = 1.5
_K1 = 0.01
_K2 = 0.03


class Losses(NamedTuple):
    """The loss and its parts, each a scalar float32.

    Attributes:
        total: `l2 + ssim + focal`, which training minimises.
        l2: mean squared error of the reconstruction.
        ssim: 1 − SSIM of the reconstruction.
        focal: focal loss of the anomaly map.
    """

    total: Float[Array, ""]
    l2: Float[Array, ""]
    ssim: Float[Array, ""]
    focal: Float[Array, ""]


def draem_losses(
    *,
    images: Float[Array, "B H W 3"],
    masks: Float[Array, "B H W 1"],
    reconstruction: Float[Array, "B H W 3"],
    logits: Float[Array, "B H W 2"],
    data_range: float = 1.0,
) -> Losses:
    """Computes what DRÆM minimises: reconstruction as the normal picture, map as the mask.

    Args:
        images: the normal pictures, float in [0, 1].
        masks: 1 where an anomaly was simulated, else 0.
        reconstruction: of the augmented pictures.
        logits: of normal (channel 0) and anomalous (channel 1).
        data_range: of the pictures, for SSIM.

    Returns:
        The total and its three parts, means over the batch.
    """
    l2 = l2_loss(reconstruction, images)
    structure = 1 - ssim(reconstruction, images, data_range=data_range)
    focal = focal_loss(logits, masks)
    return Losses(l2 + structure + focal, l2, structure, focal)


def l2_loss(a: Float[Array, "B H W C"], b: Float[Array, "B H W C"]) -> Float[Array, ""]:
    """Mean squared difference over all pixels and channels."""
    return jnp.mean(jnp.square(a - b))


def ssim(
    a: Float[Array, "B H W C"], b: Float[Array, "B H W C"], *, data_range: float = 1.0
) -> Float[Array, ""]:
    """Mean structural similarity (paper, equation 1); see `ssim_map`."""
    return jnp.mean(ssim_map(a, b, data_range=data_range))


def ssim_map(
    a: Float[Array, "B H W C"], b: Float[Array, "B H W C"], *, data_range: float = 1.0
) -> Float[Array, "B H W C"]:
    """Structural similarity around each pixel, per channel, in [−1, 1].

    As in the authors' code: a Gaussian window of 11 × 11 with σ = 1.5 and **zero padding**. The
    authors' code takes a data range of 2 when a reconstruction falls below −0.5 anywhere; here it
    is what the caller says, so that the loss has no jump.

    Args:
        a: float, nominally in [0, 1].
        b: the same shape.
        data_range: largest minus smallest possible value.

    Returns:
        The map, of the same shape.

    References:
        Wang, Bovik, Sheikh, Simoncelli: Image quality assessment, IEEE TIP 2004.
    """
    blurred = _blur(jnp.concatenate([a, b, a * a, b * b, a * b], axis=-1))
    mean_a, mean_b, square_a, square_b, product = jnp.split(blurred, 5, axis=-1)
    variance_a = square_a - mean_a * mean_a
    variance_b = square_b - mean_b * mean_b
    covariance = product - mean_a * mean_b
    c1, c2 = (_K1 * data_range) ** 2, (_K2 * data_range) ** 2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a * mean_a + mean_b * mean_b + c1)
    structure = (2 * covariance + c2) / (variance_a + variance_b + c2)
    return luminance * structure


def focal_loss(logits: Float[Array, "B H W 2"], masks: Float[Array, "B H W 1"]) -> Float[Array, ""]:
    """Focal loss of softmax(logits) against the mask, γ = 2, both classes weighted 1.

    As in the authors' code, the one-hot target is clamped to [1e-5, 1 − 1e-5] and 1e-5 is added to
    the target's probability, which keeps the logarithm finite.

    Args:
        logits: of normal (channel 0) and anomalous (channel 1).
        masks: 1 for anomalous, 0 for normal.

    Returns:
        The mean over all pixels.

    References:
        Lin et al.: Focal loss for dense object detection, ICCV 2017, equation 4.
    """
    smooth = 1e-5
    target = jnp.concatenate([1 - masks, masks], axis=-1)
    target = jnp.clip(target, smooth, 1 - smooth)
    p_t = jnp.sum(target * jax.nn.softmax(logits), axis=-1) + smooth
    return jnp.mean(-jnp.square(1 - p_t) * jnp.log(p_t))


def _gaussian() -> np.ndarray:
    x = np.arange(_WINDOW) - _WINDOW // 2
    window = np.exp(-(x**2) / (2 * _SIGMA**2))
    return window / window.sum()


def _blur(x):
    # The window is separable, and as a banded matrix its product is fast on every platform,
    # where a depthwise convolution's gradient is not.
    _, height, width, _ = x.shape
    x = jnp.einsum("hi,biwc->bhwc", _band(height, x.dtype), x, precision=lax.Precision.HIGHEST)
    return jnp.einsum("wj,bhjc->bhwc", _band(width, x.dtype), x, precision=lax.Precision.HIGHEST)


def _band(size: int, dtype) -> np.ndarray:
    matrix = np.zeros((size, size))
    for offset, weight in zip(range(-(_WINDOW // 2), _WINDOW // 2 + 1), _gaussian(), strict=True):
        matrix += weight * np.eye(size, k=offset)
    return matrix.astype(dtype)
