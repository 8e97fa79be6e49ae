"""From an evaluation to its page: the figures, and the pictures that were judged worst."""

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from draem_jax import files
from draem_jax.data.pictures import resize, resize_channels, resize_mask, resize_plane
from draem_jax.detector import Draem
from draem_jax.evaluation.options import EvaluationOptions
from draem_jax.evaluation.results import Evaluation, Metrics
from draem_jax.evaluation.truth import GOOD
from draem_jax.evaluation.within import look
from draem_jax.metrics.rankings import Curve
from draem_jax.reports.gallery import rank_errors
from draem_jax.reports.page import Report, ReportPicture, render

MAX_PICTURES = 60
"""Most pictures that the gallery shows."""

# Pixels: larger pictures are brought down to it.
_LARGEST_SIDE = 1024

_DEMONSTRATION = (
    "surfaces is a demonstration: its defects are drawn, and training and test pictures are cut "
    "from two halves of one photograph. The figures show that the pieces work together; they say "
    "nothing about real defects, and cannot rank methods."
)
_SIMULATED = (
    "There are no test pictures: these are normal pictures kept from training, most with simulated "
    "anomalies. The figures tell how well the networks learned what they were trained for; how "
    "well real defects are found, they cannot tell."
)


def write_report(
    path: Path,
    detector: Draem,
    test: Any,
    evaluation: Evaluation,
    *,
    facts: Mapping[str, str | int | float],
    options: EvaluationOptions,
    simulated: bool,
) -> None:
    """Writes the page; only the pictures that it shows are looked at once more.

    Args:
        path: the path of the page.
        detector: that was evaluated.
        test: the test pictures, by index.
        evaluation: what was measured on all test pictures.
        facts: what was run.
        options: the options of the evaluation.
        simulated: whether the anomalies are simulated.
    """
    scores = np.array([row.score for row in evaluation.pictures], float)
    types = np.array([row.defect_type for row in evaluation.pictures])
    errors = rank_errors(scores, types != GOOD)
    thresholds, alpha = detector.thresholds, options.alpha
    threshold = None if thresholds is None else thresholds.image_threshold(alpha)
    shown = _worst(scores, types != GOOD, errors, threshold)
    indices = [evaluation.pictures[i].index for i in shown]
    notes = [_DEMONSTRATION] * (detector.config.data.name == "surfaces") + [_SIMULATED] * simulated
    text = ""
    if thresholds is not None:
        text = thresholds.warning(alpha) or thresholds.guarantee(alpha)
        notes += [text] * (threshold is None)
    overall, by_type = evaluation.overall, evaluation.types
    report = Report(
        title=str(facts["data"]),
        facts={name.replace("_", " "): str(value) for name, value in facts.items()},
        notes=notes,
        metrics=overall.values,
        metrics_by_type={kind: metrics.values for kind, metrics in by_type.items()},
        intervals=_known(overall.intervals),
        intervals_by_type={kind: _known(m.intervals) for kind, m in by_type.items()},
        interval_level=options.metrics.confidence,
        reasons=overall.reasons,
        reasons_by_type={kind: metrics.reasons for kind, metrics in by_type.items()},
        roc_curves=_curves(overall, "roc", "auroc"),
        pr_curves=_curves(overall, "precision_recall", "ap"),
        pro_curves=_pro(overall),
        pro_limit=_pro_limit(overall),
        roc_curves_by_type={k: _curves(m, "roc", "auroc") for k, m in by_type.items()},
        pr_curves_by_type={k: _curves(m, "precision_recall", "ap") for k, m in by_type.items()},
        pro_curves_by_type={kind: _pro(metrics) for kind, metrics in by_type.items()},
        scores_by_type={
            str(kind): scores[types == kind]
            for kind in sorted(set(types.tolist()), key=lambda kind: (kind != GOOD, kind))
        },
        threshold=threshold,
        threshold_text=text if threshold is not None else "",
        caption="simulated anomalies" if simulated else "",
        pictures=_pictures(detector, test, indices, errors[shown]),
        total_pictures=len(scores),
    )
    files.write_text(path, render(report, max_pictures=MAX_PICTURES))


