"""Textures that are made on the device, sample by sample, instead of being looked up."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray


def solid_texture(key: PRNGKeyArray, *, shape: tuple[int, int]) -> Float[Array, "H W 3"]:
    """One random colour all over (paper, table 3, "color"), its channels uniform in [0, 1].

    Args:
      key: a random key.
      shape: height and width in pixels.
    """
    colour = jax.random.uniform(key, (1, 1, 3))
    return jnp.broadcast_to(colour, (*shape, 3))


def noise_texture(key: PRNGKeyArray, *, shape: tuple[int, int]) -> Float[Array, "H W 3"]:
    """A random colour for each pixel, its channels uniform in [0, 1].

    Args:
      key: a random key.
      shape: height and width in pixels.
    """
    return jax.random.uniform(key, (*shape, 3))
