"""Prediction of files: every picture gets a map and an overlay, every region its figures."""

import csv
import dataclasses
import json
import os
import re
import shutil
import signal
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy.special import expit

from draem_jax.data.dataset import DataSet
from draem_jax.data.examples import read_examples
from draem_jax.data.folders import list_pictures, subfolders
from draem_jax.detector import BatchOutput, Draem
from draem_jax.errors import UserError
from draem_jax.files import OUTPUT_MARKER, mark_output
from draem_jax.inspection.clusters import cluster_files
from draem_jax.inspection.millimetres import PixelWidths
from draem_jax.inspection.predict import PredictOptions, predict_files
from draem_jax.regions.rule import RegionRule
from draem_jax.training.trained_on import TrainedOn


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


@pytest.mark.parametrize("out", ["found", "."])
def test_what_was_written_is_not_read_again(out, detector, tmp_path):
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.png", "more/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(tmp_path / name)
    for _ in range(2):
        assert predict_files(detector, tmp_path, tmp_path / out).given == 3
    shutil.rmtree(tmp_path / "more")
    source = DataSet("folder", "", root=tmp_path).training_pictures(size=(32, 32))
    assert source.names == ("good/a", "good/b")


class Bright(Draem):
    """Takes what is white for anomalous, and black for normal."""

    def run_batch(self, pictures, planes=None, *, with_features=False):
        margin = jnp.asarray(pictures[..., 0] / 255 * 8 - 4, jnp.float32)
        anomaly_map = jnp.asarray(expit(margin))
        reconstruction = jnp.zeros((*margin.shape, 3), jnp.float32)
        return BatchOutput(margin, anomaly_map, anomaly_map.max((1, 2)), reconstruction)


@pytest.fixture(scope="module")
def bright(tiny_config, tmp_path_factory):
    config = tiny_config(**{"data.image_size": (64,)})
    workdir = tmp_path_factory.mktemp("bright")
    return Bright(config=config, workdir=workdir, step=0, batch_size=4, _variables=None)


def draw(path, *boxes, size=(64, 64)):
    picture = np.zeros((*size, 3), np.uint8)
    for top, left, bottom, right in boxes:
        picture[top:bottom, left:right] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)
    return picture