def _worst(
    scores: np.ndarray, is_defective: np.ndarray, errors: np.ndarray, threshold: float | None
) -> np.ndarray:
    """Those that a decision got wrong first, then by how far they stand on the wrong side."""
    wrong = np.zeros(len(scores), bool)
    if threshold is not None:
        wrong = (scores > threshold) != is_defective
    # Among equals, the defective ones with the least and the normal ones with the highest score.
    side = np.where(is_defective, scores, -scores)
    return np.lexsort((side, -errors, ~wrong))[:MAX_PICTURES]


def _pictures(
    detector: Draem, test: Any, indices: Sequence[int], errors: np.ndarray
) -> list[ReportPicture]:
    shown = []
    starts = range(0, len(indices), detector.batch_size)
    groups, kept = itertools.tee(
        [test[index] for index in indices[start : start + detector.batch_size]] for start in starts
    )
    looks = look(detector.fitted_to(len(indices)), groups, with_reconstruction=True)
    for start, pictures, looked in zip(starts, kept, looks, strict=True):
        said = jax.device_get(looked)
        for i, (picture, anomaly_map) in enumerate(
            zip(pictures, looked.contents(detector, pictures), strict=True)
        ):
            own = picture.mask.shape
            content = detector.fitting.content_of(own)
            inside = None if looked.small is None else looked.small[i][content]
            mask = None
            if picture.has_mask:
                mask = resize_mask(picture.mask, detector.fitting.content_size(own))
            score, p_value = float(said.score[i]), None
            if detector.thresholds is not None:
                p_value = float(detector.thresholds.p_values(np.array([score]))[0])
            if mask is not None and inside is not None:
                mask = mask & inside
            size = _shown_size(anomaly_map.shape)
            shown.append(
                ReportPicture(
                    name=picture.name,
                    defect_type=picture.defect_type,
                    score=score,
                    image=resize(picture.image[content], size),
                    reconstruction=resize_channels(said.reconstruction[i][content], size),
                    anomaly_map=resize_plane(anomaly_map, size),
                    mask=None if mask is None else resize_mask(mask, size),
                    is_defective=picture.defect_type != GOOD,
                    rank_error=float(errors[start + i]),
                    p_value=p_value,
                    inside=None if inside is None else resize_mask(inside, size),
                )
            )
    return shown


def _shown_size(size: tuple[int, int]) -> tuple[int, int]:
    """The size of a picture on the page, which shall not grow with those of pictures."""
    shrink = max(1.0, max(size) / _LARGEST_SIDE)
    return max(1, round(size[0] / shrink)), max(1, round(size[1] / shrink))


def _known(intervals: Mapping[str, Any]) -> dict[str, Any]:
    return {name: interval for name, interval in intervals.items() if interval is not None}


def _curves(metrics: Metrics, curve: str, area: str) -> dict[str, Any]:
    return {
        f"{kind}s": _with_area(metrics.curves[f"{kind}_{curve}"], metrics.values[f"{kind}_{area}"])
        for kind in ("image", "pixel")
        if f"{kind}_{curve}" in metrics.curves
    }


def _pro(metrics: Metrics) -> dict[str, Any]:
    if "pro" not in metrics.curves:
        return {}
    value = metrics.values[f"aupro_{_pro_limit(metrics):g}"]
    return {"pixels": _with_area(metrics.curves["pro"], value)}


def _pro_limit(metrics: Metrics) -> float:
    names = [name for name in metrics.values if name.startswith("aupro_")]
    return float(names[0].removeprefix("aupro_"))


def _with_area(curve: Curve, area: float | None) -> tuple[np.ndarray, np.ndarray, float | None]:
    return curve.x, curve.y, area
