"""The pieces that both U-Nets are built of."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from draem_jax.networks.convolution import conv3x3, conv3x3_to_few
from draem_jax.networks.initialisation import SIZE_MULTIPLE, bias_init, kernel_init, parameter
from draem_jax.networks.normalisation import FACTORS, NormRelu

# What is convolved of so few channels, a picture's, is made again for the gradient instead of being
# kept: it is among the largest arrays, and takes no longer to make than to write.
_FEW = 3


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
        kernel, bias = _conv_params(self, x.shape[-1], self.features)
        return conv3x3(x.astype(self.dtype), kernel.astype(self.dtype)), bias


class Output(nn.Module):
    """3×3 convolution to few channels, float32 at least, with its bias.

    Attributes:
        features: channels out.
        dtype: the dtype of the activations and the kernel; the parameters are float32.
    """

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W {self.features}"]:
        """Convolves `x` and adds the bias."""
        kernel, bias = _conv_params(self, x.shape[-1], self.features)
        convolved = conv3x3_to_few(x.astype(self.dtype), kernel.astype(self.dtype))
        return convolved + bias.reshape(1, 1, 1, -1)


def _conv_params(module: nn.Module, channels: int, features: int) -> tuple[Array, Array]:
    kernel = parameter(module, "kernel", kernel_init, (3, 3, channels, features))
    bias = parameter(module, "bias", bias_init(9 * channels), (features,))
    return kernel, bias


class ConvNormRelu(nn.Module):
    """Convolution → batch normalisation → ReLU, the unit of both networks.

    Attributes:
        features: channels out.
        remat: convolve again in the backward pass instead of keeping what the convolution makes.
        dtype: the dtype of the activations; statistics and parameters are float32.
        axis_name: mapped axis over which batch statistics are averaged, None for none.
    """

    features: int
    remat: bool = False
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(
        self, x: Float[Array, "B H W C"], *, train: bool
    ) -> Float[Array, "B H W {self.features}"]:
        """Applies the three; `train` takes the batch's statistics and updates the running ones."""

        def run(unit, x):
            conv = Conv3x3(self.features, self.dtype, name="conv", parent=unit)
            norm = NormRelu(self.axis_name, name="norm", parent=unit)
            convolved, bias = conv(x)
            return norm(convolved, bias, train=train)

        if not self.remat:
            return run(self, x)
        # The batch's statistics are kept, or they would be taken again as well.
        kept = jax.checkpoint_policies.save_only_these_names(FACTORS)
        return nn.remat(run, policy=kept)(self, x)


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
                few = x.shape[-1] <= _FEW and not self.remat
                unit = ConvNormRelu(
                    features, few, self.dtype, self.axis_name, name=f"unit{i}", parent=stage
                )
                x = unit(x, train=train)
            return x

        return nn.remat(run)(self, x) if self.remat else run(self, x)


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
