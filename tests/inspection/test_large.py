"""Large pictures: all that is said of them is what would be said if they were held whole."""

import csv
import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from draem_jax.data import facts
from draem_jax.data.pictures import resize
from draem_jax.data.roi import Roi
from draem_jax.detector import Draem
from draem_jax.inspection.predict import PredictOptions, predict_files
from draem_jax.inspection.types import TypeModel
from draem_jax.regions import by_windows
from draem_jax.regions.rule import PixelThreshold, RegionRule
from tests.detector.test_tiles import Pointwise


def tiled(trained, *, roi=None, **fields):
    detector = Draem.load(trained, batch_size=4)
    config = detector.config.copy_and_resolve_references()
    config.data.update({"tile": (64,)} | fields)
    parts = {f.name: getattr(detector, f.name) for f in dataclasses.fields(Draem)}
    parts |= {"config": config} | ({} if roi is None else {"roi": roi})
    return Pointwise(**parts)


def pictures():
    """A surface, and on it what is hard to find by windows."""
    rng = np.random.default_rng(0)
    surface = resize(rng.integers(40, 90, (20, 24, 3), np.uint8), (333, 421))
    drawn = {name: surface.copy() for name in ("none", "many", "corners", "broad", "all")}
    for row, column in zip(*rng.integers(0, (325, 410), (60, 2)).T, strict=True):
        drawn["many"][row : row + 5, column : column + 7] = rng.integers(120, 256)
    drawn["corners"][:9, :5] = drawn["corners"][-3:, -11:] = drawn["corners"][:4, -6:] = 220
    drawn["corners"][150, :] = 200  # from side to side
    # A ring that is sure in a part alone, and something faint and something sure in its hole; a
    # long slope beside it, broad where it is not sure.
    rows, columns = np.ogrid[:333, :421]
    away = np.hypot(rows - 160, columns - 130)
    drawn["broad"][(away < 110) & (away > 80)] = 126
    drawn["broad"][60:70, 120:140] = 250
    drawn["broad"][150:170, 120:140] = 125
    drawn["broad"][180:183, 130:133] = 240
    slope = np.clip(250 - 2 * np.hypot(rows - 250, columns - 330), 0, 255).astype(np.uint8)
    drawn["broad"] = np.maximum(drawn["broad"], slope[..., None])
    drawn["all"][:] = 230
    return drawn


def outputs(detector, folder, out, rule, **options):
    summary = predict_files(
        detector, folder, out, options=PredictOptions(rule=rule, alpha=0.1, **options)
    )
    files = {path.relative_to(out): path for path in out.rglob("*") if path.is_file()}
    return summary, {
        name: np.array(Image.open(path)) if name.suffix == ".png" else path.read_text()
        for name, path in sorted(files.items())
    }


@pytest.mark.parametrize(("scale", "gap"), [(1, 3), (1, float("inf")), (0.5, 40), (1.3, 3)])
def test_large_pictures_are_told_as_others(trained, scale, gap, tmp_path, monkeypatch):
    monkeypatch.setattr(by_windows, "BAND", 4000)  # some rows
    folder = tmp_path / "in"
    folder.mkdir()
    for name, image in pictures().items():
        tifffile.imwrite(folder / f"{name}.tif", image, tile=(64, 48), photometric="rgb")
    detector = tiled(trained, scale=scale)
    rule = RegionRule(PixelThreshold(3.0, "even"), gap, 10)
    whole, expected = outputs(detector, folder, tmp_path / "whole", rule)
    large, found = outputs(detector, folder, tmp_path / "large", rule, large_from=1)
    assert whole == large
    assert whole.regions > (3 if gap > 100 else 20)
    assert list(found) == list(expected)
    for name, content in expected.items():
        if scale == 1 and name.suffix == ".png":
            np.testing.assert_array_equal(found[name], content, str(name))
        elif name.suffix == ".png":
            # A pixel may be one grey level off where a picture is resized by windows.
            assert found[name].shape == content.shape
            steps = np.abs(found[name].astype(int) - content) / np.iinfo(content.dtype).max
            assert np.mean(steps > 0.01) < 1e-4, name
        elif scale == 1:
            assert found[name] == content, name
        elif name.suffix == ".csv":
            for one, other in zip(*map(numbers, (found[name], content)), strict=True):
                assert one == pytest.approx(other, rel=1e-3, abs=0.02), name
    assert not [path for path in (tmp_path / "large").iterdir() if path.name.startswith(".")]


