"""Where to look in pictures: by masks, borders and objects; what is said of those that do not fit.

The object that is found on an overview is held against the one that the device finds.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy import ndimage

from draem_jax.anomalies import foreground as on_device
from draem_jax.anomalies.rotation import rotate_image
from draem_jax.data import overview
from draem_jax.data.dataset import DataSet, check
from draem_jax.data.examples import read_examples
from draem_jax.data.fitting import Fitting
from draem_jax.data.loading import StoredPlanes
from draem_jax.data.pictures import resize_mask
from draem_jax.data.roi import Roi
from draem_jax.data.windows import open_windows
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


ON_OVERVIEW = Roi("foreground", overview_border=0.9)


def disc(size, *, background=(30, 35, 40), colour=(150, 110, 90)):
    """A disc on a plain background, both with a little noise, and where it is."""
    rows, columns = np.ogrid[: size[0], : size[1]]
    away = np.hypot(rows - 0.5 * size[0], columns - 0.4 * size[1])
    where = away < 0.3 * min(size)
    noise = np.random.default_rng(0).integers(0, 6, (*size, 3), np.uint8)
    return np.where(where[..., None], colour, background).astype(np.uint8) + noise, where


def test_an_overview_shows_the_object_that_the_device_finds():
    size = (60, 80)
    noise = np.random.default_rng(1).integers(0, 256, (*size, 3), np.uint8)
    stripes = np.broadcast_to(
        np.where(np.arange(60)[:, None, None] % 24 < 6, 200, 100), noise.shape
    )
    bare = disc(size)[0] * disc(size)[1][..., None]
    images = [disc(size)[0], disc(size, background=(220, 200, 210))[0], bare, noise, stripes]
    images += [np.zeros_like(noise), np.full_like(noise, 70), ndimage.gaussian_filter(noise, 4)]
    turn = jax.jit(lambda image: rotate_image(image, degrees=30.0))
    images += [np.rint(np.asarray(turn(jnp.asarray(image / 255.0))) * 255) for image in images[:5]]
    find = jax.jit(on_device.foreground)
    shares = set()
    for image in np.array(images, np.uint8):
        expected = np.asarray(find(jnp.asarray(image, jnp.float32) / 255))
        found = overview.foreground(image, border_share=0.9)
        np.testing.assert_array_equal(found, expected)
        shares.add(round(float(found.mean()), 1))
    assert shares >= {0, 0.2, 1}


@pytest.mark.parametrize("border", [0, 200])
def test_the_object_in_a_large_picture(border, tmp_path, monkeypatch):
    picture, where = disc((700, 1100))
    roi = Roi("foreground", border, 0.9)
    plane = roi.plane_of("", picture)
    assert (roi.on_object, roi.plane("", picture.shape[:2]) is None) == (False, border == 0)
    inside = np.zeros_like(where)
    inside[border : 700 - border, border : 1100 - border] = True
    # Within what a pixel of the overview covers.
    around = ndimage.distance_transform_edt(where) + ndimage.distance_transform_edt(~where) < 6
    np.testing.assert_array_equal(plane & ~around, where & inside & ~around)
    assert (plane & inside).any()
    tifffile.imwrite(tmp_path / "a.tif", picture, tile=(64, 48), photometric="rgb")
    with open_windows(tmp_path / "a.tif") as windows:
        by_windows = roi.plane_windows("", windows)
    for size in ((700, 1100), (333, 501), (1001, 1300)):
        resized, expected = by_windows.resized(size), resize_mask(plane, size)
        np.testing.assert_array_equal(
            resized.read((slice(0, size[0]), slice(0, size[1]))), expected
        )
        window = slice(100, 180), slice(7, 400)
        np.testing.assert_array_equal(resized.read(window), expected[window])
        assert resized.count() == expected.sum()
    # The object lies within that border: one line says so, whatever way the picture is read.
    none_left = Roi("foreground", 345, 0.9)
    corner = np.zeros_like(picture) + np.uint8(30)
    corner[10:200, 10:200] = 200
    tifffile.imwrite(tmp_path / "b.tif", corner, tile=(64, 48), photometric="rgb")
    with pytest.raises(UserError, match="leaves nothing of the picture, which has 1100 x 700"):
        none_left.plane_of("", corner)
    with (
        open_windows(tmp_path / "b.tif") as windows,
        pytest.raises(UserError, match="345 pixels along the border left out"),
    ):
        none_left.plane_windows("", windows)
    assert Roi("foreground", 0, 0.9).plane_of("", np.zeros_like(picture)).all()
    keys = [r.key([]) for r in (none_left, roi, Roi("foreground", 7, 0.9), Roi("", border))]
    assert len(set(keys)) == 4


def test_given_pictures_and_a_data_set_have_the_planes_of_their_objects(tmp_path):
    sizes = [(300, 410), (260, 150)]
    for i, size in enumerate(sizes):
        picture = disc(size)[0]
        for folder in ("photos/good", "accepted", "given/hole"):
            (tmp_path / folder).mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(tmp_path / folder / f"{i}.png")
        mask = np.zeros(size, np.uint8)
        mask[: size[0] // 2] = 255  # half of the object, and beyond
        path = tmp_path / "given/ground_truth/hole" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(path)
        found = ON_OVERVIEW.plane_of("", picture).astype(np.uint8) * 255
        (tmp_path / "where").mkdir(exist_ok=True)
        Image.fromarray(found).save(tmp_path / "where" / f"{i}.png")
    fitting, by_hand = Fitting((64, 64), "tile", 0.7), Roi(str(tmp_path / "where"))
    normal = DataSet("folder", "", root=tmp_path / "photos").training_pictures(size=(64, 64))
    planes = [StoredPlanes(normal.fitted(fitting), roi) for roi in (ON_OVERVIEW, by_hand)]
    for i, size in enumerate(sizes):
        assert planes[0][i].shape == fitting.canvas_size(size)
        for _ in range(2):  # found, and kept
            np.testing.assert_array_equal(planes[0][i], planes[1][i])
    given = tmp_path / "accepted", tmp_path / "given"
    examples = [
        read_examples(*given, size=(64, 64), roi=roi, fitting=fitting)
        for roi in (ON_OVERVIEW, by_hand)
    ]
    jax.tree.map(np.testing.assert_array_equal, *map(vars, examples))
    assert 0 < examples[0].masks.mean() < examples[0].defect_planes.mean() < 0.5
