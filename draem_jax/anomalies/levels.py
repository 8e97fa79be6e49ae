"""The 256 levels of an 8-bit image: rounding to them, counting them, looking them up.

Levels are floats that hold whole numbers from 0 to 255. How to count and look up is a choice that
depends on the platform: CPUs and NVIDIA GPUs read and write single values quickly; elsewhere,
products with the one-hot forms of a level's leading and trailing four bits take their place. Both
are exact.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from draem_jax.platforms import by_platform

Levels = Float[Array, "H W 3"]


def to_levels(image: Float[Array, "H W 3"]) -> Levels:
    """Rounds values in [0, 1] to levels, clipping what lies outside."""
    return jnp.round(jnp.clip(image, 0, 1) * 255)


def from_levels(levels: Levels) -> Float[Array, "H W 3"]:
    """Values in [0, 1]."""
    return levels / 255


def count_levels(levels: Levels) -> Int[Array, "3 256"]:
    """How often each level occurs in each channel."""

    def by_adding(whole: Array) -> Array:
        bins = whole + 256 * jnp.arange(3)[None, :]
        zeros = jnp.zeros(3 * 256, jnp.int32)
        return zeros.at[bins.reshape(-1)].add(1, mode="promise_in_bounds").reshape(3, 256)

    whole = levels.astype(jnp.int32).reshape(-1, 3)
    return by_platform(whole, cpu=by_adding, cuda=by_adding, default=count_by_products)


def look_up(levels: Levels, *, tables: Float[Array, "3 256"]) -> Levels:
    """Replaces each level by its channel's entry, itself a whole number from 0 to 255."""
    whole = levels.astype(jnp.int32).reshape(-1, 3)
    found = by_platform(
        whole,
        tables,
        cpu=_look_up_by_reading,
        cuda=_look_up_by_reading,
        default=look_up_by_products,
    )
    return found.reshape(levels.shape)


@jax.custom_batching.custom_vmap
def _look_up_by_reading(
    whole: Int[Array, "N 3"], tables: Float[Array, "3 256"]
) -> Float[Array, "N 3"]:
    return _read(whole, tables)


@_look_up_by_reading.def_vmap
def _look_up_a_batch_by_reading(size, are_batched, whole, tables):
    # By positions that are one number. XLA's own batching writes a pair for each to memory.
    whole, tables = (
        array if is_batched else jnp.broadcast_to(array, (size, *array.shape))
        for array, is_batched in zip((whole, tables), are_batched, strict=True)
    )
    return _read(whole, tables), True


def _read(whole: Int[Array, "*B N 3"], tables: Float[Array, "*B 3 256"]) -> Float[Array, "*B N 3"]:
    first = 256 * jnp.arange(tables.size // 256).reshape(*tables.shape[:-2], 1, 3)
    return tables.reshape(-1).at[whole + first].get(mode="promise_in_bounds")


def count_by_products(whole: Int[Array, "N 3"]) -> Int[Array, "3 256"]:
    """`count_levels` without writing to computed positions."""
    counts = jnp.einsum(
        "nci,ncj->cij",
        _one_hot(whole // 16),
        _one_hot(whole % 16),
    )
    return counts.reshape(3, 256).astype(jnp.int32)


def look_up_by_products(
    whole: Int[Array, "N 3"], tables: Float[Array, "3 256"]
) -> Float[Array, "N 3"]:
    """`look_up` without reading from computed positions."""
    # Exact in any precision: bfloat16 holds every whole number up to 256.
    rows = jnp.einsum(
        "nci,cij->ncj",
        _one_hot(whole // 16),
        tables.reshape(3, 16, 16),
    )
    return jnp.sum(rows * _one_hot(whole % 16), axis=-1)


def _one_hot(digits: Int[Array, "N 3"]) -> Array:
    return (digits[..., None] == jnp.arange(16)[None, None, :]).astype(jnp.float32)
