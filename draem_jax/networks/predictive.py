"""A block that predicts each pixel's features from those around it, the pixel itself unseen."""

from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from draem_jax.networks.initialisation import bias_init, kernel_init, parameter

_OFF = 2  # pixels from the middle to the four corners that are seen
_REDUCTION = 8


class PredictiveBlock(nn.Module):
    """The self-supervised predictive convolutional attentive block.

    A convolution sees the corners of 5 × 5 pixels alone, and ReLU follows; then each channel is
    multiplied by a number in (0, 1) that is made of the means of all channels over the picture.
    That the block gives back what it is given is a loss of its own.

    Attributes:
        dtype: the dtype of the activations; parameters are float32.

    References:
        Ristea et al.: Self-supervised predictive convolutional attentive block for anomaly
        detection, CVPR 2022; kernels of one pixel, dilation and reduction are theirs.
    """

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        """Predicts `x`, which is not below 0."""
        channels = x.shape[-1]
        kernel = parameter(self, "kernel", kernel_init, (2, 2, channels, channels))
        bias = parameter(self, "bias", bias_init(4 * channels), (channels,))
        predicted = lax.conv_general_dilated(
            x.astype(self.dtype),
            kernel.astype(self.dtype),
            window_strides=(1, 1),
            padding=((_OFF, _OFF), (_OFF, _OFF)),
            rhs_dilation=(2 * _OFF, 2 * _OFF),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        predicted = nn.relu(predicted + bias.astype(self.dtype).reshape(1, 1, 1, -1))
        means = jnp.mean(predicted, (1, 2), dtype=jnp.promote_types(self.dtype, jnp.float32))
        hidden = nn.relu(_Dense(max(1, channels // _REDUCTION), name="squeeze")(means))
        attention = nn.sigmoid(_Dense(channels, name="excite")(hidden))
        return predicted * attention.astype(self.dtype)[:, None, None]


class _Dense(nn.Module):
    features: int

    @nn.compact
    def __call__(self, x: Float[Array, "B C"]) -> Float[Array, "B {self.features}"]:
        channels = x.shape[-1]
        kernel = parameter(self, "kernel", kernel_init, (channels, self.features))
        bias = parameter(self, "bias", bias_init(channels), (self.features,))
        return x @ kernel + bias.reshape(1, -1)
