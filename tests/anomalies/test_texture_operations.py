import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from draem_jax.anomalies import OperationWeights, TextureParams
from draem_jax.anomalies import texture_operations as operations
from draem_jax.anomalies.colour import ColourSpace
from draem_jax.anomalies.levels import (
    count_by_products,
    count_levels,
    look_up,
    look_up_by_products,
)
from draem_jax.anomalies.texture_operations import OPERATIONS

GOLDEN = {
    "gamma_contrast_0.5": partial(operations.gamma_contrast, gamma=jnp.full(3, 0.5)),
    "gamma_contrast_2.0": partial(operations.gamma_contrast, gamma=jnp.full(3, 2.0)),
    "multiply_and_add_brightness_1.2_-30": partial(
        operations.change_brightness, space=ColourSpace.HSV, factor=1.2, shift=-30
    ),
    "enhance_sharpness_0.0": partial(operations.enhance_sharpness, factor=0.0),
    "enhance_sharpness_2.0": partial(operations.enhance_sharpness, factor=2.0),
    "hue_saturation_hue+30_sat-40": partial(
        operations.shift_hue_and_saturation, hue=30, saturation=-40
    ),
    "hue_saturation_hue-50_sat+50": partial(
        operations.shift_hue_and_saturation, hue=-50, saturation=50
    ),
    "solarize_64": partial(operations.solarize, threshold=64),
    "posterize_3bits": partial(operations.posterize, bits=3),
    "invert": operations.invert,
    "autocontrast_cutoff0": partial(operations.autocontrast, cutoff=0),
    "autocontrast_cutoff10": partial(operations.autocontrast, cutoff=10),
    "equalize": operations.equalize,
    "rotate_+30": partial(operations.rotate, degrees=30),
    "rotate_-45": partial(operations.rotate, degrees=-45),
}


def as_levels(array):
    return jnp.asarray(array.astype(np.float32))


def as_image(array):
    return as_levels(array) / 255


@pytest.fixture(scope="module")
def photograph():
    from skimage.data import astronaut

    return np.ascontiguousarray(astronaut()[60:190:2, 150:330:2])


@pytest.mark.parametrize("name", GOLDEN)
def test_agrees_with_imgaug(golden, name):
    arrays = golden("texture_ops")
    result = np.asarray(jax.jit(GOLDEN[name])(as_levels(arrays["input_bgr_uint8"])))
    error = np.abs(result - arrays[name]).max(axis=-1)
    print(f"{name}: {(error <= 3).mean():.4f} within 3 levels, at most {error.max()}")
    assert (error <= 3).mean() >= 0.97
    exact = ("gamma", "sharp", "solarize", "posterize", "invert", "autocontrast", "equalize")
    if name.startswith(exact) or "enhance" in name:
        assert error.max() <= 1


@pytest.mark.parametrize("operation", ["autocontrast", "equalize", "posterize", "sharpness"])
def test_agrees_with_pillow_on_a_photograph(photograph, operation):
    pillow = Image.fromarray(photograph)
    ours, theirs = {
        "autocontrast": (
            partial(operations.autocontrast, cutoff=7),
            ImageOps.autocontrast(pillow, cutoff=7),
        ),
        "equalize": (operations.equalize, ImageOps.equalize(pillow)),
        "posterize": (partial(operations.posterize, bits=2), ImageOps.posterize(pillow, 2)),
        "sharpness": (
            partial(operations.enhance_sharpness, factor=1.7),
            ImageEnhance.Sharpness(pillow).enhance(1.7),
        ),
    }[operation]
    error = np.asarray(jax.jit(ours)(as_levels(photograph))) - np.asarray(theirs)
    assert np.abs(error).max() <= 1


@pytest.mark.parametrize(
    "operation", [operations.equalize, partial(operations.autocontrast, cutoff=5)]
)
@pytest.mark.parametrize("shape", [(7, 5), (40, 30)])
def test_a_single_colour_stays(operation, shape):
    image = as_levels(np.full((*shape, 3), 77))
    np.testing.assert_array_equal(operation(image), 77)


def test_operations_keep_the_contract(photograph):
    """Shape, dtype, range, whole levels, and nothing random but the key, at an odd size."""
    image = as_levels(photograph[:33, :20])

    @jax.jit
    def all_of_them(key):
        acts = OPERATIONS.values()
        return [operation(key, image, params=TextureParams()) for operation in acts]

    results = all_of_them(jax.random.key(3))
    for result, again in zip(results, all_of_them(jax.random.key(3)), strict=True):
        assert result.shape == image.shape
        assert result.dtype == jnp.float32
        np.testing.assert_array_equal(result, np.round(result))
        assert result.min() >= 0
        assert result.max() <= 255
        np.testing.assert_array_equal(result, again)


