"""What the networks see of a picture, drawn."""

import numpy as np
import pytest

from draem_jax.config import default_config
from draem_jax.data.fitting import Fitting
from draem_jax.data.pictures import read_picture
from draem_jax.errors import UserError
from draem_jax.inspection.seen import advise_on, draw_seen
from tests.data.fixtures import write_picture

TOP, GAP = 38, 16  # of the sheet: what is above the pictures, and beside them


@pytest.fixture
def config(tmp_path, monkeypatch):
    """A config of three pictures of 100 x 160."""
    monkeypatch.setenv("DRAEM_JAX_DATA", str(tmp_path / "data"))
    for i in range(3):
        write_picture(tmp_path / "photos" / f"{i}.png", size=(100, 160))
    config = default_config()
    config.data.update(name="folder", category="", root=str(tmp_path / "photos"), holdout=0.0)
    return config


def network_view(sheet, size, factor):
    """The right picture of a sheet, a pixel for each of those that are enlarged."""
    height, width = (factor * side for side in size)
    return sheet[TOP : TOP + height, -GAP - width : -GAP][::factor, ::factor]


@pytest.mark.parametrize("fit", ["squeeze", "letterbox"])
def test_a_whole_picture_is_shown_as_the_networks_see_it(config, tmp_path, fit):
    config.data.update(image_size=(64, 96), fit=fit)
    way = Fitting((64, 96), fit)
    seen = network_view(draw_seen(config), (64, 96), 9)
    content = way.content_of((100, 160))
    canvas = way.fit(read_picture(tmp_path / "photos" / "0.png"))
    np.testing.assert_array_equal(seen[content], canvas[content])
    padding = np.ones((64, 96), bool)
    padding[content] = False
    assert (seen[padding] <= canvas[padding]).all()
    assert padding.any() == (fit == "letterbox")


def test_a_tile_is_shown_as_the_networks_see_it(config, tmp_path):
    config.data.update(tile=(64,), scale=0.8)
    canvas = Fitting((64, 64), "tile", 0.8).fit(read_picture(tmp_path / "photos" / "0.png"))
    seen = network_view(draw_seen(config), (64, 64), 10)
    within = slice(1, -1), slice(1, -1)  # of the frame
    np.testing.assert_array_equal(seen[within], canvas[:64, :64][within])
    # As much of a defect is shown as is left of it.
    marked = draw_seen(config, smallest_defect=10.0)
    changed = (network_view(marked, (64, 64), 10) != seen).any(axis=-1)
    rows, columns = np.nonzero(changed)
    assert rows.max() - rows.min() + 1 == pytest.approx(8, abs=2)  # resizing blurs its edges
    assert columns.max() - columns.min() + 1 == pytest.approx(8, abs=2)


def test_advice_is_on_what_is_configured(config):
    config.data.update(tile=(64,), scale=0.5, tile_overlap=0)
    advice = advise_on(config, 10.0)
    assert advice.sizes.typical == (100, 160)
    assert advice.configured.kept == (5, 5, 5)
    assert advice.configured.tiles.typical == 2
    with pytest.raises(UserError, match="101 pixels does not fit into a picture of 160 x 100"):
        advise_on(config, 101.0)


def test_a_defect_that_is_larger_than_a_tile_fills_it(config):
    config.data.update(tile=(32,), tile_overlap=0)
    view = network_view(draw_seen(config, smallest_defect=90.0), (32, 32), 20)
    inner = view[1:-1, 1:-1]
    assert (inner == inner[0, 0]).all()
