"""Regions end at the threshold where the detector is sure, and half way down where it is not."""

import numpy as np
import pytest
from scipy import ndimage

from draem_jax.inspection.edges import above_edges

ROWS, COLUMNS = np.mgrid[:64, :64]
INSIDE = 14 - np.hypot(ROWS - 30, COLUMNS - 32)  # distance to the edge of a disc


def blurred(height, sigma=1.0):
    """A surface at −3 with a disc as high as `height` says, blurred."""
    return ndimage.gaussian_filter(np.where(INSIDE >= 0, height, -3.0), sigma)


def test_what_is_sure_ends_at_the_threshold():
    margin = blurred(1.0)
    above = above_edges(margin, 0.2)
    np.testing.assert_allclose(above, margin - 0.2)
    assert (margin > -1.4).sum() > 1.1 * (above > 0).sum()  # its blurred rim is wide enough to see


def test_weak_parts_end_half_way_down_to_the_surface():
    margin = blurred(np.where(COLUMNS < 32, 1.0, -0.4))
    assert (margin > 0).sum() < 0.6 * (INSIDE >= 0).sum()
    found = above_edges(margin, 0.0) > 0
    assert found.sum() == pytest.approx((INSIDE >= 0).sum(), rel=0.08)
    # On the sure half nothing is added but beside the weak one.
    np.testing.assert_array_equal(found[:, :30], margin[:, :30] > 0)


def test_a_weak_spot_alone_is_no_region():
    margin = blurred(-0.4)
    assert (margin > -1.5).any()
    assert not (above_edges(margin, 0.0) > 0).any()
    margin[2, 2] = 1  # nor is it one because something else is
    assert (above_edges(margin, 0.0) > 0).sum() == 1


def test_an_enclosed_weak_spot_is_filled_and_a_hole_is_not():
    margin = np.where(INSIDE >= 0, 1.0, -3.0)
    margin[30, 32], margin[33, 30] = -0.5, -3
    found = above_edges(margin, 0.0) > 0
    assert found[30, 32]
    assert not found[33, 30]


def test_edges_do_not_depend_on_the_size_of_the_picture():
    margin = blurred(np.where(COLUMNS < 32, 1.0, -0.4))
    large = ndimage.zoom(margin, 4, order=1, grid_mode=True, mode="nearest")
    area = (above_edges(margin, 0.0) > 0).sum()
    assert (above_edges(large, 0.0, scale=4.0) > 0).mean() == pytest.approx(area / 64**2, rel=0.05)


def test_without_a_surface_to_compare_with_the_threshold_stands():
    margin = np.where(ROWS < 40, 1.0, -1.0)
    np.testing.assert_array_equal(above_edges(margin, 0.0), margin)
