"""Narrow regions end at the threshold, broad ones a fifth of the way down to the surface."""

import numpy as np
import pytest
from scipy import ndimage

from draem_jax.regions.edges import above_edges

ROWS, COLUMNS = np.mgrid[:64, :64]
INSIDE = 14 - np.hypot(ROWS - 30, COLUMNS - 32)  # distance to the edge of a disc


def blurred(shape, height):
    """A surface at −3 with a shape as high as `height` says, blurred."""
    return ndimage.gaussian_filter(np.where(shape, height, -3.0), 1.0)


def test_a_narrow_region_ends_at_the_threshold():
    margin = blurred(abs(ROWS - COLUMNS / 2 - 10) < 2, 2.0)
    np.testing.assert_allclose(above_edges(margin, 0.2), margin - 0.2)
    assert (margin > -0.87).sum() > 1.2 * (margin > 0.2).sum()  # there is a rim to take wrongly


def test_a_broad_region_ends_deeper():
    margin = blurred(INSIDE >= 0, 1.0)
    found = above_edges(margin, 0.2) > 0
    np.testing.assert_array_equal(found, margin > 0.2 - 3.2 / 5)
    # The edge is half way down, at -1.
    assert (margin > 0.2).sum() < found.sum() < (INSIDE >= 0).sum()


def test_what_is_sure_in_part_only_is_found_as_a_whole():
    margin = blurred(INSIDE >= 0, np.where(COLUMNS < 32, 1.0, -0.4))
    assert (margin > 0).sum() < 0.6 * (INSIDE >= 0).sum()
    found = above_edges(margin, 0.0) > 0
    assert found[INSIDE >= 2].all()
    assert not found[INSIDE < 0].any()


def test_a_weak_spot_alone_is_no_region():
    margin = blurred(INSIDE >= 0, -0.4)
    assert (margin > -1).any()
    assert not (above_edges(margin, 0.0) > 0).any()
    margin[2, 2] = 1  # nor is it one because something else is
    assert (above_edges(margin, 0.0) > 0).sum() == 1


def test_a_hole_stays_a_hole():
    margin = np.where((INSIDE >= 0) & (INSIDE < 9), 1.0, -3.0)
    np.testing.assert_array_equal(above_edges(margin, 0.0) > 0, margin > 0)


def test_edges_do_not_depend_on_the_size_of_the_picture():
    margin = blurred(INSIDE >= 0, np.where(COLUMNS < 32, 1.0, -0.4))
    large = ndimage.zoom(margin, 4, order=1, grid_mode=True, mode="nearest")
    area = (above_edges(margin, 0.0) > 0).mean()
    assert (above_edges(large, 0.0, scale=4.0) > 0).mean() == pytest.approx(area, rel=0.03)


def test_what_is_not_looked_at_is_part_of_no_region():
    looked_at = COLUMNS < 36
    margin = blurred(INSIDE >= 0, 1.0)
    found = above_edges(margin, 0.2, inside=looked_at) > 0
    assert not found[~looked_at].any()
    whole = above_edges(margin, 0.2) > 0
    assert found.sum() == pytest.approx((whole & looked_at).sum(), rel=0.05)
    # A defect outside raises nothing, nor does it let weak pixels inside be a part of it.
    margin = blurred(INSIDE >= 0, np.where(looked_at, -0.4, 9.0))
    margin[looked_at] = np.minimum(margin[looked_at], 0.1)
    assert (above_edges(margin, 0.2) > 0).any()
    assert not (above_edges(margin, 0.2, inside=looked_at) > 0).any()
    # The level that regions end at does not depend on what is outside.
    loud = np.where(looked_at, blurred(INSIDE >= 0, 1.0), 50.0)
    np.testing.assert_array_equal(above_edges(loud, 0.2, inside=looked_at) > 0, found)


@pytest.mark.parametrize("depth", [40, 64])
def test_without_a_surface_to_compare_with_the_threshold_stands(depth):
    margin = np.where(depth > ROWS, 1.0, -1.0)
    np.testing.assert_array_equal(above_edges(margin, 0.0), margin)
