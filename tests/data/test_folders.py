"""Folders are read alike by all: what counts as a picture, what is left out, and what is told."""

import os
import unicodedata

import pytest

from draem_jax.data.folders import find_pictures_in, list_pictures, subfolders
from draem_jax.data.names import masks_beside, match
from draem_jax.data.sources import find_source
from draem_jax.errors import UserError
from draem_jax.files import mark_output


def make(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("")
    return root


def found(root, **options):
    paths, left_out = find_pictures_in(root, **options)
    return [path.relative_to(root).as_posix() for path in paths], left_out


def test_pictures_stand_in_natural_order(tmp_path):
    make(tmp_path, "10.png", "2.PNG", "b/1.jfif", "b/.hidden.png", ".x/3.png", "README.md")
    make(tmp_path, "scan.heic", "folder.png/0.pgm")
    assert found(tmp_path, recursive=False)[0] == ["2.PNG", "10.png"]
    assert found(tmp_path) == (
        ["2.PNG", "10.png", "b/1.jfif", "folder.png/0.pgm"],
        {"hidden folders": 1, "hidden pictures": 1, "files ending in .heic": 1},
    )
    assert list_pictures(tmp_path / "scan.heic") == [tmp_path / "scan.heic"]


def test_nothing_to_list(tmp_path):
    with pytest.raises(UserError, match="there is no file or folder"):
        list_pictures(tmp_path / "none")
    with pytest.raises(UserError, match=r"holds no pictures; looked for files ending in \.png"):
        list_pictures(tmp_path)


def test_what_systems_keep_for_themselves_is_left_out(tmp_path):
    make(tmp_path, "1.png", "@eaDir/1.png/THUMB.jpg", "a/@eaDir/2.png", "a/2.png", "a/Thumbs.db")
    make(tmp_path, "$RECYCLE.BIN/1.png", ".Trash-1000/files/1.png", "._1.png", ".DS_Store")
    assert found(tmp_path) == (
        ["1.png", "a/2.png"],
        {
            "folders of the system ($RECYCLE.BIN)": 1,
            "folders of the system (@eaDir)": 2,
            "files of the system (Thumbs.db)": 1,
            "hidden folders": 1,
            "hidden pictures": 1,
        },
    )
    assert [path.name for path in subfolders(tmp_path)] == ["a"]


def test_what_was_written_here_is_left_out(tmp_path):
    inputs = make(tmp_path / "in", "1.png", "a/2.png")
    before = find_source(inputs).fingerprint("folder", "")
    mark_output(inputs / "marked" / "masks")
    make(inputs, "marked/masks/1.png", "run/config.json", "run/checkpoints/0/x")
    make(inputs, "run/samples/step_1.png", "a/found/predictions.csv", "a/found/maps/1.png")
    assert found(inputs) == (["1.png", "a/2.png"], {"files and folders that draem_jax wrote": 3})
    assert [path.name for path in subfolders(inputs)] == ["a", "marked"]
    assert find_source(inputs).fingerprint("folder", "") == before
    # What the user names is read, but for what lies in it by the side of the inputs.
    assert found(inputs / "marked" / "masks")[0] == ["1.png"]
    make(inputs, "predictions.csv", "maps/1.png", "overlays/1.png")
    assert found(inputs)[0] == ["1.png", "a/2.png"]


def test_links_are_followed_and_end(tmp_path):
    make(tmp_path / "store", "day/1.png", "day/2.png")
    root = make(tmp_path / "in", "0.png")
    (root / "day").symlink_to(tmp_path / "store" / "day")
    (root / "again").symlink_to(root / "day")
    (root / "linked.png").symlink_to(tmp_path / "store" / "day" / "1.png")
    (tmp_path / "store" / "day" / "back").symlink_to(root)
    (root / "lost.png").symlink_to(tmp_path / "nothing.png")
    (root / "self").symlink_to(root / "self")
    paths, left_out = found(root)
    assert sorted(paths, key=lambda p: p.split("/")[-1]) == [
        "0.png",
        "again/1.png",
        "again/2.png",
        "linked.png",
        "lost.png",
    ]
    assert left_out == {"folders that links lead to twice": 2, "links that lead nowhere": 1}


def test_backslashes_that_were_folders_are_refused(tmp_path):
    make(tmp_path, "base\\train\\good\\0.png", "base\\test\\bad\\0.png")
    message = r"holds 2 pictures with backslashes in their names, such as base\\test\\bad\\0\.png"
    with pytest.raises(UserError, match=message) as caught:
        list_pictures(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_folder_that_may_not_be_read_is_told(tmp_path, monkeypatch):
    make(tmp_path, "1.png", "locked/2.png")
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UserError, match=r"locked cannot be read: .*check its permissions"):
        list_pictures(tmp_path, recursive=True)


def test_a_missing_root_is_told_by_where_it_was_looked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=f"no file or folder photos, which is {tmp_path}/photos;"):
        find_source("photos")


def test_masks_lie_beside_pictures_of_their_names():
    pictures = ["1", "2", "a/1", "big.png", "bottle_label", "1_mask_detail", "7"]
    masks = ["1_mask", "2_GT", "a/1-seg", "big.png.mask", "7_mask", "3_mask"]
    assert masks_beside([*pictures, *masks]) == set(masks)
    assert masks_beside(["1_mask", "2_mask", "a/1", "a/2_label"]) == set()
    assert masks_beside(["1_mask", "1_mask_mask"]) == {"1_mask_mask"}
    # Without any other mask, an ending that pictures may have as well says nothing.
    assert masks_beside(["1", "2_mask", "3_GT", "4.ground truth", "5_label", "6_seg"]) == {
        "2_mask",
        "3_GT",
        "4.ground truth",
    }
    assert masks_beside(["images/1", "Masks/1", "a/labels/b/2", "Ground Truth/1", "gt"]) == {
        "Masks/1",
        "Ground Truth/1",
        "a/labels/b/2",
    }


def test_masks_in_folders_are_left_out_unless_their_folder_is_given(tmp_path):
    names = ("1", "2", "masks/1", "masks/2", "a/gt/1_mask", "3_mask")
    make(tmp_path, *[f"{name}.png" for name in names])
    names, left_out = found(tmp_path)
    assert names == ["1.png", "2.png"]
    assert left_out == {"pictures in folders of masks": 3, "masks beside their pictures": 1}
    assert found(tmp_path / "masks") == (["1.png", "2.png"], {})
    assert found(tmp_path / "a" / "gt") == (["1_mask.png"], {})
    with pytest.raises(UserError, match=r"no pictures; .* left out 1 pictures in folders of"):
        found(tmp_path / "a")


def test_names_match_whatever_their_case_and_accents():
    composed, apart = (unicodedata.normalize(form, "Größe_é") for form in ("NFC", "NFD"))
    assert match([composed], [apart]) == {composed: apart}
    assert match(["A", "B"], ["a", "b", "B"]) == {"A": "a", "B": "B"}
    assert match(["A"], ["a", "\u00e4"]) == {"A": "a"}
    assert match(["ab"], ["AB", "Ab"]) == {}  # which of them cannot be told
    assert match(["Ab", "AB"], ["ab"]) == {}
