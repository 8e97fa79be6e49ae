"""From folders of examples to named regions, with a detector of what is not grey."""

import csv
import dataclasses
import os
import shutil
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from draem_jax.detector import BatchOutput, Draem
from draem_jax.errors import UserError
from draem_jax.files import OUTPUT_MARKER
from draem_jax.inspection.clusters import cluster_files
from draem_jax.inspection.examples import list_examples, read_examples
from draem_jax.inspection.kept_types import load_types
from draem_jax.inspection.naming import (
    check_examples,
    fit_types,
    macro_f1,
    types_path,
)
from draem_jax.inspection.predict import PredictOptions, predict_files
from draem_jax.inspection.types import UNKNOWN
from draem_jax.regions.rule import RegionRule

GREY = 128
SMALL = RegionRule(min_area=4)


class Coloured(Draem):
    """Takes for anomalous what is not grey, and reconstructs grey."""

    feature_channels = 2

    def run_batch(self, pictures, planes=None, *, with_features=False):
        off = np.abs(pictures.astype(float) - GREY).max(-1)
        margin = jnp.asarray(off / 5 - 4, jnp.float32)
        features = jnp.asarray(pictures[:, ::8, ::8, :2] / 255, jnp.float32)
        return BatchOutput(
            margin,
            1 / (1 + jnp.exp(-margin)),
            jnp.ones(len(pictures)),
            jnp.full(pictures.shape, GREY / 255, jnp.float32),
            features if with_features else None,
        )


@pytest.fixture
def detector(tiny_config, tmp_path):
    config = tiny_config(**{"data.image_size": (64,)})
    return Coloured(config, tmp_path / "run", step=7, batch_size=4, _variables=None)


def draw(path, kind, rng, *, mask=None):
    rows, columns = np.mgrid[:64, :64]
    picture = np.full((64, 64, 3), GREY, np.uint8)
    row, column = rng.uniform(20, 44, 2)
    if kind == "spot":
        inside = np.hypot(rows - row, columns - column) < rng.uniform(7, 10)
        colour = (200, 60, 50)
    elif kind == "line":
        inside = (abs(rows - row) < rng.uniform(1.5, 2.5)) & (
            abs(columns - 32) < rng.uniform(18, 26)
        )
        colour = (30, 30, 30)
    else:
        inside = (abs(rows - row) < 8) & (abs(columns - column) < rng.uniform(8, 12))
        colour = (60, 220, 240)
    noise = rng.normal(0, 3, (64, 64, 3))
    picture[inside] = np.clip(colour + noise, 0, 255)[inside]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)
    if mask is not None:
        mask.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(inside).save(mask)
    return inside


@pytest.fixture
def examples(tmp_path):
    rng = np.random.default_rng(0)
    for kind in ("spot", "line", "block"):
        for i in range(5):
            draw(tmp_path / "examples" / kind / f"{i}.png", kind, rng)
    return tmp_path / "examples"


