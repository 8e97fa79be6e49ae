"""How parameters start: kernels N(0, 0.02²), biases U(±1/√fan_in), norm scales N(1, 0.02²).

These are the authors' code's choices; the biases are PyTorch's default. `initialise` knows another
start, see `STARTS`.
"""

import functools
import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Key

from draem_jax.platforms import OTHER, traced_for

# Of a convolution, or of a matrix product where the window has no extent at all.
Kernel = Float[Array, "*window C F"]

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


Place = Literal["first", "inner", "last"]
"""Of a convolution in its network: the first sees pictures, what the last makes is no input."""


def _code_kernel(normal: Kernel, place: Place) -> Kernel:
    del place
    return _kernel(normal)


def _he_kernel(normal: Kernel, place: Place) -> Kernel:
    # Nothing normalises what the last one makes, so it begins small.
    if place == "last":
        return _kernel(normal)
    return math.sqrt(2 / math.prod(normal.shape[:-1])) * normal


def _mirrored_kernel(normal: Kernel, place: Place) -> Kernel:
    kernel = _he_kernel(normal, place)
    if place != "first":
        kernel = _in_pairs(kernel, axis=kernel.ndim - 2)
    if place != "last":
        return _in_pairs(kernel, axis=kernel.ndim - 1)
    # A few steps at a rate of 1e-3 make a kernel of it; a larger one would have to be unlearned.
    return 0.2 * kernel


def _in_pairs(kernel: Kernel, *, axis: int) -> Kernel:
    """The kernel with every second channel the opposite of the one before it."""
    one = lax.slice_in_dim(kernel, 0, None, 2, axis)
    both = jnp.stack([one, -one], axis + 1)
    shape = (*kernel.shape[:axis], -1, *kernel.shape[axis + 1 :])
    return lax.slice_in_dim(both.reshape(shape), 0, kernel.shape[axis], 1, axis)


class Start(NamedTuple):
    """How parameters begin, of noise.

    Attributes:
        kernel: from noise of N(0, 1), in the kernel's shape, and the convolution's place.
        norm_scale: from noise of N(0, 1).
        output_biases: of the last convolution of each network, by the networks' names; where none
            is given they are noise, as all other biases of convolutions are.
    """

    kernel: Callable[[Kernel, Place], Kernel]
    norm_scale: Callable[[Array], Array]
    output_biases: Mapping[str, float] = MappingProxyType({})


STARTS: Mapping[str, Start] = {
    "code": Start(_code_kernel, _norm_scale),
    "he": Start(_he_kernel, jnp.ones_like),
    "mirrored": Start(
        _mirrored_kernel, jnp.ones_like, {"reconstructive": 0.5, "discriminative": 0.0}
    ),
}
"""Ways for parameters to begin, by name.

- code: the authors'.
- he: kernels that keep variances. What a batch normalisation makes does not depend on the size of
  the kernel before it, but how far a step turns that kernel does: Adam moves each weight about as
  far as the rate says. He's are larger than the authors' wherever fewer than 556 channels come in.
- mirrored: He's, with channels in pairs, of which one has the sign opposite to the other's. What
  ReLU takes from one it leaves in the other, so that but for the pooling a network begins as a
  linear function of the picture. Without skips a picture is otherwise all but lost on its way, and
  there are hundreds of steps in which the best that the reconstructive network finds is one colour.
  Its output begins as hardly more than a middle grey, or its last kernel would be used up for the
  mean colour.

References:
    He, Zhang, Ren, Sun: Delving deep into rectifiers, ICCV 2015;
    Balduzzi et al.: The shattered gradients problem, ICML 2017, for pairs ("looks linear").
"""


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


def initialise(network: nn.Module, key: Key[Array, ""], *, start: str = "code") -> dict[str, Any]:
    """Initialises variables as `network.init` does, with all random numbers drawn at once.

    With "code" the distributions are those of `network.init`, the numbers others. XLA's CPU
    compiler takes half a minute over a random generator for each of two hundred arrays, a moment
    over one.

    Args:
        network: made of this package's layers.
        key: for the parameters.
        start: a name in `STARTS`.

    Returns:
        `params` and `batch_stats`.
    """
    draw, shapes = _make_draw(network, start)
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
def _make_draw(network: nn.Module, start: str) -> tuple[Callable, Any]:
    """The function from a key to parameters, and the shapes of all variables."""
    _, shapes = trace_initialisation(network)
    begins = STARTS[start]

    @jax.jit
    def draw(key):
        count = sum(array.size for array in jax.tree.leaves(shapes["params"]))
        normal_key, uniform_key = jax.random.split(key)
        normals = jax.random.normal(normal_key, (count,))
        uniforms = jax.random.uniform(uniform_key, (count,), minval=-1, maxval=1)
        taken = 0

        def begin(path, array):
            nonlocal taken
            own = slice(taken, taken + array.size)
            normal, uniform = (a[own].reshape(array.shape) for a in (normals, uniforms))
            taken += array.size
            names = [entry.key for entry in path]
            match names:
                case [*_, "kernel"]:
                    return begins.kernel(normal, _place(names))
                case [*_, "norm", "scale"]:
                    return begins.norm_scale(normal)
                case [*_, "norm", "bias"]:
                    return jnp.zeros_like(normal)
                case [network, "output", "bias"] if network in begins.output_biases:
                    return jnp.full_like(normal, begins.output_biases[network])
                case _:
                    kernel = shapes["params"]
                    for name in names[:-1]:
                        kernel = kernel[name]
                    return _bias(uniform, math.prod(kernel["kernel"].shape[:-1]))

        return jax.tree_util.tree_map_with_path(begin, shapes["params"])

    return draw, shapes


def _place(names: list[str]) -> Place:
    """The place of the convolution whose kernel has this path."""
    if "output" in names:
        return "last"
    return "first" if names[-4:-2] == ["encoder1", "unit1"] else "inner"
