"""Counts are exact, whatever is spread over devices, padded or left out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from draem_jax.evaluation.pixel_counts import (
    BINS,
    NAN_BIN,
    add_pictures,
    bin_of,
    count_pixels,
    lowest_in_bin,
    zero_counts,
)
from draem_jax.evaluation.truth import encode_mask
from tests.evaluation.references import draw_pictures


def test_bins_keep_the_order_of_float32():
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**32, 50_000, dtype=np.uint32).view(np.float32)
    values = np.sort(np.r_[bits[~np.isnan(bits)], rng.normal(size=10_000), -np.inf, np.inf])
    values = values.astype(np.float32)
    bins = np.asarray(bin_of(jnp.asarray(values)))
    assert (np.diff(bins) >= 0).all()
    assert bins.min() > 0
    assert bins.max() < NAN_BIN
    lowest = lowest_in_bin()
    normal = np.abs(values) > 1e-37  # XLA may take denormal numbers for 0
    assert (lowest[bins[normal]] <= values[normal]).all()
    assert (values[normal] < lowest[bins[normal] + 1]).all() or np.isinf(values[-1])
    assert int(bin_of(jnp.float32(-0.0))) == int(bin_of(jnp.float32(0.0)))
    assert int(bin_of(jnp.float32(np.nan))) == NAN_BIN
    # 2,048 bins an octave where margins lie
    octave = np.asarray(bin_of(jnp.array([4, 8], jnp.float32)))
    assert octave[1] - octave[0] == 2048


def test_region_weights_are_of_eight_connected_regions():
    mask = np.array([[1, 0, 0, 0], [0, 1, 0, 1], [0, 0, 0, 1]], bool)
    np.testing.assert_array_equal(encode_mask(mask), np.where(mask, 0.5, 0))


def test_devices_together_count_what_numpy_counts():
    pictures = draw_pictures("ties", size=32, normal=4, defective=4)
    truth = pictures.truth
    truth[1, :, 16:] = -1  # padding
    truth[5] = -1  # no mask is known

    def count(group, margins, truth, is_member, draws):
        added = add_pictures(group, count_pixels(margins, truth), is_member, draws)
        return jax.lax.psum(added, "batch")

    is_member = np.array([True] * 7 + [False])
    draws = np.random.default_rng(0).poisson(1, (8, 3)).astype(np.float32)
    split = [a.reshape(4, 2, *a.shape[1:]) for a in (pictures.margins, truth, is_member, draws)]
    counts = jax.pmap(count, axis_name="batch", in_axes=(None, 0, 0, 0, 0), out_axes=None)(
        zero_counts(3), *split
    )
    bins = np.asarray(bin_of(jnp.asarray(pictures.margins)))
    kinds = np.stack([truth == 0, truth > 0], axis=1)
    expected = np.array(
        [
            [np.bincount(b[k], minlength=BINS) for k in kind]
            for b, kind in zip(bins, kinds, strict=True)
        ]
    )
    counted = np.delete(np.arange(7), 5)  # the last is no member
    np.testing.assert_array_equal(counts.pixels, expected[counted].sum(0))
    weights = np.bincount(bins[:7][truth[:7] > 0], truth[:7][truth[:7] > 0], minlength=BINS)
    np.testing.assert_allclose(counts.regions, weights, atol=1e-6)
    rates = expected[counted, 0] / expected[counted].sum((1, 2))[:, None]
    np.testing.assert_allclose(counts.rates, rates.sum(0), atol=1e-6)
    assert counts.pictures == 6
    np.testing.assert_array_equal(counts.draws, draws[counted].sum(0))
    coarse = expected[counted].reshape(6, 2, BINS // 64, 64).sum(-1)
    drawn = np.einsum("br,bkc->rkc", draws[counted], coarse)
    np.testing.assert_array_equal(counts.replicates[:, :2], drawn)


def test_a_large_region_in_one_saturated_bin_is_not_rounded_away():
    # Added one by one to float32, 1 / size would be off by percents here.
    size = 512
    mask = np.ones((size, size), bool)
    mask[:21:2] = False
    mask[1:21:2, 1::2] = False  # 2,560 single pixels besides
    truth = encode_mask(mask)[None]
    counts = count_pixels(jnp.full((1, size, size), jnp.inf), jnp.asarray(truth))
    weights = np.asarray(counts.regions)[0]
    assert np.count_nonzero(weights) == 1
    assert weights.max() == pytest.approx(2561, rel=1e-5)
