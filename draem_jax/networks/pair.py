"""Both networks as one module: the forward function of training, evaluation and prediction."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from draem_jax.networks.discriminative import DiscriminativeNetwork
from draem_jax.networks.layers import check_size
from draem_jax.networks.options import AUXILIARY, PLAIN, NetworkOptions
from draem_jax.networks.reconstructive import ReconstructiveNetwork
from draem_jax.similarity import msgms_map, ssim_map

_FEATURES = "encoder4"  # of the discriminative network; it tells types better than its neighbours

LEAST = 1e-6
"""So far a dissimilarity is kept from 0 and 1, so that its logit is finite."""


@dataclass(frozen=True)
class NetworkVariant:
    """Which networks there are, and where the anomaly map comes from.

    Attributes:
        reconstructs: whether there is a reconstructive network.
        dissimilarity: from reconstruction and picture, (B, H, W, 3), to what the anomaly map is the
            mean of over the channels, in [0, 1]. None where the map is learned.
    """

    reconstructs: bool = True
    dissimilarity: Callable[[Array, Array], Array] | None = None

    @property
    def discriminates(self) -> bool:
        """Whether there is a discriminative network, which learns the map."""
        return self.dissimilarity is None


VARIANTS: Mapping[str, NetworkVariant] = {
    "full": NetworkVariant(),
    "discriminative": NetworkVariant(reconstructs=False),
    "reconstruction_ssim": NetworkVariant(dissimilarity=lambda a, b: (1 - ssim_map(a, b)) / 2),
    "reconstruction_msgms": NetworkVariant(dissimilarity=lambda a, b: 1 - msgms_map(a, b)),
}
"""Both networks, and what the paper's ablation (table 3) leaves of them.

The discriminative network alone sees nothing but the picture. The reconstructive network alone has
an anomaly map that is not learned.
"""


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

    Attributes:
        reconstructive_width: channels of the reconstructive network's first block.
        discriminative_width: channels of the discriminative network's first block.
        dtype: the dtype of the activations; parameters and outputs are float32.
        remat: compute activations again in the backward pass to save memory.
        axis_name: mapped axis over which batch statistics are averaged, None for none.
        variant: a name in `VARIANTS`, which says which networks there are and what the map is.
        options: what they have besides the paper's.
    """

    reconstructive_width: int = 128
    discriminative_width: int = 64
    dtype: Any = jnp.float32
    remat: bool = False
    axis_name: str | None = None
    variant: str = "full"
    options: NetworkOptions = PLAIN

    @property
    def reconstructs(self) -> bool:
        """Whether there is a reconstructive network."""
        return VARIANTS[self.variant].reconstructs

    @property
    def discriminates(self) -> bool:
        """Whether there is a discriminative network."""
        return VARIANTS[self.variant].discriminates

    @property
    def feature_channels(self) -> int:
        """Channels of what `forward_with_features` returns as features; 0 for none."""
        return 8 * self.discriminative_width if self.discriminates else 0

    def setup(self) -> None:
        """Builds the networks that there are."""
        shared = {
            "dtype": self.dtype,
            "remat": self.remat,
            "axis_name": self.axis_name,
            "options": self.options,
        }
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
        dissimilarity = VARIANTS[self.variant].dissimilarity
        if dissimilarity is None:
            seen = reconstruction
            if train and (copied := round(self.options.copied_share * len(images))):
                seen = jnp.concatenate([images[:copied], reconstruction[copied:]])
            logits = self.discriminative(seen, images, train=train)
        else:
            logits = _logits_of(dissimilarity(reconstruction, images))
        return DraemOutput(reconstruction, logits)


def _logits_of(dissimilarity: Float[Array, "B H W 3"]) -> Float[Array, "B H W 2"]:
    probability = jnp.clip(jnp.mean(dissimilarity, axis=-1), LEAST, 1 - LEAST)
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


class TrainingOutput(NamedTuple):
    """What the networks make of a batch that they learn from.

    Attributes:
        output: reconstruction and logits.
        batch_stats: the running statistics after the batch.
        auxiliary: what is made for the loss alone, by the name of its term in `AUXILIARY_TERMS`;
            nothing by default.
    """

    output: DraemOutput
    batch_stats: Any
    auxiliary: Mapping[str, tuple[Array, ...]]


def forward_in_training(
    network: DraemNetwork, variables: Mapping[str, Any], images: Float[Array, "B H W 3"]
) -> TrainingOutput:
    """Applies the networks in training mode: with the statistics of the batch.

    Args:
        network: the networks.
        variables: see `forward`.
        images: see `forward`.
    """
    output, updates = network.apply(
        variables, images, train=True, mutable=["batch_stats", AUXILIARY]
    )
    sown = updates.get(AUXILIARY, {}).values()
    auxiliary = {name: made for part in sown for name, made in part.items()}
    return TrainingOutput(cast(DraemOutput, output), updates["batch_stats"], auxiliary)


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
