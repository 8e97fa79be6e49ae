"""Regions are measured as geometry says, on shapes of known size."""

import numpy as np
import pytest
from scipy.special import expit
from skimage.measure import find_contours

from draem_jax.regions.find import find_regions

ROWS, COLUMNS = np.mgrid[:64, :80]


def of_mask(mask, **options):
    return find_regions(np.where(mask, 1.0, -1.0), **options)


def disc(radius, centre=(30, 40)):
    return np.hypot(ROWS - centre[0], COLUMNS - centre[1]) <= radius


def rectangle(length, width, degrees):
    angle = np.deg2rad(degrees)
    right, up = COLUMNS - 40.3, 30.2 - ROWS
    along = right * np.cos(angle) + up * np.sin(angle)
    across = up * np.cos(angle) - right * np.sin(angle)
    return (abs(along) <= length / 2) & (abs(across) <= width / 2)


def box(top, left, bottom, right):
    mask = np.zeros((64, 80), bool)
    mask[top:bottom, left:right] = True
    return mask


def test_one_pixel_is_one_long_and_one_wide():
    (region,) = of_mask(box(5, 7, 6, 8))
    assert region.bbox == (5, 7, 6, 8)
    assert region.area == region.length == region.width == 1
    assert region.skeleton_length == region.skeleton_width == 1
    assert region.orientation is None
    assert not region.touches_border


@pytest.mark.parametrize(("window", "degrees"), [((5, 7, 6, 37), 0), ((5, 7, 35, 8), 90)])
def test_a_line_one_pixel_wide(window, degrees):
    (region,) = of_mask(box(*window))
    assert (region.area, region.length, region.width) == (30, 30, 1)
    assert (region.skeleton_length, region.skeleton_width) == (30, 1)
    assert region.orientation == degrees


@pytest.mark.parametrize("radius", [3, 6.4, 10.4, 25])
def test_a_disc(radius):
    (region,) = of_mask(disc(radius))
    assert region.area == pytest.approx(np.pi * radius**2, rel=0.05)
    assert region.length == pytest.approx(2 * radius, abs=1)
    assert region.width == pytest.approx(2 * radius, abs=1)
    assert region.skeleton_length == pytest.approx(2 * radius, abs=2)
    assert region.orientation is None


@pytest.mark.parametrize("degrees", [-70, -45, -20, 0, 10, 30, 45, 80, 90])
@pytest.mark.parametrize(("length", "width"), [(40, 3), (36, 9)])
def test_a_turned_rectangle(length, width, degrees):
    (region,) = of_mask(rectangle(length, width, degrees))
    assert region.area == pytest.approx(length * width, abs=(length + width) / 2)
    assert region.length == pytest.approx(np.hypot(length, width), abs=1.2)
    assert region.width == pytest.approx(width, abs=1)
    assert region.skeleton_length == pytest.approx(length, rel=0.085)
    assert region.skeleton_width == pytest.approx(width, abs=0.7)
    assert abs((region.orientation - degrees + 90) % 180 - 90) < 1


def test_a_ring_is_as_long_as_the_way_around_it():
    mask = disc(16.5) & ~disc(12.5)
    (region,) = of_mask(mask)
    assert region.area == mask.sum()
    assert region.length == pytest.approx(33, abs=1)
    assert region.skeleton_length == pytest.approx(2 * np.pi * 14.5, rel=0.085)
    assert region.skeleton_width == pytest.approx(4, abs=0.3)
    np.testing.assert_array_equal(region.full_mask(mask.shape), mask)


def test_branches_are_counted_together():
    (region,) = of_mask(box(30, 5, 31, 56) | box(30, 30, 51, 31))
    assert region.skeleton_length == pytest.approx(51 + 20, abs=1)
    assert region.length == pytest.approx(51, abs=0.1)


def test_the_outline_is_that_of_marching_squares():
    rng = np.random.default_rng(0)
    field = rng.normal(size=(64, 80))
    margin = sum(np.roll(field, (i, j), (0, 1)) for i in range(7) for j in range(7)) / 7
    margin[[0, -1]] = margin[:, [0, -1]] = -9
    regions = find_regions(margin, threshold=0.4)
    assert len(regions) > 5
    contours = find_contours(margin, 0.4, fully_connected="high")
    directions = np.deg2rad(np.arange(0, 180, 0.1))
    for region in regions:
        mask = region.full_mask(margin.shape)
        own = [c for c in contours if _touches(c, mask)]
        extents = np.ptp(np.concatenate(own) @ [np.sin(directions), np.cos(directions)], axis=0)
        assert region.length == pytest.approx(max(1, extents.max()), abs=0.02)
        assert region.width == pytest.approx(max(1, extents.min()), abs=0.03)


