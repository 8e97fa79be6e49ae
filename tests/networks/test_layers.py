"""Layers against their definitions."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from scipy.interpolate import RegularGridInterpolator

from draem_jax.networks import (
    DraemNetwork,
    check_size,
    cpu_convolution,
    forward,
    initialise,
)
from draem_jax.networks.convolution import (
    _as_product,
    _gradient,
    _precise,
    _swapped_gradient,
    conv3x3,
)
from draem_jax.networks.layers import ConvNormRelu, Output, Stage
from draem_jax.networks.normalisation import NormRelu
from draem_jax.networks.pooling import max_pool
from draem_jax.networks.upsampling import upsample
from draem_jax.platforms import traced_for


def _normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


def test_upsample_aligns_corners():
    x = _normal(0, 1, 5, 3, 2)
    exact = RegularGridInterpolator((np.arange(5), np.arange(3)), np.asarray(x[0]))
    rows, columns = np.linspace(0, 4, 10), np.linspace(0, 2, 6)
    expected = exact(np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1))
    np.testing.assert_allclose(upsample(x)[0], expected, atol=1e-6)


@pytest.mark.parametrize("channels", [(3, 5), (16, 2), (17, 3), (6, 32)])
@pytest.mark.parametrize("size", [(1, 1), (9, 5), (2, 128), (3, 133)])
def test_all_ways_to_convolve_agree(size, channels):
    images, kernel = _normal(0, 2, *size, channels[0]), _normal(1, 3, 3, *channels)
    cotangent = _normal(2, 2, *size, channels[1])
    expected = _gradient(images, kernel, cotangent)
    for way in (cpu_convolution.gradients, _swapped_gradient):
        for a, b in zip(way(images, kernel, cotangent), expected, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-4)
    np.testing.assert_allclose(
        cpu_convolution.same(images, kernel),
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
    params = initialise(network, jax.random.key(0))["params"]
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
@pytest.mark.parametrize(("start", "output"), [("he", 0.02), ("mirrored", 0.004)])
def test_other_starts_keep_variances(start, output):
    network = DraemNetwork(8, 16)
    params = initialise(network, jax.random.key(0), start=start)["params"]
    found = params["discriminative"]
    for name in ("encoder2", "encoder6", "decoder1", "decoder5"):
        for unit in found[name].values():
            kernel, channels = unit["conv"]["kernel"], unit["conv"]["kernel"].shape[2]
            assert kernel.std() == pytest.approx(np.sqrt(2 / (9 * channels)), rel=0.08)
            assert (unit["norm"]["scale"] == 1).all()
    # Nothing normalises what comes last.
    assert found["output"]["kernel"].std() == pytest.approx(output, rel=0.15)


@pytest.mark.long
def test_mirrored_layers_begin_linear():
    params = initialise(DraemNetwork(6, 4), jax.random.key(0), start="mirrored")["params"]
    encoder = params["reconstructive"]["encoder1"]
    images = _normal(0, 2, 8, 12, 3)
    found, _ = Stage((6, 6)).apply({"params": encoder}, images, train=True, mutable="batch_stats")
    # One of each pair is dark, and what the two tell apart needs no ReLU.
    even, odd = found[..., ::2], found[..., 1::2]
    assert not (even * odd).any()
    kernels = [encoder[unit]["conv"]["kernel"] for unit in ("unit1", "unit2")]
    expected = images
    for kernel in (kernels[0][..., ::2], kernels[1][:, :, ::2, ::2]):
        expected = conv3x3(expected, kernel)
        mean, std = (f(expected, (0, 1, 2), keepdims=True) for f in (jnp.mean, jnp.std))
        expected = (expected - mean) / std
    np.testing.assert_allclose(even - odd, expected, atol=1e-3)
    assert (params["reconstructive"]["output"]["bias"] == 0.5).all()


@pytest.mark.long
def test_bfloat16_activations_keep_float32_parameters_and_outputs():
    network = DraemNetwork(4, 4, dtype=jnp.bfloat16)
    x = jax.random.uniform(jax.random.key(1), (1, 32, 64, 3))
    variables = initialise(network, jax.random.key(0))
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
    # Sums of many terms: rounding goes by the largest values, which are gradients in the hundreds.
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * np.abs(b).max()),
        plain,
        rematerialised,
    )
    before = jax.tree.leaves(variables["batch_stats"])
    after = jax.tree.leaves(rematerialised[1]["batch_stats"])
    assert all(not np.allclose(a, b) for a, b in zip(before, after, strict=True))


def test_what_is_convolved_of_a_picture_is_not_kept():
    x, cotangent = _normal(0, 2, 8, 8, 3), _normal(1, 2, 8, 8, 5)
    unit, stage = ConvNormRelu(5), Stage((5,))
    variables = unit.init(jax.random.key(2), x, train=False)

    def gradient_and_kept(module, variables):
        def apply(params):
            given = variables | {"params": params}
            return module.apply(given, x, train=True, mutable=["batch_stats"])[0]

        _, backward = jax.vjp(apply, variables["params"])
        kept = [a.shape for a in jax.tree.leaves(backward)]
        return jax.tree.leaves(backward(cotangent)), kept.count(cotangent.shape)

    expected, kept = gradient_and_kept(unit, variables)
    assert kept == 1
    in_stage = {kind: {"unit1": its} for kind, its in variables.items()}
    gradient, kept = gradient_and_kept(stage, in_stage)
    assert kept == 0
    for a, b in zip(gradient, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_the_gradient_of_pooling_goes_to_the_first_maximum():
    x = jnp.round(_normal(0, 2, 8, 6, 3))  # with equal values among them
    y, gradient = jax.vjp(max_pool, x)
    g = _normal(1, *y.shape)
    expected = np.zeros(x.shape, np.float32)
    for b, i, j, c in np.ndindex(y.shape):
        block = np.asarray(x[b, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2, c])
        row, column = np.unravel_index(np.argmax(block), (2, 2))
        expected[b, 2 * i + row, 2 * j + column, c] = g[b, i, j, c]
    np.testing.assert_array_equal(gradient(g)[0], expected)


def test_the_gradient_of_upsampling_is_its_transpose():
    x = _normal(0, 2, 4, 6, 3)
    y, gradient = jax.vjp(upsample, x)
    g = _normal(1, *y.shape)
    # It is linear: what the inputs' unit vectors become is the matrix itself.
    matrix = jax.vmap(upsample)(jnp.eye(24).reshape(24, 1, 4, 6, 1)).reshape(24, 8, 12)
    np.testing.assert_allclose(
        gradient(g)[0].reshape(2, 24, 3), jnp.einsum("nhw,bhwc->bnc", matrix, g), atol=1e-5
    )


@pytest.mark.parametrize(("off", "error"), [(0, 1e-6), (3, 5e-5), (30, 5e-3)])
def test_one_pass_gives_the_statistics_of_two(off, error):
    """`off`: how many deviations the running means are away from the batch's."""
    x, offset = 0.1 * _normal(0, 4, 16, 16, 2) + 3, jnp.array([0.3, -0.2])
    exact = np.asarray(x, np.float64)
    mean, deviation = exact.mean((0, 1, 2)), exact.std((0, 1, 2))
    norm = NormRelu()
    variables = norm.init(jax.random.key(1), x, offset, train=False)
    running = jnp.float32(mean + offset + off * deviation)
    variables = variables | {"batch_stats": {"mean": running, "var": jnp.ones(2)}}
    y, updated = norm.apply(variables, x, offset, train=True, mutable=["batch_stats"])
    scale = np.asarray(variables["params"]["scale"], np.float64)
    expected = np.maximum((exact - mean) / np.sqrt(deviation**2 + 1e-5) * scale, 0)
    np.testing.assert_allclose(y, expected, rtol=error, atol=1e-5)
    updated = updated["batch_stats"]
    np.testing.assert_allclose(updated["mean"], 0.9 * running + 0.1 * (mean + offset), rtol=1e-6)
    np.testing.assert_allclose((updated["var"] - 0.9) * 10, deviation**2, rtol=error, atol=1e-6)


