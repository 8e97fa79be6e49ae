"""The table of metrics is what is measured, and what people and files call it."""

import pytest

from draem_jax.evaluation.results import compute_metrics
from draem_jax.evaluation.stream import MetricOptions, MetricStream
from draem_jax.metrics import table
from draem_jax.metrics.table import METRICS, NAMES, Metric, heading, metric_of, title
from tests.evaluation.references import draw_pictures

TITLES = {
    "image_auroc": "image AUROC",
    "image_ap": "image AP",
    "image_f1_max": "image best F1",
    "pixel_auroc": "pixel AUROC",
    "pixel_ap": "pixel AP",
    "pixel_f1_max": "pixel best F1",
    "aupro_0.3": "AUPRO 0.3",
    "aupimo": "AUPIMO",
}


def test_names_are_those_of_files_and_words_those_of_people():
    assert tuple(TITLES) == NAMES
    assert [title(name) for name in NAMES] == list(TITLES.values())
    assert heading("image_ap") == "Image AP"
    assert title("aupro_0.05") == "AUPRO 0.05"
    assert all(metric.explanation.endswith(".") for metric in METRICS)
    with pytest.raises(KeyError):
        metric_of("pixel_recall")


def measured(normal, *limits):
    pictures = draw_pictures("ordinary", size=16, normal=normal, defective=4)
    options = MetricOptions(aupro_limits=limits, replicates=0)
    stream = MetricStream(options)
    stream.update(pictures.margins, pictures.truth, pictures.scores, pictures.types)
    return compute_metrics(stream.totals(), options).overall


def test_an_entry_in_the_table_is_all_that_another_one_takes(monkeypatch):
    def prevalence(ranking):
        return ranking.defect.sum(-1) / (ranking.normal + ranking.defect).sum(-1)

    added = Metric("image_prevalence", "image prevalence", "Half.", "image", prevalence)
    monkeypatch.setattr(table, "METRICS", (*METRICS, added))
    assert measured(4, 0.3).values["image_prevalence"] == 0.5
    assert measured(0, 0.3).reasons["image_prevalence"] == "There is no normal picture."


@pytest.mark.parametrize("normal", [0, 4])
def test_all_of_them_are_measured_or_said_to_be_undefined(normal):
    found = measured(normal, 0.3, 0.05)
    assert list(found.values) == [*NAMES[:-1], "aupro_0.05", "aupimo"]
    assert all((found.values[name] is None) == (name in found.reasons) for name in found.values)
