"""Evaluating by tiles: whole pictures are judged, at their own pixels."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import average_precision_score, roc_auc_score

from draem_jax import Draem
from draem_jax.config import data_set, region_of_interest
from draem_jax.data.pictures import decode_picture
from draem_jax.data.roi import Roi
from draem_jax.evaluation.calibration import calibrate
from draem_jax.evaluation.evaluate import measure
from draem_jax.evaluation.simulated import simulated_pictures
from draem_jax.evaluation.stream import MetricOptions
from tests.detector.test_tiles import Pointwise, with_data

SIZES = [(150, 190), (70, 300), (64, 64), (100, 40)]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Pictures of several sizes, on whose defects green is higher on the whole."""
    root, rng = tmp_path_factory.mktemp("tiles"), np.random.default_rng(0)

    def save(path, image):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)

    for i, size in enumerate(SIZES):
        for split in ("train", "test"):
            save(root / f"{split}/good/{i}.png", rng.integers(80, 150, (*size, 3), np.uint8))
        image, mask = rng.integers(80, 150, (*size, 3), np.uint8), np.zeros(size, np.uint8)
        mask[30:50, 10:40] = 255
        image[mask > 0] += rng.integers(0, 50, 3, np.uint8)
        save(root / f"test/dent/{i}.png", image)
        save(root / f"ground_truth/dent/{i}.png", mask)
    return root


@pytest.mark.parametrize("border", [0, 12])
def test_metrics_are_of_whole_pictures_at_their_own_pixels(trained, photos, border):
    detector = with_data(
        Draem.load(trained), Pointwise, name="folder", category="", root=str(photos), tile=(32,)
    )
    roi = Roi(ignore_border=border)
    test = data_set(detector.config).test_pictures(size=(32, 32), roi=roi)
    done = []
    found = measure(
        detector,
        test.fitted(detector.fitting),
        options=MetricOptions(replicates=0, exact=True),
        progress=lambda *counts: done.append(counts),
    )["default"]
    margins, truth, scores, defective = [], [], [], []
    for i in range(len(test)):
        picture = test.pictures.fitted(detector.fitting).record(i)
        image = np.asarray(Image.open(photos / f"test/{picture['name'].decode()}.png"))
        path = photos / f"ground_truth/{picture['name'].decode()}.png"
        mask = (
            np.asarray(Image.open(path)) > 0 if path.exists() else np.zeros(image.shape[:2], bool)
        )
        inside = (slice(border, len(image) - border), slice(border, image.shape[1] - border))
        margins.append((image[..., 1] / 8 - 16)[inside].ravel())
        truth.append(mask[inside].ravel())
        plane = np.zeros(mask.shape, bool)
        plane[inside] = True
        scores.append(detector.inspect_picture(image, plane=plane).score)
        defective.append(path.exists())
    assert done[-1] == (8, 8)
    values = found.overall.values
    expected = average_precision_score(np.concatenate(truth), np.concatenate(margins))
    assert values["pixel_ap"] == pytest.approx(expected, abs=1e-4)
    assert values["image_auroc"] == pytest.approx(roc_auc_score(defective, scores))
    np.testing.assert_allclose([row.score for row in found.pictures], scores, rtol=1e-5)


@pytest.fixture(scope="module")
def looking(trained, photos):
    """A detector whose pictures come from there, some of them held out, some not looked at."""
    detector = replace(Draem.load(trained), trained_on=None)
    return with_data(
        detector,
        Pointwise,
        name="folder",
        category="",
        root=str(photos),
        holdout=0.5,
        tile=(64,),
        scale=0.8,
        texture_source="noise",
    )


@pytest.mark.long
def test_thresholds_are_of_whole_pictures(looking):
    thresholds = calibrate(looking)
    normal = data_set(looking.config).training_pictures(
        size=(64, 64), holdout=0.5, part="calibration"
    )
    own = [
        looking.inspect_picture(decode_picture(normal.record(i)["image"]))
        for i in range(len(normal))
    ]
    named = replace(looking, thresholds=thresholds)
    assert named.score_name == thresholds.score
    np.testing.assert_allclose(thresholds.normal_scores, sorted(one.score for one in own))
    assert thresholds.simulated_defective == 64
    assert thresholds.simulated_pictures == 64 + 1  # half of two pictures held out


