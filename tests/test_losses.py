"""Losses against the authors' numbers and against dm-pix."""

import dm_pix
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from draem_jax.losses import (
    LossWeights,
    coarse_focal_loss,
    draem_losses,
    focal_loss,
    frequency_loss,
    l1_loss,
    l2_loss,
    ssim,
)
from draem_jax.similarity import ssim_map
from tests.networks.authors_names import nhwc


@pytest.mark.parametrize(("dtype", "rtol"), [(np.float64, 2e-6), (np.float32, 2e-5)])
def test_golden(golden, dtype, rtol):
    with jax.enable_x64(True):
        g = golden("losses")
        a, b, logits, mask = (nhwc(g[n]).astype(dtype) for n in ("a", "b", "logits", "mask"))
        np.testing.assert_allclose(l2_loss(a, b), g["l2"], rtol=rtol)
        np.testing.assert_allclose(ssim(a, b), g["ssim"], rtol=rtol)
        np.testing.assert_allclose(1 - ssim(a, b), g["one_minus_ssim"], rtol=rtol)
        np.testing.assert_allclose(ssim_map(a, b), nhwc(g["ssim_map"]), atol=1e-5)
        np.testing.assert_allclose(focal_loss(logits, mask), g["focal"], rtol=rtol)


def test_ssim_away_from_the_border_is_that_of_dm_pix(golden):
    g = golden("losses")
    a, b = nhwc(g["a"]), nhwc(g["b"])
    for data_range in (1.0, 2.0):
        theirs = dm_pix.ssim(a, b, max_val=data_range, return_map=True)
        ours = ssim_map(a, b, data_range=data_range)[:, 5:-5, 5:-5]
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_ssim_has_the_same_gradient_on_either_side(golden):
    g = golden("losses")
    a, b = nhwc(g["a"]), nhwc(g["b"])
    left, right = jax.grad(ssim, argnums=0)(a, b), jax.grad(ssim, argnums=1)(b, a)
    np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-7)


@jax.enable_x64(True)
def test_terms_are_weighted_and_left_out(golden):
    g = golden("losses")
    a, b, logits, masks = (nhwc(g[n]).astype(np.float64) for n in ("a", "b", "logits", "mask"))
    l2, structure, focal = float(g["l2"]), float(g["one_minus_ssim"]), float(g["focal"])
    l1 = np.abs(a - b).mean()
    np.testing.assert_allclose(l1_loss(a, b), l1, rtol=5e-6)

    def total(weights, *, reconstruction=a, logits=logits):
        losses = draem_losses(
            images=b, masks=masks, reconstruction=reconstruction, logits=logits, weights=weights
        )
        return losses.total

    coarse = np.mean([1 - ssim(_blocks(a, n), _blocks(b, n)) for n in (2, 4, 8)])
    weights = LossWeights(l2=0.0, l1=2.0, ssim=0.5, coarse_ssim=4.0, focal=3.0)
    whole = 2 * l1 + 0.5 * structure + 4 * coarse + 3 * focal
    np.testing.assert_allclose(total(weights), whole, rtol=5e-6)
    np.testing.assert_allclose(total(LossWeights()), l2 + structure + focal, rtol=5e-6)
    np.testing.assert_allclose(total(weights, reconstruction=None), 3 * focal, rtol=5e-6)
    np.testing.assert_allclose(total(LossWeights(), logits=None), l2 + structure, rtol=5e-6)


def _blocks(images, size):
    """The means of square blocks."""
    batch, height, width, channels = images.shape
    blocks = images.reshape(batch, height // size, size, width // size, size, channels)
    return blocks.mean(axis=(2, 4))


def test_frequencies_count_by_their_share_of_the_largest_error(golden):
    g = golden("losses")
    a, b = nhwc(g["a"]), nhwc(g["b"])
    expected = []
    for plane in np.moveaxis(np.asarray(a, np.float64) - b, -1, 1).reshape(-1, *a.shape[1:3]):
        error = np.abs(np.fft.fft2(plane)) / np.sqrt(plane.size)
        expected.append(np.mean(error / error.max() * error**2))
    np.testing.assert_allclose(frequency_loss(a, b), np.mean(expected), rtol=1e-4)
    # Of one frequency alone it is the squared error; and of none at all it can be differentiated.
    down = jnp.cos(2 * np.pi * np.arange(32) / 8)
    wave = jnp.broadcast_to(down.reshape(1, 32, 1, 1), (2, 32, 32, 3))
    np.testing.assert_allclose(frequency_loss(0.1 * wave, 0 * wave), 0.1**2 / 2, rtol=1e-4)
    assert not np.any(jax.grad(frequency_loss)(0 * wave, 0 * wave))


def test_a_block_of_a_coarser_map_is_anomalous_if_a_pixel_is():
    rng = np.random.default_rng(0)
    logits = [jnp.float32(rng.normal(size=(2, *size, 2))) for size in ((4, 6), (8, 12))]
    masks = jnp.zeros((2, 16, 24, 1)).at[1, 5, 23].set(1)
    expected = []
    for one, block in zip(logits, (4, 2), strict=True):
        coarse = jnp.zeros((*one.shape[:3], 1)).at[1, 5 // block, 23 // block].set(1)
        expected.append(focal_loss(one, coarse))
    np.testing.assert_allclose(coarse_focal_loss(tuple(logits), masks), np.mean(expected))