def _touches(contour, mask):
    """Whether a contour, each of whose points lies on a line between two pixels, is a mask's."""
    low, high = np.floor(contour).astype(int), np.ceil(contour).astype(int)
    return (mask[tuple(low.T)] | mask[tuple(high.T)]).all()


@pytest.mark.parametrize("radius", [9.6, 10.0, 10.3])
def test_edges_lie_between_pixels(radius):
    margin = radius - np.hypot(ROWS - 30.3, COLUMNS - 39.6)
    (region,) = find_regions(margin)
    assert region.length == pytest.approx(2 * radius, abs=0.05)
    assert region.width == pytest.approx(2 * radius, abs=0.05)


def test_severity_comes_from_the_map_or_the_sigmoid():
    margin = np.full((9, 9), -3.0)
    margin[4, 2:5] = 0.5, 2, 1
    (region,) = find_regions(margin)
    assert region.mean_score == pytest.approx(expit([0.5, 2, 1]).mean())
    assert region.peak_score == pytest.approx(expit(2))
    (region,) = find_regions(margin, anomaly_map=np.full((9, 9), 0.25), threshold=0.7)
    assert (region.area, region.mean_score, region.peak_score) == (2, 0.25, 0.25)


def test_nothing_at_the_border_and_everything():
    assert find_regions(np.full((20, 30), -1.0)) == []
    (corner,) = of_mask(box(0, 76, 4, 80))
    assert corner.touches_border
    assert not corner.covers_picture
    assert corner.width == pytest.approx(4)
    (whole,) = of_mask(np.ones((64, 80), bool))
    assert whole.touches_border
    assert whole.covers_picture
    assert whole.bbox == (0, 0, 64, 80)
    assert whole.area == 64 * 80
    assert whole.width == pytest.approx(64)
    assert whole.length == pytest.approx(np.hypot(64, 80), abs=1)
    (pixel,) = find_regions(np.ones((1, 1)))
    assert pixel.covers_picture


def test_close_regions_are_joined_and_small_ones_dropped():
    three = box(10, 10, 14, 20) | box(10, 23, 14, 33) | box(40, 10, 42, 12)  # 3 pixels between
    assert [r.area for r in of_mask(three)] == [40, 40, 4]
    assert [r.area for r in of_mask(three, join_gap=3)] == [40, 40, 4]
    joined, small = of_mask(three, join_gap=3.5)
    assert (joined.area, joined.bbox, joined.label) == (80, (10, 10, 14, 33), 1)
    assert joined.length == pytest.approx(23.2, abs=0.1)  # with the gap; the skeleton is without
    assert joined.skeleton_length == pytest.approx(20)
    assert small.area == 4
    assert [r.area for r in of_mask(three, join_gap=3.5, min_area=5)] == [80]
    assert [r.area for r in of_mask(three, join_gap=np.inf)] == [84]
    # Chains join whatever lies at their ends, and only what is large after joining stays.
    chain = sum(box(20, 6 * i, 21, 6 * i + 2) for i in range(10)) > 0
    assert [r.area for r in of_mask(chain, join_gap=4.1, min_area=20)] == [20]
    assert of_mask(chain, join_gap=4, min_area=3) == []


def test_pixels_that_touch_at_a_corner_are_one_region():
    (region,) = of_mask(np.eye(12, dtype=bool))
    assert region.skeleton_length == pytest.approx(11 * np.sqrt(2) + 1)
    assert region.orientation == pytest.approx(-45)


@pytest.mark.parametrize("options", [{"join_gap": -1}, {"min_area": -1}, {"threshold": np.nan}])
def test_what_makes_no_sense_is_refused(options):
    with pytest.raises(ValueError, match=r"below 0|finite"):
        find_regions(np.zeros((4, 4)), **options)
    with pytest.raises(ValueError, match="finite"):
        find_regions(np.full((4, 4), np.nan))
