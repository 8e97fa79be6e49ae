"""Both networks as one module: the forward function of training, evaluation and prediction."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from draem_jax.networks.discriminative import DiscriminativeNetwork
from draem_jax.networks.layers import check_size
from draem_jax.networks.reconstructive import ReconstructiveNetwork
from draem_jax.similarity import msgms_map, ssim_map

Variant = Literal["full", "discriminative", "reconstruction_ssim", "reconstruction_msgms"]

_FEATURES = "encoder4"  # of the discriminative network; it tells types better than its neighbours

# A dissimilarity is kept so far from 0 and 1 that its logit is finite.
_LEAST = 1e-6


class DraemOutput(NamedTuple):
    """What the networks say of a batch.

    Attributes:
        reconstruction: float32, the normal picture as the network sees it; may leave [0, 1].
            Without a reconstructive network, the picture that was given.
        logits: float32; channel 0 for normal, channel 1 for anomalous. Without a discriminative
            network, channel 0 is 0 and channel 1 the logit of the dissimilarity in [0, 1] between
            picture and reconstruction, so that the softmax gives it back.
    """

    reconstruction: Float[Array, "B H W 3"]
    logits: Float[Array, "B H W 2"]


class DraemNetwork(nn.Module):
    """The reconstructive and the discriminative network, one behind the other (paper, figure 3).

    The other variants are those of the paper's ablation (table 3): "discriminative" is that
    network alone, seeing nothing but the picture; "reconstruction_ssim" and "reconstruction_msgms"
    are the reconstructive network alone, with an anomaly map that is not learned: the mean over
    the channels of (1 − SSIM) / 2, or of 1 − MSGMS.

    Attributes:
        reconstructive_width: channels of the reconstructive network's first block.
        discriminative_width: channels of the discriminative network's first block.
        dtype: of the activations; parameters and outputs are float32.
        remat: compute activations again in the backward pass to save memory.
        axis_name: mapped axis over which batch statistics are averaged, None for none.
        variant: which networks there are, and what the map is.
    """

    reconstructive_width: int = 128
    discriminative_width: int = 64
    dtype: Any = jnp.float32
    remat: bool = False
    axis_name: str | None = None
    variant: Variant = "full"

    @property
    def reconstructs(self) -> bool:
        """Whether there is a reconstructive network."""
        return self.variant != "discriminative"

    @property
    def discriminates(self) -> bool:
        """Whether there is a discriminative network."""
        return self.variant in ("full", "discriminative")

    @property
    def feature_channels(self) -> int:
        """Channels of what `forward_with_features` returns as features; 0 for none."""
        return 8 * self.discriminative_width if self.discriminates else 0

    def setup(self) -> None:
        """Builds the networks that there are."""
        shared = {"dtype": self.dtype, "remat": self.remat, "axis_name": self.axis_name}
        if self.reconstructs:
            self.reconstructive = ReconstructiveNetwork(self.reconstructive_width, **shared)
        if self.discriminates:
            self.discriminative = DiscriminativeNetwork(self.discriminative_width, **shared)

    def __call__(self, images: Float[Array, "B H W 3"], *, train: bool) -> DraemOutput:
        """Reconstructs and scores images.

        Args:
            images: float in [0, 1], RGB; height and width divisible by 32.
            train: use the batch's own statistics and update the running ones, which needs
                `mutable=["batch_stats"]`.

        Returns:
            Reconstruction and logits.

        Raises:
            ValueError: the height or the width is not divisible by 32.
        """
        check_size(*images.shape[1:3])
        if not self.reconstructs:
            return DraemOutput(images, self.discriminative(None, images, train=train))
        reconstruction = self.reconstructive(images, train=train)
        match self.variant:
            case "reconstruction_ssim":
                logits = _logits_of((1 - ssim_map(reconstruction, images)) / 2)
            case "reconstruction_msgms":
                logits = _logits_of(1 - msgms_map(reconstruction, images))
            case _:
                logits = self.discriminative(reconstruction, images, train=train)
        return DraemOutput(reconstruction, logits)


def _logits_of(dissimilarity: Float[Array, "B H W 3"]) -> Float[Array, "B H W 2"]:
    probability = jnp.clip(jnp.mean(dissimilarity, axis=-1), _LEAST, 1 - _LEAST)
    logit = jnp.log(probability) - jnp.log1p(-probability)
    return jnp.stack([jnp.zeros_like(logit), logit], axis=-1)


def forward(
    network: DraemNetwork, variables: Mapping[str, Any], images: Float[Array, "B H W 3"]
) -> DraemOutput:
    """Applies the networks in evaluation mode: with running statistics, changing nothing.

    Args:
        network: the networks.
        variables: its `params` and `batch_stats`.
        images: float in [0, 1], RGB; height and width divisible by 32.
    """
    return cast(DraemOutput, network.apply(variables, images, train=False))


def forward_with_features(
    network: DraemNetwork, variables: Mapping[str, Any], images: Float[Array, "B H W 3"]
) -> tuple[DraemOutput, Float[Array, "B H//8 W//8 C"] | None]:
    """Applies the networks as `forward` does, and returns features of the discriminative one.

    Args:
        network: the networks.
        variables: see `forward`.
        images: see `forward`.

    Returns:
        The output; and what the discriminative network has computed at an eighth of the height
        and width on its way down, None where there is no such network.
    """
    if not network.discriminates:
        return forward(network, variables, images), None
    path = ("discriminative", _FEATURES)
    output, captured = network.apply(
        variables,
        images,
        train=False,
        capture_intermediates=lambda module, _: module.path == path,
        mutable=["intermediates"],
    )
    (features,) = captured["intermediates"][path[0]][path[1]]["__call__"]
    return cast(DraemOutput, output), features.astype(jnp.float32)


def default_dtype() -> Any:
    """The activations' dtype for the machine at hand: bfloat16 on accelerators, else float32."""
    return jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16
