"""Streamed metrics are near exact ones, and exact ones are what definitions give."""

import json

import jax
import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from draem_jax.evaluation import stream as stream_module
from draem_jax.evaluation.results import compute_metrics
from draem_jax.evaluation.stream import MetricOptions, MetricStream, merge_totals
from draem_jax.evaluation.truth import unknown_mask
from draem_jax.metrics.rankings import aupro, auroc, average_precision, f1_max, rank
from tests.evaluation import references
from tests.evaluation.references import draw_pictures

LIMITS = (0.3, 0.05)
BATCH = 8
FEW = MetricOptions(aupro_limits=LIMITS, replicates=20)
EXACT = MetricOptions(aupro_limits=LIMITS, replicates=0, exact=True)


def feed(stream, pictures, *, indices=None, truth=None):
    """Batches of eight; the last is padded with what must not count."""
    truth = pictures.truth if truth is None else truth
    for start in range(0, len(pictures.types), BATCH):
        part = slice(start, start + BATCH)
        types = pictures.types[part]
        missing = BATCH - len(types)
        arrays = [
            np.pad(a[part], [(0, missing)] + [(0, 0)] * (a.ndim - 1), constant_values=3)
            for a in (pictures.margins, truth, pictures.scores)
        ]
        stream.update(*arrays, types, indices=None if indices is None else indices[part])
    return stream


def evaluate(pictures, options, **changes):
    return compute_metrics(feed(MetricStream(options), pictures, **changes).totals(), options)


CASES = ["ordinary", "ties", "saturated softmax", "rare defects", "empty masks",
         "all-defect pictures"]  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_exact_equals_references_and_streaming_is_near(case):
    pictures = draw_pictures(case, normal=30, defective=30)  # a batch of both, and a padded one
    exact, streamed = evaluate(pictures, EXACT), evaluate(pictures, FEW)
    types = np.array(pictures.types)
    for kind, metrics in {None: exact.overall, **exact.types}.items():
        chosen = pictures.chosen(types != "" if kind is None else np.isin(types, ["good", kind]))
        # Ranks, since scikit-learn takes no infinity
        maps = np.unique(chosen.margins, return_inverse=True)[1].reshape(chosen.margins.shape)
        expected = references.pixel_metrics(maps, chosen.masks, LIMITS)
        labels = np.array(chosen.types) != "good"
        scores = np.unique(chosen.scores, return_inverse=True)[1]
        expected["image_auroc"] = roc_auc_score(labels, scores)
        expected["image_ap"] = average_precision_score(labels, scores)
        expected["image_f1_max"] = references.f1_max(labels, scores)
        near = streamed.overall if kind is None else streamed.types[kind]
        for name, value in expected.items():
            assert metrics.values[name] == pytest.approx(value, abs=1e-9), name
            assert near.values[name] == pytest.approx(value, abs=1e-4), name
        assert near.values["aupimo"] == pytest.approx(metrics.values["aupimo"], abs=1e-4)
        found = chosen.margins >= near.thresholds["pixel_f1_max"]
        f1 = 2 * (found & chosen.masks).sum() / (found.sum() + chosen.masks.sum())
        assert near.values["pixel_f1_max"] == pytest.approx(f1, abs=1e-9)


def test_exact_takes_saturated_softmax_values_as_they_are():
    pictures = draw_pictures("saturated softmax")
    probability = np.asarray(jax.nn.sigmoid(pictures.margins))
    assert (probability == 1).sum() > 100
    exact = evaluate(pictures._replace(margins=probability), EXACT)
    for name, value in references.pixel_metrics(probability, pictures.masks, LIMITS).items():
        assert exact.overall.values[name] == pytest.approx(value, abs=1e-9), name


