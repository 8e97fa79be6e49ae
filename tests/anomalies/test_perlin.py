import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from draem_jax.anomalies.perlin import perlin_noise


def test_agrees_with_the_authors_code(golden):
    arrays = golden("perlin")
    names = [name for name in arrays if name.startswith("noise")]
    assert len(names) == 5
    for name in names:
        height, width, rows, columns = map(int, re.findall(r"\d+", name))
        angles = jnp.asarray(arrays[name.replace("noise", "angles")], jnp.float32)
        draw = partial(perlin_noise, shape=(height, width), resolution=(rows, columns))
        noise = jax.jit(draw)(angles)
        np.testing.assert_allclose(noise, arrays[name], atol=1e-6)


def direct_noise(angles, shape, resolution):
    """The definition: four gradients' ramps, mixed by the fade curve, pixel by pixel."""
    noise = np.empty(shape)
    for index in np.ndindex(*shape):
        position = [i * r / n for i, r, n in zip(index, resolution, shape, strict=True)]
        cell = [int(p) for p in position]
        inside = [p - c for p, c in zip(position, cell, strict=True)]
        fade = [t**3 * (t * (t * 6 - 15) + 10) for t in inside]
        total = 0.0
        for corner in np.ndindex(2, 2):
            angle = angles[cell[0] + corner[0], cell[1] + corner[1]]
            ramp = np.cos(angle) * (inside[0] - corner[0]) + np.sin(angle) * (inside[1] - corner[1])
            share = np.prod([f if c else 1 - f for f, c in zip(fade, corner, strict=True)])
            total += share * ramp
        noise[index] = np.sqrt(2) * total
    return noise


@settings(max_examples=6, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 17), st.integers(1, 17)),
    resolution=st.tuples(st.floats(0.3, 6), st.floats(0.3, 6)),
    seed=st.integers(0, 2**16),
)
def test_any_size_and_resolution(shape, resolution, seed):
    angles = np.random.default_rng(seed).uniform(0, 2 * np.pi, (8, 8)).astype(np.float32)
    noise = perlin_noise(jnp.asarray(angles), shape=shape, resolution=resolution)
    np.testing.assert_allclose(noise, direct_noise(angles, shape, resolution), atol=1e-5)


def test_resolution_can_be_traced():
    angles = jax.random.uniform(jax.random.key(0), (9, 9), maxval=6.28)
    noise = jax.jit(lambda r: perlin_noise(angles, shape=(20, 30), resolution=(r, 2 * r)))
    np.testing.assert_allclose(
        noise(4), perlin_noise(angles, shape=(20, 30), resolution=(4, 8)), atol=1e-6
    )
    noise(3)
    assert noise._cache_size() == 1
