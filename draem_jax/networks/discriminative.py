"""The network that tells, pixel by pixel, what is anomalous (paper, section 3.2)."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from draem_jax.networks.layers import Output, Stage
from draem_jax.networks.options import AUXILIARY, COARSE_STAGES, PLAIN, NetworkOptions
from draem_jax.networks.pooling import max_pool
from draem_jax.networks.upsampling import upsample


class DiscriminativeNetwork(nn.Module):
    """A U-Net that sees the reconstruction and the picture together, or the picture alone.

    Attributes:
        width: channels of the first block, 64 in the authors' code.
        dtype: the dtype of the activations; parameters and logits are float32 at least.
        remat: compute activations again in the backward pass to save memory.
        axis_name: mapped axis over which batch statistics are averaged, None for none.
        options: what it has besides the paper's.
    """

    width: int = 64
    dtype: Any = jnp.float32
    remat: bool = False
    axis_name: str | None = None
    options: NetworkOptions = PLAIN

    @nn.compact
    def __call__(
        self,
        reconstruction: Float[Array, "B H W 3"] | None,
        images: Float[Array, "B H W 3"],
        *,
        train: bool,
    ) -> Float[Array, "B H W 2"]:
        """Scores each pixel.

        Args:
            reconstruction: what the reconstructive network made of `images`; None for a network
                that sees three channels only, the picture's.
            images: float in [0, 1]; height and width divisible by 32.
            train: use the batch's own statistics and update the running ones.

        Returns:
            Logits, float32; channel 0 for normal, channel 1 for anomalous.
        """
        b = self.width
        stage = partial(Stage, remat=self.remat, dtype=self.dtype, axis_name=self.axis_name)
        seen = [images] if reconstruction is None else [reconstruction, images]
        if reconstruction is not None and self.options.difference:
            seen.append(jnp.abs(images - reconstruction))
        x = jnp.concatenate(seen, axis=-1).astype(self.dtype)
        skips = []
        for i, c in enumerate((b, 2 * b, 4 * b, 8 * b, 8 * b, 8 * b), start=1):
            x = max_pool(x) if i > 1 else x
            x = stage((c, c), name=f"encoder{i}")(x, train=train)
            skips.append(x)
        skips.pop()
        for i, c in enumerate((8 * b, 4 * b, 2 * b, b, b), start=1):
            x = stage((c,), name=f"up{i}")(upsample(x), train=train)
            x = jnp.concatenate([x, skips.pop()], axis=-1)
            x = stage((c, c), name=f"decoder{i}")(x, train=train)
            is_supervised = COARSE_STAGES - self.options.deep_supervision < i <= COARSE_STAGES
            if is_supervised and self.is_mutable_collection(AUXILIARY):
                self.sow(AUXILIARY, "deep", Output(2, self.dtype, name=f"head{i}")(x))
        return Output(2, self.dtype, name="output")(x)
