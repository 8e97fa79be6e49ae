"""Pixel metrics that keep every pixel and sort: the reference that streaming is held against."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from draem_jax.evaluation.aupimo import BOUNDS, overlap_weights
from draem_jax.evaluation.truth import region_weights
from draem_jax.metrics.rankings import Ranking, rank

Planes = Sequence[Float[np.ndarray, "H W"]]


def rank_pixels(margins: Planes, truths: Planes) -> Ranking:
    """Sorts the pixels of all pictures that are not left out; sizes may differ.

    Args:
        margins: logit₁ − logit₀, without NaN.
        truths: as of `draem_jax.evaluation.truth.encode_mask`. Only which pixels are defects is
            taken from them: their weights are rounded to float32, and are worked out anew.
    """
    counted = [truth >= 0 for truth in truths]
    return rank(
        _join(m[c] for m, c in zip(margins, counted, strict=True)),
        _join(t[c] > 0 for t, c in zip(truths, counted, strict=True)).astype(bool),
        regions=_join(region_weights(t > 0)[c] for t, c in zip(truths, counted, strict=True)),
    )


def picture_aupimo(
    normal_margins: Planes,
    normal_truths: Planes,
    margins: Planes,
    truths: Planes,
    *,
    bounds: tuple[float, float] = BOUNDS,
) -> Float[np.ndarray, " N"]:
    """The AUPIMO of each of `margins`, NaN for a picture without defect pixels.

    Args:
        normal_margins: the margins of the normal pictures, which give the shared
            false-positive rate.
        normal_truths: the truths of the same.
        margins: the margins of the pictures to be measured.
        truths: the truths of the same.
        bounds: the bounds of the false-positive rate.
    """
    normal = [m[t >= 0] for m, t in zip(normal_margins, normal_truths, strict=True)]
    normal = [pixels for pixels in normal if len(pixels)]
    defects = [m[t > 0] for m, t in zip(margins, truths, strict=True)]
    thresholds, places = np.unique(-_join([*normal, *defects]), return_inverse=True)
    per_pixel = _join(np.full(len(pixels), 1 / len(pixels) / len(normal)) for pixels in normal)
    rates = np.bincount(places[: len(per_pixel)], per_pixel, minlength=len(thresholds))
    weights = overlap_weights(np.cumsum(rates), bounds=bounds)[places[len(per_pixel) :]]
    pieces = np.split(weights, np.cumsum([len(pixels) for pixels in defects])[:-1])
    return np.array([piece.mean() if len(piece) else np.nan for piece in pieces], np.float64)


def _join(parts) -> np.ndarray:
    parts = list(parts)
    return np.concatenate(parts) if parts else np.zeros(0)
