"""PNG files from rows: any reader finds what was written."""

import numpy as np
import pytest
from PIL import Image

from draem_jax.reports.png_rows import write_png_rows


@pytest.mark.parametrize(
    ("dtype", "shape", "mode"),
    [(np.uint8, (37, 53), "L"), (np.uint8, (37, 53, 3), "RGB"), (np.uint16, (37, 53), "I;16")],
)
@pytest.mark.parametrize("rows", [1, 10, 37])
def test_rows_come_back(dtype, shape, mode, rows, tmp_path):
    image = np.random.default_rng(0).integers(0, np.iinfo(dtype).max + 1, shape, dtype)
    image[3:9] = 7
    path = tmp_path / "a.png"
    write_png_rows(path, len(image), (image[top : top + rows] for top in range(0, 37, rows)))
    with Image.open(path) as picture:
        picture.verify()
    with Image.open(path) as picture:
        assert picture.mode == mode
        np.testing.assert_array_equal(np.array(picture), image)


def test_half_a_picture_is_none(tmp_path):
    path = tmp_path / "a.png"
    with pytest.raises(ValueError, match="3 rows were given of a picture that has 4"):
        write_png_rows(path, 4, [np.zeros((3, 5), np.uint8)])
    assert not list(tmp_path.iterdir())