def rows_of(path):
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_regions_are_named_after_examples(detector, examples, tmp_path):
    assert load_types(detector) is None
    entries = list_examples(examples).entries
    fitted = fit_types(detector, entries, rule=SMALL, leave_out=["block"])
    assert fitted.model.types == ("line", "spot")
    np.testing.assert_array_equal(fitted.confusion[:, :2].sum(axis=0) > 2, True)
    assert fitted.confusion[0, 1] == fitted.confusion[1, 0] == 0
    assert fitted.left_out == {"block": {UNKNOWN: 5}}
    assert fitted.notes == ()
    assert "block" in fitted.report.read_text(encoding="utf-8")

    rng = np.random.default_rng(1)
    for kind in ("spot", "line", "block"):
        draw(tmp_path / "new" / f"{kind}.png", kind, rng)
    Image.fromarray(np.full((64, 64, 3), GREY, np.uint8)).save(tmp_path / "new" / "none.png")
    types, options = load_types(detector), PredictOptions(rule=SMALL)
    found = predict_files(
        detector, tmp_path / "new", tmp_path / "out", types=types, options=options
    )
    assert found.types == {UNKNOWN: 1, "line": 1, "spot": 1}
    block, line, spot = rows_of(tmp_path / "out" / "regions.csv")
    assert (block["type"], block["type_probability"]) == (UNKNOWN, "")
    assert (line["type"], spot["type"]) == ("line", "spot")
    assert float(spot["type_probability"]) > 0.7
    assert 0 < float(block["type_likeness"]) <= 0.1 < float(spot["type_likeness"]) <= 1
    pictures = {
        row["picture"].rpartition("/")[2]: row["type"]
        for row in rows_of(tmp_path / "out" / "predictions.csv")
    }
    assert pictures == {
        "block.png": UNKNOWN,
        "line.png": "line",
        "spot.png": "spot",
        "none.png": "",
    }

    without = predict_files(detector, tmp_path / "new", tmp_path / "out", options=options)
    assert without.types == {}
    assert {row["type"] for row in rows_of(tmp_path / "out" / "regions.csv")} == {""}


def test_what_does_not_fit_harms_nothing(detector, examples, tmp_path):
    workdir = tmp_path / "run"
    fit_types(detector, list_examples(examples).entries)
    before = {path: path.read_bytes() for path in (workdir / "types").iterdir()}
    for path in list((examples / "spot").iterdir())[1:]:
        path.unlink()
    with pytest.raises(UserError, match="spot has only one example; give 2 at least"):
        fit_types(detector, list_examples(examples).entries)
    # Of two pictures one shows nothing.
    Image.fromarray(np.full((64, 64, 3), GREY, np.uint8)).save(examples / "spot" / "empty.png")
    with pytest.raises(UserError, match="spot has only one example in which a region was found"):
        fit_types(detector, list_examples(examples).entries)
    with pytest.raises(UserError, match="no type 'dent' to leave out"):
        fit_types(detector, list_examples(examples).entries, leave_out=["dent"])
    assert {path: path.read_bytes() for path in (workdir / "types").iterdir()} == before

    types_path(workdir, 7).rename(types_path(workdir, 8))
    with pytest.raises(UserError, match="made for another detector"):
        load_types(dataclasses.replace(detector, step=8))


def test_masks_choose_among_regions_and_stand_in_for_missed_ones(detector, tmp_path):
    rng = np.random.default_rng(2)
    folder = tmp_path / "test"
    for i in range(2):
        mask = tmp_path / "ground_truth" / "spot" / f"{i}_mask.png"
        inside = draw(folder / "spot" / f"{i}.png", "spot", rng, mask=mask)
    picture = np.array(Image.open(folder / "spot" / "0.png"))
    picture[:6, :64] = 0  # another region, larger than the spot
    Image.fromarray(picture).save(folder / "spot" / "0.png")
    Image.fromarray(np.full((64, 64, 3), GREY, np.uint8)).save(folder / "spot" / "1.png")
    draw(folder / "good" / "0.png", "line", rng)
    draw(folder / "line" / "0.png", "line", rng)
    entries = list_examples(folder).entries
    assert [(e.name, len(e.masks)) for e in entries] == [
        ("line/0", 0),
        ("spot/0", 1),
        ("spot/1", 1),
    ]
    line, chosen, missed = read_examples(detector, entries, detector.region_rule())
    assert [len(e.features) for e in (line, chosen, missed)] == [1, 1, 1]
    assert chosen.features[0, 1] < 0.2  # round, not elongated
    assert missed.features[0, 0] == pytest.approx(np.log(inside.mean()), abs=0.01)
    (tmp_path / "ground_truth" / "spot" / "1_mask.png").unlink()
    with pytest.raises(UserError, match="has no mask"):
        list_examples(folder)


