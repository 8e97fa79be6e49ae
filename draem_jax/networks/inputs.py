"""What the reconstructive network is given to see of a picture."""

from collections.abc import Callable, Mapping

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

_ORDER = 2
# The authors of FAIR cut 30 cycles off a picture of 256 pixels.
CUTOFF = 30 / 256
"""The frequency, in cycles a pixel, of which half of the amplitude passes."""

LUMA = (0.299, 0.587, 0.114)
"""The shares of red, green and blue in the brightness."""


def high_frequency(images: Float[Array, "B H W 3"]) -> Float[Array, "B H W 1"]:
    """What is fine in the brightness of pictures: edges and texture, without colours and levels.

    It is Butterworth's high-pass filter of order 2, by Fourier transforms. Half of the amplitude
    passes at 30 / 256 cycles a pixel, so that what passes does not depend on the pictures' size.
    The brightness is that of ITU-R BT.601.

    Args:
        images: float in [0, 1], RGB.

    Returns:
        float in (−1, 1), with a mean of 0.

    References:
        Liu et al.: Frequency-aware image restoration for industrial visual anomaly detection,
        2023; the filter's numbers are those of the authors' code.
    """
    _, height, width, _ = images.shape
    brightness = jnp.sum(images * jnp.asarray(LUMA, images.dtype).reshape(1, 1, 1, 3), axis=-1)
    passed = passed_shares(np.fft.fftfreq(height), np.fft.rfftfreq(width))
    spectrum = jnp.fft.rfft2(brightness) * jnp.asarray(passed[None], images.dtype)
    return jnp.fft.irfft2(spectrum, s=(height, width))[..., None]


def passed_shares(
    down: Float[np.ndarray, " n"], along: Float[np.ndarray, " m"]
) -> Float[np.ndarray, "n m"]:
    """The shares of the amplitudes that the filter of `high_frequency` lets pass.

    Args:
        down: frequencies in cycles a pixel, along the height.
        along: the same along the width.
    """
    frequency = np.hypot(down[:, None], along[None]) ** (2 * _ORDER)
    return frequency / (frequency + CUTOFF ** (2 * _ORDER))


RECONSTRUCTIVE_INPUTS: Mapping[str, Callable[[Array], Array]] = {
    "picture": lambda images: images,
    "high_frequency": high_frequency,
}
"""From pictures to what the reconstructive network makes pictures of."""
