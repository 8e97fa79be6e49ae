"""Evaluating a trained detector on its data set's test pictures."""

import csv
import json
from pathlib import Path

import numpy as np

from draem_jax import files
from draem_jax.data.loading import TestSet, load_test_set
from draem_jax.detector import Draem, Prediction
from draem_jax.evaluation.metrics import (
    GOOD,
    Curves,
    compute_curves,
    compute_metrics,
    compute_metrics_by_type,
)
from draem_jax.evaluation.simulated import SIMULATED, simulated_test_set
from draem_jax.reports.page import Report, ReportPicture, render

MAX_PICTURES = 60
"""Most pictures that the report's gallery shows."""

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


def evaluate(
    workdir: str | Path, *, checkpoint: str = "latest", batch_size: int | None = None
) -> dict[str, float | None]:
    """Evaluates a run and writes `metrics.json`, `scores.csv` and `report.html`.

    The files stand in `WORKDIR/evaluation/`. Pictures and masks are brought to the training size;
    a mask's pixel counts as defect where the nearest pixel of the original does. Without test
    pictures, anomalies are simulated on normal pictures kept from training.

    Args:
        workdir: of the run.
        checkpoint: "latest", "best" or a step.
        batch_size: pictures a call; `config.evaluation.batch_size` if None.

    Returns:
        The metrics over all test pictures, see `draem_jax.evaluation.metrics.compute_metrics`.

    Raises:
        UserError: there is no such run or checkpoint, or the results cannot be written.
    """
    workdir = Path(workdir)
    detector = Draem.load(workdir, checkpoint=checkpoint, batch_size=batch_size)
    test = _test_set(detector)
    prediction = detector.predict(test.images)

    is_defective = np.array(test.defect_types) != GOOD
    metrics = compute_metrics(
        prediction.score, prediction.anomaly_map, is_defective, test.masks[..., 0], test.has_mask
    )
    by_type = compute_metrics_by_type(
        prediction.score,
        prediction.anomaly_map,
        test.defect_types,
        test.masks[..., 0],
        test.has_mask,
    )

    out = workdir / "evaluation"
    facts = _facts(detector, test)
    summary = {**metrics, "defect_types": by_type, **facts}
    files.write_text(out / "metrics.json", json.dumps(summary, indent=2) + "\n")
    _write_scores(out / "scores.csv", test, prediction)
    report = _report(detector, test, prediction, metrics=metrics, by_type=by_type, facts=facts)
    files.write_text(out / "report.html", render(report, max_pictures=MAX_PICTURES))
    return metrics


def _test_set(detector: Draem) -> TestSet:
    data = detector.config.data
    test = load_test_set(
        data.name,
        data.category,
        size=detector.image_size,
        root=data.root or None,
        skip_bad=data.skip_bad,
    )
    return test if test.names else simulated_test_set(detector.config)


def _facts(detector: Draem, test: TestSet) -> dict[str, str | int]:
    height, width = detector.image_size
    model = detector.config.model
    return {
        "data": _title(detector),
        "anomalies": "simulated" if SIMULATED in test.defect_types else "real",
        "test_pictures": len(test.names),
        "defective_pictures": sum(kind != GOOD for kind in test.defect_types),
        "image_size": f"{height} x {width}",
        "step": detector.step,
        "widths": f"{model.reconstructive_width} / {model.discriminative_width}",
        "mask_protocol": "nearest, above 0",
    }


def _title(detector: Draem) -> str:
    data = detector.config.data
    if data.category:
        return f"{data.name}: {data.category}"
    return f"{data.name}: {Path(data.root).name or data.root}"


def _write_scores(path: Path, test: TestSet, prediction: Prediction) -> None:
    with files.atomic_path(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["name", "defect_type", "is_defective", "score"])
        for name, kind, score in zip(test.names, test.defect_types, prediction.score, strict=True):
            writer.writerow([name, kind, int(kind != GOOD), f"{score:.9g}"])


def _report(
    detector: Draem,
    test: TestSet,
    prediction: Prediction,
    *,
    metrics: dict[str, float | None],
    by_type: dict[str, dict[str, float | None]],
    facts: dict[str, str | int],
) -> Report:
    is_defective = np.array(test.defect_types) != GOOD
    simulated = SIMULATED in test.defect_types
    rankings: dict[str, Curves | None] = {
        "images": compute_curves(prediction.score, is_defective),
        "pixels": compute_curves(
            prediction.anomaly_map[test.has_mask].ravel(), (test.masks[test.has_mask] > 0).ravel()
        ),
    }
    return Report(
        title=_title(detector),
        caption="simulated anomalies" if simulated else "",
        facts={name.replace("_", " "): str(value) for name, value in facts.items()},
        notes=[_DEMONSTRATION] * (detector.config.data.name == "surfaces")
        + [_SIMULATED] * simulated,
        metrics=metrics,
        metrics_by_type=by_type,
        roc_curves={name: c.roc for name, c in rankings.items() if c},
        pr_curves={name: c.precision_recall for name, c in rankings.items() if c},
        pictures=[
            ReportPicture(
                name=test.names[i],
                defect_type=test.defect_types[i],
                score=float(prediction.score[i]),
                image=test.images[i],
                reconstruction=prediction.reconstruction[i],
                anomaly_map=prediction.anomaly_map[i],
                mask=test.masks[i, ..., 0] if test.has_mask[i] else None,
                is_defective=bool(is_defective[i]),
            )
            for i in range(len(test.names))
        ],
    )
