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
def test_singular_values_go_through_the_polynomial(shape):
    matrix = np.random.default_rng(0).normal(size=shape)
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    with traced_for("cpu"):
        result = orthogonalised(jnp.float32(matrix))
    expected = np.diag(_expected(values))
    np.testing.assert_allclose(left.T @ result @ right.T, expected, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("platform", ["cpu", OTHER])
def test_it_is_nearly_the_orthogonal_matrix_closest_by(shape, platform):
    """Within what the polynomial is made for, in bfloat16 as well."""
    matrix = np.random.default_rng(0).normal(size=shape)
    left, _, right = np.linalg.svd(matrix, full_matrices=False)
    with traced_for(platform):
        result = np.asarray(orthogonalised(jnp.float32(matrix)))
    values = np.linalg.svd(result, compute_uv=False)
    assert 0.6 < values.min() <= values.max() < 1.3
    cosine = np.sum(result * (left @ right)) / np.linalg.norm(result) / len(values) ** 0.5
    assert cosine > 0.95


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
