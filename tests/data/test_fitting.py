"""Pictures of any size, brought to the networks: squeezed, letterboxed, or in tiles."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from draem_jax.data.fitting import Fitting
from draem_jax.data.tiles import UNIT, Blending, lay_tiles
from draem_jax.errors import UserError

sides = st.integers(1, 400)
tile_sides = st.integers(1, 4).map(lambda units: units * UNIT)


def picture(height, width):
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows % 256, columns % 256, (rows + columns) % 256], axis=-1).astype(np.uint8)


@given(own=st.tuples(sides, sides))
def test_a_letterboxed_picture_keeps_its_shape_and_fills_one_side(own):
    fitting = Fitting((64, 96), "letterbox")
    height, width = fitting.content_size(own)
    assert height == 64 or width == 96
    assert height <= 64
    assert width <= 96
    # To half a pixel, and no side vanishes.
    scale = min(64 / own[0], 96 / own[1])
    assert abs(height - max(1, own[0] * scale)) <= 0.5 + 1e-9
    assert abs(width - max(1, own[1] * scale)) <= 0.5 + 1e-9
    canvas = fitting.fit(picture(*own))
    assert canvas.shape == (64, 96, 3)
    plane = fitting.fit_plane(None, own)
    looked_at = np.ones((64, 96), bool) if plane is None else plane
    assert looked_at.sum() == height * width
    assert looked_at[:height, :width].all()
    assert fitting.pads(own) == (plane is not None)
    # A whole canvas of ones comes back as a picture of ones, whatever stands in the padding.
    filled = np.where(looked_at, 1.0, np.nan).astype(np.float32)
    np.testing.assert_allclose(fitting.restore(filled, own), np.ones(own), rtol=1e-6)


def test_tiled_pictures_are_scaled_and_those_smaller_than_a_tile_are_mirrored():
    fitting = Fitting((64, 64), "tile", scale=0.5)
    large = picture(300, 200)
    assert fitting.fit(large).shape == (150, 100, 3)
    assert fitting.fit_plane(None, (300, 200)) is None
    low = picture(100, 200)
    canvas = fitting.fit(low)
    assert canvas.shape == (64, 100, 3)
    np.testing.assert_array_equal(canvas[50:64], canvas[36:50][::-1])
    np.testing.assert_array_equal(fitting.fit_plane(None, (100, 200)).sum(axis=0), 50)
    # Textures are enlarged until they fill a tile, in their own shape.
    assert fitting.of_textures.fit(low).shape == (64, 128, 3)
    with pytest.raises(UserError, match=r"50 x 200 pixels, of .*scale=0\.5 leaves 25 x 1"):
        fitting.fit(picture(50, 200))


@given(
    canvas=st.tuples(sides, sides),
    size=st.tuples(tile_sides, tile_sides),
    overlap=st.just(0) | st.integers(0, 127),
)
def test_tiles_cover_a_canvas_share_what_they_shall_and_weigh_one_together(canvas, size, overlap):
    overlap = min(overlap, min(size) - 1)
    grid = lay_tiles(canvas, size, overlap=overlap)
    for starts, side, length in zip((grid.tops, grid.lefts), size, canvas, strict=True):
        steps = np.diff(starts)
        assert starts[0] == 0
        assert all(start % UNIT == 0 for start in starts)
        assert length <= starts[-1] + side < max(length, side) + UNIT
        # Where there is room for more than a step of one unit, at least the overlap is shared.
        assert (steps > 0).all()
        assert (steps <= max(UNIT, side - overlap)).all()
        if overlap == 0:  # side by side, but for the last
            assert set(steps[:-1]) <= {side}
    total = np.zeros(grid.covered)
    rows, columns = grid.row_weights(), grid.column_weights()
    for tile in grid:
        total[tile.window] += np.outer(rows[tile.row], columns[tile.column])
    np.testing.assert_allclose(total, 1, atol=1e-5)


@given(canvas=st.tuples(sides, sides), size=st.tuples(tile_sides, tile_sides))
def test_blending_gives_back_what_all_tiles_agree_on(canvas, size):
    grid = lay_tiles(canvas, size, overlap=min(size) // 4)
    whole = np.random.default_rng(0).random((*grid.covered, 2), np.float32)
    blending = Blending(grid, channels=2)
    parts = [blending.add(tile, whole[tile.window]) for tile in grid]
    assert sum(part is not None for part in parts) == len(grid.tops)
    blended = np.concatenate([part for part in parts if part is not None])
    np.testing.assert_allclose(blended, whole, atol=1e-5)
