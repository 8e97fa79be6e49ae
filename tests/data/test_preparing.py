import json
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import draem_jax
from draem_jax.data.dataset import DataSet, check, prepare_all
from draem_jax.data.pictures import read_picture, resize
from draem_jax.data.prepared import list_prepared, summarise
from draem_jax.data.sources import find_source
from draem_jax.data.surfaces import Surfaces
from draem_jax.errors import UserError
from tests.data import fixtures
from tests.data.test_layouts import CASES
from tests.data.test_pictures import write_deep_png

SIZE = fixtures.SIZE


def records(builder):
    """Everything prepared, as TFDS reads it."""
    return {split: list(builder.as_data_source(split)) for split in dict(builder.info.splits)}


def left_in(folder):
    """What preparing has left, without what is whole."""
    return sorted(p.name for p in folder.rglob("*") if "ing." in p.name or "incomplete" in p.name)


@pytest.mark.parametrize("ending", ["", "tar.xz"])
@pytest.mark.parametrize("name", CASES)
def test_prepares_what_the_fixture_holds(tmp_path, name, ending):
    make, category, counts, left_out = CASES[name]
    root = make(tmp_path / "root")
    trained = [p for p in root.rglob("*.*") if "/train" in str(p).lower() and p.suffix != ".txt"]
    pictures = {p.stem: read_picture(p) for p in trained if "_label" not in p.stem}
    if ending:
        root = fixtures.pack(root, tmp_path / f"set.{ending}")
        shutil.rmtree(tmp_path / "root")
    builder = DataSet(name, category, root=root, data_dir=tmp_path / "data").prepare()
    found = records(builder)
    labels = Counter((split, e["label"]) for split, es in found.items() for e in es)
    types = Counter((split, e["defect_type"].decode()) for split, es in found.items() for e in es)
    assert types == counts
    assert labels == {
        key: number
        for key, number in {
            ("train", 0): counts["train", "good"],
            ("test", 0): counts.get(("test", "good"), 0),
            ("test", 1): sum(n for (s, t), n in counts.items() if t != "good"),
        }.items()
        if number
    }
    for split, examples in found.items():
        for example in examples:
            assert example["has_mask"]
            defect = example["label"] == 1
            assert example["mask"].shape == (*example["image"].shape[:2], 1)
            assert set(np.unique(example["mask"])) <= {0, 255}
            assert example["mask"].any() == defect
            if defect:
                assert (example["mask"][: SIZE[0] // 2, : SIZE[1] // 2] == 255).all()
        assert builder.info.splits[split].num_examples == len(examples)
    for example in found["train"]:
        stem = example["name"].decode().rpartition("/")[2]
        if name not in ("visa", "dtd"):
            np.testing.assert_array_equal(example["image"], pictures[stem])
    summary = summarise(builder)
    assert summary.counts == (labels["train", 0], labels["test", 0], labels["test", 1])
    assert summary.facts["left_out"] == left_out
    assert summary.root == str(root)
    assert left_in(tmp_path / "data") == []
    if name == "mvtec_loco":
        joined = next(e for e in found["test"] if e["name"] == b"logical_anomalies/000")
        assert joined["mask"].sum() == 255 * (SIZE[0] * SIZE[1] // 4 + 2 * 3)
    if name != "dtd":
        test = fixtures.read_test(DataSet(name, category, data_dir=tmp_path / "data"), size=SIZE)
        assert sorted(test.defect_types) == sorted(t for s, t in types.elements() if s == "test")
        assert test.has_mask.all()


# Pictures as they come, through `folder`.

RNG = np.random.default_rng(1)
COLOUR = RNG.integers(0, 256, (*SIZE, 3), np.uint8)
GREY = RNG.integers(0, 256, SIZE, np.uint8)
DEEP = RNG.integers(0, 65536, SIZE, np.uint16)
DEEP_COLOUR = RNG.integers(0, 65536, (*SIZE, 3), np.uint16)


def as_rgb(grey):
    return np.repeat(grey[..., None], 3, axis=-1)


def converted(picture):
    return np.asarray(picture.convert("RGB"))


def scaled(deep):
    return np.rint(deep / 257).astype(np.uint8)


def save(mode=None, **options):
    def write(path):
        picture = Image.fromarray(COLOUR)
        (picture.convert(mode) if mode else picture).save(path, **options)
        return converted(Image.open(path))

    return write


def save_grey_16(path):
    Image.fromarray(DEEP).save(path)
    return as_rgb(scaled(DEEP))


def save_colour_16(path):
    write_deep_png(path, DEEP_COLOUR)
    return scaled(DEEP_COLOUR)


def save_rotated(path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(COLOUR).save(path, exif=exif)
    with Image.open(path) as picture:
        return np.rot90(np.asarray(picture.convert("RGB")), -1)


def save_rgba(path):
    alpha = np.where(GREY > 127, 255, 0).astype(np.uint8)
    Image.fromarray(np.dstack([COLOUR, alpha])).save(path)
    return np.where(alpha[..., None] > 0, COLOUR, 255).astype(np.uint8)


ODD = {
    "rgb.png": save(),
    "rgb.jpg": save(quality=95),
    "rotated.jpg": save_rotated,
    "grey.jpg": save("L"),
    "cmyk.jpg": save("CMYK"),
    "rgb.bmp": save(),
    "one bit.bmp": save("1"),
    "palette.bmp": save("P"),
    "rgb.tif": save(),
    "packed.tiff": save(compression="tiff_lzw"),
    "deep.tif": save_grey_16,
    "lossy.webp": save(),
    "lossless.webp": save(lossless=True),
    "grey.png": save("L"),
    "palette.png": save("P"),
    "1-bit.png": save("1"),
    "rgba.png": save_rgba,
    "grey alpha.png": save("LA"),
    "deep.png": save_grey_16,
    "deep colour.png": save_colour_16,
    "größe 字.PNG": save(format="png"),
}


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    """Every odd picture in one folder, with what Pillow reads of it."""
    base = tmp_path_factory.mktemp("odd")
    root = base / "Bilder für 検査"
    (root / "good").mkdir(parents=True)
    expected = {name: write(root / "good" / name) for name, write in ODD.items()}
    return root, expected, base / "data"


def test_odd_pictures_are_decoded_right(odd):
    root, expected, data_dir = odd
    builder = DataSet("folder", "", root=root, data_dir=data_dir).prepare()
    assert builder.builder_config.name.startswith("Bilder_fur-")
    found = {e["name"].decode(): e["image"] for e in builder.as_data_source("train")}
    assert len(found) == len(ODD)
    for name, picture in expected.items():
        path = Path(name)
        image = found.get(f"good/{path.stem}", found.get(f"good/{name}"))
        np.testing.assert_array_equal(image, picture, err_msg=name)
        np.testing.assert_array_equal(image, read_picture(root / "good" / name), err_msg=name)
    source = DataSet("folder", "", root=root, data_dir=data_dir).training_pictures(size=(8, 12))
    for name, image in zip(source.names, [source[i] for i in range(len(source))], strict=True):
        np.testing.assert_array_equal(image, resize(found[name], (8, 12)))


def test_plain_files_are_kept_untouched(odd):
    import tensorflow_datasets as tfds

    root, _, data_dir = odd
    builder = DataSet("folder", "", root=root, data_dir=data_dir).prepare()
    skip = {"image": tfds.decode.SkipDecoding()}
    stored = {
        e["name"].decode(): e["image"] for e in builder.as_data_source("train", decoders=skip)
    }
    for name, path in (("good/rgb.png", "rgb.png"), ("good/rgb.jpg", "rgb.jpg")):
        assert stored[name] == (root / "good" / path).read_bytes()
    assert stored["good/größe 字"] == (root / "good" / "größe 字.PNG").read_bytes()
    for name in ("good/rotated", "good/rgb.bmp", "good/deep colour", "good/lossy"):
        assert stored[name].startswith(b"\x89PNG")


def refused_float(path):
    Image.fromarray(np.full(SIZE, 0.5, np.float32)).save(path)


def refused_text(path):
    path.write_text("no picture")


def refused_cut(path):
    Image.fromarray(COLOUR).save(path)
    path.write_bytes(path.read_bytes()[:-200])


def refused_empty(path):
    path.write_bytes(b"")


REFUSED = {
    "float.tif": (
        refused_float,
        "its pixels are floating-point numbers, which have no fixed range",
    ),
    "text.jpg": (refused_text, "is not a picture that can be read, or is damaged"),
    "cut.png": (refused_cut, "is not a picture that can be read, or is damaged"),
    "cut.jpg": (refused_cut, "is not a picture that can be read, or is damaged"),
    "cut.bmp": (refused_cut, "is not a picture that can be read, or is damaged"),
    "empty.webp": (refused_empty, "is not a picture that can be read, or is damaged"),
}


def plain_folder(root, count=4):
    for i in range(count):
        fixtures.write_picture(root / "good" / f"{i}.png")
    return root


@pytest.mark.parametrize("name", REFUSED)
def test_bad_pictures_are_refused_by_name(tmp_path, name):
    write, message = REFUSED[name]
    root = plain_folder(tmp_path / "root")
    path = root / "good" / name
    write(path)
    with pytest.raises(UserError, match=message) as caught:
        DataSet("folder", "", root=root, data_dir=tmp_path / "data").prepare()
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "data").rglob("*.array_record*"))
    builder = DataSet("folder", "", root=root, skip_bad=True, data_dir=tmp_path / "data").prepare()
    summary = summarise(builder)
    assert summary.skipped == {"unreadable picture": 1}
    assert summary.train == 4
    assert summary.warnings() == ["skipped: 1 x unreadable picture"]
    # What was skipped is not forgotten: without leave to skip, it is an error again.
    with pytest.raises(UserError, match=message):
        fixtures.read_training(
            DataSet("folder", "", root=root, data_dir=tmp_path / "data"), size=SIZE
        )


def test_decompression_bomb(tmp_path, monkeypatch):
    root = plain_folder(tmp_path / "root")
    fixtures.write_picture(root / "good" / "bomb.png", size=(200, 200))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
    with pytest.raises(UserError, match=r"bomb\.png has too many pixels to be read safely"):
        DataSet("folder", "", root=root, data_dir=tmp_path / "data").prepare()


# Masks.


def mask_folder(root):
    for i in range(3):
        fixtures.write_picture(root / "train" / f"{i}.png")
    fixtures.write_picture(root / "test" / "good" / "0.png")
    return root


MASKS = {
    "ones.png": {"value": 1},
    "full.png": {"value": 255},
    "class.bmp": {"value": 3},
    "one bit.tif": {"mode": "1"},
    "palette.png": {"mode": "P", "value": 2},
    "colour.png": {"mode": "RGB", "value": 9},
    "alpha.png": {"mode": "RGBA", "value": 9},
    "deep.png": {"mode": "I;16", "value": 1},
    "lossy.jpg": {"value": 255},
}


def test_masks_of_any_kind(tmp_path):
    root = mask_folder(tmp_path / "root")
    for name, options in MASKS.items():
        stem = Path(name).stem
        fixtures.write_picture(root / "test" / stem / "0.jpg")
        fixtures.write_mask(root / "ground_truth" / stem / f"0{Path(name).suffix}", **options)
    fixtures.write_picture(root / "test" / "unknown" / "0.png")
    test = fixtures.read_test(
        DataSet("folder", "", root=root, data_dir=tmp_path / "data"), size=SIZE
    )
    expected = np.zeros(SIZE, np.uint8)
    expected[: SIZE[0] // 2, : SIZE[1] // 2] = 1
    for defect_type, mask, known in zip(test.defect_types, test.masks, test.has_mask, strict=True):
        defect = defect_type not in ("good", "unknown")
        np.testing.assert_array_equal(mask[..., 0], expected * defect, err_msg=defect_type)
        assert known == (defect_type != "unknown")
    builder = DataSet("folder", "", root=root, data_dir=tmp_path / "data").prepare()
    assert summarise(builder).without_mask == 1


def test_mask_of_another_size(tmp_path):
    root = mask_folder(tmp_path / "root")
    fixtures.write_picture(root / "test" / "dent" / "0.png")
    mask = root / "ground_truth" / "dent" / "0.png"
    fixtures.write_mask(mask, size=(24, 30))
    with pytest.raises(UserError, match=r"has 30 x 24 pixels, but its picture .* has 32 x 24"):
        DataSet("folder", "", root=root, data_dir=tmp_path / "data").prepare()
    builder = DataSet("folder", "", root=root, skip_bad=True, data_dir=tmp_path / "data").prepare()
    assert summarise(builder).skipped == {"mask of another size": 1}
    assert summarise(builder).types == {"good": 1}


def test_mask_of_a_turned_picture(tmp_path):
    root = mask_folder(tmp_path / "root")
    (root / "test" / "dent").mkdir()
    save_rotated(root / "test" / "dent" / "0.jpg")
    fixtures.write_mask(root / "ground_truth" / "dent" / "0.png", size=SIZE[::-1])
    test = fixtures.read_test(
        DataSet("folder", "", root=root, data_dir=tmp_path / "data"), size=SIZE
    )
    assert test.masks[test.defect_types.index("dent")].any()


def test_contradictions_and_empty_masks(tmp_path):
    root = mask_folder(tmp_path / "root")
    fixtures.write_picture(root / "test" / "dent" / "0.png")
    fixtures.write_mask(root / "ground_truth" / "dent" / "0.png", value=0)
    builder = DataSet("folder", "", root=root, data_dir=tmp_path / "data").prepare()
    assert "1 defective picture has a mask without" in summarise(builder).warnings()[0]
    fixtures.write_mask(root / "ground_truth" / "good" / "0.png")
    with pytest.raises(UserError, match=r"test/good/0\.png counts as good, but its mask .* shows"):
        DataSet("folder", "", root=root, data_dir=tmp_path / "data").prepare()


def test_many_problems_in_one_line(tmp_path):
    root = plain_folder(tmp_path / "root")
    for i in range(7):
        (root / "good" / f"bad {i}.png").write_text("")
    with pytest.raises(UserError, match="and 4 more, which `draem-jax data check` lists") as caught:
        DataSet("folder", "", root=root, data_dir=tmp_path / "data").prepare()
    assert [f"bad {i}.png" in str(caught.value) for i in range(4)] == [True, True, True, False]
    found = check(DataSet("folder", "", root=root))[""].listing
    assert len(found.problems) == 7
    assert len(found.entries) == 4


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_normal_pictures(tmp_path, count):
    root = plain_folder(tmp_path / "root", count)
    (root / "good").mkdir(parents=True, exist_ok=True)
    message = "one normal picture only, .*0.png; at least 2 are needed" if count else "no pictures"
    with pytest.raises(UserError, match=message):
        DataSet("folder", "", root=root, data_dir=tmp_path / "data").prepare()


# Archives, and several categories at once.


def test_messages_name_paths_within_the_archive(tmp_path):
    root = fixtures.make_mvtec_ad(tmp_path / "root")
    (root / "bottle" / "test" / "good" / "001.png").write_text("")
    archive = fixtures.pack(root, tmp_path / "set.tar.gz")
    data = DataSet("mvtec_ad", "", root=archive, data_dir=tmp_path / "data")
    for act in (prepare_all, check):
        found = act(data, ["bottle"])["bottle"]
        text = str(found) if isinstance(found, UserError) else found.listing.problems[0].text
        assert text.startswith(f"{archive}/bottle/test/good/001.png is not a picture")
    assert left_in(tmp_path / "data") == []


def test_truncated_archive_leaves_nothing(tmp_path):
    archive = fixtures.pack(fixtures.make_mvtec_ad(tmp_path / "root"), tmp_path / "set.tar.xz")
    archive.write_bytes(archive.read_bytes()[:-3000])
    with pytest.raises(UserError, match=r"set\.tar\.xz is truncated or damaged"):
        DataSet("mvtec_ad", "bottle", root=archive, data_dir=tmp_path / "data").prepare()
    assert list((tmp_path / "data").rglob("*")) == []


def test_all_that_the_root_holds(tmp_path):
    root = fixtures.make_mvtec_ad(tmp_path / "root")
    fixtures.make_mvtec_ad(root, "cable", train=1)
    fixtures.make_mvtec_ad(root, "tile", train=2)
    data = DataSet("mvtec_ad", "", root=root, data_dir=tmp_path / "data")
    found = prepare_all(data)
    assert list(found) == ["bottle", "cable", "tile"]
    assert "one normal picture only" in str(found["cable"])
    listed = list_prepared(tmp_path / "data")
    assert [(s.name, s.category, s.counts) for s in listed] == [
        ("mvtec_ad", "bottle", (4, 2, 3)),
        ("mvtec_ad", "tile", (2, 2, 3)),
    ]
    assert all(s.nbytes > 0 for s in listed)
    with pytest.raises(UserError, match="holds no category of visa"):
        prepare_all(replace(data, name="visa"))


def test_nothing_is_left_in_the_temporary_folder(tmp_path, monkeypatch):
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    root = fixtures.make_mvtec_ad(tmp_path / "root")
    DataSet("mvtec_ad", "bottle", root=root, data_dir=tmp_path / "data").prepare()
    Surfaces(config="brick", data_dir=tmp_path / "data")
    assert not list((tmp_path / "temporary").iterdir())


def test_where_to_get_it(tmp_path):
    with pytest.raises(UserError, match=r"`draem-jax data prepare mvtec_ad --root=DIR_OR_ARCHIVE`"):
        fixtures.read_training(DataSet("mvtec_ad", "bottle", data_dir=tmp_path), size=SIZE)
    with pytest.raises(UserError, match=r"folder needs the path of your pictures"):
        fixtures.read_training(DataSet("folder", "", data_dir=tmp_path), size=SIZE)
    with pytest.raises(UserError, match=r"there is no file or folder .*nowhere"):
        DataSet("visa", "candle", root=tmp_path / "nowhere", data_dir=tmp_path).prepare()
    with pytest.raises(UserError, match="surfaces is built in and has no root"):
        DataSet("surfaces", "brick", root=tmp_path, data_dir=tmp_path).prepare()
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(UserError, match=r"notes\.txt is neither a folder nor a list"):
        DataSet("visa", "candle", root=tmp_path / "notes.txt", data_dir=tmp_path).prepare()


# Found again, edited, killed.


def test_found_again_until_it_is_edited(tmp_path):
    root, data_dir = plain_folder(tmp_path / "root"), tmp_path / "data"
    first = DataSet("folder", "", root=root, data_dir=data_dir).prepare().data_path
    again = DataSet("folder", "", root=str(root) + "/", data_dir=data_dir).prepare().data_path
    assert again == first
    stamp = (first / "dataset_info.json").stat().mtime
    fixtures.write_picture(root / "good" / "new.png")
    edited = DataSet("folder", "", root=root, data_dir=data_dir).training_pictures(size=SIZE)
    assert edited.directory != str(first)
    assert "good/new" in edited.names
    (root / "good" / "new.png").unlink()
    assert DataSet("folder", "", root=root, data_dir=data_dir).prepare().data_path == first
    assert (first / "dataset_info.json").stat().mtime == stamp


@pytest.mark.parametrize("names", [("good/0", "good/1"), ("masks/dent/0", "masks/dent/1")])
def test_files_that_are_exchanged_are_noticed(tmp_path, names):
    root = plain_folder(tmp_path / "root")
    for i in range(2):
        fixtures.write_picture(root / "dent" / f"{i}.png")
        fixtures.write_mask(root / "masks" / "dent" / f"{i}.bmp", value=255 - i)
    suffix = ".bmp" if names[0].startswith("masks") else ".png"
    one, other = (root / f"{name}{suffix}" for name in names)
    for path in (one, other):
        path.write_bytes(path.read_bytes().ljust(5000, b"\0"))  # of one size
        os.utime(path, (1e9, 1e9))
    first = find_source(root).fingerprint("folder", "")
    assert find_source(root).fingerprint("folder", "") == first
    one.rename(root / "kept")
    other.rename(one)
    (root / "kept").rename(other)
    assert find_source(root).fingerprint("folder", "") != first


def test_a_published_set_follows_its_root(tmp_path):
    small = fixtures.make_mvtec_ad(tmp_path / "small", train=2)
    large = fixtures.make_mvtec_ad(tmp_path / "large", train=5)
    data = DataSet("mvtec_ad", "bottle", data_dir=tmp_path / "data")

    def count(root=None):
        return len(fixtures.read_training(replace(data, root=root), size=SIZE).names)

    assert (count(small), count(large), count()) == (2, 5, 5)
    fixtures.write_picture(large / "bottle" / "train" / "good" / "005.png")
    (large / "bottle" / "train" / "good" / "006.png").write_text("")
    with pytest.raises(UserError, match=r"006\.png is not a picture"):
        count(large)
    assert count() == 5


@pytest.mark.parametrize("name", ["folder", "mvtec_ad"])
def test_a_root_that_is_gone(tmp_path, name):
    category = "bottle" if name == "mvtec_ad" else ""
    root = tmp_path / "root"
    data = DataSet(name, category, root=root, data_dir=tmp_path / "data")
    for count in (3, 4):
        (fixtures.make_mvtec_ad(root, train=4) if category else plain_folder(root, count))
        names = fixtures.read_training(data, size=SIZE).names
    shutil.rmtree(root)
    assert fixtures.read_training(data, size=SIZE).names == names
    assert len(names) == 4
    with pytest.raises(UserError, match="there is no file or folder"):
        replace(data, root=tmp_path / "other").prepare()


RUN = """
import os, sys
from draem_jax.data import checks
from draem_jax.data.dataset import DataSet
kind, root, data_dir = sys.argv[1:]
if kind == "killed":
    read, count = checks._read_record, 0
    def read_some(*arguments):
        global count
        count += 1
        if count == 4:
            os._exit(9)
        return read(*arguments)
    checks._read_record = read_some
if kind == "full":
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    DataSet("folder", "", root=root, data_dir=data_dir).training_pictures(size=(16, 16))[0]
finally:
    assert "tensorflow" not in sys.modules
"""


def run(kind, root, data_dir):
    return subprocess.run(
        [sys.executable, "-c", RUN, kind, str(root), str(data_dir)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(draem_jax.__file__).parents[1])},
    )


def test_killed_half_way(tmp_path):
    root, data_dir = plain_folder(tmp_path / "root", 6), tmp_path / "data"
    assert run("killed", root, data_dir).returncode == 9
    assert left_in(data_dir)
    assert list_prepared(data_dir) == []
    train = fixtures.read_training(DataSet("folder", "", root=root, data_dir=data_dir), size=SIZE)
    assert len(train.names) == 6
    assert left_in(data_dir) == []  # what the killed process left is cleared


def test_full_disk(tmp_path):
    root, data_dir = tmp_path / "root", tmp_path / "data"
    for i in range(8):
        fixtures.write_picture(root / f"{i}.png", size=(100, 100))
    process = run("full", root, data_dir)
    last = process.stderr.strip().splitlines()[-1]
    assert last.startswith("draem_jax.errors.UserError: cannot write data sets to")
    assert "File too large; choose another folder" in last
    assert not list(data_dir.rglob("*.array_record*"))
    assert left_in(data_dir) == []


# Sources and what is held out.


def test_source_gives_what_the_training_set_holds(odd):
    root, _, data_dir = odd
    data = DataSet("folder", "", root=root, data_dir=data_dir)
    train = fixtures.read_training(data, size=(16, 20))
    source = pickle.loads(pickle.dumps(data.training_pictures(size=(16, 20))))
    assert list(source.names) == train.names
    for i in (0, 7, len(source) - 1):
        np.testing.assert_array_equal(source[i], train.images[i])


def test_holds_out_the_same_pictures_each_time(odd):
    root, _, data_dir = odd
    data = DataSet("folder", "", root=root, data_dir=data_dir)
    whole = fixtures.read_training(data, size=(8, 8))
    kept = fixtures.read_training(data, size=(8, 8), holdout=0.2)

    def part(name, holdout=0.2):
        return data.training_pictures(size=(8, 8), holdout=holdout, part=name)

    apart = part("held_out")
    assert len(apart) == round(0.2 * len(whole.names))
    assert sorted([*kept.names, *apart.names]) == sorted(whole.names)
    order = {name: i for i, name in enumerate(whole.names)}
    for names in (kept.names, apart.names):
        assert [order[n] for n in names] == sorted(order[n] for n in names)
    for i, name in enumerate(apart.names):
        np.testing.assert_array_equal(apart[i], whole.images[order[name]])
    # One half chooses, the other, which has chosen nothing, calibrates.
    halves = part("selection"), part("calibration")
    assert sorted(halves[0].names + halves[1].names) == sorted(apart.names)
    assert 0 <= len(halves[1]) - len(halves[0]) <= 1
    assert part("held_out").names == apart.names
    sizes = {n: len(part(n, 1e-6)) for n in ("held_out", "selection", "calibration")}
    assert sizes == {"held_out": 1, "selection": 0, "calibration": 1}
    assert len(part("held_out", 0.0)) == 0
    for share in (-0.1, 1.0, 0.99):
        with pytest.raises(UserError, match=r"hold(ing)? out"):
            data.training_pictures(size=(8, 8), holdout=share)


def test_no_test_pictures_give_an_empty_set(odd):
    root, _, data_dir = odd
    test = fixtures.read_test(DataSet("folder", "", root=root, data_dir=data_dir), size=(8, 12))
    assert test.images.shape == (0, 8, 12, 3)
    assert test.masks.shape == (0, 8, 12, 1)
    assert test.names == test.defect_types == []
    assert test.has_mask.shape == (0,)


def test_damaged_notes(tmp_path):
    root, data_dir = plain_folder(tmp_path / "root"), tmp_path / "data"
    path = Path(str(DataSet("folder", "", root=root, data_dir=data_dir).prepare().data_path))
    notes = json.loads((path / "metadata.json").read_text())
    notes["names"]["train"].reverse()
    (path / "metadata.json").write_text(json.dumps(notes))
    with pytest.raises(UserError, match=r"are damaged; delete that folder"):
        fixtures.read_training(DataSet("folder", "", root=root, data_dir=data_dir), size=SIZE)


def test_by_tfds_alone(tmp_path):
    import tensorflow_datasets as tfds

    from draem_jax.data.builders import BUILDERS

    root = fixtures.make_mvtec_ad(tmp_path / "root")
    builder = BUILDERS["mvtec_ad"](config="bottle", data_dir=tmp_path / "data")
    builder.download_and_prepare(download_config=tfds.download.DownloadConfig(manual_dir=root))
    assert builder.info.splits["test"].num_examples == 5


def test_two_at_once_and_read_elsewhere(tmp_path):
    root, data_dir = plain_folder(tmp_path / "root"), tmp_path / "data"
    command = [sys.executable, "-c", RUN, "", str(root), str(data_dir)]
    environment = os.environ | {"PYTHONPATH": str(Path(draem_jax.__file__).parents[1])}
    processes = [subprocess.Popen(command, env=environment) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    source = DataSet("folder", "", root=root, data_dir=data_dir).training_pictures(size=SIZE)
    (tmp_path / "source").write_bytes(pickle.dumps(source))
    code = (
        "import pickle, sys; source = pickle.load(open(sys.argv[1], 'rb'))\n"
        "assert len(source) == 4 and 'tensorflow' not in sys.modules\n"
        "sys.stdout.buffer.write(source[2].tobytes())"
    )
    read = [sys.executable, "-c", code, str(tmp_path / "source")]
    pixels = subprocess.run(read, env=environment, check=True, capture_output=True).stdout
    assert pixels == read_picture(root / "good" / "2.png").tobytes()
