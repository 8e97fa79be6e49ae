"""Prediction of files: every picture gets a map, an overlay and a line."""

import csv

import numpy as np
import pytest
from PIL import Image

from draem_jax.detector import Draem
from draem_jax.errors import UserError
from draem_jax.inspection.predict import predict_files


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
    count = predict_files(detector, folder, out, progress=lambda *args: calls.append(args))
    assert count == len(sizes)
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
            assert map_picture.size == laid.size == size
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
