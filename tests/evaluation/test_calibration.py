"""Thresholds of a run come from pictures that it never saw, and decide in all that follows."""

import csv
import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import average_precision_score, roc_auc_score

from draem_jax.data.dataset import DataSet
from draem_jax.data.pictures import resize, resize_plane
from draem_jax.detector import Draem
from draem_jax.errors import UserError
from draem_jax.evaluation.calibration import calibrated
from draem_jax.evaluation.evaluate import evaluate
from draem_jax.evaluation.options import EvaluationOptions
from draem_jax.evaluation.stream import MetricOptions
from draem_jax.inspection.predict import PredictOptions, predict_files
from draem_jax.scores import CANDIDATE_SCORES, score_by_name
from draem_jax.training.loop import train
from tests.studies.test_benchmark import STREAMING

pytestmark = pytest.mark.tiny_programs


@pytest.fixture(scope="module")
def held_out(tmp_path_factory, tiny_config):
    """A run that 40 of 200 normal pictures were held out from."""
    workdir = tmp_path_factory.mktemp("held_out") / "run"
    changes = STREAMING | {"data.holdout": 0.2, "evaluation.score": "auto"}
    train(tiny_config(**changes), workdir, quiet=True)
    return workdir


@pytest.fixture(scope="module")
def thresholds(held_out):
    return calibrated(Draem.load(held_out)).thresholds


@pytest.mark.slow
def test_what_the_numbers_are_of(held_out, thresholds):
    detector = Draem.load(held_out)
    assert calibrated(detector) is detector  # what was kept is read, and not worked out again
    assert detector.thresholds == thresholds
    assert thresholds.score in CANDIDATE_SCORES
    assert detector.score_name == thresholds.score
    parts = {
        part: DataSet("surfaces", "brick").training_pictures(size=(32, 32), holdout=0.2, part=part)
        for part in ("training", "selection", "calibration")
    }
    assert len(parts["training"]) == 160
    calibration = np.stack([parts["calibration"][i] for i in range(20)])
    prediction = detector.predict(calibration)
    scores = np.asarray(score_by_name(thresholds.score)(jnp.asarray(prediction.anomaly_map)))
    np.testing.assert_allclose(thresholds.normal_scores, np.sort(scores), rtol=1e-5)
    peaks = prediction.anomaly_map.max(axis=(1, 2)).astype(float)
    margins = np.sort(np.log(peaks / (1 - peaks)))
    np.testing.assert_allclose(thresholds.normal_margins, margins, rtol=1e-3, atol=1e-3)
    assert thresholds.simulated_pictures - thresholds.simulated_defective == 20
    assert thresholds.simulated_defective >= 64


@pytest.mark.slow
def test_evaluation_and_prediction_decide_by_them(held_out, thresholds, tmp_path):
    metrics = MetricOptions(replicates=20)
    evaluate(held_out, options=EvaluationOptions(metrics, alpha=0.1, save_maps=True))
    folder = held_out / "evaluation"
    written = json.loads((folder / "metrics.json").read_text())
    decisions = written["decisions"]
    assert decisions["image_threshold"] == sorted(thresholds.normal_scores)[-2]
    assert "At most 10 % of normal pictures" in decisions["promise"]
    with (folder / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    called = [bool(np.float32(row["score"]) > decisions["image_threshold"]) for row in rows]
    assert [row["anomalous"] == "1" for row in rows] == called
    defective = [row["is_defective"] == "1" for row in rows]
    counts = {
        "found": sum(c and d for c, d in zip(called, defective, strict=True)),
        "missed": sum(d and not c for c, d in zip(called, defective, strict=True)),
        "false_alarms": sum(c and not d for c, d in zip(called, defective, strict=True)),
    }
    assert {name: decisions[name] for name in counts} == counts
    assert written["image_score"] == thresholds.score
    assert written["compared_at"] == "32 x 32"
    with Image.open(folder / "maps" / f"{rows[0]['name']}.png") as saved:
        assert saved.size == (96, 96)
    page = (folder / "report.html").read_text()
    assert "At most 10 % of normal pictures" in page
    assert "not a number" not in page

    Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(tmp_path / "picture.png")
    detector = Draem.load(held_out)
    black = np.zeros((1, 40, 50, 3), np.uint8)
    (score,) = detector.predict(resize(black[0], (32, 32))[None]).score.astype(np.float64)
    options = PredictOptions(alpha=0.1)
    predict_files(detector, tmp_path / "picture.png", tmp_path / "out", options=options)
    with (tmp_path / "out" / "predictions.csv").open() as file:
        (row,) = csv.DictReader(file)
    assert float(row["score"]) == pytest.approx(score, abs=1e-6)
    at_least = sum(normal >= score for normal in thresholds.normal_scores)
    assert float(row["p_value"]) == pytest.approx((1 + at_least) / 21, rel=1e-5)
    assert row["anomalous"] == str(int(float(row["p_value"]) <= 0.1))


@pytest.mark.long
def test_original_size_by_sorting(held_out):
    options = EvaluationOptions(MetricOptions(replicates=0, exact=True), original_size=True)
    metrics = evaluate(held_out, options=options).values
    written = json.loads((held_out / "evaluation" / "metrics.json").read_text())
    assert written["compared_at"] == "original size"
    assert set(written["protocols"]) == {"default"}

    detector = Draem.load(held_out)
    test = DataSet("surfaces", "brick").test_pictures(size=(32, 32))
    margins, masks = [], []
    for i in range(len(test)):
        (margin,) = np.asarray(detector.run_batch(test[i].image[None]).margin)[:1]
        margins.append(resize_plane(margin, (96, 96)).ravel())
        masks.append(test[i].mask.ravel())
    labels, values = np.concatenate(masks), np.concatenate(margins)
    assert metrics["pixel_auroc"] == pytest.approx(roc_auc_score(labels, values), abs=1e-4)
    assert metrics["pixel_ap"] == pytest.approx(average_precision_score(labels, values), abs=1e-4)


def test_too_few_pictures_are_said_and_damaged_thresholds_refused(held_out, thresholds):
    assert thresholds.image_threshold(0.01) is None
    assert "20 held-out normal pictures cannot support" in thresholds.warning(0.01)
    (path,) = Path(held_out / "thresholds").glob("*.json")
    content = path.read_text()
    try:
        path.write_text(content[: len(content) // 2])
        with pytest.raises(UserError, match="holds no usable thresholds"):
            Draem.load(held_out)
    finally:
        path.write_text(content)