@pytest.mark.parametrize("case", ["ordinary", "ties", "empty masks"])
def test_aupimo_is_the_area_of_each_picture(case):
    pictures = draw_pictures(case)
    # Some defect pixels among the highest of the normal pictures' margins
    lifted = pictures.masks * np.random.default_rng(0).exponential(40, pictures.margins.shape)
    pictures = pictures._replace(margins=pictures.margins + lifted.astype(np.float32))
    good = pictures.margins[:32]
    exact, streamed = evaluate(pictures, EXACT), evaluate(pictures, FEW)
    assert 0.2 < exact.overall.values["aupimo"] < 0.8
    assert streamed.overall.values["aupimo"] == pytest.approx(
        exact.overall.values["aupimo"], abs=1e-4
    )
    for row, near in list(zip(exact.pictures, streamed.pictures, strict=True))[::5]:
        mask = pictures.masks[row.index]
        if not mask.any():
            assert row.aupimo is near.aupimo is None
            continue
        value = references.aupimo(good, pictures.margins[row.index], mask, (1e-5, 1e-4))
        assert row.aupimo == pytest.approx(value, abs=1e-9)
        # A pixel in the bin of one of the few normal pixels this high counts by half.
        assert near.aupimo == pytest.approx(value, abs=0.5 / mask.sum() + 1e-4)


def test_intervals_are_those_of_resampled_pictures():
    pictures = draw_pictures("ordinary", size=12, normal=24, defective=24)
    number = 1000
    options = MetricOptions(replicates=number)
    intervals = evaluate(pictures, options).overall.intervals
    rng = np.random.default_rng(3)
    weights = np.concatenate([rng.multinomial(24, [1 / 24] * 24, number) for _ in range(2)], axis=1)
    labels = np.array(pictures.types) != "good"
    images = rank(pictures.scores, labels, weights=weights)
    pixels = rank(
        pictures.margins.ravel(),
        pictures.masks.ravel(),
        weights=np.repeat(weights.astype(np.uint8), 12 * 12, axis=1),
    )
    regions = rank(
        pictures.margins.ravel(),
        pictures.masks.ravel(),
        weights=np.repeat(weights, 12 * 12, axis=1) * pictures.truth.reshape(1, -1),
    )
    expected = {
        "image_auroc": auroc(images.normal, images.defect),
        "image_ap": average_precision(images.normal, images.defect),
        "image_f1_max": f1_max(images.normal, images.defect)[0],
        "pixel_auroc": auroc(pixels.normal, pixels.defect),
        "pixel_ap": average_precision(pixels.normal, pixels.defect),
        "pixel_f1_max": f1_max(pixels.normal, pixels.defect)[0],
        "aupro_0.3": aupro(pixels.normal, regions.defect),
    }
    for name, replicates in expected.items():
        low, high = np.quantile(replicates, [0.025, 0.975])
        # Two sets of 1,000 draws: each end has a standard error of 2 % of the width in each.
        assert intervals[name] == pytest.approx((low, high), abs=0.1 * (high - low)), name


@pytest.mark.parametrize("replicates", [0, 2])
def test_the_devices_hold_no_array_without_elements(replicates):
    # Compiling such over several devices ends some releases of XLA with a segmentation fault.
    stream = MetricStream(MetricOptions(replicates=replicates))
    pictures = draw_pictures("ordinary")
    stream.update(pictures.margins, pictures.truth, pictures.scores, pictures.types)
    held = jax.tree.leaves(stream._on_device)
    assert held
    assert all(array.size for array in held)
    for counts in stream.totals().groups.values():
        assert len(counts.replicates) == len(counts.draws) == replicates


def test_parts_merge_to_the_whole(monkeypatch):
    pictures = draw_pictures("ordinary")
    whole = evaluate(pictures, FEW)
    monkeypatch.setattr(stream_module, "FLUSH_PIXELS", 3 * BATCH * 64 * 64)
    hosts = [np.arange(len(pictures.types)) % 2 == i for i in range(2)]
    streams = [MetricStream(FEW) for _ in hosts]
    good = np.array(pictures.types) == "good"
    for stream, host in zip(streams, hosts, strict=True):
        chosen = host & good
        feed(stream, pictures.chosen(chosen), indices=np.flatnonzero(chosen))
    merged = merge_totals([stream.totals() for stream in streams])
    for stream, host in zip(streams, hosts, strict=True):
        stream.close_normal(lambda _: merged)
        chosen = host & ~good
        feed(stream, pictures.chosen(chosen), indices=np.flatnonzero(chosen))
    parts = [stream.totals() for stream in streams]
    together = compute_metrics(merge_totals(parts), FEW)
    assert json.dumps(together.overall.as_json()) != ""
    for one, other in ((whole.overall, together.overall), (whole.types["line"], together.types["line"])):  # fmt: skip # noqa: E501
        assert one.values == pytest.approx(other.values, abs=1e-6)
        assert one.thresholds == other.thresholds
        for name, interval in one.intervals.items():
            assert interval == pytest.approx(other.intervals[name], abs=1e-5)
    assert [row.index for row in together.pictures] == list(range(64))
    with pytest.raises(ValueError, match="same picture"):
        merge_totals([parts[0], parts[0]])


