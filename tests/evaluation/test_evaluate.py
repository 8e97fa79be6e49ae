"""What evaluation writes agrees with itself and with the definitions."""

import csv
import json

import numpy as np
import pytest

from draem_jax.detector import Draem
from draem_jax.evaluation.evaluate import evaluate
from draem_jax.evaluation.metrics import compute_metrics, compute_metrics_by_type


def test_metrics_by_hand():
    scores = np.array([0.1, 0.4, 0.35, 0.8])
    is_defective = np.array([False, False, True, True])
    maps, masks = scores.reshape(4, 1, 1), is_defective.astype(np.uint8).reshape(4, 1, 1)
    metrics = compute_metrics(scores, maps, is_defective, masks)
    # Of the four pairs of a defective and a good picture three are in order; precision is 1 at
    # recall 1/2 and 2/3 at recall 1.
    assert metrics["image_auroc"] == metrics["pixel_auroc"] == 0.75
    assert metrics["image_ap"] == metrics["pixel_ap"] == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)


def test_a_type_is_held_against_the_good_pictures_alone():
    scores = np.array([0.5, 0.9, 0.1])
    by_type = compute_metrics_by_type(
        scores, scores.reshape(3, 1, 1), ["good", "hole", "crack"], np.array([[[0]], [[1]], [[1]]])
    )
    assert list(by_type) == ["crack", "hole"]
    assert by_type["hole"]["image_auroc"] == by_type["hole"]["pixel_auroc"] == 1
    assert by_type["crack"]["image_auroc"] == by_type["crack"]["pixel_auroc"] == 0


def test_a_missing_class_leaves_a_metric_undefined():
    scores = np.array([0.5, 0.9])
    metrics = compute_metrics(
        scores, scores.reshape(2, 1, 1), np.array([False, False]), np.zeros((2, 1, 1))
    )
    assert set(metrics.values()) == {None}


def test_what_is_written(trained):
    metrics = evaluate(trained)
    folder = trained / "evaluation"
    written = json.loads((folder / "metrics.json").read_text())
    assert {name: written[name] for name in metrics} == metrics
    assert set(written["defect_types"]) == {
        "corrosion", "crack", "foreign_object", "hole", "paint", "scratch",
    }  # fmt: skip
    assert written["step"] == Draem.load(trained).step
    with (folder / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == written["test_pictures"]
    good = [float(row["score"]) for row in rows if row["defect_type"] == "good"]
    defective = [float(row["score"]) for row in rows if row["is_defective"] == "1"]
    assert len(defective) == written["defective_pictures"]
    pairs = np.subtract.outer(defective, good)
    auroc = np.mean((pairs > 0) + 0.5 * (pairs == 0))
    assert metrics["image_auroc"] == pytest.approx(auroc, abs=1e-3)
    page = (folder / "report.html").read_text()
    assert "demonstration" in page
    assert page.count("data:image/") > 100
