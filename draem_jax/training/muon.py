"""Muon: momentum whose matrices are made orthogonal, so that a step goes far in all directions."""

from typing import Any

import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float

from draem_jax.platforms import by_platform

# Of the polynomial a·s + b·s³ + c·s⁵, five times over: all singular values s that are not close to
# 0 end between 0.7 and 1.2, which is near enough.
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 5
# The root mean square of what a weight changes by, as a share of the rate.
_STEP = 0.5


def muon(learning_rate: optax.Schedule, *, momentum: float = 0.95) -> optax.GradientTransformation:
    """Muon for kernels of convolutions.

    Args:
        learning_rate: weights change by about half of it in a step, whatever the kernel's shape.
        momentum: the share of a gradient's sum that a step keeps, with Nesterov's look ahead.

    References:
        Jordan et al.: Muon: an optimizer for hidden layers in neural networks, 2024.
        Liu et al.: Muon is scalable for LLM training, 2025, for steps of one size at all shapes.
    """

    def orthogonal(kernel: Float[Array, "H W C F"], _: Any) -> Float[Array, "H W C F"]:
        # A column for each feature.
        matrix = kernel.reshape(-1, kernel.shape[-1])
        step = orthogonalised(matrix) * _STEP * max(matrix.shape) ** 0.5
        return step.reshape(kernel.shape)

    return optax.chain(
        optax.trace(momentum, nesterov=True),
        optax.stateless_with_tree_map(orthogonal),
        optax.scale_by_learning_rate(learning_rate),
    )


def orthogonalised(matrix: Float[Array, "M N"]) -> Float[Array, "M N"]:
    """The matrix with all of its singular values near 1, but those that are next to nothing.

    By Newton and Schulz's iteration with the coefficients of Muon's authors. One and the same
    polynomial is computed in the way that suits the platform.
    """
    if matrix.shape[0] > matrix.shape[1]:
        return orthogonalised(matrix.T).T
    scaled = matrix / (jnp.linalg.norm(matrix) + 1e-30)
    return by_platform(scaled, cpu=_by_squares, default=_by_products)


def _by_products(wide: Float[Array, "M N"]) -> Float[Array, "M N"]:
    """Multiplies the matrix itself, which bears rounding to bfloat16."""
    a, b, c = _COEFFICIENTS
    result = wide.astype(jnp.bfloat16)
    for _ in range(_ITERATIONS):
        square = result @ result.T
        result = a * result + (b * square + c * square @ square) @ result
    return result.astype(wide.dtype)


def _by_squares(wide: Float[Array, "M N"]) -> Float[Array, "M N"]:
    """Multiplies matrices of M × M alone, a third of the work, which takes float32."""
    a, b, c = _COEFFICIENTS
    square = jnp.matmul(wide, wide.T, precision=lax.Precision.HIGHEST)
    factor = identity = jnp.eye(len(wide), dtype=wide.dtype)
    for i in range(_ITERATIONS):
        change = a * identity + b * square + c * square @ square
        factor = change @ factor
        if i < _ITERATIONS - 1:
            square = change @ square @ change
    return factor @ wide
