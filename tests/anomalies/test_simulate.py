import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from draem_jax.anomalies import (
    AnomalyParams,
    OperationWeights,
    brighten_normals_with_keys,
    rotate_normals,
    rotate_normals_with_keys,
    simulate,
    simulate_with_keys,
)
from draem_jax.anomalies.masks import perlin_mask

compiled = jax.jit(simulate)
EVERY_SAMPLE = AnomalyParams.from_dict({"untouched_share": 0})
NO_OPERATION = {
    "weights": {field.name: 0 for field in dataclasses.fields(OperationWeights)},
}


def batch(size=400, shape=(24, 20)):
    images, textures = np.random.default_rng(0).integers(0, 256, (2, size, *shape, 3))
    return jnp.asarray(images, jnp.float32) / 255, jnp.asarray(textures, jnp.float32) / 255


def test_what_comes_out():
    images, textures = batch()
    augmented, mask, has_anomaly = compiled(jax.random.key(0), images, textures, AnomalyParams())
    assert augmented.shape == (400, 24, 20, 3)
    assert mask.shape == (400, 24, 20, 1)
    assert has_anomaly.shape == (400,)
    assert augmented.dtype == mask.dtype == jnp.float32
    assert set(np.unique(mask)) == {0, 1}
    assert float(augmented.min()) >= 0
    assert float(augmented.max()) <= 1
    np.testing.assert_array_equal(has_anomaly, np.asarray(mask).any(axis=(1, 2, 3)))
    np.testing.assert_array_equal(np.where(mask > 0, 0, augmented), np.where(mask > 0, 0, images))
    assert 0.25 < float(has_anomaly.mean()) < 0.7
    inside = np.asarray(mask[..., 0] > 0)
    assert not np.array_equal(np.asarray(augmented)[inside], np.asarray(images)[inside])


def test_blends_with_the_opacity():
    params = AnomalyParams.from_dict(
        {"opacity": (0.25, 0.25), "texture": NO_OPERATION}, base=EVERY_SAMPLE
    )
    images, textures = batch()
    augmented, mask, _ = compiled(jax.random.key(1), images, textures, params)
    beta = 0.75
    expected = mask * ((1 - beta) * textures + beta * images) + (1 - mask) * images
    assert float(mask.mean()) > 0.005
    np.testing.assert_allclose(augmented, expected, atol=1e-6)


def test_opacity_0_changes_nothing_and_1_leaves_nothing():
    images, textures = batch()
    for opacity, inside in ((0.0, images), (1.0, textures)):
        params = AnomalyParams.from_dict(
            {"opacity": (opacity, opacity), "texture": {"operations": 0}}, base=EVERY_SAMPLE
        )
        augmented, mask, _ = compiled(jax.random.key(1), images, textures, params)
        assert float(mask.mean()) > 0.005
        np.testing.assert_array_equal(augmented, jnp.where(mask > 0, inside, images))


def test_given_masks_take_the_place_of_drawn_ones():
    images, textures = batch(8)
    drawn = compiled(jax.random.key(1), images, textures, EVERY_SAMPLE)
    again = compiled(jax.random.key(1), images, textures, EVERY_SAMPLE, masks=drawn.mask)
    jax.tree.map(np.testing.assert_array_equal, again, drawn)
    half = jnp.zeros_like(drawn.mask).at[:, :12].set(1)
    augmented, mask, _ = compiled(jax.random.key(1), images, textures, EVERY_SAMPLE, masks=half)
    np.testing.assert_array_equal(mask, half)
    np.testing.assert_array_equal(augmented[:, 12:], images[:, 12:])
    shared = np.asarray(drawn.mask * half) > 0
    np.testing.assert_array_equal(augmented * shared, drawn.augmented * shared)


