"""Losses against the authors' numbers and against dm-pix."""

import dm_pix
import numpy as np

from draem_jax.losses import focal_loss, l2_loss, ssim
from draem_jax.similarity import ssim_map
from tests.networks.authors_names import nhwc


def test_golden(golden):
    g = golden("losses")
    a, b = nhwc(g["a"]), nhwc(g["b"])
    np.testing.assert_allclose(l2_loss(a, b), g["l2"], rtol=1e-5)
    np.testing.assert_allclose(ssim(a, b), g["ssim"], rtol=1e-5)
    np.testing.assert_allclose(1 - ssim(a, b), g["one_minus_ssim"], rtol=1e-5)
    np.testing.assert_allclose(ssim_map(a, b), nhwc(g["ssim_map"]), atol=1e-5)
    np.testing.assert_allclose(
        focal_loss(nhwc(g["logits"]), nhwc(g["mask"])), g["focal"], rtol=1e-5
    )


def test_ssim_away_from_the_border_is_that_of_dm_pix(golden):
    g = golden("losses")
    a, b = nhwc(g["a"]), nhwc(g["b"])
    for data_range in (1.0, 2.0):
        theirs = dm_pix.ssim(a, b, max_val=data_range, return_map=True)
        ours = ssim_map(a, b, data_range=data_range)[:, 5:-5, 5:-5]
        np.testing.assert_allclose(ours, theirs, atol=1e-4)