@pytest.mark.parametrize("way", [_precise, _as_product])
def test_a_convolution_to_few_channels_is_a_convolution(way):
    x, kernel = _normal(0, 2, 6, 8, 5), _normal(1, 3, 3, 5, 3)
    np.testing.assert_allclose(way(x, kernel), conv3x3(x, kernel), atol=1e-4)
    # Rounded arguments are added up without further rounding.
    x, kernel = x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16)
    exact = conv3x3(x.astype(jnp.float32), kernel.astype(jnp.float32))
    assert way(x, kernel).dtype == jnp.float32
    np.testing.assert_allclose(way(x, kernel), exact, atol=1e-4)


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_what_accelerators_compute_is_what_cpus_do(platform):
    x = _normal(0, 2, 8, 8, 3)

    class Layers(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = upsample(max_pool(Stage((4, 4))(x, train=True)))
            return Output(2)(x)

    variables = Layers().init(jax.random.key(1), x)

    def gradients():
        def loss(params, x):
            y, updates = Layers().apply(variables | {"params": params}, x, mutable=["batch_stats"])
            return jnp.mean(y**2), updates

        return jax.jit(jax.grad(loss, argnums=(0, 1), has_aux=True))(variables["params"], x)

    with traced_for("cpu"):
        on_cpu = gradients()
    with traced_for(platform):
        elsewhere = gradients()
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), on_cpu, elsewhere
    )
