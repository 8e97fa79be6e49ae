"""Textures that are made of the picture itself."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from draem_jax.anomalies import TextureParams
from draem_jax.anomalies.sources import MAKERS
from draem_jax.data.texture_sources import NAMED_SOURCES, TextureSource

shuffle, move = jax.jit(MAKERS["blocks"]), jax.jit(MAKERS["elsewhere"])


def numbered(height, width):
    """An image that has each value once."""
    return jnp.arange(height * width * 3, dtype=jnp.float32).reshape(height, width, 3)


def blocks_of(image, count):
    height, width = image.shape[0] // count, image.shape[1] // count
    cut = np.asarray(image)[: height * count, : width * count]
    return cut.reshape(count, height, count, width, 3).swapaxes(1, 2).reshape(count**2, -1)


@pytest.mark.parametrize("shape", [(32, 48), (35, 53)])
def test_shuffled_blocks_are_a_permutation_of_the_blocks(shape):
    image = numbered(*shape)
    before = {k: blocks_of(image, 2**k) for k in range(5)}
    for k in range(5):
        params = TextureParams(block_exponent=(float(k), float(k)))
        seen = set()
        for seed in range(5):
            shuffled = shuffle(jax.random.key(seed), image, params=params)
            after = blocks_of(shuffled, 2**k)
            order = np.argsort(after[:, 0])
            np.testing.assert_array_equal(after[order], before[k])
            rest = [(n >> k) << k for n in shape]
            np.testing.assert_array_equal(shuffled[rest[0] :], image[rest[0] :])
            np.testing.assert_array_equal(shuffled[:, rest[1] :], image[:, rest[1] :])
            seen.add(tuple(order))
        assert len(seen) == (1 if k == 0 else 5 if k > 1 else len(seen))
        assert len(seen) > 1 or k == 0


def test_the_number_of_blocks_is_drawn():
    image, whole = numbered(32, 48), np.asarray(numbered(32, 48))
    params = TextureParams(block_exponent=(1.0, 3.0))
    exponents = set()
    for seed in range(30):
        shuffled = np.asarray(shuffle(jax.random.key(seed), image, params=params))
        # Neighbours on a row differ by 3 except across the seams of the blocks.
        seams = (np.diff(shuffled[..., 0], axis=1) != 3).any(0)
        if not np.array_equal(shuffled, whole):
            exponents.add(int(np.log2(48 / np.gcd.reduce(np.flatnonzero(seams) + 1))))
    assert exponents == {1, 2, 3}


def test_elsewhere_is_another_place_of_the_same_picture():
    image = numbered(40, 60)
    shifts = []
    for seed in range(20):
        moved = np.asarray(move(jax.random.key(seed), image, params=TextureParams()))
        rows, columns = np.argwhere(moved[..., 0] == 0)[0]
        np.testing.assert_array_equal(moved, np.roll(image, (rows, columns), (0, 1)))
        shifts.append((rows / 40, columns / 60))
    assert np.min(shifts) >= 0.24
    assert np.max(shifts) <= 0.76
    assert np.ptp(shifts, axis=0).min() > 0.3


def test_what_is_no_picture_is_made():
    kinds = {TextureSource(name).kind for name in NAMED_SOURCES}
    assert kinds == {"pictures", "self", *MAKERS}


def test_solid_is_one_colour_and_noise_is_not():
    image, params = numbered(8, 12), TextureParams()
    keys = [jax.random.key(i) for i in range(50)]
    solid = np.stack([MAKERS["solid"](key, image, params=params) for key in keys])
    assert np.ptp(solid, axis=(1, 2)).max() == 0
    colours = solid[:, 0, 0]
    assert len(np.unique(colours, axis=0)) == 50
    assert colours.min() < 0.1
    assert colours.max() > 0.9
    noise = np.asarray(MAKERS["noise"](keys[0], numbered(40, 60), params=params))
    assert len(np.unique(noise)) > 7000
    assert abs(noise.mean() - 0.5) < 0.02


def test_numbers_are_traced():
    for k in (1.0, 2.0):
        params = TextureParams(block_exponent=(k, k), shift=(0.1 * k, 0.5))
        shuffle(jax.random.key(0), numbered(32, 48), params=params)
        move(jax.random.key(0), numbered(40, 60), params=params)
    assert move._cache_size() == 1
    assert shuffle._cache_size() <= 2  # one for each size of picture in this file


@pytest.mark.parametrize("make", MAKERS.values())
def test_lowers_for_accelerators(make):
    traced = jax.jit(make).trace(jax.random.key(0), numbered(32, 48), params=TextureParams())
    for platform in ("cuda", "tpu"):
        assert traced.lower(lowering_platforms=(platform,)).as_text()