def read(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_what_cannot_be_read_is_left_out_and_named(bright, tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    for i in (1, 3, 4, 5, 6, 8):
        draw(folder / f"{i}.png", (10, 10, 20, 20))
    whole = (folder / "1.png").read_bytes()
    (folder / "0.png").write_text("no picture")
    (folder / "2.png").write_bytes(whole[: len(whole) // 2])
    (folder / "7.png").write_bytes(b"")
    (folder / "9.png").write_text("no picture")
    seen = []
    found = predict_files(
        bright,
        folder,
        out,
        progress=lambda done, _: seen.append(len(read(out / "predictions.csv"))),
    )
    assert seen == list(range(1, 11))  # each line is there as soon as its picture is done
    assert (found.pictures, found.regions, found.given, found.stopped_by) == (6, 6, 10, 0)
    assert len(found.errors) == 4
    rows = read(out / "predictions.csv")
    assert [row["picture"] for row in rows] == [str(folder / f"{i}.png") for i in range(10)]
    for i, row in enumerate(rows):
        if i in (0, 2, 7, 9):
            assert row.pop("picture") in row.pop("error")
            assert not any(row.values())
        else:
            assert row["error"] == ""
            assert float(row["score"]) > 0.9
    images = json.loads((out / "regions.json").read_text())["images"]
    assert [image["file_name"] for image in images] == [f"{i}.png" for i in (1, 3, 4, 5, 6, 8)]

    before = {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()}
    with pytest.raises(UserError, match=r"0\.png is not a picture"):
        predict_files(bright, folder, out, options=PredictOptions(strict=True))
    assert {path.name: path.read_bytes() for path in out.iterdir() if path.is_file()} == before
    (folder / "0.png").unlink()
    with pytest.raises(UserError, match=r"2\.png.* 1 of 9 pictures were done before, see "):
        predict_files(bright, folder, out, options=PredictOptions(strict=True))
    assert [row["picture"] for row in read(out / "predictions.csv")] == [str(folder / "1.png")]
    assert len(json.loads((out / "regions.json").read_text())["annotations"]) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_keeps_what_was_done(bright, tmp_path, number):
    folder, out = tmp_path / "in", tmp_path / "out"
    for i in range(6):
        draw(folder / f"{i}.png", (10, 10, 20, 20))

    def stop(done, total):
        if done == 5:
            signal.raise_signal(number)

    found = predict_files(bright, folder, out, progress=stop)
    assert (found.pictures, found.given, found.stopped_by) == (5, 6, number)
    assert len(read(out / "predictions.csv")) == len(read(out / "regions.csv")) == 5
    content = json.loads((out / "regions_rle.json").read_text())
    assert (len(content["images"]), len(content["annotations"])) == (5, 5)


def test_a_map_that_cannot_be_written_ends_it_and_keeps_the_tables(bright, tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    for name in "abc":
        draw(folder / f"{name}.png", (10, 10, 20, 20))
    mark_output(out / "overlays")
    (out / "overlays" / "b.png" / "in the way").mkdir(parents=True)
    with pytest.raises(
        UserError, match=r"cannot write .*overlays/b\.png.* 1 of 3 pictures were done"
    ):
        predict_files(bright, folder, out)
    for name in ("predictions.csv", "regions.csv"):
        assert [row["picture"] for row in read(out / name)] == [str(folder / "a.png")]
    assert len(json.loads((out / "regions.json").read_text())["images"]) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="names are bytes there")
def test_names_of_all_kinds_get_outputs_of_their_own(bright, tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    picture = draw(folder / "a.png", (10, 10, 20, 20))
    names = [b"a.bmp", b"a.png.bmp", b"A.png", b'=1+1, "x"\n.png', b"\xe4.png"]
    names += ["é.png".encode(), "e\u0301.png".encode(), b"\xe4" * 250 + b".png", b"\x1b[1m.png"]
    for name in names:
        Image.fromarray(picture).save(os.fsencode(folder) + b"/" + name)
    predict_files(bright, folder, out)
    rows = read(out / "predictions.csv")
    assert len(rows) == 10
    for kind in ("map", "mask", "overlay"):
        assert len({row[kind].casefold() for row in rows}) == 10
        assert all((out / row[kind]).is_file() for row in rows)
    pictures = [row["picture"] for row in rows]
    assert str(folder / '=1+1, "x"\n.png') in pictures  # text is kept, bytes are escaped
    assert str(folder / "\\udce4.png") in pictures
    files = [i["file_name"] for i in json.loads((out / "regions.json").read_text())["images"]]
    assert [str(folder / name) for name in files] == pictures


def test_outputs_are_marked_and_never_replace_pictures(bright, tmp_path):
    draw(tmp_path / "a.png")
    predict_files(bright, tmp_path, tmp_path)
    marked = {path.parent.name for path in tmp_path.rglob(OUTPUT_MARKER)}
    assert marked == {"maps", "masks", "overlays"}  # the pictures' own folder is still to be read
    draw(tmp_path / "b" / "maps" / "a.png")
    with pytest.raises(UserError, match="which is written to"):
        predict_files(bright, tmp_path / "b" / "maps", tmp_path / "b")
    assert [path.name for path in (tmp_path / "b").rglob("*")] == ["maps", "a.png"]


@pytest.mark.parametrize(
    "name",
    ["masks/000.png", "maps/a/b.npy", "predictions.csv", "regions.csv", "regions.json"],
)
def test_what_others_wrote_is_never_replaced(name, bright, tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    draw(folder / "a.png")
    (out / name).parent.mkdir(parents=True)
    (out / name).write_text("picture,label\n")
    before = sorted(out.rglob("*"))
    with pytest.raises(UserError, match="was not written by predict") as caught:
        predict_files(bright, folder, out)
    assert str(caught.value).startswith(str(out / name.partition("/")[0]))
    assert sorted(out.rglob("*")) == before
    assert (out / name).read_text() == "picture,label\n"


@pytest.mark.parametrize("name", ["group_1.png", "more/b.png", "regions.csv", "examples.csv"])
def test_groups_are_not_written_beside_what_others_wrote(name, bright, tmp_path):
    draw(tmp_path / "in" / "a.png")
    (tmp_path / "out" / name).parent.mkdir(parents=True)
    (tmp_path / "out" / name).write_text("picture,region\n")
    with pytest.raises(UserError, match=f"{name} was not written by types cluster"):
        cluster_files(bright, tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / "out" / OUTPUT_MARKER).exists()


def test_outputs_of_earlier_versions_are_replaced(bright, tmp_path):
    draw(tmp_path / "in" / "a.png", (10, 10, 20, 20))
    for _ in range(2):
        predict_files(bright, tmp_path / "in", tmp_path / "out")
        for marker in (tmp_path / "out").rglob(OUTPUT_MARKER):
            marker.unlink()  # they wrote none
    with pytest.raises(UserError, match=r"regions\.csv was not written by types cluster"):
        cluster_files(bright, tmp_path / "in", tmp_path / "out")


def test_pictures_that_outputs_lie_beside_do_not_vanish(bright, tmp_path):
    for name in ("test/blot/a.png", "test/blot/b/c.png", "test/good/a.png"):
        draw(tmp_path / name, (10, 10, 20, 20))
    before = list_pictures(tmp_path, recursive=True)
    for _ in range(2):
        assert predict_files(bright, tmp_path / "test/blot", tmp_path / "test/blot").given == 2
    assert list_pictures(tmp_path, recursive=True) == before
    assert [path.name for path in subfolders(tmp_path / "test")] == ["blot", "good"]


@pytest.mark.parametrize(
    ("full_scale", "highest", "message"),
    [
        (4095, (4095, 60000, 4096), r"2 pictures have .* up to 60000, but the run takes 4095"),
        (None, (4095, 900), r"2 pictures have .* up to 4095, but the run was trained on 8 bits"),
        (4095, (4095, 900), None),
        (None, (65535, 900), None),  # fills its type, which is what is taken for white
    ],
)
def test_pictures_outside_the_range_of_the_run_are_told(
    full_scale, highest, message, bright, tmp_path
):
    trained_on = TrainedOn({}, {}, "", full_scale)
    detector = dataclasses.replace(bright, trained_on=trained_on)
    draw(tmp_path / "in" / "plain.png")
    for i, value in enumerate(highest):
        values = np.full((64, 64), value, np.uint16)
        Image.fromarray(values).save(tmp_path / "in" / f"{i}.png")
    predicted = predict_files(detector, tmp_path / "in", tmp_path / "out").notes
    examples = read_examples(tmp_path / "in", None, size=(64, 64), full_scale=full_scale).notes
    for notes in (predicted, examples):
        assert len(notes) == (message is not None)
        assert all(re.search(message, note) for note in notes)


def test_regions_are_written_in_pixels_and_millimetres(bright, tmp_path):
    folder, out = tmp_path / "in", tmp_path / "out"
    two = draw(folder / "two.png", (10, 20, 14, 40), (50, 5, 60, 15), (30, 30, 31, 31))
    draw(folder / "in it" / "none.png")
    draw(folder / "all.png", (0, 0, 64, 64))
    (tmp_path / "mm.csv").write_text("name,mm_per_pixel\nin it/none.png,3\ntwo.png,0.5\n")
    options = PredictOptions(
        rule=RegionRule(min_area=4), pixel_widths=PixelWidths(0.1, tmp_path / "mm.csv")
    )
    found = predict_files(bright, folder, out, options=options)
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
    found = bright.inspect_picture(picture)
    (region,) = found.regions
    assert found.reconstruction.shape == picture.shape
    assert found.mask.shape == picture.shape[:2]
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
    for widths, message in (
        (PixelWidths(0.0), "above 0"),
        (PixelWidths(table=table), r"no line for b\.png"),
    ):
        options = PredictOptions(pixel_widths=widths)
        with pytest.raises(UserError, match=message):
            predict_files(bright, tmp_path / "in", tmp_path / "out", options=options)
    assert not (tmp_path / "out").exists()
