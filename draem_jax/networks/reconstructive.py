"""The network that restores the normal picture (paper, section 3.1)."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float

from draem_jax.networks.inputs import RECONSTRUCTIVE_INPUTS
from draem_jax.networks.layers import Output, Stage
from draem_jax.networks.options import AUXILIARY, PLAIN, NetworkOptions
from draem_jax.networks.pooling import max_pool
from draem_jax.networks.predictive import PredictiveBlock
from draem_jax.networks.upsampling import upsample


class ReconstructiveNetwork(nn.Module):
    """An encoder–decoder, without skips by default: what is not normal must not pass.

    Attributes:
        width: channels of the first block, 128 in the authors' code.
        dtype: the dtype of the activations; parameters and output are float32 at least.
        remat: compute activations again in the backward pass to save memory.
        axis_name: mapped axis over which batch statistics are averaged, None for none.
        options: what it has besides the paper's.
    """

    width: int = 128
    dtype: Any = jnp.float32
    remat: bool = False
    axis_name: str | None = None
    options: NetworkOptions = PLAIN

    @nn.compact
    def __call__(self, images: Float[Array, "B H W 3"], *, train: bool) -> Float[Array, "B H W 3"]:
        """Reconstructs images.

        Args:
            images: float in [0, 1]; height and width divisible by 32.
            train: use the batch's own statistics and update the running ones.

        Returns:
            The reconstruction, float32. There is no output activation: values may leave [0, 1].
        """
        b = self.width
        stage = partial(Stage, remat=self.remat, dtype=self.dtype, axis_name=self.axis_name)
        x = RECONSTRUCTIVE_INPUTS[self.options.reconstructive_input](images).astype(self.dtype)
        levels = []
        for i, c in enumerate((b, 2 * b, 4 * b, 8 * b, 8 * b), start=1):
            x = max_pool(x) if i > 1 else x
            x = stage((c, c), name=f"encoder{i}")(x, train=train)
            levels.append(x)
        levels.pop()
        last = (b, b) if self.options.sspcab else (b, b, b)
        stages = ((8 * b, 8 * b, 4 * b), (4 * b, 4 * b, 2 * b), (2 * b, 2 * b, b), last)
        for i, features in enumerate(stages, start=1):
            x, level = upsample(x), levels.pop()
            if i <= self.options.reconstructive_skips:
                # Added and not appended, as in FAIR: it has as many channels, and costs nothing.
                x += level
            x = stage(features, name=f"decoder{i}")(x, train=train)
        if self.options.sspcab:
            predicted = PredictiveBlock(self.dtype, name="predictive")(x)
            error = (x - predicted).astype(jnp.promote_types(x.dtype, jnp.float32))
            self.sow(AUXILIARY, "sspcab", jnp.mean(jnp.square(error)))
            x = predicted
        return Output(3, self.dtype, name="output")(x)
