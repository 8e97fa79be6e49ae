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
import numpy as np
from jaxtyping import Array, Key

from draem_jax.platforms import OTHER, traced_for

# Five poolings halve the size five times.
SIZE_MULTIPLE = 32

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


def parameter(
    module: nn.Module, name: str, init: Callable[..., Array], shape: tuple[int, ...]
) -> Array:
    """A parameter of a module, which is made, in float32, if it is not there yet.

    `nn.Module.param` would trace the initialiser each time that the module is applied, to compare
    shapes, which takes longer than what the module does with it.

    Args:
        module: that has the parameter.
        name: of the parameter.
        init: from (key, shape, dtype) to what it is at first.
        shape: of the parameter.
    """
    if module.has_variable("params", name):
        return jnp.asarray(module.get_variable("params", name))
    return module.param(name, init, shape, jnp.float32)


def initialise(network: nn.Module, key: Key[Array, ""]) -> dict[str, Any]:
    """Initialises variables as `network.init` does, with all random numbers drawn at once.

    The distributions are those of `network.init`, the numbers others. XLA's CPU compiler takes
    half a minute over a random generator for each of two hundred arrays, a moment over one.

    Args:
        network: made of this package's layers.
        key: for the parameters.

    Returns:
        `params` and `batch_stats`.
    """
    draw, shapes = _make_draw(network)
    means_and_variances = jax.tree_util.tree_map_with_path(
        lambda path, a: np.full(a.shape, path[-1].key == "var", a.dtype),
        shapes["batch_stats"],
    )
    return {"params": draw(key), "batch_stats": jax.device_put(means_and_variances)}


# It tells the shapes of variables and what the network computes, and is traced once for both.
@functools.lru_cache(maxsize=8)
def trace_initialisation(network: nn.Module) -> tuple[Any, Any]:
    """Traces `network.init`, as for a platform that no way of computing is written for.

    Args:
        network: made of this package's layers.

    Returns:
        The closed jaxpr, in which the network is applied to one picture of `SIZE_MULTIPLE` pixels a
        side; and the shapes of all variables, which depend on the channels alone.
    """
    picture = jax.ShapeDtypeStruct((1, SIZE_MULTIPLE, SIZE_MULTIPLE, 3), jnp.float32)
    with traced_for(OTHER):
        traced: tuple[Any, Any] = jax.make_jaxpr(
            lambda key, images: network.init(key, images, train=False), return_shape=True
        )(jax.random.key(0), picture)
    return traced


# Compiling takes longer than drawing, so runs that share an architecture share the program.
@functools.lru_cache(maxsize=8)
def _make_draw(network: nn.Module) -> tuple[Callable, Any]:
    """The function from a key to parameters, and the shapes of all variables."""
    _, shapes = trace_initialisation(network)

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
                    return _bias(uniform, math.prod(kernel["kernel"].shape[:-1]))

        return jax.tree_util.tree_map_with_path(start, shapes["params"])

    return draw, shapes
