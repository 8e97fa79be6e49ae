"""Textures that are made on the device, sample by sample, instead of being looked up.

One contract for all in `MAKERS`: a key comes first, then the sample's own normal picture, (H, W, 3)
float32 RGB in [0, 1], before it is turned, and the texture parameters by keyword. The texture has
the picture's size.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from draem_jax.anomalies.draws import draw, draw_whole
from draem_jax.anomalies.params import MAX_BLOCK_EXPONENT, TextureParams

Image = Float[Array, "H W 3"]


def solid_texture(key: PRNGKeyArray, image: Image, *, params: TextureParams) -> Image:
    """One random colour all over (paper, table 3, "color"), its channels uniform in [0, 1]."""
    del params
    return jnp.broadcast_to(jax.random.uniform(key, (1, 1, 3)), image.shape)


def noise_texture(key: PRNGKeyArray, image: Image, *, params: TextureParams) -> Image:
    """A random colour for each pixel, its channels uniform in [0, 1]."""
    del params
    return jax.random.uniform(key, image.shape)


def shuffled_blocks(key: PRNGKeyArray, image: Image, *, params: TextureParams) -> Image:
    """The image's own blocks in random order.

    It is cut into 2^k × 2^k blocks of equal size; what remains at the bottom and on the right of
    sides that are not divided stays where it is.

    Args:
        key: a random key.
        image: any values, sides of at least 2^4 pixels.
        params: `block_exponent` is used, from which k is drawn.
    """
    exponent_key, order_key = jax.random.split(key)
    exponent = draw_whole(exponent_key, params.block_exponent).astype(jnp.int32)
    count = jnp.left_shift(1, jnp.clip(exponent, 0, MAX_BLOCK_EXPONENT))
    # A traced number of blocks: order the most there can be, those that are not there at the end.
    most = 4**MAX_BLOCK_EXPONENT
    rank = jax.random.uniform(order_key, (most,))
    order = jnp.argsort(jnp.where(jnp.arange(most) < count * count, rank, jnp.inf))

    height, width, _ = image.shape
    y, x = jnp.arange(height)[:, None], jnp.arange(width)[None, :]
    block_height, block_width = height // count, width // count
    from_block = order[jnp.minimum(y // block_height * count + x // block_width, most - 1)]
    source_y = from_block // count * block_height + y % block_height
    source_x = from_block % count * block_width + x % block_width
    is_cut = (y < count * block_height) & (x < count * block_width)
    return _pixels_at(image, jnp.where(is_cut, source_y, y), jnp.where(is_cut, source_x, x))


def shifted_copy(key: PRNGKeyArray, image: Image, *, params: TextureParams) -> Image:
    """The image moved by a random distance along each axis.

    What leaves on one side comes in again on the other. A mask filled with it shows another place
    of the same image.

    Args:
        key: a random key.
        image: any values.
        params: `shift` is used, shares of the sides from which the distances are drawn.
    """
    height, width, _ = image.shape
    share = draw(key, params.shift, (2,))
    distances = jnp.round(share * jnp.array([height, width])).astype(jnp.int32)
    return jnp.roll(image, distances, axis=(0, 1))


MAKERS: Mapping[str, Callable[..., Image]] = {
    "solid": solid_texture,
    "noise": noise_texture,
    "blocks": shuffled_blocks,
    "elsewhere": shifted_copy,
}
"""What makes the textures of each source that the device makes itself."""


def _pixels_at(image: Image, y: Int[Array, "H W"], x: Int[Array, "H W"]) -> Image:
    height, width, _ = image.shape
    flat = image.reshape(height * width, 3)
    return flat.at[y * width + x].get(mode="promise_in_bounds")
