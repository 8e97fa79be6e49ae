"""The area under the per-image overlap curve, AUPIMO.

Bertoldo, Ameln, Vaidya, Akçay: AUPIMO: Redefining Visual Anomaly Detection Benchmarks with High
Speed and Low Tolerance, BMVC 2024.
"""

import numpy as np
from jaxtyping import Float

BOUNDS = (1e-5, 1e-4)


def overlap_weights(
    rates: Float[np.ndarray, " K"], *, bounds: tuple[float, float] = BOUNDS
) -> Float[np.ndarray, " K"]:
    """What a defect pixel adds to its picture's AUPIMO, by its score.

    The AUPIMO of a picture is the area under its true-positive rate over the logarithm of the
    shared false-positive rate, between the bounds, divided by the interval's length. With
    trapezoids that is linear in the true-positive rates, and so a mean over the picture's defect
    pixels of a weight that depends on their score alone. Normal pictures alone give the weights,
    and one number a picture is all that need be kept.

    Below the smallest rate above 0 that a threshold reaches, the threshold just above all normal
    pictures' pixels stands.

    Args:
        rates: the shared false-positive rate at each threshold, highest threshold first: the mean
            over normal pictures of each one's rate; rising to 1.
        bounds: the bounds of the rate, 0 < lower < upper ≤ 1.

    Returns:
        Weights in [0, 1], by threshold.
    """
    low, high = np.log(bounds)
    with np.errstate(divide="ignore"):
        right = np.log(rates)
    left = np.r_[-np.inf, right[:-1]]
    start, stop = np.clip(left, low, high), np.clip(right, low, high)
    width = stop - start
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.where(width > 0, ((start + stop) / 2 - left) / (right - left), 0)
    share[np.isinf(left)] = 0
    # A segment's area is width · ((1 − share) · overlap before it + share · overlap after it).
    coefficients = width * share + np.r_[(width * (1 - share))[1:], 0]
    return np.cumsum(coefficients[::-1])[::-1].clip(0, high - low) / (high - low)
