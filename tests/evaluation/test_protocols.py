import jax
import numpy as np
import pytest

from draem_jax.evaluation.protocols import eroded_mask, nearest_mask


@pytest.mark.parametrize("size", [(20, 30), (64, 48), (36, 90), (41, 55)])
def test_only_full_white_is_left_of_a_resized_mask(size):
    rng = np.random.default_rng(0)
    coarse = rng.random((8, 11)) < 0.5
    mask = coarse.repeat(5, 0).repeat(5, 1)[:, :53]  # (40, 53)
    levels = jax.image.resize(
        255.0 * mask.astype(np.float32), size, method="linear", antialias=False
    )
    expected = (np.rint(np.asarray(levels)) / 255).astype(int) == 1
    np.testing.assert_array_equal(eroded_mask(mask, size), expected)
    assert expected.sum() < nearest_mask(mask, size).sum()


def test_a_thin_defect_vanishes_in_the_papers_protocol():
    mask = np.zeros((64, 64), bool)
    mask[30] = True
    assert not eroded_mask(mask, (24, 24)).any()
    assert eroded_mask(mask, (64, 64)) is mask