def test_memory_does_not_grow_with_the_pictures():
    pictures = draw_pictures("ordinary", normal=8, defective=8)
    stream, alive = MetricStream(FEW), []
    for _ in range(3):
        for _ in range(8):
            feed(stream, pictures.chosen(np.arange(16) >= 8))
        alive.append(sum(array.nbytes for array in jax.live_arrays()))
    assert alive[0] == alive[1] == alive[2]


def test_what_cannot_be_computed_is_none_with_the_reason():
    pictures = draw_pictures("ordinary", normal=8, defective=8)
    good, defective = pictures.chosen(np.arange(16) < 8), pictures.chosen(np.arange(16) >= 8)
    no_masks = np.stack([unknown_mask((64, 64))] * 16)
    every = defective._replace(masks=np.ones_like(defective.masks))
    results = {
        "good": evaluate(good, FEW),
        "defective": evaluate(defective, FEW),
        "no masks": evaluate(pictures, FEW, truth=no_masks),
        "empty masks": evaluate(pictures, FEW, truth=np.zeros_like(pictures.truth)),
        "all defect": evaluate(every, FEW),
        "nothing": compute_metrics(MetricStream(FEW).totals(), FEW),
        "few pixels": evaluate(pictures, FEW),
        "exact": evaluate(good, EXACT),
    }
    for result in results.values():
        for metrics in (result.overall, *result.types.values()):
            text = json.dumps(metrics.as_json(), allow_nan=False)
            assert json.loads(text)["reasons"] == metrics.reasons
            undefined = {name for name, value in metrics.values.items() if value is None}
            assert undefined == set(metrics.reasons)
            assert all(metrics.intervals[name] is None for name in undefined)
    images = {"image_auroc", "image_ap", "image_f1_max"}
    pixels = {"pixel_auroc", "pixel_ap", "pixel_f1_max", "aupro_0.3", "aupro_0.05"}
    everything = images | pixels | {"aupimo"}
    reasons = {name: set(result.overall.reasons) for name, result in results.items()}
    assert reasons == {
        "good": everything,
        "exact": everything,
        "defective": images | {"aupimo"},
        "no masks": pixels | {"aupimo"},
        "empty masks": pixels | {"aupimo"},
        "all defect": everything,
        "nothing": everything,
        "few pixels": {"aupimo"},
    }
    assert "32768 pixels are too few" in results["few pixels"].overall.reasons["aupimo"]
    assert results["no masks"].overall.values["image_auroc"] is not None


def test_what_is_given_wrongly_is_refused():
    pictures = draw_pictures("ordinary", normal=8, defective=8)
    stream = feed(MetricStream(FEW), pictures)
    with pytest.raises(ValueError, match="must come before"):
        feed(stream, pictures)
    margins, truth = pictures.margins[:8], pictures.truth[:8]
    with pytest.raises(ValueError, match="do not fit"):
        stream.update(margins, truth, pictures.scores[:8], ["hole"] * 9)
    with pytest.raises(ValueError, match="4 devices"):
        stream.update(margins[:3], truth[:3], pictures.scores[:3], ["hole"] * 3)
    broken = pictures._replace(margins=np.where(pictures.margins > 5, np.nan, pictures.margins))
    with pytest.raises(ValueError, match="not a number"):
        evaluate(broken, FEW)
