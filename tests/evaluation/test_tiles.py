"""Evaluating by tiles: whole pictures are judged, at their own pixels."""

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import average_precision_score, roc_auc_score

from draem_jax import Draem
from draem_jax.config import data_set
from draem_jax.data.roi import Roi
from draem_jax.evaluation.evaluate import measure
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
