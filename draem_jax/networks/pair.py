"""Both networks as one module: the forward function of training, evaluation and prediction."""

from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from draem_jax.networks.discriminative import DiscriminativeNetwork
from draem_jax.networks.layers import check_size
from draem_jax.networks.reconstructive import ReconstructiveNetwork


class DraemOutput(NamedTuple):
    """What the pair of networks says of a batch.

    Attributes:
        reconstruction: float32, the normal picture as the network sees it; may leave [0, 1].
        logits: float32; channel 0 for normal, channel 1 for anomalous.
    """

    reconstruction: Float[Array, "B H W 3"]
    logits: Float[Array, "B H W 2"]


class DraemNetwork(nn.Module):
    """The reconstructive and the discriminative network, one behind the other (paper, figure 3).

    Attributes:
        reconstructive_width: channels of the reconstructive network's first block.
        discriminative_width: channels of the discriminative network's first block.
        dtype: of the activations; parameters and outputs are float32.
        remat: compute activations again in the backward pass to save memory.
        axis_name: mapped axis over which batch statistics are averaged, None for none.
    """

    reconstructive_width: int = 128
    discriminative_width: int = 64
    dtype: Any = jnp.float32
    remat: bool = False
    axis_name: str | None = None

    def setup(self) -> None:
        """Builds both networks."""
        shared = {"dtype": self.dtype, "remat": self.remat, "axis_name": self.axis_name}
        self.reconstructive = ReconstructiveNetwork(self.reconstructive_width, **shared)
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
        reconstruction = self.reconstructive(images, train=train)
        return DraemOutput(reconstruction, self.discriminative(reconstruction, images, train=train))


def forward(
    network: DraemNetwork, variables: Mapping[str, Any], images: Float[Array, "B H W 3"]
) -> DraemOutput:
    """Applies the networks in evaluation mode: with running statistics, changing nothing.

    Args:
        network: the pair of networks.
        variables: its `params` and `batch_stats`.
        images: float in [0, 1], RGB; height and width divisible by 32.
    """
    return cast(DraemOutput, network.apply(variables, images, train=False))


def default_dtype() -> Any:
    """The activations' dtype for the machine at hand: bfloat16 on accelerators, else float32."""
    return jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16
