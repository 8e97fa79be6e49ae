"""From a batch of pictures to all that is said of it, as one function to be compiled."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from draem_jax.anomalies.inside import find_objects
from draem_jax.data.roi import both
from draem_jax.detector.outputs import BatchOutput
from draem_jax.flips import mean_over_flips
from draem_jax.networks import DraemNetwork, forward, forward_with_features
from draem_jax.scores import margin, score_by_name


def make_inspect(
    network: DraemNetwork, score_name: str, *, with_features: bool = False, flips: str
) -> Callable[..., BatchOutput]:
    """Makes the function that looks at pictures.

    Args:
        network: the networks.
        score_name: see `draem_jax.scores.score_by_name`.
        with_features: whether features are returned as well.
        flips: a key of `draem_jax.flips.FLIPS`.

    Returns:
        A function of the networks' variables; pictures (B, H, W, 3), RGB, uint8 or float in [0, 1];
        where to look in them, (B, H, W), or None for everywhere; and `border_share` of
        `draem_jax.anomalies.inside.find_objects` where objects alone are looked at, else None.
    """
    score = score_by_name(score_name)

    def inspect(variables, images, planes, border_share):
        if images.dtype == jnp.uint8:
            images = images.astype(jnp.float32) / 255
        features = None
        if with_features:
            output, features = forward_with_features(network, variables, images)
        else:
            output = forward(network, variables, images)
        margins = mean_over_flips(
            lambda mirrored: margin(forward(network, variables, mirrored).logits),
            images,
            margin(output.logits),
            flips=flips,
        )
        maps = jax.nn.sigmoid(margins)
        reconstruction = jnp.clip(output.reconstruction, 0, 1)
        on_object = None
        if border_share is not None:
            on_object = find_objects(images, border_share=border_share)
        return BatchOutput(
            margins,
            maps,
            score(maps, both(planes, on_object)),
            reconstruction,
            features,
            on_object,
        )

    return inspect