def numbers(text):
    """The numbers of a table, row by row; 0 for texts."""
    rows = csv.reader(text.splitlines()[1:])
    return [[float(c) if re.fullmatch(r"-?[\d.]+", c) else 0 for c in row] for row in rows]


@pytest.mark.parametrize("scale", [1, 0.5])
@pytest.mark.parametrize("source", ["border", "mask", "object"])
def test_only_what_is_looked_at_counts(trained, source, scale, tmp_path, monkeypatch):
    monkeypatch.setattr(by_windows, "BAND", 4000)
    folder = tmp_path / "in"
    folder.mkdir()
    image = pictures()["broad"]
    if source == "object":
        plain = np.full_like(image, 250)  # which would be anomalous
        plain[100:300, 40:400] = np.minimum(image, 200)[100:300, 40:400]
        image = plain
    tifffile.imwrite(folder / "a.tif", image, tile=(64, 48), photometric="rgb")
    mask = np.zeros(image.shape[:2], np.uint8)
    mask[100:300, 40:400] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    roi = {
        "border": Roi("", 75),
        "mask": Roi(str(tmp_path / "mask.png"), 10),
        "object": Roi("foreground", 10, 0.9),
    }[source]
    detector = tiled(trained, roi=roi, scale=scale)
    rule = RegionRule(PixelThreshold(3.0, "even"), 3, 10)
    whole, expected = outputs(detector, folder, tmp_path / "whole", rule)
    large, found = outputs(detector, folder, tmp_path / "large", rule, large_from=1)
    assert whole == large
    assert whole.regions
    for name in map(Path, ("predictions.csv", "regions.csv")):
        for one, other in zip(*map(numbers, (found[name], expected[name])), strict=True):
            assert one == pytest.approx(other, rel=1e-3, abs=0.02), name
    if scale == 1:
        for name in map(Path, ("maps/a.png", "masks/a.png", "overlays/a.png")):
            np.testing.assert_array_equal(found[name], expected[name])


