"""The step is the same on any number of devices, and lowers for machines that are not at hand."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from draem_jax.anomalies import AnomalyParams
from draem_jax.training.parallel import AXIS_NAME
from draem_jax.training.samples import Pictures, draw_samples
from draem_jax.training.state import create_network, create_optimizer, create_state, run_keys
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
    return Pictures(jnp.asarray(fine[0]), jnp.asarray(fine[1]))


def _steps_on(devices, config, *, max_steps=1, out_axes=None):
    steps = make_train_steps(
        create_network(config, axis_name=AXIS_NAME), create_optimizer(config), max_steps=max_steps
    )
    return jax.pmap(
        steps,
        axis_name=AXIS_NAME,
        in_axes=(None, 0, None, None, None, None),
        out_axes=out_axes,
        devices=jax.devices()[:devices],
    )


def _run(devices, config, pictures):
    """One step; what each device leaves with, side by side."""
    indices = np.arange(BATCH, dtype=np.int32).reshape(devices, -1)
    return _steps_on(devices, config, out_axes=0)(
        create_state(config), indices, run_keys(config)[1], pictures, AnomalyParams(), 1
    )


@pytest.mark.slow
def test_1_2_and_4_devices_make_the_same_first_step(config, pictures):
    # On one device as a loop of up to three steps, so that loops are held to single steps as well.
    loop = _steps_on(1, config, max_steps=3)

    def run_loop(state, steps):
        indices = np.arange(BATCH, dtype=np.int32).reshape(1, -1)
        return loop(state, indices, run_keys(config)[1], pictures, AnomalyParams(), np.int32(steps))

    one, losses_of_one = run_loop(create_state(config), 1)
    assert np.isnan(losses_of_one.total[1:]).all()
    losses_of_one = jax.tree.map(lambda values: values[:1], losses_of_one)
    two, losses_of_two = run_loop(create_state(config), 2)
    again, losses_of_second = run_loop(one, 1)
    jax.tree.map(np.testing.assert_array_equal, two, again)
    assert losses_of_two.total[1] == losses_of_second.total[0]
    assert two.step == 2

    gradients = jax.tree.map(lambda m: np.asarray(m) / 0.1, one.opt_state[0].mu)
    for devices in (2, 4):
        # What the devices leave with, side by side, must be the same on all of them: the mapping
        # that training uses takes that for granted.
        by_device = jax.tree.map(np.asarray, _run(devices, config, pictures))
        for array in jax.tree.leaves(by_device):
            for other in array[1:]:
                np.testing.assert_array_equal(array[0], other)
        state, losses = jax.tree.map(lambda a: a[0], by_device)
        np.testing.assert_allclose(losses, losses_of_one, rtol=0, atol=1e-5)

        # Adam's first step has the gradient's sign, which rounding decides where the gradient is
        # as good as zero: there the step is only bounded. The next test leaves no such exception.
        def check(a, b, gradient):
            known = np.abs(gradient) > 0.05 * np.abs(gradient).max()
            np.testing.assert_allclose(a[known], b[known], rtol=0, atol=1e-4)
            assert np.abs(a - b).max() <= 2.001 * config.optimizer.learning_rate

        params = jax.tree.map(np.asarray, (state.params, one.params))
        kernels = [
            (a, b, g)
            for a, b, g in zip(*map(jax.tree.leaves, (*params, gradients)), strict=True)
            if a.ndim == 4  # a bias before a normalisation has no gradient at all
        ]
        for arrays in kernels:
            check(*arrays)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
            state.batch_stats,
            one.batch_stats,
        )


@pytest.mark.slow
def test_in_float64_1_and_4_devices_make_the_same_step_everywhere(config, pictures):
    samples = draw_samples(
        run_keys(config)[1], jnp.int32(0), jnp.arange(BATCH), pictures, AnomalyParams()
    )
    state, optimizer = create_state(config), create_optimizer(config)
    with jax.enable_x64(True):
        network = create_network(config, axis_name=AXIS_NAME).clone(dtype=jnp.float64)
        state = jax.tree.map(
            lambda a: a.astype(jnp.float64) if a.dtype == jnp.float32 else a, state
        )
        samples = jax.tree.map(lambda a: np.asarray(a, np.float64), samples)
        results = {}
        for devices in (1, 4):
            step = jax.pmap(
                partial(train_step, network=network, optimizer=optimizer),
                axis_name=AXIS_NAME,
                in_axes=(None, 0),
                out_axes=None,
                devices=jax.devices()[:devices],
            )
            shares = jax.tree.map(lambda a, n=devices: a.reshape(n, -1, *a.shape[1:]), samples)
            results[devices] = jax.tree.map(np.asarray, step(state, shares))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-7), results[4], results[1]
    )
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), results[1][0].params, state.params)
    assert max(jax.tree.leaves(moved)) > 0.9 * config.optimizer.learning_rate


@pytest.mark.slow
def test_1_2_and_4_devices_draw_the_same_samples(config, pictures):
    key = run_keys(config)[1]
    draw = jax.jit(draw_samples)
    whole = draw(key, 3, jnp.arange(BATCH), pictures, AnomalyParams())
    for devices in (2, 4):
        spread = jax.pmap(
            draw_samples, in_axes=(None, None, 0, None, None), devices=jax.devices()[:devices]
        )
        indices = np.arange(BATCH).reshape(devices, -1)
        parts = spread(key, 3, indices, pictures, AnomalyParams())
        normal, augmented, mask = (np.asarray(p).reshape(BATCH, *p.shape[2:]) for p in parts)
        assert np.mean(mask != whole.mask) <= 1e-4
        np.testing.assert_allclose(normal, whole.normal, atol=1e-5)
        np.testing.assert_allclose(augmented, whole.augmented, atol=1e-5)
    # and others in another step, so that the comparison is not one of constants
    other = draw(key, 4, jnp.arange(BATCH), pictures, AnomalyParams())
    assert not np.allclose(other.normal, whole.normal)


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_step_lowers_for(platform, dtype, config, pictures):
    config = config.copy_and_resolve_references()
    config.model.dtype = dtype
    body = make_train_steps(
        create_network(config, axis_name=AXIS_NAME), create_optimizer(config), max_steps=2
    )
    mesh = Mesh(np.array(jax.devices()[:1]), (AXIS_NAME,))
    mapped = jax.shard_map(
        body,
        mesh=mesh,
        in_specs=(P(), P(AXIS_NAME), P(), P(), P(), P()),
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
            jnp.int32(2),
        )
    )
    lowered = jax.jit(mapped).trace(*arguments).lower(lowering_platforms=(platform,))
    text = lowered.as_text()
    assert "stablehlo.convolution" in text
    assert "stablehlo.while" in text
