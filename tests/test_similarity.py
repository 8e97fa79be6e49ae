"""MSGMS against its definition, computed with SciPy's filters; SSIM is tested with the losses."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage

from draem_jax.similarity import msgms_map

msgms = jax.jit(msgms_map)


def gradient_magnitude(plane):
    kernel = np.array([[1, 0, -1]] * 3) / 3
    across = ndimage.convolve(plane, kernel, mode="nearest")
    return np.hypot(across, ndimage.convolve(plane, kernel.T, mode="nearest"))


def by_definition(a, b):
    """The map of two planes, in float64."""
    shape, maps = a.shape, []
    for scale in range(4):
        g_a, g_b = gradient_magnitude(a), gradient_magnitude(b)
        similarity = (2 * g_a * g_b + 0.0026) / (g_a**2 + g_b**2 + 0.0026)
        maps.append(ndimage.zoom(similarity, 2**scale, order=1, mode="nearest", grid_mode=True))
        a, b = (ndimage.uniform_filter(p, 2, origin=-1)[::2, ::2] for p in (a, b))
    assert all(m.shape == shape for m in maps)
    return np.mean(maps, axis=0)


def test_msgms_is_as_defined():
    a, b = np.random.default_rng(0).random((2, 2, 32, 48, 3))
    b[:, :, 24:] = a[:, :, 24:]
    found = np.asarray(msgms(jnp.float32(a), jnp.float32(b)))
    for i in range(2):
        for c in range(3):
            expected = by_definition(a[i, ..., c], b[i, ..., c])
            # The constant is 170 / 255² = 0.00261 and 0.0026 in print.
            np.testing.assert_allclose(found[i, ..., c], expected, atol=1e-3)
    assert found.min() > 0
    assert found.max() <= 1 + 1e-6
    assert found[:, :, :8].mean() < 0.9
    np.testing.assert_allclose(found[:, :, 40:], 1, atol=1e-6)


def test_alike_is_one():
    a = jnp.asarray(np.random.default_rng(1).random((1, 32, 32, 3)), jnp.float32)
    np.testing.assert_allclose(msgms(a, a), 1, atol=1e-6)
    np.testing.assert_allclose(msgms(a, a + 0.1), 1, atol=1e-5)  # gradients are the same
