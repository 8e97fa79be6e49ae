"""Layers against their definitions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from scipy.interpolate import RegularGridInterpolator

from draem_jax.networks import DraemNetwork, check_size, forward, initialise
from draem_jax.networks.convolution import _gradient, _gradient_as_convolutions, conv3x3
from draem_jax.networks.layers import ConvNormRelu, Stage, max_pool, upsample


def _normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


def test_upsample_aligns_corners():
    x = _normal(0, 1, 5, 3, 2)
    exact = RegularGridInterpolator((np.arange(5), np.arange(3)), np.asarray(x[0]))
    rows, columns = np.linspace(0, 4, 10), np.linspace(0, 2, 6)
    expected = exact(np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1))
    np.testing.assert_allclose(upsample(x)[0], expected, atol=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (4, 6), (9, 5)])
def test_both_convolution_gradients_agree(size):
    images, kernel = _normal(0, 2, *size, 3), _normal(1, 3, 3, 3, 5)
    cotangent = _normal(2, 2, *size, 5)
    for a, b in zip(
        _gradient(images, kernel, cotangent),
        _gradient_as_convolutions(images, kernel, cotangent),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, atol=1e-4)
    np.testing.assert_allclose(
        conv3x3(images, kernel),
        lax.conv_general_dilated(
            images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        ),
        atol=1e-5,
    )


def test_max_pool_and_its_gradient_are_those_of_reduce_window():
    x = _normal(0, 2, 8, 4, 3)

    def reference(x):
        return lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")

    np.testing.assert_array_equal(max_pool(x), reference(x))
    gradients = [jax.grad(lambda x, f=f: jnp.sum(f(x) ** 3))(x) for f in (max_pool, reference)]
    np.testing.assert_allclose(*gradients, rtol=1e-6)


def _unit_by_linen():
    unit = ConvNormRelu(128)
    return unit.init(jax.random.key(0), jnp.zeros((1, 4, 4, 256)), train=False)["params"]


def _unit_drawn_at_once():
    network = DraemNetwork(8, 16)
    params = initialise(network, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))["params"]
    return params["discriminative"]["decoder1"]["unit1"]


@pytest.mark.parametrize("draw_unit", [_unit_by_linen, _unit_drawn_at_once])
def test_initialisation_has_the_documented_distributions(draw_unit):
    unit = draw_unit()
    kernel, bias, scale = unit["conv"]["kernel"], unit["conv"]["bias"], unit["norm"]["scale"]
    assert abs(kernel.std() - 0.02) < 2e-4
    assert abs(kernel.mean()) < 1e-4
    bound = 1 / np.sqrt(9 * kernel.shape[2])
    assert 0.9 * bound < np.abs(bias).max() <= bound
    assert abs(scale.mean() - 1) < 0.01
    assert abs(scale.std() - 0.02) < 0.005
    assert not unit["norm"]["bias"].any()


@pytest.mark.long
def test_bfloat16_activations_keep_float32_parameters_and_outputs():
    network = DraemNetwork(4, 4, dtype=jnp.bfloat16)
    x = jax.random.uniform(jax.random.key(1), (1, 32, 64, 3))
    variables = initialise(network, jax.random.key(0), x)
    assert {a.dtype for a in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    output = jax.jit(lambda x: forward(network, variables, x))(x)
    assert output.logits.dtype == output.reconstruction.dtype == jnp.float32
    exact = jax.jit(lambda x: forward(DraemNetwork(4, 4), variables, x))(x)
    np.testing.assert_allclose(output.reconstruction, exact.reconstruction, atol=0.02)


@pytest.mark.parametrize(("size", "nearest"), [((250, 256), "256 x 256"), ((16, 70), "32 x 64")])
def test_other_sizes_are_refused_with_the_nearest(size, nearest):
    with pytest.raises(ValueError, match=f"not divisible by 32.*{nearest}"):
        check_size(*size)


@pytest.mark.long
def test_rematerialising_changes_nothing():
    x = jax.random.uniform(jax.random.key(0), (2, 8, 8, 3))
    stages = [Stage((4, 4), remat=remat) for remat in (False, True)]
    variables = stages[0].init(jax.random.key(1), x, train=False)

    def gradients_and_statistics(stage):
        def loss(params):
            y, updates = stage.apply(
                variables | {"params": params}, x, train=True, mutable=["batch_stats"]
            )
            return jnp.sum(y**2), updates

        return jax.jit(jax.grad(loss, has_aux=True))(variables["params"])

    plain, rematerialised = map(gradients_and_statistics, stages)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), plain, rematerialised)
    before = jax.tree.leaves(variables["batch_stats"])
    after = jax.tree.leaves(rematerialised[1]["batch_stats"])
    assert all(not np.allclose(a, b) for a, b in zip(before, after, strict=True))
