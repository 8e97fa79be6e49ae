"""What a data set's warnings say, and that they stay quiet where nothing is odd."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

import draem_jax
from draem_jax.data import facts
from draem_jax.data.dataset import DataSet, check
from draem_jax.data.layouts import LAYOUTS
from draem_jax.data.layouts.entries import Counts
from draem_jax.data.pictures import pages, read_picture
from draem_jax.data.prepared import summarise
from draem_jax.errors import UserError
from draem_jax.training.trained_on import digests_of
from tests.data import fixtures

SIZE = fixtures.SIZE


def told(root, tmp_path, name="folder", category=""):
    """The lines, which checking and preparing agree on."""
    data = DataSet(name, category, root=root, data_dir=tmp_path / "data")
    lines = summarise(data.prepare()).warnings()
    assert list(check(data, [category])[category].warnings) == lines
    assert list(data.warnings()) == lines
    assert list(data.training_pictures(size=SIZE).warnings) == lines
    assert list(data.test_pictures(size=SIZE).warnings) == lines
    return lines


def normal(root, count=4):
    for i in range(count):
        fixtures.write_picture(root / "train" / "good" / f"{i}.png")
    return root


def defects(root, kind="dent", count=3, **mask):
    for i in range(count):
        fixtures.write_picture(root / "test" / kind / f"{i}.png")
        fixtures.write_mask(root / "ground_truth" / kind / f"{i}.png", **mask)


def write(path, mask):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask).save(path)


def test_nothing_odd(tmp_path):
    root = normal(tmp_path / "root")
    defects(root)
    defects(root, "scratch", value=3)
    assert told(root, tmp_path) == []


def test_what_a_published_set_leaves_out_is_told_unless_it_is_whole(tmp_path, monkeypatch):
    root = fixtures.make_mvtec_loco(tmp_path / "root")
    lines = told(root, tmp_path, "mvtec_loco", "pushpins")
    assert lines[0].startswith("3 to train, 2 good and 4 defective to test were found, 372 to")
    assert lines[1:] == ["left out: 2 normal pictures for validation"]
    whole = replace(LAYOUTS["mvtec_loco"], counts={"pushpins": Counts(3, 2, 4)})
    monkeypatch.setitem(LAYOUTS, "mvtec_loco", whole)
    assert told(root, tmp_path, "mvtec_loco", "pushpins") == []


def test_masks_that_mark_the_background(tmp_path):
    root = normal(tmp_path / "root")
    defects(root, count=6)
    for i in range(5):
        mask = np.full(SIZE, 255, np.uint8)
        mask[4:9, 5 + i : 12] = 0
        fixtures.write_picture(root / "test" / "spot" / f"{i}.png")
        write(root / "ground_truth" / "spot" / f"{i}.png", mask)
    (line,) = told(root, tmp_path)
    assert line.startswith("the masks of spot cover 97 % of their pictures (median of 5), more")
    assert "invert the masks or make their background black" in line
    # A large defect in the middle, or one picture that is defect all over, is none of that.
    for i in range(5):
        mask = np.zeros(SIZE, np.uint8)
        mask[2:-2, 2:-2] = 255
        write(root / "ground_truth" / "spot" / f"{i}.png", mask if i else mask * 0 + 255)
    assert told(root, tmp_path) == []


def test_some_masks_that_mark_the_background(tmp_path):
    root = normal(tmp_path / "root")
    defects(root, count=4)
    defects(root, "spot")
    inverted = np.full(SIZE, 255, np.uint8)
    inverted[4:9, 5:12] = 0
    write(root / "ground_truth" / "dent" / "0.png", inverted)
    assert told(root, tmp_path) == []  # one may be a large defect
    write(root / "ground_truth" / "dent" / "1.png", inverted)
    (line,) = told(root, tmp_path)
    assert line.startswith("2 of 7 masks cover more than half of their pictures and of their edges")
    assert "(dent), more than defects do" in line
    assert "invert the masks or make their background black" in line
    # What is said of a whole type is not said again of its masks.
    write(root / "ground_truth" / "dent" / "2.png", inverted)
    (line,) = told(root, tmp_path)
    assert line.startswith("the masks of dent cover 95 % of their pictures (median of 4)")


def test_masks_on_a_coloured_background(tmp_path):
    root = normal(tmp_path / "root")
    for i in range(3):
        colours = np.full((*SIZE, 3), (90, 60, 20), np.uint8)
        colours[4:9, 5:12] = (255, 0, 0)
        fixtures.write_picture(root / "test" / "dent" / f"{i}.png")
        write(root / "ground_truth" / "dent" / f"{i}.png", colours)
    (line,) = told(root, tmp_path)
    assert line.startswith("the masks cover 100 % of their pictures (median of 3)")
    # The same is told of masks that are not part of a prepared data set.
    assert facts.tell_masks([("dent", np.ones(SIZE, bool))] * 3) == [line]
    assert facts.tell_masks([]) == []


def test_defects_without_masks(tmp_path):
    root = normal(tmp_path / "root")
    defects(root, value=0)
    fixtures.write_picture(root / "test" / "crack" / "0.png")
    assert [line.split(":")[0] for line in told(root, tmp_path)] == [
        "1 defective picture has no mask",
        "3 defective pictures have a mask without any defect",
    ]


def test_unused_opacity_and_single_colours(tmp_path):
    root = normal(tmp_path / "root")
    for i in range(2):
        picture = Image.open(root / "train" / "good" / f"{i}.png")
        picture.putalpha(0)
        picture.save(root / "train" / "good" / f"{i}.png")
    for name, colour in (("white", (255, 255, 255)), ("grey", (9, 9, 9))):
        Image.new("RGB", SIZE[::-1], colour).save(root / "train" / "good" / f"{name}.png")
    assert [line.split(";")[0] for line in told(root, tmp_path)] == [
        "2 pictures are of one single colour, 1 of 2 white (good/grey, good/white)",
        "2 pictures are transparent everywhere",
    ]


@pytest.mark.parametrize(("value", "name"), [(0, "black"), (240, "white")])
def test_nearly_black_or_white_as_a_whole(tmp_path, value, name):
    for i in range(3):
        values = fixtures.write_picture(tmp_path / "root" / f"{i}.png") // 16 + value
        Image.fromarray(values).save(tmp_path / "root" / f"{i}.png")
    (line,) = told(tmp_path / "root", tmp_path)
    assert line.startswith(f"the pictures to train on are nearly {name}")
    fixtures.write_picture(tmp_path / "root" / "usual.png")
    assert told(tmp_path / "root", tmp_path) == []


def write_pages(path, count):
    drawn = [Image.fromarray(np.full((*SIZE, 3), 20 * i, np.uint8)) for i in range(1, count + 1)]
    options = {"lossless": True} if path.suffix == ".webp" else {}
    drawn[0].save(path, save_all=True, append_images=drawn[1:], **options)


def test_pages(tmp_path):
    root = normal(tmp_path / "root")
    for suffix, count in (("tif", 10), ("webp", 3), ("png", 4)):
        path = root / "train" / "good" / f"stack.{suffix}"
        write_pages(path, count)
        assert pages(path) == count
        assert (read_picture(path) == 20).all()
    assert pages(root / "train" / "good" / "0.png") == 1
    lines = told(root, tmp_path)
    assert lines[-1].startswith("3 files hold 17 pages; the first of each is read, and 14 left")


@pytest.mark.parametrize("first", [True, False], ids=["page first", "preview first"])
def test_previews_and_masks_of_pages_are_no_pages(tmp_path, first):
    picture = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    outline = picture[..., 0] > 127
    parts = [(picture, "rgb", 0), (picture[::2, ::2], "rgb", 1), (outline, "mask", 4)]
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for array, photometric, kind in parts if first else [parts[1], parts[0], parts[2]]:
            file.write(array, photometric=photometric, subfiletype=kind, metadata=None)
    assert pages(tmp_path / "a.tif") == 1
    np.testing.assert_array_equal(read_picture(tmp_path / "a.tif"), picture)


READ = """
import sys
from PIL import Image
from draem_jax.data import facts
from draem_jax.data.dataset import DataSet, check
Image.MAX_IMAGE_PIXELS, facts.LARGE = 500, 600
print(*check(DataSet("folder", "", root=sys.argv[1]))[""].warnings, sep="\\n")
"""


def test_large_pictures_are_told_in_our_words_alone(tmp_path):
    root = normal(tmp_path / "root")
    code = [sys.executable, "-W", "always::RuntimeWarning", "-c", READ, str(root)]
    environment = os.environ | {"PYTHONPATH": str(Path(draem_jax.__file__).parents[1])}
    process = subprocess.run(code, capture_output=True, text=True, env=environment, check=True)
    assert process.stderr == ""
    assert process.stdout.startswith("4 pictures have 0.0006 million pixels or more, up to")


def test_what_is_too_large_says_the_limit(tmp_path, monkeypatch):
    fixtures.write_picture(tmp_path / "a.png", size=(1500, 1500))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1_000_000)
    with pytest.raises(UserError, match="safely, more than 2 million; cut it into tiles"):
        read_picture(tmp_path / "a.png")


def test_digests_tell_pictures_apart(tmp_path):
    root = normal(tmp_path / "root")
    defects(root)

    def digests(folder):
        data = DataSet("folder", "", root=folder, data_dir=tmp_path / "data")
        train, test = data.training_pictures(size=SIZE), data.test_pictures(size=SIZE).pictures
        assert len(train.digests) == len(train) == 4
        return dict(zip(train.names + test.names, train.digests + test.digests, strict=True))

    before = digests(root)
    assert len(set(before.values())) == 7
    copied = fixtures.copy(root, tmp_path / "copy")
    assert digests(copied) == before
    Image.open(copied / "train" / "good" / "1.png").rotate(180).save(
        copied / "train" / "good" / "1.png"
    )
    changed = {name for name, digest in digests(copied).items() if digest != before[name]}
    assert changed == {"good/1"}
    # Of a picture that is stored in another form the pixels count, not how they were packed.
    packed = normal(tmp_path / "packed")
    for options_of_tiff in ({}, {"compression": "tiff_lzw"}):
        for path in (packed / "train" / "good").iterdir():
            Image.open(path).save(path.with_suffix(".tif"), **options_of_tiff)
            path.with_suffix(".png").unlink(missing_ok=True)
        data = DataSet("folder", "", root=packed, data_dir=tmp_path / "data")
        found = digests_of(data.training_pictures(size=SIZE))
        if options_of_tiff:
            assert found == first
        first = found
    held_out = data.training_pictures(size=SIZE, holdout=0.5)
    assert held_out.digests == tuple(first[name] for name in held_out.names)


def test_the_built_in_set_has_neither():
    source = DataSet("surfaces", "brick").training_pictures(size=(8, 8))
    assert (source.digests, source.warnings, source.full_scale) == ((), (), None)
