import numpy as np
import pytest
from PIL import Image

from draem_jax.errors import UserError
from draem_jax.reports import pictures


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_to_uint8_rounds_and_clips():
    values = np.array([-0.2, 0.0, 0.4, 127.6 / 255, 1.0, 1.7])
    assert pictures.to_uint8(values).tolist() == [0, 0, 102, 128, 255, 255]
    assert pictures.to_uint8(np.array([True, False])).tolist() == [255, 0]
    already = np.array([3, 200], np.uint8)
    assert pictures.to_uint8(already) is already


def test_heat_map_brightens_with_the_value():
    colours = pictures.heat_map(np.linspace(0, 1, 64, dtype=np.float32)[None])
    assert colours.shape == (1, 64, 3)
    assert colours.dtype == np.uint8
    luminance = colours[0] @ np.array([0.2126, 0.7152, 0.0722])
    assert (np.diff(luminance) > 0).all()


def test_heat_map_takes_batches():
    maps = np.random.default_rng(0).random((2, 5, 4, 6), np.float32)
    colours = pictures.heat_map(maps)
    assert colours.shape == (2, 5, 4, 6, 3)
    np.testing.assert_array_equal(colours[1, 3], pictures.heat_map(maps[1, 3]))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_zero_map_leaves_picture_unchanged(rng, channels, kind):
    image = rng.integers(0, 256, (7, 9, channels)).astype(np.uint8)
    given = image if kind == np.uint8 else (image / 255).astype(np.float32)
    laid_over = pictures.overlay(given, np.zeros((7, 9), np.float32))
    np.testing.assert_array_equal(laid_over, np.broadcast_to(image, (7, 9, 3)))


def test_overlay_changes_only_where_the_map_is_high():
    image = np.full((8, 8, 3), 90, np.uint8)
    anomaly_map = np.zeros((8, 8))
    anomaly_map[2:4, 2:4] = 1
    laid_over = pictures.overlay(image, anomaly_map)
    changed = (laid_over != image).any(-1)
    np.testing.assert_array_equal(changed, anomaly_map > 0)
    assert (laid_over[2, 2].astype(int) - 90).max() > 100


def test_what_is_not_looked_at_is_dark_and_the_rest_as_it_was(rng):
    image, inside = rng.random((9, 7, 3)), rng.random((9, 7)) < 0.5
    drawn = pictures.dim_outside(image, inside)
    np.testing.assert_array_equal(drawn[inside], pictures.to_uint8(image)[inside])
    assert (drawn[~inside] <= 0.4 * pictures.to_uint8(image)[~inside] + 1).all()


def test_outline_surrounds_the_mask():
    mask = np.zeros((9, 9), bool)
    mask[4, 4] = True
    for level in (0, 255):
        image = np.full((9, 9, 1), level, np.uint8)
        drawn = pictures.outline(image, mask)
        rings = np.abs(np.arange(9)[:, None] - 4) + np.abs(np.arange(9) - 4)
        assert (drawn[(rings == 0) | (rings > 2)] == level).all()
        assert (drawn[rings == 2] == 0).all()
        assert (drawn[rings == 1] == drawn[3, 4]).all()
        assert drawn[3, 4].min() > 0
        assert drawn[3, 4].max() - int(drawn[3, 4].min()) > 100
        assert (image == level).all()


def test_outline_of_nothing_and_of_everything_draws_nothing(rng):
    image = rng.integers(0, 256, (6, 5, 3)).astype(np.uint8)
    for mask in (np.zeros((6, 5), np.uint8), np.full((6, 5), 255, np.uint8)):
        np.testing.assert_array_equal(pictures.outline(image, mask), image)


def test_wide_outlines_leave_the_mask_visible(rng):
    image = rng.integers(0, 256, (40, 40, 3)).astype(np.uint8)
    mask = np.hypot(*(np.mgrid[:40, :40] - 20)) < 8
    drawn = pictures.outline(image, mask, width=3)
    np.testing.assert_array_equal(drawn[mask], image[mask])
    changed = (drawn != image).any(-1)
    assert changed[20, 29:34].all()
    assert not changed[20, 35:].any()


def test_labels_stay_within_the_picture():
    image = np.full((30, 40, 3), 128, np.uint8)
    for place in ((0, 0), (0, 39), (29, 39), (29, 0), (15, 20)):
        drawn = pictures.label_places(image, {place: "12"})
        rows, columns = np.nonzero((drawn != image).any(-1))
        assert np.ptp(rows) >= 6  # none of it is cut off
        assert np.ptp(columns) >= 9
        assert abs(rows.mean() - place[0]) < 12