@pytest.mark.long
def test_another_shape_and_blend_change_what_the_mask_says():
    images, textures = batch(40, shape=(64, 48))
    params = AnomalyParams.from_dict(
        {"mask": "rectangles", "blend": "poisson", "opacity": (1, 1)}, base=EVERY_SAMPLE
    )
    augmented, mask, has_anomaly = compiled(jax.random.key(1), images, textures, params)
    assert has_anomaly.all()
    changed = np.asarray(augmented != images).any(-1, keepdims=True)
    assert not (changed & (mask == 0)).any()
    assert changed[np.asarray(mask) > 0].mean() > 0.95  # some operations leave one grey
    assert float(augmented.min()) >= 0
    assert float(augmented.max()) <= 1


def test_shares_and_ranges_hold():
    images, textures = jnp.zeros((400, 24, 20, 3)), jnp.ones((400, 24, 20, 3))
    params = AnomalyParams.from_dict(
        {
            "untouched_share": 0.3,
            "opacity": (0.4, 0.6),
            "threshold": (-2, -2),
            "texture": NO_OPERATION,
        }
    )
    augmented, mask, has_anomaly = compiled(jax.random.key(2), images, textures, params)
    np.testing.assert_array_equal(mask.min(axis=(1, 2, 3)), has_anomaly)
    assert abs(float(has_anomaly.mean()) - 0.7) < 0.08
    opacity = np.asarray(augmented)[np.asarray(has_anomaly), 0, 0, 0]
    assert opacity.min() >= 0.4
    assert opacity.max() <= 0.6
    np.testing.assert_allclose(
        np.quantile(opacity, [0.25, 0.5, 0.75]), [0.45, 0.5, 0.55], atol=0.03
    )


def test_a_sample_depends_on_its_own_key_alone():
    """Sample i of `simulate` is drawn from fold_in(key, i), whatever else is in the batch."""
    images, textures = batch()
    key = jax.random.key(9)
    mask = compiled(key, images, textures, EVERY_SAMPLE).mask
    other = compiled(key, images[::-1], textures[::-1], EVERY_SAMPLE).mask
    np.testing.assert_array_equal(mask, other)
    assert not np.array_equal(mask[0], mask[1])


def test_an_empty_mask_is_normal():
    params = AnomalyParams.from_dict({"threshold": (2, 2)}, base=EVERY_SAMPLE)
    images, textures = batch()
    augmented, mask, has_anomaly = compiled(jax.random.key(0), images, textures, params)
    assert not has_anomaly.any()
    assert not mask.any()
    np.testing.assert_array_equal(augmented, images)


def test_numbers_do_not_recompile():
    images, textures = batch()
    more = AnomalyParams.from_dict({"texture": {"operations": 7, "weights": {"invert": 0}}})
    compiled(jax.random.key(0), images, textures, AnomalyParams.code())
    before = compiled._cache_size()
    for params in (AnomalyParams.paper(), EVERY_SAMPLE, more):
        compiled(jax.random.key(0), images, textures, params)
    assert compiled._cache_size() == before


def sample_step(keys, images, textures, params):
    """What a training step does with its part of the batch."""
    turned = rotate_normals_with_keys(keys, images, params)
    return simulate_with_keys(keys, turned, textures, params)


@pytest.fixture(scope="module")
def eight_samples():
    keys = jax.random.split(jax.random.key(5), 8)
    images, textures = batch(8)
    params = AnomalyParams.from_dict({"untouched_share": 0.25})
    return (keys, images, textures), params, jax.jit(sample_step)(keys, images, textures, params)


def test_splitting_the_batch_changes_nothing(eight_samples):
    """Over four devices, and over two steps of a scan in each."""
    samples, params, expected = eight_samples

    def steps(*samples):
        return jax.lax.scan(lambda _, part: (None, sample_step(*part, params)), None, samples)[1]

    split = jax.tree.map(lambda array: array.reshape(4, 2, 1, *array.shape[1:]), samples)
    for found, whole in zip(jax.pmap(steps, axis_name="batch")(*split), expected, strict=True):
        np.testing.assert_array_equal(found.reshape(whole.shape), whole)


