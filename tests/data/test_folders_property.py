"""Whatever files are called and wherever they lie, each is accounted for once and alike by all."""

import io
import os
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from draem_jax.data.dataset import DataSet, check
from draem_jax.data.folders import list_pictures
from draem_jax.data.layouts import LAYOUTS
from draem_jax.errors import UserError

PICTURES = (".png", ".PNG", ".jpg", ".jfif", ".bmp", ".tiff")
OTHERS = (".heic", ".json", ".xml", ".npy", ".txt", ".db", "")
ENDINGS = ("", "_mask", "_GT", ".mask", "-seg", " label", "_mask_mask")
SETS = {
    "flat": ("",),
    "train": ("train", "test/good", "test/dent", "ground_truth/dent", "extra"),
    "train/good": ("train/good", "train/bad", "test/ok", "test/Dent", "Masks/dent", "GT_masks"),
    "good": ("good", "dent", "dent/day 2", "hole", "masks/dent", "masks/hole"),
}
LEFT_OUT = ("@eaDir", ".thumbnails", "run")
"""Folders that are left out, whatever is in them; the last one is a run's."""


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (8, 8)).save(buffer, format="png")
    return buffer.getvalue()


PNG = png()  # without a defect, so that it may be a normal picture's mask, too

stems = st.text("aAbäÄe\u0301ß字7 .[]_-'%", min_size=1, max_size=3)
suffixes = st.sampled_from(PICTURES * 3 + OTHERS)
files = st.tuples(stems, st.sampled_from(ENDINGS), suffixes).map("".join)
files = files.filter(lambda name: name not in (".", ".."))


@st.composite
def trees(draw):
    """Paths of files within a data set of the user's."""
    folders = SETS[draw(st.sampled_from(sorted(SETS)))]
    # Few names for all folders, so that those of pictures and masks meet.
    names = draw(st.lists(files, min_size=3, max_size=8, unique=True))
    places = st.sampled_from((*folders, *folders, *(f"{folders[0]}/{n}" for n in LEFT_OUT)))
    drawn = draw(
        st.lists(st.tuples(places, st.sampled_from(names)), min_size=4, max_size=25, unique=True)
    )
    enough = [(folders[0], f"{name}.png") for name in "xyz"]  # to train on
    return sorted({"/".join(path).strip("/") for path in [*enough, *drawn]})


def write(root: Path, paths: list[str]) -> None:
    for name in paths:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(PNG)
        if path.parent.name == "run":
            (path.parent / "config.json").write_text("{}")
            (path.parent / "checkpoints").mkdir(exist_ok=True)


def to_account_for(root: Path) -> tuple[set[Path], int]:
    """Files that must be spoken of one by one, and folders that are left out as a whole."""
    told, folders = set(), 0
    for name, inside, names in os.walk(root, followlinks=True):
        folders += len(set(inside).intersection(LEFT_OUT))
        inside[:] = set(inside).difference(LEFT_OUT)
        for path in (Path(name, child) for child in names):
            if not path.name.startswith(".") or path.suffix.lower() in PICTURES:
                told.add(path)
    return told, folders


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(trees(), st.booleans())
def test_every_file_is_accounted_for_once(paths, with_links):
    with tempfile.TemporaryDirectory() as folder:
        root, store = Path(folder, "root"), Path(folder, "store")
        write(root, paths)
        write(store, ["1.png", "2.png", "1_mask.png"])
        if with_links:
            (root / paths[0]).with_name("linked").symlink_to(store)
            (root / paths[-1]).with_name("link.png").symlink_to(store / "1.png")
        try:
            listing = LAYOUTS["folder"].list_category(root, "")
        except UserError:
            return  # what the pictures are cannot be told
        accounted = Counter(entry.path for entry in listing.entries)
        accounted.update(mask for entry in listing.entries for mask in entry.masks)
        accounted.update(p.path for p in listing.problems if not p.path.is_dir())
        assert set(accounted.values()) <= {1}
        told, folders = to_account_for(root)
        assert accounted.keys() <= told
        assert sum(listing.left_out.values()) == len(told - accounted.keys()) + folders
        names = [(entry.split, entry.name) for entry in listing.entries]
        assert len(set(names)) == len(names)


@settings(max_examples=100, deadline=None)
@given(st.lists(files, min_size=1, max_size=12, unique=True))
def test_pictures_to_predict_are_those_to_train_on(names):
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), [*names, "x.png"])
        listing = LAYOUTS["folder"].list_category(Path(folder), "")
        normal = {entry.path for entry in listing.entries}
        assert normal == set(list_pictures(folder)) == set(list_pictures(folder, recursive=True))


@settings(max_examples=100, deadline=None)
@given(st.lists(files.map(lambda name: f"a\\{name}"), min_size=1, max_size=5, unique=True))
def test_backslashes_are_never_read_as_names(names):
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder), [*names, "x.png"])
        if any(Path(name).suffix.lower() in PICTURES for name in names):
            with pytest.raises(UserError, match="pictures with backslashes in their names"):
                LAYOUTS["folder"].list_category(Path(folder), "")
        else:
            assert len(LAYOUTS["folder"].list_category(Path(folder), "").entries) == 1


@settings(max_examples=10, deadline=None)
@given(trees())
def test_what_is_checked_is_what_is_used(paths):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder, "root")
        write(root, paths)
        data = DataSet("folder", "", root=root, data_dir=Path(folder, "prepared"))
        (checked,) = check(data).values()
        if isinstance(checked, UserError):
            return
        data = replace(data, skip_bad=True)
        used = {
            "train": data.training_pictures(size=(8, 8)).names,
            "test": data.test_pictures(size=(8, 8)).names,
        }
        for split, names in used.items():
            assert names == tuple(e.name for e in checked.listing.entries if e.split == split)
