"""The pieces that both U-Nets are built of."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from draem_jax.networks.convolution import conv3x3
from draem_jax.networks.initialisation import bias_init, kernel_init
from draem_jax.networks.normalisation import NormRelu

# Five poolings halve the size five times.
SIZE_MULTIPLE = 32


class Conv3x3(nn.Module):
    """3×3 convolution, one pixel of zero padding.

    Attributes:
        features: channels out.
        dtype: the dtype of the computation; the parameters are float32.
    """

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(
        self, x: Float[Array, "B H W C"]
    ) -> tuple[Float[Array, "B H W {self.features}"], Float[Array, " {self.features}"]]:
        """Convolves `x`, and leaves it to the caller to add the bias, which comes second."""
        channels = x.shape[-1]
        kernel = self.param("kernel", kernel_init, (3, 3, channels, self.features), jnp.float32)
        bias = self.param("bias", bias_init(9 * channels), (self.features,), jnp.float32)
        convolved = conv3x3(x.astype(self.dtype), jnp.asarray(kernel, self.dtype))
        return convolved, jnp.asarray(bias)


class ConvNormRelu(nn.Module):
    """Convolution → batch normalisation → ReLU, the unit of both networks.

    Attributes:
        features: channels out.
        dtype: the dtype of the activations; statistics and parameters are float32.
        axis_name: mapped axis over which batch statistics are averaged, None for none.
    """

    features: int
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, x: Float[Array, "B H W C"], *, train: bool
    ) -> Float[Array, "B H W {self.features}"]:
        """Applies the three; `train` takes the batch's statistics and updates the running ones."""
        convolved, bias = Conv3x3(self.features, self.dtype, name="conv")(x)
        norm = NormRelu(self.dtype, self.axis_name, name="norm")
        return norm(convolved, bias, train=train)


class Stage(nn.Module):
    """Several `ConvNormRelu` in a row, rematerialised together if asked.

    Attributes:
        features: channels out of each.
        remat: compute the activations again in the backward pass instead of keeping them: less
            memory for about a third more computation.
        dtype: the dtype of the activations.
        axis_name: mapped axis over which batch statistics are averaged, None for none.
    """

    features: tuple[int, ...]
    remat: bool = False
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"], *, train: bool) -> Float[Array, "B H W F"]:
        """Applies the units one behind the other."""

        def run(stage, x):
            # The units belong to the `stage` that is passed in, which remat replaces by its own.
            for i, features in enumerate(self.features, start=1):
                unit = ConvNormRelu(
                    features, self.dtype, self.axis_name, name=f"unit{i}", parent=stage
                )
                x = unit(x, train=train)
            return x

        return nn.remat(run)(self, x) if self.remat else run(self, x)


def max_pool(x: Float[Array, "B H W C"]) -> Float[Array, "B H//2 W//2 C"]:
    """Takes the maximum of each 2×2 block; height and width must be even."""
    # As a maximum over axes its gradient is elementwise; reduce_window's is select-and-scatter,
    # slow on CPUs and refused by XLA's deterministic mode on GPUs.
    batch, height, width, channels = x.shape
    return x.reshape(batch, height // 2, 2, width // 2, 2, channels).max(axis=(2, 4))


def upsample(x: Float[Array, "B H W C"]) -> Float[Array, "B 2*H 2*W C"]:
    """Doubles height and width by bilinear interpolation with aligned corners.

    The first and last samples of the output stand on those of the input, as in PyTorch's
    `align_corners=True`; `jax.image.resize` aligns the pixels' outer edges instead.
    """
    return _double(_double(x, axis=1), axis=2)


def _double(x, *, axis):
    # Output 2k stands k/(2n−1) before input k, output 2k+1 stands (n−1−k)/(2n−1) behind it.
    # The weights are zero where a neighbour is missing.
    size = x.shape[axis]
    shape = [1] * x.ndim
    shape[axis] = size
    precise = jnp.promote_types(x.dtype, jnp.float32)
    weight = (jnp.arange(size, dtype=precise) / (2 * size - 1)).reshape(shape)
    first, last = (jax.lax.slice_in_dim(x, i, i + 1, axis=axis) for i in (0, size - 1))
    before = jnp.concatenate([first, jax.lax.slice_in_dim(x, 0, size - 1, axis=axis)], axis)
    behind = jnp.concatenate([jax.lax.slice_in_dim(x, 1, size, axis=axis), last], axis)
    even = x + (weight * (before - x)).astype(x.dtype)
    odd = x + (jnp.flip(weight, axis) * (behind - x)).astype(x.dtype)
    doubled = list(x.shape)
    doubled[axis] = 2 * size
    return jnp.stack([even, odd], axis=axis + 1).reshape(doubled)


def check_size(height: int, width: int) -> None:
    """Raises ValueError unless both networks can take pictures of this size."""
    if height % SIZE_MULTIPLE or width % SIZE_MULTIPLE or height <= 0 or width <= 0:
        nearest = [
            max(SIZE_MULTIPLE, round(n / SIZE_MULTIPLE) * SIZE_MULTIPLE) for n in (height, width)
        ]
        raise ValueError(
            f"image size {height} x {width} is not divisible by {SIZE_MULTIPLE}, which the "
            f"networks need; the nearest that is: {nearest[0]} x {nearest[1]}"
        )
