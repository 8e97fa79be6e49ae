"""Muon's steps against the singular values of what they are made of."""

import jax.numpy as jnp
import numpy as np
import pytest

from draem_jax.platforms import OTHER, traced_for
from draem_jax.training.muon import orthogonalised

SHAPES = [(144, 16), (27, 16), (16, 40)]


def _expected(values):
    values = values / np.linalg.norm(values)
    for _ in range(5):
        values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
    return values


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("platform", "near"), [("cpu", 1e-4), (OTHER, 0.15)])
def test_singular_values_go_through_the_polynomial(shape, platform, near):
    """In bfloat16 less closely, still within what the polynomial leaves between them."""
    matrix = np.random.default_rng(0).normal(size=shape)
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    expected = _expected(values)
    assert 0.6 < expected.min() < expected.max() < 1.3
    with traced_for(platform):
        result = orthogonalised(jnp.float32(matrix))
    np.testing.assert_allclose(left.T @ result @ right.T, np.diag(expected), atol=near)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("platform", ["cpu", OTHER])
def test_few_directions_are_no_harm(shape, platform):
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(shape[0], 3)) @ rng.normal(size=(3, shape[1]))
    with traced_for(platform):
        result = orthogonalised(jnp.float32(matrix))
    values = np.linalg.svd(result, compute_uv=False)
    # As for the others, rounding alone says whether they are there.
    assert 0.6 < values[2] <= values[0] < 1.3


def test_nothing_stays_nothing():
    np.testing.assert_array_equal(orthogonalised(jnp.zeros((9, 4))), 0)
