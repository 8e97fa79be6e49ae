"""Image and pixel metrics, exact, by scikit-learn."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Num
from sklearn.metrics import (
    average_precision_score,
    precision_recall_curve,
    roc_auc_score,
    roc_curve,
)

GOOD = "good"


class Curves(NamedTuple):
    """The curves of one ranking.

    Attributes:
        roc: false-positive rates, true-positive rates, area under the curve.
        precision_recall: recalls, precisions, average precision.
    """

    roc: tuple[np.ndarray, np.ndarray, float]
    precision_recall: tuple[np.ndarray, np.ndarray, float]


def compute_metrics(
    scores: Float[np.ndarray, " N"],
    anomaly_maps: Float[np.ndarray, "N H W"],
    is_defective: Bool[np.ndarray, " N"],
    masks: Num[np.ndarray, "N H W"],
    has_mask: Bool[np.ndarray, " N"],
) -> dict[str, float | None]:
    """Computes the metrics that the method is reported with.

    Args:
        scores: of the pictures, higher for more anomalous ones.
        anomaly_maps: of the pictures.
        is_defective: the pictures' labels.
        masks: above 0 where a pixel is defective.
        has_mask: which pictures' masks are known; the others count for the image metrics alone.

    Returns:
        `image_auroc`, `image_ap`, `pixel_auroc` and `pixel_ap`, the latter two over all pixels of
        all pictures; average precision is the step-wise sum. None where a class is missing, so that
        the metric is not defined.
    """
    pixel_labels = (masks[has_mask] > 0).ravel()
    pixels = anomaly_maps[has_mask].ravel()
    return {
        "image_auroc": _if_both_classes(roc_auc_score, is_defective, scores),
        "image_ap": _if_both_classes(average_precision_score, is_defective, scores),
        "pixel_auroc": _if_both_classes(roc_auc_score, pixel_labels, pixels),
        "pixel_ap": _if_both_classes(average_precision_score, pixel_labels, pixels),
    }


def compute_metrics_by_type(
    scores: Float[np.ndarray, " N"],
    anomaly_maps: Float[np.ndarray, "N H W"],
    defect_types: Sequence[str],
    masks: Num[np.ndarray, "N H W"],
    has_mask: Bool[np.ndarray, " N"],
) -> dict[str, dict[str, float | None]]:
    """Computes the metrics of each defect type's pictures together with all good ones.

    Args:
        scores: of the pictures.
        anomaly_maps: of the pictures.
        defect_types: of the pictures, "good" for good ones.
        masks: above 0 where a pixel is defective.
        has_mask: which pictures' masks are known; the others count for the image metrics alone.

    Returns:
        Defect type → metrics as of `compute_metrics`, in alphabetical order.
    """
    types = np.array(defect_types)
    result = {}
    for name in sorted(set(defect_types) - {GOOD}):
        chosen = (types == name) | (types == GOOD)
        result[name] = compute_metrics(
            scores[chosen],
            anomaly_maps[chosen],
            types[chosen] == name,
            masks[chosen],
            has_mask[chosen],
        )
    return result


def compute_curves(
    scores: Float[np.ndarray, " N"], labels: Bool[np.ndarray, " N"]
) -> Curves | None:
    """Computes the curves of a ranking of pictures or pixels, None where a class is missing."""
    if labels.all() or not labels.any():
        return None
    false_rates, true_rates, _ = roc_curve(labels, scores)
    precisions, recalls, _ = precision_recall_curve(labels, scores)
    return Curves(
        roc=(false_rates, true_rates, float(roc_auc_score(labels, scores))),
        precision_recall=(recalls, precisions, float(average_precision_score(labels, scores))),
    )


def _if_both_classes(metric, labels, scores) -> float | None:
    return float(metric(labels, scores)) if labels.any() and not labels.all() else None
