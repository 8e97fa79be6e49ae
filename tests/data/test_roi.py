"""Where to look in pictures, by masks and borders, and what is said of those that do not fit."""

import numpy as np
import pytest
from PIL import Image

from draem_jax.data.dataset import DataSet, check
from draem_jax.data.examples import read_examples
from draem_jax.data.loading import StoredPlanes
from draem_jax.data.roi import Roi
from draem_jax.errors import UserError
from tests.data.fixtures import SIZE, write_mask, write_picture


def left_half(path, *, size=SIZE):
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = np.zeros(size, np.uint8)
    mask[:, : size[1] // 2] = 255
    Image.fromarray(mask).save(path)
    return mask > 0


def test_one_mask_and_a_border(tmp_path):
    mask = left_half(tmp_path / "where.png")
    roi = Roi(str(tmp_path / "where.png"), ignore_border=3)
    expected = np.pad(mask[3:-3, 3:-3], 3)
    np.testing.assert_array_equal(roi.plane("train/good/7", SIZE), expected)
    np.testing.assert_array_equal(Roi("", 3).plane("", SIZE), np.pad(np.ones((18, 26), bool), 3))
    assert Roi().plane("train/good/7", SIZE) is None
    assert Roi("foreground").plane("train/good/7", SIZE) is None
    assert roi.plane_at("", SIZE, at=(12, 16)).shape == (12, 16)
    keys = [r.key([]) for r in (Roi(), Roi("foreground"), Roi("", 3), roi)]
    assert keys[0] == ""
    assert len(set(keys)) == 4


def test_a_picture_has_the_mask_whose_path_ends_its_own(tmp_path):
    where = {
        name: left_half(tmp_path / f"{name}.png", size=(8, width))
        for width, name in enumerate(("7", "crack/7_mask", "test/good/7", "Ä", "crack/7.v2"), 10)
    }
    roi = Roi(str(tmp_path))
    for name, mask in (
        ("train/good/7", "7"),
        ("test/crack/7", "crack/7_mask"),
        ("/anywhere/test/good/7", "test/good/7"),
        ("test/good/A\u0308", "Ä"),  # as macOS writes it
        ("test/crack/7.v2", "crack/7.v2"),
    ):
        expected = where[mask]
        np.testing.assert_array_equal(roi.plane(name, expected.shape), expected)
    left_half(tmp_path / "new" / "8.tif")  # since the folder was looked through
    assert roi.plane("new/8", SIZE).mean() == 0.5
    left_half(tmp_path / "new" / "9.tif")
    left_half(tmp_path / "new" / "9_mask.png")
    with pytest.raises(UserError, match=r"new/9 has several masks in .*9.*and.*9"):
        roi.plane("new/9", SIZE)


def test_what_masks_mark_makes_the_digest(tmp_path):
    left_half(tmp_path / "a.png")
    one, each = Roi(str(tmp_path / "a.png")), Roi(str(tmp_path))
    before = one.digest([]), each.digest(["train/good/a"])
    assert one.plane("", SIZE).mean() == 0.5
    left_half(tmp_path / "b.png")  # of a picture that nobody asks for
    assert (one.digest([]), each.digest(["train/good/a"])) == before
    write_mask(tmp_path / "a.png")
    assert one.digest([]) != before[0]
    assert each.digest(["train/good/a"]) != before[1]
    assert one.plane("", SIZE).mean() == 0.25


@pytest.mark.parametrize(
    ("source", "border", "message"),
    [
        ("nowhere.png", 0, r"there is no file or folder .*nowhere.png to say where to look"),
        ("small.png", 0, r"small.png has 16 x 12 pixels, but the picture train/good/0 has 32 x 24"),
        ("empty.png", 0, r"empty.png is empty; mark with white"),
        ("", 12, r"12 pixels along the border left out\) leaves nothing of the picture"),
        ("folder", 0, r"train/good/0 has no mask in .*folder to say where to look; add it, called"),
        ("bare", 0, "bare holds no masks to say where to look"),
        ("thin.png", 0, "too small to be left at the 8 x 8 pixels that the networks see"),
        ("broken.png", 0, "is not a picture that can be read"),
    ],
)
def test_what_is_wrong_is_one_line_that_names_the_file(tmp_path, source, border, message):
    left_half(tmp_path / "small.png", size=(12, 16))
    left_half(tmp_path / "folder" / "1.png")
    (tmp_path / "bare").mkdir()
    (tmp_path / "broken.png").write_bytes(b"\x89PNG no picture")
    empty = np.zeros(SIZE, np.uint8)
    Image.fromarray(empty).save(tmp_path / "empty.png")
    empty[0, 0] = 255
    Image.fromarray(empty).save(tmp_path / "thin.png")
    roi = Roi(str(tmp_path / source) if source else "", border)
    with pytest.raises(UserError, match=message) as caught:
        roi.plane_at("train/good/0", SIZE, at=(8, 8))
    assert "\n" not in str(caught.value)


def test_planes_of_a_data_set_and_the_check_of_them(tmp_path):
    masks = []
    for i in range(3):
        write_picture(tmp_path / "photos" / "good" / f"{i}.png")
        masks.append(left_half(tmp_path / "where" / f"{i}.png"))
    write_mask(tmp_path / "where" / "2.png")
    data, roi = DataSet("folder", "", root=tmp_path / "photos"), Roi(str(tmp_path / "where"))
    pictures = data.training_pictures(size=(12, 16))
    planes = StoredPlanes(pictures, roi)
    assert [plane.mean() for plane in (planes[0], planes[1], planes[2])] == [0.5, 0.5, 0.25]
    assert StoredPlanes(pictures.take([2]), roi)[0].mean() == 0.25
    (checked,) = check(data, roi=roi).values()
    assert not checked.listing.problems
    assert checked.looked_at == pytest.approx(1.25 / 3)
    (tmp_path / "where" / "1.png").unlink()
    (checked,) = check(data, roi=roi).values()
    (problem,) = checked.listing.problems
    assert problem.path.name == "1.png"
    assert "has no mask" in problem.text


def test_a_given_defect_that_lies_outside_is_accepted(tmp_path):
    write_picture(tmp_path / "stains" / "0.png")
    for name, columns in (("a", slice(0, 8)), ("b", slice(20, 30)), ("c", slice(12, 20))):
        write_picture(tmp_path / "given" / "hole" / f"{name}.png")
        mask = np.zeros(SIZE, np.uint8)
        mask[4:12, columns] = 255
        path = tmp_path / "given" / "ground_truth" / "hole" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(path)
    left_half(tmp_path / "where.png")
    given = tmp_path / "stains", tmp_path / "given"
    plain = read_examples(*given, size=SIZE)
    assert (plain.accepted_planes, plain.defect_planes) == (None, None)
    found = read_examples(*given, size=SIZE, roi=Roi(str(tmp_path / "where.png")))
    assert found.accepted_names == ("0.png", "hole/b")
    assert found.defect_names == ("hole/a", "hole/c")
    np.testing.assert_array_equal(found.masks.any(axis=1).sum(axis=1), [8, 4])  # c is cut
    assert found.accepted_planes.shape == found.defect_planes.shape == (2, *SIZE)
    assert any("lies outside of the region of interest in 1 of" in note for note in found.notes)
