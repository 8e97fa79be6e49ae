"""What the reconstructive network is given to see of a picture."""

from collections.abc import Callable, Mapping

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

_ORDER = 2
# The authors of FAIR cut 30 cycles off a picture of 256 pixels.
_CUTOFF = 30 / 256

_LUMA = (0.299, 0.587, 0.114)


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
    brightness = jnp.sum(images * jnp.asarray(_LUMA, images.dtype).reshape(1, 1, 1, 3), axis=-1)
    down, along = np.fft.fftfreq(height), np.fft.rfftfreq(width)
    frequency = np.hypot(down[:, None], along[None]) ** (2 * _ORDER)
    passed = frequency / (frequency + _CUTOFF ** (2 * _ORDER))
    spectrum = jnp.fft.rfft2(brightness) * jnp.asarray(passed[None], images.dtype)
    return jnp.fft.irfft2(spectrum, s=(height, width))[..., None]


RECONSTRUCTIVE_INPUTS: Mapping[str, Callable[[Array], Array]] = {
    "picture": lambda images: images,
    "high_frequency": high_frequency,
}
"""From pictures to what the reconstructive network makes pictures of."""
