"""Pictures beside what networks see of them: what is drawn lies where it is said to be."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from draem_jax.data.tiles import UNIT, lay_tiles
from draem_jax.reports.seen import Box, Panel, draw_panel, paint_defect, side_by_side

GREY = 128


def even(height, width):
    return np.full((height, width, 3), GREY, np.uint8)


def drawn_on(panel, factor):
    """Where something is drawn on an even picture that is enlarged."""
    height, width = panel.image.shape[:2]
    return draw_panel(panel, room=(height * factor, width * factor)) != GREY


@given(
    canvas=st.tuples(st.integers(33, 200), st.integers(33, 200)),
    side=st.integers(1, 3).map(lambda units: units * UNIT),
    factor=st.integers(1, 3),
)
def test_frames_lie_just_within_their_tiles(canvas, side, factor):
    grid = lay_tiles(canvas, (side, side), overlap=side // 4)
    windows = [tile.window for tile in grid]
    panel = Panel("", even(*grid.covered), tiles=windows)
    marked = drawn_on(panel, factor).any(axis=-1)
    expected = np.zeros_like(marked)
    for number, window in enumerate(windows):
        rows, columns = (slice(factor * part.start, factor * part.stop) for part in window)
        width = 4 if number == 0 else 1  # the first one stands out
        frame = np.ones((factor * side, factor * side), bool)
        frame[width:-width, width:-width] = False
        expected[rows, columns] |= frame
    np.testing.assert_array_equal(marked, expected)
    # The first tile's frame is of one colour, and brighter than those of the others.
    picture = draw_panel(panel, room=tuple(factor * of for of in grid.covered)).astype(int)
    first = picture[: factor * side, 0]
    assert (first == first[0]).all()
    if len(windows) > 1:
        assert np.abs(first[0] - GREY).max() > np.abs(picture[-1, -1] - GREY).max()


def test_a_defect_is_drawn_at_its_size_and_a_small_one_is_ringed():
    large = drawn_on(Panel("", even(200, 300), defect=Box(50, 60, 40, 80)), 2).any(axis=-1)
    expected = np.zeros((400, 600), bool)
    expected[100:180, 120:280] = True
    np.testing.assert_array_equal(large, expected)

    small = Panel("", even(200, 300), defect=Box(99, 149, 2, 2))
    marked = drawn_on(small, 2).any(axis=-1)
    assert marked[198:202, 298:302].all()
    around = marked.copy()
    around[198:202, 298:302] = False
    rows, columns = np.nonzero(around)
    assert len(rows)
    distance = np.hypot(rows - 199.5, columns - 299.5)
    assert distance.min() > 15
    assert distance.max() < 25
    ring_alone = drawn_on(small._replace(is_painted=True), 2).any(axis=-1)
    np.testing.assert_array_equal(ring_alone, around)


def test_a_painted_defect_covers_its_pixels_alone():
    changed = (paint_defect(even(20, 30), Box(4.0, 5.0, 3.0, 3.0)) != GREY).any(axis=-1)
    assert changed.sum() == 9
    assert changed[4:7, 5:8].all()


@pytest.mark.parametrize("room", [(80, 120), (20, 30)])
def test_padding_is_darker(room):
    view = draw_panel(Panel("", even(40, 60), (slice(20), slice(30))), room=room)
    half = room[0] // 2, room[1] // 2
    assert view.shape[:2] == room
    assert (view[: half[0] - 2, : half[1] - 2] == GREY).all()
    assert (view[half[0] + 2 :] < GREY / 2).all()
    assert (view[:, half[1] + 2 :] < GREY / 2).all()


def test_all_panels_and_notes_have_room():
    panels = [Panel("one", even(64, 90)), Panel("a title that is wider " * 20, even(1000, 2))]
    sheet = side_by_side(panels, ["a note that is longer than all of it " * 12])
    paper = sheet[0, 0]
    for edge in (sheet[0], sheet[-1], sheet[:, 0], sheet[:, -1]):
        assert (edge == paper).all()
