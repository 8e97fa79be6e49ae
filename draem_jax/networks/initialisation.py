"""How parameters start: kernels N(0, 0.02²), biases U(±1/√fan_in), norm scales N(1, 0.02²).

These are the authors' code's choices; the biases are PyTorch's default.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

# Each start is a multiple of noise from N(0, 1) or U(−1, 1), so that the noise for all parameters
# can be drawn at once.


def _kernel(normal):
    return 0.02 * normal


def _bias(uniform, fan_in):
    return uniform / math.sqrt(fan_in)


def _norm_scale(normal):
    return 1 + 0.02 * normal


def kernel_init(key, shape, dtype=jnp.float32):
    """Initialiser of convolution kernels."""
    return _kernel(jax.random.normal(key, shape, dtype))


def bias_init(fan_in: int):
    """Initialiser of the bias of a convolution that adds up `fan_in` products."""

    def init(key, shape, dtype=jnp.float32):
        return _bias(jax.random.uniform(key, shape, dtype, -1, 1), fan_in)

    return init


def norm_scale_init(key, shape, dtype=jnp.float32):
    """Initialiser of the batch normalisations' scales."""
    return _norm_scale(jax.random.normal(key, shape, dtype))


def initialise(
    network: nn.Module, key: Key[Array, ""], images: Float[Array, "B H W 3"]
) -> dict[str, Any]:
    """Initialises variables as `network.init` does, with all random numbers drawn at once.

    The distributions are those of `network.init`, the numbers others. XLA's CPU compiler takes
    half a minute over a random generator for each of two hundred arrays, a moment over one.

    Args:
        network: made of this package's layers.
        key: for the parameters.
        images: of any size that the network takes; values do not matter.

    Returns:
        `params` and `batch_stats`.
    """
    draw, shapes = _make_draw(network, images.shape)
    means_and_variances = jax.tree_util.tree_map_with_path(
        lambda path, a: jnp.full(a.shape, float(path[-1].key == "var"), a.dtype),
        shapes["batch_stats"],
    )
    return {"params": draw(key), "batch_stats": means_and_variances}


# Compiling takes longer than drawing, so runs that share an architecture share the program.
@functools.lru_cache(maxsize=8)
def _make_draw(network: nn.Module, images_shape: tuple[int, ...]) -> tuple[Callable, Any]:
    """The function from a key to parameters, and the shapes of all variables."""
    shapes = jax.eval_shape(
        lambda key: network.init(key, jnp.zeros(images_shape), train=False), jax.random.key(0)
    )

    @jax.jit
    def draw(key):
        count = sum(array.size for array in jax.tree.leaves(shapes["params"]))
        normal_key, uniform_key = jax.random.split(key)
        normals = jax.random.normal(normal_key, (count,))
        uniforms = jax.random.uniform(uniform_key, (count,), minval=-1, maxval=1)
        taken = 0

        def start(path, array):
            nonlocal taken
            own = slice(taken, taken + array.size)
            normal, uniform = (a[own].reshape(array.shape) for a in (normals, uniforms))
            taken += array.size
            match (path[-2].key, path[-1].key):
                case (_, "kernel"):
                    return _kernel(normal)
                case ("norm", "scale"):
                    return _norm_scale(normal)
                case ("norm", "bias"):
                    return jnp.zeros_like(normal)
                case _:
                    kernel = shapes["params"]
                    for entry in path[:-1]:
                        kernel = kernel[entry.key]
                    return _bias(uniform, math.prod(kernel["kernel"].shape[:3]))

        return jax.tree_util.tree_map_with_path(start, shapes["params"])

    return draw, shapes