@pytest.mark.parametrize(
    ("width", "mm_per_pixel", "length"),
    [(100, None, 20), (300, None, 100), (100, 0.1, 20), (100, 0.07, 2 / 0.07), (640, 0.5, 200)],
)
def test_the_scale_bar_is_as_long_as_it_says(rng, width, mm_per_pixel, length):
    image = rng.integers(0, 256, (50, width, 3)).astype(np.uint8)
    drawn = pictures.scale_bar(image, mm_per_pixel=mm_per_pixel)
    np.testing.assert_array_equal(drawn[:50], image)
    (*_, row) = (row for row in (drawn[50:] == pictures._INK).all(-1) if row[7:17].all())
    assert row[6:].argmin() == 0
    assert row[7:].argmin() == round(length)


def test_the_scale_bar_makes_room_beside_a_narrow_picture():
    drawn = pictures.scale_bar(np.zeros((20, 2, 3), np.uint8))
    assert drawn.shape[1] > 20
    assert (drawn[:20, :2] == 0).all()
    assert (drawn[:20, 2:] > 200).all()


def test_sheet_dimensions_follow_from_tiles_gaps_and_text():
    columns = {"normal": np.zeros((4, 64, 64, 3)), "mask": np.ones((4, 64, 64, 1), bool)}
    drawn = pictures.sheet(columns)
    assert drawn.dtype == np.uint8
    # Two columns of 128 and three gaps of 6; a title of 14 with two gaps, and four rows.
    assert drawn.shape == (14 + 2 * 6 + 4 * (128 + 6), 6 + 2 * (128 + 6), 3)
    assert (drawn[26 : 26 + 128, 6 : 6 + 128] == 0).all()
    assert (drawn[26 : 26 + 128, 140 : 140 + 128] == 255).all()


@pytest.mark.parametrize(("side", "factor"), [(256, 1), (128, 1), (64, 2), (48, 3)])
def test_sheet_enlarges_small_pictures(side, factor):
    drawn = pictures.sheet({"a": np.zeros((1, side, side, 3), np.uint8)})
    assert drawn.shape[1] == 6 + factor * side + 6


def test_sheet_enlarges_each_pixel_to_a_square():
    image = np.array([[0, 255], [255, 0]], np.uint8)[None, ..., None]
    drawn = pictures.sheet({"": image}, scale=3)
    tile = drawn[26:32, 6:12, 0]
    np.testing.assert_array_equal(tile, image[0, ..., 0].repeat(3, 0).repeat(3, 1))


def test_sheet_makes_room_for_row_titles():
    columns = {"a title far too long for its narrow column": np.zeros((2, 130, 130, 3))}
    plain = pictures.sheet(columns)
    titled = pictures.sheet(columns, ["one", "a longer title"])
    assert titled.shape[0] == plain.shape[0]
    assert titled.shape[1] > plain.shape[1] + 50


def test_sheet_says_what_does_not_fit():
    with pytest.raises(ValueError, match="one shape"):
        pictures.sheet({"a": np.zeros((2, 8, 8, 3)), "b": np.zeros((2, 8, 9, 3))})
    with pytest.raises(ValueError, match="one shape"):
        pictures.sheet({})
    with pytest.raises(ValueError, match="2 rows need 2 titles"):
        pictures.sheet({"a": np.zeros((2, 8, 8, 3))}, ["one"])


@pytest.mark.parametrize(
    ("shape", "kind"), [((5, 7), np.uint8), ((5, 7, 3), np.uint8), ((5, 7), np.uint16)]
)
def test_png_round_trip(tmp_path, rng, shape, kind):
    image = rng.integers(0, np.iinfo(kind).max, shape, kind, endpoint=True)
    path = tmp_path / "deep" / "picture.png"
    pictures.write_png(path, image)
    with Image.open(path) as read:
        np.testing.assert_array_equal(np.asarray(read), image)
    assert [file.name for file in path.parent.iterdir()] == ["picture.png"]


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_map_png_round_trip(tmp_path, rng, kind):
    anomaly_map = rng.random((33, 21)).astype(kind)
    anomaly_map[0, :3] = 0, 1, 0.5
    pictures.write_map_png(tmp_path / "map.png", anomaly_map)
    with Image.open(tmp_path / "map.png") as read:
        values = np.asarray(read)
    assert values.dtype == np.uint16
    expected = [[round(float(value) * 65535) for value in row] for row in anomaly_map]
    np.testing.assert_array_equal(values, expected)


def test_writing_where_one_may_not_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        pictures.write_png(tmp_path / "file" / "a.png", np.zeros((2, 2), np.uint8))
