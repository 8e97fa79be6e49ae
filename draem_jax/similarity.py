"""How alike two pictures are around each pixel: by structure, and by the size of gradients."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

_WINDOW = 11
_SIGMA = 1.5
K1 = 0.01
K2 = 0.03

SCALES = 4
GRADIENT_CONSTANT = 170 / 255**2


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
    a, b = (x.transpose(1, 0, 3, 2) for x in (a, b))
    blurred = _blur(jnp.stack([a, a * a + b * b, a * b], axis=1))
    mean_a, squares, product = (blurred[:, i] for i in range(3))
    # By itself, so that no gradient is blurred for a `b` that is given; and behind the others, or
    # XLA makes one product of both again, and copies what that reads and writes.
    b, _ = lax.optimization_barrier((b, lax.stop_gradient(blurred)))
    mean_b = _blur(b[:, None])[:, 0]
    variances = squares - mean_a * mean_a - mean_b * mean_b
    covariance = product - mean_a * mean_b
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a * mean_a + mean_b * mean_b + c1)
    structure = (2 * covariance + c2) / (variances + c2)
    return (luminance * structure).transpose(1, 0, 3, 2)


def msgms_map(a: Float[Array, "B H W C"], b: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
    """Multi-scale similarity of gradient magnitudes around each pixel, per channel, in (0, 1].

    At each of four scales, halved by means of 2 × 2 from one to the next, the similarity is
    (2 g_a g_b + c) / (g_a² + g_b² + c) with g the magnitude of Prewitt's gradient; the map is the
    mean of the four, brought to the full size by bilinear interpolation. The filter, a third of
    the sum over three differences, and c = 170 / 255² are those of the measure's authors. The
    pictures' border pixels are repeated outwards, so that the border is no edge.

    Args:
        a: float, nominally in [0, 1]; height and width divisible by 8.
        b: the same shape.

    Returns:
        The map, of the same shape.

    References:
        Xue, Zhang, Mou, Bovik: Gradient magnitude similarity deviation, IEEE TIP 2014;
        Zavrtanik, Kristan, Skočaj: Reconstruction by inpainting for visual anomaly detection,
        Pattern Recognition 2021, for the four scales.
    """
    total = jnp.zeros_like(a)
    for scale in range(SCALES):
        if scale:
            a, b = halved(a), halved(b)
        g_a, g_b = _squared_gradient(a), _squared_gradient(b)
        c = GRADIENT_CONSTANT
        similarity = (2 * jnp.sqrt(g_a * g_b) + c) / (g_a + g_b + c)
        total += jax.image.resize(similarity, total.shape, "bilinear")
    return total / SCALES


def halved(x: Float[Array, "B H W C"]) -> Float[Array, "B H//2 W//2 C"]:
    """Pictures at half their height and width, which are even, by means of 2 × 2."""
    batch, height, width, channels = x.shape
    return x.reshape(batch, height // 2, 2, width // 2, 2, channels).mean((2, 4))


def _squared_gradient(x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
    """The square of the magnitude of Prewitt's gradient."""
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="edge")
    columns = x[:, :-2] + x[:, 1:-1] + x[:, 2:]
    rows = x[:, :, :-2] + x[:, :, 1:-1] + x[:, :, 2:]
    across = (columns[:, :, 2:] - columns[:, :, :-2]) / 3
    down = (rows[:, 2:] - rows[:, :-2]) / 3
    return across * across + down * down


def _gaussian() -> np.ndarray:
    x = np.arange(_WINDOW) - _WINDOW // 2
    window = np.exp(-(x**2) / (2 * _SIGMA**2))
    return window / window.sum()


def _blur(planes: Float[Array, "H N B C W"]) -> Float[Array, "H N B C W"]:
    # The window is separable, and as a banded matrix its product is fast on every platform,
    # where a depthwise convolution's gradient is not. With height first and width last, neither
    # product has to move what it reads or writes.
    rows, columns = (blur_matrix(size, planes.dtype) for size in (len(planes), planes.shape[-1]))
    planes = jnp.einsum("hi,inbcw->hnbcw", rows, planes, precision=lax.Precision.HIGHEST)
    return jnp.einsum("hnbcj,jw->hnbcw", planes, columns, precision=lax.Precision.HIGHEST)


def blur_matrix(size: int, dtype) -> np.ndarray:
    """The matrix whose product with a row of pixels blurs it as `ssim_map` does."""
    matrix = np.zeros((size, size))
    for offset, weight in zip(range(-(_WINDOW // 2), _WINDOW // 2 + 1), _gaussian(), strict=True):
        matrix += weight * np.eye(size, k=offset)
    return matrix.astype(dtype)