@pytest.mark.long
def test_vectorised_as_on_an_accelerator(eight_samples):
    """On a CPU, `vmap` over batches of one takes every branch, as accelerators do."""
    samples, params, expected = eight_samples
    batches_of_one = jax.tree.map(lambda array: array[:, None], samples)
    found = jax.jit(jax.vmap(partial(sample_step, params=params)))(*batches_of_one)
    np.testing.assert_allclose(found.augmented[:, 0], expected.augmented, atol=2 / 255)
    np.testing.assert_array_equal(found.mask[:, 0], expected.mask)


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_lowers_for_accelerators(eight_samples, platform):
    samples, params, _ = eight_samples
    split = jax.P("batch")
    sharded = jax.shard_map(
        sample_step,
        mesh=jax.sharding.Mesh(np.array(jax.devices()[:1]), ("batch",)),
        in_specs=(split, split, split, jax.P()),
        out_specs=split,
        check_vma=False,
    )
    assert jax.jit(sharded).trace(*samples, params).lower(lowering_platforms=(platform,)).as_text()


def test_rotate_normals():
    images = jnp.ones((2000, 6, 6, 3))
    turned = jax.jit(rotate_normals)(jax.random.key(0), images, AnomalyParams())
    unchanged = np.asarray((turned == images).all(axis=(1, 2, 3)))
    assert abs(unchanged.mean() - 0.7) < 0.04
    always = AnomalyParams.from_dict({"normal_rotation_share": 1, "normal_rotation": (90, 90)})
    images, _ = batch(3, shape=(20, 20))
    np.testing.assert_allclose(
        rotate_normals(jax.random.key(0), images, always),
        np.rot90(images, -1, axes=(1, 2)),
        atol=1e-4,
    )


def test_normals_are_mirrored_along_each_axis():
    image = np.random.default_rng(0).random((5, 7, 3), np.float32)
    images = np.broadcast_to(image, (2000, *image.shape))
    params = AnomalyParams.from_dict({"normal_rotation_share": 0, "normal_flip_share": 0.3})
    found = np.asarray(jax.jit(rotate_normals)(jax.random.key(0), jnp.asarray(images), params))
    for axes, share in (((), 0.49), ((0,), 0.21), ((1,), 0.21), ((0, 1), 0.09)):
        is_so = (found == np.flip(image, axes)).all(axis=(1, 2, 3))
        assert is_so.mean() == pytest.approx(share, abs=0.03)


def test_normals_are_brightened_alike_in_all_pixels():
    keys, images = jax.random.split(jax.random.key(0), 500), jnp.full((500, 2, 3, 3), 0.8)
    params = AnomalyParams.from_dict({"normal_brightness": (0.5, 1.5)})
    found = np.asarray(brighten_normals_with_keys(keys, images, params))
    assert (found == found[:, :1, :1, :1]).all()
    levels = np.sort(found[:, 0, 0, 0])
    # Uniform from 0.4 to 1.2, of which what is above 1 is 1.
    expected = np.minimum(np.linspace(0.4, 1.2, 500), 1)
    np.testing.assert_allclose(levels, expected, atol=0.06)
    plain = brighten_normals_with_keys(keys, images, AnomalyParams())
    np.testing.assert_array_equal(plain, images)


def test_masks_are_small_parts_coarse_to_fine():
    draw = jax.jit(jax.vmap(partial(perlin_mask, params=AnomalyParams()), in_axes=(0, None)))
    mask = np.asarray(draw(jax.random.split(jax.random.key(0), 400), jnp.zeros((64, 64, 3))))
    covered = mask.mean(axis=(1, 2, 3))
    assert 0.02 < covered.mean() < 0.12
    edges = np.abs(np.diff(mask[..., 0], axis=2)).mean(axis=(1, 2)) / np.maximum(covered, 1e-3)
    assert np.quantile(edges[covered > 0.01], 0.9) > 3 * np.quantile(edges[covered > 0.01], 0.1)
