"""How parameters start: kernels N(0, 0.02²), biases U(±1/√fan_in), norm scales N(1, 0.02²).

These are the authors' code's choices; the biases are PyTorch's default.
"""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.scipy.special import erfinv
from jaxtyping import Array, Float, Key

# Each start is a function of uniform noise in (−1, 1), so that the noise for all parameters can be
# drawn at once.


def _kernel(noise):
    return 0.02 * _normal(noise)


def _bias(noise, fan_in):
    return noise / math.sqrt(fan_in)


def _norm_scale(noise):
    return 1 + 0.02 * _normal(noise)


def _normal(noise):
    return math.sqrt(2) * erfinv(noise)


def _uniform(key, shape, dtype=jnp.float32):
    above_minus_one = jnp.nextafter(jnp.array(-1, dtype), jnp.array(0, dtype))
    return jax.random.uniform(key, shape, dtype, above_minus_one, 1)


def kernel_init(key, shape, dtype=jnp.float32):
    """Initialiser of convolution kernels."""
    return _kernel(_uniform(key, shape, dtype))


def bias_init(fan_in: int):
    """Initialiser of the bias of a convolution that adds up `fan_in` products."""
    return lambda key, shape, dtype=jnp.float32: _bias(_uniform(key, shape, dtype), fan_in)


def norm_scale_init(key, shape, dtype=jnp.float32):
    """Initialiser of the batch normalisations' scales."""
    return _norm_scale(_uniform(key, shape, dtype))


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
    shapes = jax.eval_shape(lambda: network.init(key, images, train=False))

    @jax.jit
    def draw(key):
        flat = _uniform(key, (sum(a.size for a in jax.tree.leaves(shapes["params"])),))
        taken = 0

        def start(path, array):
            nonlocal taken
            noise = flat[taken : taken + array.size].reshape(array.shape)
            taken += array.size
            match (path[-2].key, path[-1].key):
                case (_, "kernel"):
                    return _kernel(noise)
                case ("norm", "scale"):
                    return _norm_scale(noise)
                case ("norm", "bias"):
                    return jnp.zeros_like(noise)
                case _:
                    kernel = shapes["params"]
                    for entry in path[:-1]:
                        kernel = kernel[entry.key]
                    return _bias(noise, math.prod(kernel["kernel"].shape[:3]))

        return jax.tree_util.tree_map_with_path(start, shapes["params"])

    means_and_variances = jax.tree_util.tree_map_with_path(
        lambda path, a: jnp.full(a.shape, float(path[-1].key == "var"), a.dtype),
        shapes["batch_stats"],
    )
    return {"params": draw(key), "batch_stats": means_and_variances}