def test_groups_become_examples_once_they_have_names(detector, examples, tmp_path):
    out = tmp_path / "groups"
    found = cluster_files(detector, examples, out)
    assert found.sizes == (5, 5, 5)
    assert (found.pictures, found.with_regions) == (15, 15)
    groups = {row["picture"].split("/")[-2]: row["group"] for row in rows_of(out / "regions.csv")}
    assert sorted(groups.values()) == ["group 1", "group 2", "group 3"]
    with Image.open(out / "group_3.png") as sheet:
        assert sheet.width > 5 * 128
    named = written = (out / "examples.csv").read_text(encoding="utf-8")
    for kind, group in groups.items():
        named = named.replace(group, kind)
    (out / "examples.csv").write_text(named, encoding="utf-8")
    fitted = fit_types(detector, list_examples(out / "examples.csv").entries)
    assert fitted.model.types == ("block", "line", "spot")
    merged = written.replace("group 3", "group 2")
    as_a_spreadsheet_has_it = "\ufeff" + named.replace(",", ";")
    for changed in (named, merged, as_a_spreadsheet_has_it):
        (out / "examples.csv").write_text(changed, encoding="utf-8")
        with pytest.raises(UserError, match=r"examples\.csv was changed since it was written"):
            cluster_files(detector, examples, out)
        assert (out / "examples.csv").read_text(encoding="utf-8") == changed
    (out / "examples.csv").unlink()
    with pytest.raises(UserError, match="too few for 99 groups"):
        cluster_files(detector, examples, out, groups=99)
    assert cluster_files(detector, examples, out, groups=2).sizes  # in place of what it wrote
    assert cluster_files(detector, examples, out).sizes == (5, 5, 5)


def test_a_damaged_picture_is_left_out_of_groups_and_refused_as_an_example(
    detector, examples, tmp_path, monkeypatch
):
    folder, out = tmp_path / "in", tmp_path / "out"
    shutil.copytree(examples, folder)
    (folder / "spot" / "0.png").write_text("no picture")
    (folder / "line" / "0.png").rename(folder / "line" / os.fsdecode(b"\xe4.png"))
    monkeypatch.chdir(tmp_path)
    found = cluster_files(detector, "in", "out", groups=3)
    monkeypatch.chdir(folder)  # paths hold wherever the tables are read
    assert (found.pictures, found.sizes) == (14, (5, 5, 4))
    (error,) = found.errors
    rows = rows_of(out / "regions.csv")
    assert [r["picture"] for r in rows if r["error"]] == [str(folder / "spot" / "0.png")]
    assert rows[-1]["error"] == error
    assert sum(row["group"] != "" for row in rows) == 14
    assert str(folder / "line" / "\\udce4.png") in {row["picture"] for row in rows}
    assert (out / OUTPUT_MARKER).is_file()
    listed = rows_of(out / "examples.csv")
    assert all(Path(row["path"]).is_file() for row in listed if "udce4" not in row["path"])
    with pytest.raises(UserError, match=r"spot/0\.png is not a picture"):
        fit_types(detector, list_examples(folder).entries)
    assert not (tmp_path / "run").exists()
    for within in (folder, tmp_path):
        with pytest.raises(UserError, match="write to another folder"):
            cluster_files(detector, folder, within)


@pytest.mark.parametrize(
    ("types", "message"),
    [
        (["crack", "crack", "dent"], "dent has only one example"),
        (["crack"] * 5, "two types at least"),
        ([], "two types at least"),
        (["crack"] * 5 + [UNKNOWN] * 5, "no type may be called unknown"),
    ],
)
def test_too_few_examples_are_refused(types, message):
    with pytest.raises(UserError, match=message):
        check_examples(types)


def test_macro_f1_is_the_mean_of_the_types():
    confusion = np.array([[4, 1, 0], [0, 3, 2]])
    assert macro_f1(confusion) == pytest.approx((2 * 4 / (5 + 4) + 2 * 3 / (5 + 4)) / 2)
