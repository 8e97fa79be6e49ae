"""The detector from Python: any batch, any size, both kinds of numbers."""

import dataclasses
from typing import ClassVar

import numpy as np
import pytest

from draem_jax import Draem
from draem_jax.errors import UserError
from draem_jax.regions.rule import PixelThreshold, RegionRule
from draem_jax.thresholds import Thresholds


@pytest.fixture(scope="module")
def detector(trained):
    return Draem.load(trained)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)


def test_what_comes_out(detector, images):
    anomaly_map, score, reconstruction = detector.predict(images)
    assert anomaly_map.shape == (5, 32, 32)
    assert score.shape == (5,)
    assert reconstruction.shape == (5, 32, 32, 3)
    for part in (anomaly_map, score, reconstruction):
        assert part.dtype == np.float32
        assert part.min() >= 0
        assert part.max() <= 1


def test_the_batch_a_picture_is_in_does_not_matter(trained, detector, images):
    together = detector.predict(images)
    small_batches = Draem.load(trained, batch_size=4).predict(images)
    alone = detector.predict(images[3:4])
    for a, b, c in zip(together, small_batches, alone, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
        np.testing.assert_allclose(a[3:4], c, atol=1e-5)


class Counting(Draem):
    """Remembers how many pictures the devices were given each time."""

    counted: ClassVar[list[int]] = []

    def run_batch(self, pictures, planes=None, *, with_features=False):
        found = super().run_batch(pictures, planes, with_features=with_features)
        self.counted.append(len(found.margin))
        return found


def test_few_pictures_do_not_take_the_time_of_a_batch(detector, images):
    parts = {f.name: getattr(detector, f.name) for f in dataclasses.fields(detector)}
    counting = Counting(**parts)
    many = np.concatenate([images] * 8)[:37]
    expected = detector.predict(many)
    for count, sizes in ((1, [4]), (4, [4]), (5, [8]), (9, [16]), (16, [16]), (37, [16, 16, 8])):
        counting.counted.clear()
        found = counting.predict(many[:count])
        assert counting.counted == sizes  # on four devices
        for part, whole in zip(found, expected, strict=True):
            np.testing.assert_allclose(part, whole[:count], atol=1e-6)
        counting.counted.clear()
        inspected = list(counting.inspect_pictures(many[:count]))
        assert counting.counted == sizes
        np.testing.assert_allclose([i.score for i in inspected], found.score, atol=1e-6)


def test_features_come_with_the_same_figures(detector, images):
    plain, found = (detector.run_batch(images[:2], with_features=f) for f in (False, True))
    assert plain.features is None
    assert found.features.shape == (detector.batch_size, 4, 4, detector.feature_channels)
    for name in ("margin", "anomaly_map", "score", "reconstruction"):
        np.testing.assert_allclose(getattr(found, name), getattr(plain, name), atol=1e-5)


def test_uint8_and_float_say_the_same(detector, images):
    for size in (slice(None), slice(7)):  # at the trained size, and resized
        chosen = images[:, :, size]
        a, b = detector.predict(chosen), detector.predict(chosen / np.float32(255))
        np.testing.assert_allclose(a.anomaly_map, b.anomaly_map, atol=0.02)
        assert a.anomaly_map.shape == chosen.shape[:3]
        assert a.reconstruction.shape == chosen.shape


def test_one_picture_is_inspected_as_a_batch_is_predicted(detector, images):
    image = images[0, :20]
    predicted = detector.predict(image[None])
    found = detector.inspect_picture(image)
    np.testing.assert_array_equal(found.image, image)
    np.testing.assert_allclose(found.anomaly_map, predicted.anomaly_map[0], atol=1e-6)
    np.testing.assert_allclose(found.reconstruction, predicted.reconstruction[0], atol=1e-6)
    assert found.score == pytest.approx(predicted.score[0], abs=1e-6)
    assert (found.p_value, found.is_anomalous) == (None, None)  # nothing was held out
    again = detector.inspect_picture(image / np.float32(255))
    np.testing.assert_array_equal(again.margin, found.margin)
    with pytest.raises(ValueError, match=r"lie in \[0, 1\]"):
        detector.inspect_picture(image.astype(np.float32))


def test_decisions_and_regions_follow_from_the_thresholds(detector, images):
    image = images[0]
    plain = detector.inspect_picture(image)
    below = tuple(np.linspace(0, plain.score, 20)[:-1].tolist())  # 19 that all score lower
    middle = float(np.median(plain.margin))
    thresholds = Thresholds("mean21", below, below, best_f1_margin=middle)
    strict = dataclasses.replace(detector, thresholds=thresholds)
    rule = strict.region_rule(min_area=0, join_gap=0)
    assert rule == RegionRule(PixelThreshold(middle, "best_f1"), 0, 0)
    found = strict.inspect_picture(image, rule=rule)
    assert found.p_value == pytest.approx(1 / 20)
    assert found.is_anomalous
    assert not strict.inspect_picture(image, alpha=0.04).is_anomalous
    np.testing.assert_array_equal(found.mask, found.margin > middle)
    assert sum(region.area for region in found.regions) == found.mask.sum() > 0
    chosen = dataclasses.replace(thresholds, score="mean1")
    loud = dataclasses.replace(detector, thresholds=chosen)
    assert loud.score_name == "mean1"
    assert loud.inspect_picture(image).score == pytest.approx(plain.anomaly_map.max(), abs=1e-6)


def test_no_pictures(detector):
    assert detector.predict(np.zeros((0, 40, 50, 3), np.uint8)).anomaly_map.shape == (0, 40, 50)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((32, 32, 3), np.uint8), r"image\[None\]"),
        (np.zeros((1, 32, 32, 1), np.uint8), "RGB"),
        (np.zeros((1, 32, 32, 3), np.int64), "uint8 or float"),
        (np.full((1, 32, 32, 3), 200.0), r"lie in \[0, 1\]"),
        (np.full((1, 32, 32, 3), np.nan), r"lie in \[0, 1\]"),
    ],
)
def test_what_is_no_picture_is_refused(detector, images, message):
    with pytest.raises(ValueError, match=message):
        detector.predict(images)


def test_checkpoints_by_name(trained, tmp_path):
    assert Draem.load(trained).step == 4
    assert Draem.load(trained, checkpoint="2").step == 2
    assert Draem.load(trained, checkpoint="best").step in (2, 4)
    with pytest.raises(UserError, match=r"no checkpoint '3'; choose latest, best, or one of 2, 4"):
        Draem.load(trained, checkpoint="3")
    with pytest.raises(UserError, match="not a work directory"):
        Draem.load(tmp_path)
