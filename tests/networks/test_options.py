"""What the networks may have besides the paper's, against definitions."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from draem_jax.networks import (
    DiscriminativeNetwork,
    DraemNetwork,
    NetworkOptions,
    ReconstructiveNetwork,
)
from draem_jax.networks.inputs import high_frequency
from draem_jax.networks.predictive import PredictiveBlock

_KEY = jax.random.key(0)


def _normal(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape)


def _filled(shapes):
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda a: rng.uniform(0, 0.3, a.shape).astype(np.float32), shapes)


def test_the_difference_is_seen_without_its_sign():
    network = DiscriminativeNetwork(4, options=NetworkOptions(difference=True))
    a, b = _normal(0, 1, 32, 32, 3), _normal(1, 1, 32, 32, 3)
    variables = _filled(jax.eval_shape(lambda: network.init(_KEY, a, b, train=False)))
    first = variables["params"]["encoder1"]["unit1"]["conv"]
    assert first["kernel"].shape == (3, 3, 9, 4)
    first["kernel"][:, :, :6] = 0  # blind to the two themselves
    apply = jax.jit(lambda variables, a, b: network.apply(variables, a, b, train=False))
    there, back, same = (apply(variables, *pair) for pair in ((a, b), (b, a), (a, a)))
    np.testing.assert_array_equal(there, back)
    assert np.abs(there - same).max() > 0


@pytest.mark.long
@pytest.mark.parametrize(("train", "copied"), [(True, 2), (False, 0)])
def test_copies_take_the_place_of_reconstructions_in_training_alone(train, copied):
    network = DraemNetwork(4, 4, options=NetworkOptions(copied_share=0.6))
    pictures = jax.random.uniform(_KEY, (3, 32, 32, 3))
    shown = []

    def keep(call, args, kwargs, context):
        if not isinstance(context.module, DiscriminativeNetwork):
            return call(*args, **kwargs)
        shown.append(args[0])
        return jnp.zeros((*args[0].shape[:3], 2))

    @jax.jit
    def run():
        with nn.intercept_methods(keep):
            output, _ = network.init_with_output(_KEY, pictures, train=train)
        return output.reconstruction, shown.pop()

    reconstruction, seen = run()
    np.testing.assert_array_equal(seen[:copied], pictures[:copied])
    np.testing.assert_array_equal(seen[copied:], reconstruction[copied:])


def test_half_of_the_amplitude_passes_at_the_cutoff_and_no_level():
    along = np.arange(256) / 256
    for cycles, share in ((0, 0), (30, 1 / 2), (60, 16 / 17), (15, 1 / 17)):
        wave = np.broadcast_to(np.cos(2 * np.pi * cycles * along), (32, 256))
        for plane in (wave, wave.T):
            picture = jnp.asarray(plane[None, ..., None] * np.ones(3), jnp.float32)
            seen = high_frequency(picture)
            np.testing.assert_allclose(seen[0, ..., 0], share * plane, atol=1e-5)


@pytest.mark.parametrize("skips", [0, 2])
def test_what_passes_beside_the_bottleneck_comes_from_deep_levels_alone(skips):
    """Where a level says nothing, no other that passes may say anything of the picture."""
    network = ReconstructiveNetwork(4, options=NetworkOptions(reconstructive_skips=skips))
    pictures = _normal(1, 2, 32, 32, 3)
    variables = _filled(jax.eval_shape(lambda: network.init(_KEY, pictures, train=False)))

    def spread(silent):
        params = jax.tree.map(np.copy, variables["params"])
        for parameter in params[silent]["unit2"]["norm"].values():
            parameter[:] = 0
        made = apply(variables | {"params": params}, pictures)
        return np.abs(made[0] - made[1]).max()

    apply = jax.jit(lambda variables, x: network.apply(variables, x, train=False))
    assert spread(f"encoder{5 - skips}") == 0
    assert skips == 0 or spread(f"encoder{5 - skips + 1}") > 0


def test_the_predictive_block_sees_four_corners_and_weighs_channels():
    block, x = PredictiveBlock(), jnp.zeros((1, 9, 9, 8)).at[0, 4, 4].set(1)
    variables = block.init(jax.random.key(0), x)
    params = variables["params"]
    params["bias"] = jnp.zeros(8)
    params["excite"]["kernel"] = _normal(1, 1, 8)  # one of eight channels is left in between
    made = np.asarray(block.apply(variables, x)[0])
    kernel = np.asarray(params["kernel"]).sum(2)
    expected = np.zeros((9, 9, 8))
    for i, j in np.ndindex(2, 2):
        # What stands two pixels off this way sees the pixel by its opposite corner.
        expected[6 - 4 * i, 6 - 4 * j] = np.maximum(kernel[i, j], 0)
    dense = [
        (np.asarray(params[n]["kernel"]), np.asarray(params[n]["bias"]))
        for n in ("squeeze", "excite")
    ]
    hidden = np.maximum(expected.mean((0, 1)) @ dense[0][0] + dense[0][1], 0)
    attention = 1 / (1 + np.exp(-(hidden @ dense[1][0] + dense[1][1])))
    np.testing.assert_allclose(made, expected * attention, atol=1e-6)
    assert np.ptp(attention) > 0