@pytest.mark.long
def test_anomalies_are_laid_into_whole_pictures(looking):
    shown, again = (simulated_pictures(looking.config, roi=Roi(ignore_border=20)) for _ in range(2))
    count = sum(shown.normal)
    assert count == 2
    assert shown.names[count] == "simulated/000"
    places = set()
    for i in range(count, len(shown)):
        picture, canvas = shown[i], shown.canvases[i]
        number = shown.canvases.patches[i - count].normal
        normal = shown[number]
        assert picture.defect_type == "simulated"
        assert picture.mask.shape == picture.plane.shape == shown.canvases.own_size(i)
        assert canvas.mask.any()
        changed = (picture.image != normal.image).any(axis=-1)
        assert not (changed & ~canvas.mask).any()
        assert not (canvas.mask & ~canvas.plane).any()
        places.add((number, tuple(np.argwhere(canvas.mask)[0])))
        np.testing.assert_array_equal(picture.image, again[i].image)
    assert len(places) > (len(shown) - count) / 2


@pytest.mark.slow
def test_objects_are_looked_at_as_by_masks_of_them(trained, tmp_path):
    rng, pictures = np.random.default_rng(0), {}
    for name in [*(f"train/good/{i}" for i in range(4)), "test/good/0", "test/dent/in"]:
        image = rng.integers(20, 40, (150 + 10 * len(pictures), 190, 3), np.uint8)
        image[40:120, 30:130, 0] += 180
        mask = np.zeros(image.shape[:2], np.uint8)
        mask[60:80, 40:70] = 255 * ("dent" in name)
        image[mask > 0, 1] += 40
        image[5:15, 5:15, 1] = 100  # beside the object, and more than a dent
        pictures[name] = image
        truth = {name.replace("test", "ground_truth"): mask} if "dent" in name else {}
        for path, array in ({name: image} | truth).items():
            (tmp_path / f"photos/{path}").parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(tmp_path / f"photos/{path}.png")
    detector = with_data(
        replace(Draem.load(trained), trained_on=None), Pointwise, name="folder", category="",
        root=str(tmp_path / "photos"), holdout=0.5, tile=(64,), scale=0.8, texture_source="noise",
    )  # fmt: skip
    roi = region_of_interest(detector.config, source="foreground")
    for name, image in pictures.items():
        plane = roi.plane_of("", image)
        assert plane[41:119, 31:129].all()
        assert plane.sum() < 1.1 * 80 * 100
        (tmp_path / f"where/{name}").parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(plane).save(tmp_path / f"where/{name}.png")
    found = []
    for looking in (
        replace(detector, roi=roi),
        replace(detector, roi=Roi(str(tmp_path / "where"))),
    ):
        test = data_set(detector.config).test_pictures(size=(64, 64), roi=looking.roi)
        options = MetricOptions(replicates=0, exact=True)
        measured = measure(looking, test.fitted(detector.fitting), options=options)["default"]
        thresholds = replace(calibrate(looking), made_from={})
        found.append((measured.looked_at, measured.overall.values, measured.pictures, thresholds))
    assert found[0] == found[1]
    assert found[0][1]["pixel_ap"] == pytest.approx(1, abs=0.01)
    # Arrays that have no names are looked at alike.
    stack = np.stack([image, image[::-1]])
    maps, scores, _ = replace(detector, roi=roi).predict(stack)
    inspections = replace(detector, roi=roi).inspect_pictures(stack)
    for i, (picture, one) in enumerate(zip(stack, inspections, strict=True)):
        by_hand = detector.inspect_picture(picture, plane=roi.plane_of("", picture))
        for likely in (maps[i], one.anomaly_map):
            np.testing.assert_array_equal(likely, by_hand.anomaly_map)
        assert scores[i] == pytest.approx(by_hand.score)
        np.testing.assert_array_equal(one.inside, by_hand.inside)
