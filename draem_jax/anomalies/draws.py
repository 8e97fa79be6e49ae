"""Random numbers from the ranges of the parameters."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from draem_jax.anomalies.params import Number, Range


def draw(key: PRNGKeyArray, bounds: Range, shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
    """Uniform in [low, high)."""
    low, high = (jnp.asarray(bound, jnp.float32) for bound in bounds)
    return low + (high - low) * jax.random.uniform(key, shape)


def draw_log(key: PRNGKeyArray, bounds: Range, shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
    """Log-uniform in [low, high), both above 0."""
    low, high = (jnp.log(jnp.asarray(bound, jnp.float32)) for bound in bounds)
    return jnp.exp(draw(key, (low, high), shape))


def draw_whole(
    key: PRNGKeyArray, bounds: Range, shape: tuple[int, ...] = ()
) -> Float[Array, "..."]:
    """Uniform over the whole numbers low, …, high, as floats."""
    low, high = (jnp.asarray(bound, jnp.float32) for bound in bounds)
    # Rounding may lift the product to high + 1.
    return jnp.minimum(jnp.floor(draw(key, (low, high + 1), shape)), high)


def happens(key: PRNGKeyArray, share: Number) -> Bool[Array, ""]:
    """True in this share of all keys."""
    return jax.random.uniform(key) < share
