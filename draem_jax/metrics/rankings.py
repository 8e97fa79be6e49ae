"""Metrics of a ranking: from counts at descending thresholds to areas and curves.

All functions take counts by threshold on their last axis, the highest threshold first; axes before
it are replicates. What is not defined, since a class is missing, is NaN.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Num

Counts = Num[np.ndarray, "*R K"]
Values = Float[np.ndarray, "*R"] | float


class Ranking(NamedTuple):
    """How many pixels, or pictures, of each kind have each score.

    Attributes:
        scores: strictly descending. For bins, the lowest score of each.
        normal: counts of normal ones.
        defect: counts of defective ones.
        regions: sums of 1 / size of their region over defect pixels; None for pictures.
    """

    scores: Float[np.ndarray, " K"]
    normal: Num[np.ndarray, "*R K"]
    defect: Num[np.ndarray, "*R K"]
    regions: Float[np.ndarray, "*R K"] | None = None


class Curve(NamedTuple):
    """Points of a curve, from left to right."""

    x: Float[np.ndarray, " P"]
    y: Float[np.ndarray, " P"]


def rank(
    scores: Float[np.ndarray, " N"],
    is_defective: Bool[np.ndarray, " N"],
    *,
    weights: Num[np.ndarray, "*R N"] | None = None,
    regions: Float[np.ndarray, " N"] | None = None,
) -> Ranking:
    """Sorts scores, and counts what shares a score.

    Args:
        scores: higher for what is more anomalous, without NaN.
        is_defective: the labels.
        weights: how often each is taken; once if None.
        regions: 1 / size of their region, 0 for what is not defective.
    """
    order = np.argsort(-scores, kind="stable")
    scores, is_defective = scores[order], is_defective[order]
    starts = np.flatnonzero(np.r_[True, scores[1:] != scores[:-1]])[: len(scores)]

    def total(per_item):
        return np.add.reduceat(per_item, starts, axis=-1) if len(scores) else per_item

    # Counted in float64: exact up to 2⁵³, and the sums below overflow nowhere.
    taken = np.ones(len(scores)) if weights is None else weights[..., order].astype(np.float64)
    return Ranking(
        scores=scores[starts].astype(np.float64),
        normal=total(taken * ~is_defective),
        defect=total(taken * is_defective),
        regions=None if regions is None else total(regions[order].astype(np.float64)),
    )


def auroc(normal: Counts, defect: Counts) -> Values:
    """The area under the ROC curve: trapezoids, so that a tie counts one half."""
    normal, defect = _as_float(normal, defect)
    true = np.cumsum(defect, -1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.sum(normal * (true - defect / 2), -1) / (true[..., -1] * normal.sum(-1))


def average_precision(normal: Counts, defect: Counts) -> Values:
    """Average precision as the step-wise sum Σ (Rₖ − Rₖ₋₁) Pₖ, as scikit-learn has it."""
    normal, defect = _as_float(normal, defect)
    true, false = np.cumsum(defect, -1), np.cumsum(normal, -1)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(defect > 0, true / (true + false), 0)
        return np.where(false[..., -1] > 0, np.sum(defect * precision, -1) / true[..., -1], np.nan)[
            ()
        ]


def f1_max(normal: Counts, defect: Counts) -> tuple[Values, Num[np.ndarray, "*R"] | np.integer]:
    """The highest F1 over all thresholds, and the index of the (highest) threshold that has it."""
    normal, defect = _as_float(normal, defect)
    true, false = np.cumsum(defect, -1), np.cumsum(normal, -1)
    positives = true[..., -1:]
    f1 = 2 * true / np.maximum(true + false + positives, np.finfo(float).tiny)
    best = f1.argmax(-1)
    value = np.take_along_axis(f1, best[..., None], -1)[..., 0]
    is_defined = (positives[..., 0] > 0) & (false[..., -1] > 0)
    return np.where(is_defined, value, np.nan)[()], best


def aupro(normal: Counts, regions: Counts, *, limit: float = 0.3) -> Values:
    """The area under the per-region overlap curve up to a false-positive rate, divided by it.

    The mean overlap of the ground truth's regions stands against the false-positive rate over all
    pixels that are not defective; trapezoids, with linear interpolation at the limit (Bergmann et
    al., The MVTec Anomaly Detection Dataset, IJCV 2021, section 5.1).

    Args:
        normal: counts of normal pixels.
        regions: sums of 1 / size of their region over defect pixels.
        limit: the highest false-positive rate, in (0, 1].
    """
    normal, regions = _as_float(normal, regions)
    with np.errstate(invalid="ignore", divide="ignore"):
        rate = np.cumsum(normal, -1) / normal.sum(-1, keepdims=True)
        overlap = np.cumsum(regions, -1) / regions.sum(-1, keepdims=True)
        step_rate = normal / normal.sum(-1, keepdims=True)
        step_overlap = np.diff(overlap, prepend=0)
        before = rate - step_rate
        width = np.clip(limit - before, 0, step_rate)
        share = np.where(step_rate > 0, width / step_rate, 0)
        heights = overlap - step_overlap + share * step_overlap / 2
        return np.sum(width * heights, -1) / limit


def roc_curve(ranking: Ranking) -> Curve:
    """False-positive against true-positive rates, from (0, 0) to (1, 1)."""
    return Curve(_cumulative(ranking.normal), _cumulative(ranking.defect))


def precision_recall_curve(ranking: Ranking) -> Curve:
    """Recall against precision, from the conventional (0, 1) on."""
    normal, defect = _as_float(ranking.normal, ranking.defect)
    true, false = np.cumsum(defect), np.cumsum(normal)
    kept = true + false > 0
    return Curve(np.r_[0, true[kept] / true[-1]], np.r_[1, true[kept] / (true[kept] + false[kept])])


def pro_curve(ranking: Ranking) -> Curve:
    """False-positive rates against the mean overlap of regions, from (0, 0) to (1, 1)."""
    assert ranking.regions is not None
    return Curve(_cumulative(ranking.normal), _cumulative(ranking.regions))


def thin(curve: Curve, points: int = 400) -> Curve:
    """Leaves out points of a curve, so that about so many remain.

    Those that remain are spread evenly along the curve's length, both of its ends among them.
    """
    if len(curve.x) <= points:
        return curve
    way = np.cumsum(np.abs(np.diff(curve.x, prepend=0)) + np.abs(np.diff(curve.y, prepend=0)))
    marks = np.linspace(way[0], way[-1], points)
    kept = np.unique(np.r_[0, np.searchsorted(way, marks), len(way) - 1].clip(max=len(way) - 1))
    return Curve(curve.x[kept], curve.y[kept])


def _cumulative(counts: Counts) -> Float[np.ndarray, " P"]:
    total = np.cumsum(counts, dtype=np.float64)
    return np.r_[0, total / total[-1]]


def _as_float(*counts: Counts) -> tuple[np.ndarray, ...]:
    return tuple(c.astype(np.float64) for c in counts)
