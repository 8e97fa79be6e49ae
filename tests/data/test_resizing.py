"""Windows of what is resized: those of the whole."""

import numpy as np
import pytest

from draem_jax.data import resizing
from draem_jax.data.pictures import resize, resize_plane
from draem_jax.data.resizing import resized_window

OF = (151, 97)


@pytest.mark.parametrize("to", [(75, 49), (151, 97), (20, 31), (300, 110), (1, 1), (151, 50)])
@pytest.mark.parametrize("largest", [2048, 40])
def test_a_window_is_that_of_the_whole(to, largest, monkeypatch):
    monkeypatch.setattr(resizing, "_LARGEST_SIDE", largest)
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (*OF, 3), np.uint8)
    plane = rng.normal(size=OF).astype(np.float32)
    whole, whole_plane = resize(image, to), resize_plane(plane, to)
    for _ in range(20):
        window = tuple(slice(*np.sort(rng.integers(0, side + 1, 2))) for side in to)
        if 0 in whole[window].shape:
            continue
        found = resized_window(lambda part: image[part], OF, to, window)
        assert np.abs(found.astype(int) - whole[window]).max() <= 1
        found = resized_window(lambda part: plane[part], OF, to, window)
        np.testing.assert_allclose(found, whole_plane[window], atol=1e-4)
