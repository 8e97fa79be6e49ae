"""Looking at mirrored pictures as well, and averaging what is said of them."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

FLIPS: Mapping[str, tuple[tuple[int, ...], ...]] = {
    "none": (),
    "horizontal": ((2,),),
    "both": ((1,), (2,), (1, 2)),
}
"""The axes of (B, H, W, …) along which pictures are mirrored, for each further look at them."""


def mean_over_flips(
    margin_of: Callable[[Float[Array, "B H W 3"]], Float[Array, "B H W"]],
    images: Float[Array, "B H W 3"],
    margins: Float[Array, "B H W"],
    *,
    flips: str,
) -> Float[Array, "B H W"]:
    """Averages anomaly maps over mirrored pictures.

    Args:
        margin_of: gives the margins of pictures, see `draem_jax.scores.margin`.
        images: the pictures, RGB in [0, 1].
        margins: what `margin_of` says of them.
        flips: a key of `FLIPS`.

    Returns:
        The margins whose map is the mean of all maps.
    """
    axes = FLIPS[flips]
    if not axes:
        return margins
    mirrored = jnp.stack([jnp.flip(images, of) for of in axes])
    # One after the other: no more memory, and the networks are compiled once more, not often.
    looks = jax.lax.map(margin_of, mirrored)
    restored = [jnp.flip(look, of) for look, of in zip(looks, axes, strict=True)]
    return mean_margin(jnp.stack([margins, *restored]))


def mean_margin(margins: Float[Array, "n *shape"]) -> Float[Array, " *shape"]:
    """The margin whose sigmoid is the mean of the sigmoids; finite where these are 0 or 1."""
    log_anomalous = jax.nn.logsumexp(jax.nn.log_sigmoid(margins), axis=0)
    log_normal = jax.nn.logsumexp(jax.nn.log_sigmoid(-margins), axis=0)
    return log_anomalous - log_normal