def test_what_is_too_large_to_be_measured_is_told(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(by_windows, "_LARGEST_WINDOW", 5000)
    image = np.full((333, 421, 3), 60, np.uint8)
    image[100:200, 50:350] = image[300:310, 20:30] = 230
    tifffile.imwrite(tmp_path / "a.tif", image, tile=(64, 48), photometric="rgb")
    rule = RegionRule(PixelThreshold(3.0, "even"), 3, 10)
    summary, found = outputs(
        tiled(trained), tmp_path / "a.tif", tmp_path / "out", rule, large_from=1
    )
    assert summary.regions == 1
    (row,) = csv.DictReader(found[Path("predictions.csv")].splitlines())
    assert "rows 97 to 203 and columns 45 to 355 is too large" in row["error"]
    assert float(row["anomalous_share"]) == pytest.approx(30100 / image[..., 0].size, abs=1e-6)
    assert row["error"] in summary.notes[0]
    np.testing.assert_array_equal(found[Path("masks/a.png")], (image[..., 1] > 200) * 255)


def test_the_largest_regions_are_kept(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(by_windows, "_MOST_REGIONS", 4)
    image = pictures()["many"]
    tifffile.imwrite(tmp_path / "a.tif", image, tile=(64, 48), photometric="rgb")
    rule = RegionRule(PixelThreshold(3.0, "even"), 3, 10)
    areas = []
    for name, options in (("whole", {}), ("large", {"large_from": 1})):
        summary, found = outputs(
            tiled(trained), tmp_path / "a.tif", tmp_path / name, rule, **options
        )
        rows = csv.DictReader(found[Path("regions.csv")].splitlines())
        areas.append([int(row["area_px"]) for row in rows])
    assert areas[1] == areas[0][:4]
    assert f"{len(areas[0]) - 4} smaller regions" in summary.notes[0]


def test_one_line_says_how_a_picture_of_too_many_pixels_is_looked_at(
    trained, tmp_path, monkeypatch
):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 270_000)  # half of what is refused
    image = np.tile(pictures()["many"], (2, 2, 1))
    tifffile.imwrite(tmp_path / "a.tif", image, tile=(64, 48), photometric="rgb")
    whole = predict_files(Draem.load(trained), tmp_path / "a.tif", tmp_path / "whole")
    (error,) = whole.errors
    assert "train with config.data.tile" in error
    options = PredictOptions(large_from=1)
    large = predict_files(tiled(trained), tmp_path / "a.tif", tmp_path / "out", options=options)
    assert not large.errors
    # What is no TIFF cannot be read so.
    Image.fromarray(image).save(tmp_path / "b.png")
    large = predict_files(tiled(trained), tmp_path / "b.png", tmp_path / "b", options=options)
    assert "save it as a TIFF" in large.errors[0]


def test_what_large_pictures_lack_and_need_is_told(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(facts, "LARGE", 1000)
    tifffile.imwrite(tmp_path / "a.tif", pictures()["corners"], tile=(64, 48), photometric="rgb")
    assert "of memory" in facts.tell_pictures([tmp_path / "a.tif"])[0]
    assert not facts.tell_pictures([tmp_path / "a.tif"], by_windows=True)
    types = object.__new__(TypeModel)  # which nothing is asked of
    options = PredictOptions(large_from=1000)
    found = predict_files(
        tiled(trained), tmp_path / "a.tif", tmp_path / "out", types=types, options=options
    )
    assert found.regions
    assert not found.types
    assert "have no types" in found.notes[0]


MEASURE = """
import resource, sys
import tifffile, numpy as np
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from tests.inspection.test_large import tiled
from draem_jax.inspection.predict import PredictOptions, predict_files
from draem_jax.regions.rule import PixelThreshold, RegionRule

detector = tiled(sys.argv[2], tile=(256,))
rule = RegionRule(PixelThreshold(3.0, "even"))
for side in (2048, 8192):
    tile = np.full((512, 512, 3), 60, np.uint8)
    tile[200:240, 100:300] = 230
    path = Path(sys.argv[3]) / f"{side}.tif"
    tiles = (tile for _ in range((side // 512) ** 2))
    tifffile.imwrite(
        path, tiles, shape=(side, side, 3), dtype="uint8", tile=(512, 512), photometric="rgb"
    )
    options = PredictOptions(rule=rule, large_from=1)
    found = predict_files(detector, path, path.with_suffix(""), options=options)
    print(found.regions, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10)
"""


@pytest.mark.long
def test_memory_does_not_grow_with_the_picture(trained, tmp_path):
    root = Path(__file__).parents[2]
    output = subprocess.run(
        [sys.executable, "-c", MEASURE, str(root), str(trained), str(tmp_path)],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | {"XLA_FLAGS": ""},
    ).stdout
    (few, small), (many, large) = (map(int, line.split()) for line in output.splitlines())
    assert (few, many) == (16, 256)
    # What is kept of the decoded picture grows by up to 180 MiB; a single map would add 240.
    assert large - small < 360, output


def test_pictures_smaller_than_a_tile_are_told(trained, tmp_path):
    image = np.random.default_rng(0).integers(40, 90, (80, 90, 3), np.uint8)
    (tmp_path / "in").mkdir()
    for name, picture in {"a": image, "b": image[:40], "c": image[:, :40]}.items():
        Image.fromarray(picture).save(tmp_path / "in" / f"{name}.png")
    rule = RegionRule(PixelThreshold(3.0, "even"))
    found = predict_files(
        tiled(trained), tmp_path / "in", tmp_path / "out", options=PredictOptions(rule=rule)
    )
    (note,) = found.notes
    assert "b.png and 1 more: smaller than a tile of 64 x 64" in note
    assert np.asarray(Image.open(tmp_path / "out/maps/b.png")).shape == (40, 90)
