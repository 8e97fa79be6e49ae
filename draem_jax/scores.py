"""From logits to an anomaly map, and from the map to one score for the picture."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


def anomaly_map(logits: Float[Array, "B H W 2"]) -> Float[Array, "B H W"]:
    """The probability that a pixel is anomalous, in [0, 1] (paper, section 3.2)."""
    return jax.nn.sigmoid(logits[..., 1] - logits[..., 0])


def image_score(anomaly_map: Float[Array, "B H W"], *, window: int = 21) -> Float[Array, " B"]:
    """The largest mean of the map within a square window (paper, section 3.3, equation 5).

    As in the authors' code, the map is padded with zeros and the sum is divided by the whole
    window's area at the border as well.

    Args:
        anomaly_map: in [0, 1].
        window: side of the square in pixels, odd.

    Returns:
        Scores in [0, 1], higher for more anomalous pictures.
    """
    pad = window // 2
    for axis in (1, 2):
        dimensions, padding = [1, 1, 1], [(0, 0), (0, 0), (0, 0)]
        dimensions[axis], padding[axis] = window, (pad, pad)
        anomaly_map = lax.reduce_window(anomaly_map, 0.0, lax.add, dimensions, (1, 1, 1), padding)
    return jnp.max(anomaly_map, axis=(1, 2)) / window**2
