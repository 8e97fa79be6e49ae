"""Prediction of files: every picture gets a map and an overlay, every region its figures."""

import csv
import json

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy.special import expit

from draem_jax.detector import Draem, Inspection
from draem_jax.errors import UserError
from draem_jax.inspection.inspected import inspect_picture, pixel_threshold
from draem_jax.inspection.predict import predict_files
from draem_jax.thresholds import Thresholds


@pytest.fixture(scope="module")
def detector(trained):
    return Draem.load(trained, batch_size=4)


def test_every_picture_is_looked_at(detector, tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    rng = np.random.default_rng(0)
    sizes = {"a.png": (32, 32), "a.jpg": (50, 40), "Größe 1/b.bmp": (20, 70), "c.png": (64, 64)}
    for name, (height, width) in sizes.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)).save(path)
    calls = []
    found = predict_files(detector, folder, out, progress=lambda *args: calls.append(args))
    assert found.pictures == len(sizes)
    assert calls[-1] == (4, 4)
    with (out / "predictions.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["picture"] for row in rows} == {str(folder / name) for name in sizes}
    assert len({row["map"] for row in rows}) == len(sizes)
    for row in rows:
        with Image.open(row["picture"]) as picture:
            size = picture.size
        with Image.open(out / row["map"]) as map_picture, Image.open(out / row["overlay"]) as laid:
            assert map_picture.mode == "I;16"
            assert map_picture.size == size
            assert laid.width >= size[0]  # a strip with the scale is below the picture
            assert laid.height > size[1]
            values = np.array(map_picture) / 65535
        assert float(row["anomalous_share"]) == pytest.approx(np.mean(values > 0.5), abs=1e-3)

    with Image.open(folder / "a.png") as picture:
        expected = detector.predict(np.array(picture)[None])
    a = next(row for row in rows if row["picture"].endswith("a.png"))
    assert float(a["score"]) == pytest.approx(float(expected.score[0]), abs=1e-5)
    with Image.open(out / a["map"]) as map_picture:
        np.testing.assert_allclose(
            np.array(map_picture) / 65535, expected.anomaly_map[0], atol=1e-4
        )


def test_what_is_no_picture_is_named(detector, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_text("no picture")
    with pytest.raises(UserError, match=r"bad\.png"):
        predict_files(detector, tmp_path, tmp_path / "out")
    assert not (tmp_path / "out" / "predictions.csv").exists()


class Bright(Draem):
    """Takes what is white for anomalous, and black for normal."""

    def inspect(self, pictures, *, with_features=False):
        margin = jnp.asarray(pictures[..., 0] / 255 * 8 - 4, jnp.float32)
        anomaly_map = jnp.asarray(expit(margin))
        reconstruction = jnp.zeros((*margin.shape, 3), jnp.float32)
        return Inspection(margin, anomaly_map, anomaly_map.max((1, 2)), reconstruction)


@pytest.fixture(scope="module")
def bright(tiny_config):
    config = tiny_config(**{"data.image_size": (64,)})
    return Bright(config=config, step=0, batch_size=4, score_name="mean1", _variables=None)


def draw(path, *boxes, size=(64, 64)):
    picture = np.zeros((*size, 3), np.uint8)
    for top, left, bottom, right in boxes:
        picture[top:bottom, left:right] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)
    return picture


def test_regions_are_written_in_pixels_and_millimetres(bright, tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    two = draw(folder / "two.png", (10, 20, 14, 40), (50, 5, 60, 15), (30, 30, 31, 31))
    draw(folder / "in it" / "none.png")
    draw(folder / "all.png", (0, 0, 64, 64))
    (tmp_path / "mm.csv").write_text("name,mm_per_pixel\nin it/none.png,3\ntwo.png,0.5\n")
    found = predict_files(
        bright, folder, out, min_area=4, mm_per_pixel=0.1, mm_per_pixel_csv=tmp_path / "mm.csv"
    )
    assert (found.pictures, found.with_regions, found.regions) == (3, 2, 3)
    with (out / "regions.csv").open(encoding="utf-8") as file:
        whole, square, line = csv.DictReader(file)
    assert (square["picture"], square["region"]) == (str(folder / "two.png"), "1")
    assert [square[side] for side in ("top", "left", "bottom", "right")] == ["50", "5", "60", "15"]
    assert (square["area_px"], square["orientation_degrees"]) == ("100", "")
    assert float(square["area_mm2"]) == 25
    assert (line["region"], line["orientation_degrees"]) == ("2", "0.0")
    assert float(line["width_px"]) == 4
    assert float(line["width_mm"]) == 2
    assert float(line["length_mm"]) == pytest.approx(np.hypot(20, 3) / 2, abs=1e-3)
    assert float(line["skeleton_length_px"]) == 20
    assert float(line["peak_score"]) == pytest.approx(expit(4), abs=1e-4)
    assert (line["pixel_threshold"], line["pixel_rule"]) == ("0.500000", "even")
    assert (line["touches_border"], line["covers_picture"]) == ("0", "0")
    assert (whole["touches_border"], whole["covers_picture"]) == ("1", "1")
    assert float(whole["area_mm2"]) == pytest.approx(64 * 64 * 0.01)

    with (out / "predictions.csv").open(encoding="utf-8") as file:
        pictures = {row["picture"]: row for row in csv.DictReader(file)}
    assert [row["regions"] for row in pictures.values()] == ["1", "0", "2"]
    expected = two[..., 0].copy()
    expected[30, 30] = 0  # too small
    with Image.open(out / pictures[str(folder / "two.png")]["mask"]) as mask:
        np.testing.assert_array_equal(np.asarray(mask), expected)
    for name in ("regions.json", "regions_rle.json"):
        content = json.loads((out / name).read_text(encoding="utf-8"))
        assert [image["file_name"] for image in content["images"]] == [
            "all.png",
            "in it/none.png",
            "two.png",
        ]
        assert [a["image_id"] for a in content["annotations"]] == [1, 3, 3]


def test_sizes_are_those_of_the_picture_and_not_of_the_network(bright, tmp_path):
    picture = draw(tmp_path / "large.png", (40, 80, 120, 280), size=(192, 320))
    inspected = inspect_picture(bright, picture, 0.0)
    (region,) = inspected.regions
    assert inspected.reconstruction.shape == picture.shape
    assert inspected.mask.shape == picture.shape[:2]
    assert region.area == pytest.approx(80 * 200, rel=0.05)
    assert region.width == pytest.approx(80, abs=2)
    assert region.length == pytest.approx(np.hypot(80, 200), abs=4)


def test_no_region_at_all_leaves_tables_without_rows(bright, tmp_path):
    draw(tmp_path / "in" / "none.png")
    found = predict_files(bright, tmp_path / "in", tmp_path / "out")
    assert (found.pictures, found.with_regions, found.regions) == (1, 0, 0)
    assert (tmp_path / "out" / "regions.csv").read_text().count("\n") == 1
    content = json.loads((tmp_path / "out" / "regions.json").read_text())
    assert (len(content["images"]), content["annotations"]) == (1, [])


def test_millimetres_that_are_missing_or_senseless_stop_it_before_it_begins(bright, tmp_path):
    draw(tmp_path / "in" / "a.png")
    draw(tmp_path / "in" / "b.png")
    table = tmp_path / "mm.csv"
    table.write_text("name,mm_per_pixel\na.png,0.1\n")
    for options, message in (
        ({"mm_per_pixel": 0.0}, "above 0"),
        ({"mm_per_pixel_csv": table}, r"no line for b\.png"),
    ):
        with pytest.raises(UserError, match=message):
            predict_files(bright, tmp_path / "in", tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_the_pixel_threshold_says_where_it_comes_from():
    normal = np.linspace(0, 1, 19)
    thresholds = Thresholds.calibrate("mean21", normal, normal * 2, best_f1_margin=-0.3)
    assert pixel_threshold(None) == (0.0, "even")
    assert pixel_threshold(thresholds) == (-0.3, "best_f1")
    assert pixel_threshold(thresholds, rule="conformal", alpha=0.05) == (2.0, "conformal")
    with pytest.raises(UserError, match="held-out normal pictures cannot support"):
        pixel_threshold(thresholds, rule="conformal", alpha=0.01)
    with pytest.raises(UserError, match="holdout above 0"):
        pixel_threshold(None, rule="conformal")
