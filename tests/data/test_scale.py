"""What is left of the smallest defect, and the scale that is recommended for it."""

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from draem_jax.config import default_config, fitting
from draem_jax.data.fitting import LEAST_SIDE, Fitting
from draem_jax.data.scale import USUAL, WANTED, advise
from draem_jax.data.tiles import UNIT
from draem_jax.errors import UserError

sides = st.integers(8, 5000)
sizes_of_pictures = st.lists(st.tuples(sides, sides), min_size=1, max_size=5)


def test_what_is_usual_is_what_the_config_says():
    assert fitting(default_config()) == USUAL


@given(sizes=sizes_of_pictures, defect=st.floats(0.5, 600))
def test_what_is_recommended_keeps_enough_with_the_fewest_pixels(sizes, defect):
    assume(defect <= min(map(min, sizes)))
    advice = advise(sizes, defect)
    chosen = advice.recommended.fitting
    least = min(WANTED, defect) * (1 - 1e-9)
    assert all(side % UNIT == 0 for side in chosen.size)
    for size in sizes:
        chosen.canvas_size(size)  # is not refused
        assert defect * min(chosen.scales(size)) >= least
    assert advice.recommended.kept.least >= least
    if chosen == USUAL:
        return
    # The usual way lost too much of it.
    assert min(defect * min(USUAL.size) / max(size) for size in sizes) < min(WANTED, defect)
    if not chosen.is_tiled:
        assert math.prod(chosen.size) <= math.prod(USUAL.size) or min(map(min, sizes)) < LEAST_SIDE
        return
    assert chosen.scale <= 1
    assert max(chosen.size) <= max(USUAL.size)
    # A scale that is less by one in its second digit would not do.
    less = chosen.scale - 10.0 ** (math.floor(math.log10(chosen.scale)) - 1)
    shortest = min(map(min, sizes))
    assert less * defect < min(WANTED, defect) or less * shortest < LEAST_SIDE


@given(sizes=st.lists(st.tuples(sides, sides), min_size=1, max_size=5), scale=st.floats(0.1, 1))
def test_tiles_are_as_many_as_cover_the_pictures(sizes, scale):
    assume(min(map(min, sizes)) * scale > LEAST_SIDE)
    way = Fitting((64, 96), "tile", scale)
    seen = advise(sizes, 1.0, configured=way, overlap=0).configured
    counts = [
        math.prod(
            max(1, math.ceil(round(side * scale) / of))
            for side, of in zip(size, (64, 96), strict=True)
        )
        for size in sizes
    ]
    assert (seen.tiles.least, seen.tiles.most) == (min(counts), max(counts))
    assert seen.cost == seen.tiles.typical * 64 * 96 / 256**2


def test_sizes_are_told_by_their_range_and_the_one_in_the_middle():
    sizes = [(40, 50), (1000, 10), (30, 20), (40, 50), (40, 50)]
    assert advise(sizes, 1.0).sizes == ((30, 20), (40, 50), (1000, 10))
    kept = advise(sizes, 2.0).usual.kept
    assert kept == (2 * 256 / 1000, 2 * 256 / 50, 2 * 256 / 30)


def test_a_defect_that_no_picture_can_hold_is_refused():
    with pytest.raises(UserError, match="13 pixels does not fit into a picture of 90 x 12; give"):
        advise([(300, 200), (12, 90)], 13.0)
