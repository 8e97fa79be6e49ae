"""The step is the same on any number of devices, and lowers for machines that are not at hand."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from draem_jax.anomalies import AnomalyParams
from draem_jax.data.texture_sources import TextureSource
from draem_jax.losses import LossWeights
from draem_jax.training.optimizer import create_optimizer
from draem_jax.training.parallel import AXIS_NAME
from draem_jax.training.pictures import Pictures, make_mix
from draem_jax.training.samples import Draw, draw_samples
from draem_jax.training.state import create_network, create_state, run_keys
from draem_jax.training.step import make_train_steps, train_step

BATCH = 8


@pytest.fixture(scope="module")
def config(tiny_config):
    return tiny_config(**{"data.image_size": (64,), "train.batch_size": BATCH})


@pytest.fixture(scope="module")
def pictures():
    rng = np.random.default_rng(0)
    # Smooth enough to look like pictures; noise alone would make statistics ill-conditioned.
    coarse = rng.integers(0, 256, (2, 5, 8, 8, 3), np.uint8)
    fine = coarse.repeat(8, axis=2).repeat(8, axis=3)
    return Pictures(
        jnp.asarray(fine[0]), jnp.asarray(fine[1]), make_mix([TextureSource("builtin")], [5])
    )


@pytest.mark.long
def test_1_2_and_4_devices_make_the_same_first_step(config, pictures):
    # In float64: Adam's first step has the gradient's sign, which float32's rounding decides where
    # the gradient is as good as zero.
    draw = Draw(run_keys(config)[1], jnp.int32(0), jnp.arange(BATCH))
    samples = jax.jit(draw_samples)(draw, pictures, AnomalyParams())
    state, optimizer = create_state(config), create_optimizer(config)
    with jax.enable_x64(True):
        network = create_network(config, axis_name=AXIS_NAME).clone(dtype=jnp.float64)
        state = jax.tree.map(
            lambda a: a.astype(jnp.float64) if a.dtype == jnp.float32 else a, state
        )
        samples = jax.tree.map(lambda a: np.asarray(a, np.float64), samples)
        results = {}
        for devices in (1, 2, 4):
            step = jax.pmap(
                partial(train_step, network=network, optimizer=optimizer),
                axis_name=AXIS_NAME,
                in_axes=(None, 0),
                out_axes=0,
                devices=jax.devices()[:devices],
            )
            shares = jax.tree.map(lambda a, n=devices: a.reshape(n, -1, *a.shape[1:]), samples)
            results[devices] = jax.tree.map(np.asarray, step(state, shares))
    one = jax.tree.map(lambda a: a[0], results[1])
    for devices in (2, 4):
        # What the devices leave with, side by side, must be the same on all of them: the mapping
        # that training uses takes that for granted.
        for array in jax.tree.leaves(results[devices]):
            for other in array[1:]:
                np.testing.assert_array_equal(array[0], other)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a[0], b, rtol=0, atol=1e-7),
            results[devices],
            one,
        )
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), one[0].params, state.params)
    assert max(jax.tree.leaves(moved)) > 0.9 * config.optimizer.learning_rate


@pytest.mark.long
def test_1_2_and_4_devices_draw_the_same_samples(config, pictures):
    key = run_keys(config)[1]
    draw = jax.jit(draw_samples)
    whole = draw(Draw(key, 3, jnp.arange(BATCH)), pictures, AnomalyParams())
    for devices in (2, 4):
        spread = jax.pmap(
            draw_samples, in_axes=(Draw(None, None, 0), None, None), devices=jax.devices()[:devices]
        )
        indices = np.arange(BATCH).reshape(devices, -1)
        parts = spread(Draw(key, 3, indices), pictures, AnomalyParams())
        normal, augmented, mask = (np.asarray(p).reshape(BATCH, *p.shape[2:]) for p in parts[:3])
        assert np.mean(mask != whole.mask) <= 1e-4
        np.testing.assert_allclose(normal, whole.normal, atol=1e-5)
        np.testing.assert_allclose(augmented, whole.augmented, atol=1e-5)
    # and others in another step, so that the comparison is not one of constants
    other = draw(Draw(key, 4, jnp.arange(BATCH)), pictures, AnomalyParams())
    assert not np.allclose(other.normal, whole.normal)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [pytest.param("float32", marks=pytest.mark.long), "bfloat16"])
def test_the_step_lowers_for_cuda_and_tpu(dtype, config, pictures):
    config = config.copy_and_resolve_references()
    config.model.dtype = dtype
    body = make_train_steps(
        create_network(config, axis_name=AXIS_NAME), create_optimizer(config), max_steps=2
    )
    mesh = Mesh(np.array(jax.devices()[:1]), (AXIS_NAME,))
    mapped = jax.shard_map(
        body,
        mesh=mesh,
        in_specs=(P(), P(AXIS_NAME), P(), P(), P(), P(), P()),
        out_specs=P(),
        check_vma=False,
    )
    arguments = jax.eval_shape(
        lambda: (
            create_state(config),
            jnp.arange(BATCH),
            run_keys(config)[1],
            pictures,
            AnomalyParams(),
            LossWeights(),
            jnp.int32(2),
        )
    )
    traced = jax.jit(mapped).trace(*arguments)
    for platform in ("cuda", "tpu"):
        text = traced.lower(lowering_platforms=(platform,)).as_text()
        assert "stablehlo.convolution" in text
        assert "stablehlo.while" in text
