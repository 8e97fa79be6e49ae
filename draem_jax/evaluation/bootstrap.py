"""Resampling pictures: Poisson draws for what streams, multinomial draws for what is kept.

Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13, for percentile intervals;
Chamandy et al., Estimating Uncertainty for Massive Data Streams (2012), for Poisson draws.
"""

from math import exp, factorial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Float32, Int, Int32, Key

_POISSON = np.cumsum([exp(-1) / factorial(k) for k in range(11)]).astype(np.float32)


def poisson_draws(
    key: Key[Array, ""], indices: Int32[Array, " B"], replicates: int
) -> Float32[Array, "B R"]:
    """How often each replicate draws each picture, independent Poisson(1) numbers.

    They depend on the key and the picture's index alone, so that batches, devices and hosts do not
    matter.
    """

    def draw(index):
        uniform = jax.random.uniform(jax.random.fold_in(key, index), (replicates,))
        return (uniform[:, None] >= _POISSON[None]).sum(1).astype(jnp.float32)

    return jax.vmap(draw)(indices)


def multinomial_draws(
    rng: np.random.Generator, count: int, replicates: int
) -> Int[np.ndarray, "R N"]:
    """How often each replicate of `count` pictures, drawn with replacement, holds each picture."""
    drawn = rng.integers(count, size=(replicates, count)) + count * np.arange(replicates)[:, None]
    return np.bincount(drawn.ravel(), minlength=count * replicates).reshape(replicates, count)


def percentile_interval(
    replicates: Float[np.ndarray, " R"], *, confidence: float
) -> tuple[float, float] | None:
    """The interval that holds the middle of the replicates, leaving out those not defined.

    None if half of them or more are not defined.
    """
    defined = replicates[~np.isnan(replicates)]
    if 2 * len(defined) <= len(replicates):
        return None
    low, high = np.quantile(defined, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