def test_too_small_to_smooth(photograph):
    image = as_levels(photograph[:2, :3])
    np.testing.assert_array_equal(operations.enhance_sharpness(image, factor=0.0), image)


def test_the_forms_without_gather_are_the_same(photograph):
    whole = jnp.asarray(photograph.astype(np.float32))
    tables = jnp.floor(jax.random.uniform(jax.random.key(0), (3, 256)) * 256)
    expected = [np.bincount(photograph[..., c].ravel(), minlength=256) for c in range(3)]
    np.testing.assert_array_equal(count_levels(whole), expected)
    np.testing.assert_array_equal(
        jax.jit(count_by_products)(whole.astype(jnp.int32).reshape(-1, 3)), expected
    )
    found = look_up(whole, tables=tables)
    np.testing.assert_array_equal(found, tables[np.arange(3), photograph])
    np.testing.assert_array_equal(
        found.reshape(-1, 3),
        jax.jit(look_up_by_products)(whole.astype(jnp.int32).reshape(-1, 3), tables),
    )


def test_a_batch_looks_up_as_each_by_itself(photograph):
    images = as_levels(np.stack([photograph, 255 - photograph]))
    tables = jnp.floor(jax.random.uniform(jax.random.key(0), (2, 3, 256)) * 256)
    expected = [look_up(image, tables=its) for image, its in zip(images, tables, strict=True)]
    batched = jax.vmap(lambda image, tables: look_up(image, tables=tables))
    np.testing.assert_array_equal(batched(images, tables), expected)
    shared = jax.vmap(lambda image: look_up(image, tables=tables[0]))(images)
    np.testing.assert_array_equal(shared[0], expected[0])


def test_distinct_operations_in_uniformly_random_order():
    drawn = np.asarray(
        jax.vmap(operations.draw_operations, in_axes=(0, None))(
            jax.random.split(jax.random.key(0), 9000), OperationWeights()
        )
    )
    assert all(len(set(row)) == 10 for row in drawn[:500])
    for place in range(3):
        counts = np.bincount(drawn[:, place], minlength=10)
        assert len(counts) == 10
        assert ((counts - 900) ** 2 / 900).sum() < 33.7  # chi², 9 degrees of freedom, p = 1e-4
    pairs = np.zeros((10, 10))
    np.add.at(pairs, (drawn[:, 0], drawn[:, 1]), 1)
    off_diagonal = pairs[~np.eye(10, dtype=bool)]
    assert ((off_diagonal - 100) ** 2 / 100).sum() < 146  # 89 degrees of freedom, p = 1e-4


augment = jax.jit(operations.augment_texture)


def weights_of(**values):
    return OperationWeights(**dict.fromkeys(OPERATIONS, 0.0) | values)


def test_each_weight_is_that_of_the_operation_of_its_name(photograph):
    image = as_image(photograph)
    assert {field.name for field in dataclasses.fields(OperationWeights)} == set(OPERATIONS)
    for place, (name, operation) in enumerate(OPERATIONS.items()):
        assert operation.__name__ == f"random_{name}"
        order = operations.draw_operations(jax.random.key(0), weights_of(**{name: 2.0}))
        assert order.tolist() == [place] + [len(OPERATIONS)] * (len(OPERATIONS) - 1)

    def apply(key, weights):
        return augment(key, image, params=TextureParams(weights=weights))

    np.testing.assert_array_equal(apply(jax.random.key(0), weights_of()), image)
    inverted = apply(jax.random.key(0), weights_of(invert=2.0))
    np.testing.assert_array_equal(inverted, as_image(255 - photograph))


def test_as_many_operations_as_said(photograph):
    """One more operation is the next one of the order, applied to what there was."""
    image, key = as_image(photograph), jax.random.key(4)
    weights = weights_of(invert=1.0, posterize=1.0, gamma_contrast=1.0, sharpness=1.0)

    def apply(count):
        return augment(key, image, params=TextureParams(operations=count, weights=weights))

    order_key, *keys = jax.random.split(key, 11)
    order = operations.draw_operations(order_key, weights)
    results = [apply(float(count)) for count in range(5)]
    np.testing.assert_array_equal(results[0], image)
    for count in range(4):
        operation = list(OPERATIONS.values())[int(order[count])]
        levels = np.round(results[count] * 255)
        expected = operation(keys[count], levels, params=TextureParams()) / 255
        np.testing.assert_allclose(results[count + 1], expected, atol=1 / 255 + 1e-6)
        assert not np.array_equal(results[count + 1], results[count])
    np.testing.assert_array_equal(apply(10.0), results[4])  # the others are never drawn
    assert augment._cache_size() == 1
