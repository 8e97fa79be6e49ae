"""3×3 convolutions in the forms that XLA's CPU compiler has fast kernels for.

It has them for plain convolutions, of which the result has not too few channels.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


def same(
    images: Float[Array, "B H W C"], kernel: Float[Array, "3 3 C F"]
) -> Float[Array, "B H W F"]:
    """Convolves with one pixel of zero padding."""
    batch, height, width, channels = images.shape
    features = kernel.shape[-1]
    run = _run(channels, features, width)
    if run == 1:
        return _convolved(images, kernel)
    # The kernel moved to where each pixel of a run stands, so that all of them are its channels.
    moved = [
        jnp.pad(kernel, ((0, 0), (place, run - 1 - place), (0, 0), (0, 0))) for place in range(run)
    ]
    kernel = jnp.stack(moved, axis=3).reshape(3, 2 + run, channels, run * features)
    return _convolved(images, kernel, stride=run).reshape(batch, height, width, features)


def gradients(
    images: Float[Array, "B H W C"],
    kernel: Float[Array, "3 3 C F"],
    cotangent: Float[Array, "B H W F"],
) -> tuple[Float[Array, "B H W C"], Float[Array, "3 3 C F"]]:
    """The gradients of `same` to images and kernel.

    Those that XLA derives by itself fall to a kernel many times slower where they stand in a loop's
    body. Both are plain convolutions, written so.
    """
    return same(cotangent, _turned(kernel)), kernel_gradient(images, cotangent)


def kernel_gradient(
    images: Float[Array, "B H W C"], cotangent: Float[Array, "B H W F"]
) -> Float[Array, "3 3 C F"]:
    """The second of `gradients`: of channels in and out, the more stand for the channels out."""
    if images.shape[-1] > cotangent.shape[-1]:
        return _turned(_correlated(cotangent, images))
    return _correlated(images, cotangent)


def _run(channels: int, features: int, width: int) -> int:
    """How many pixels of a row to compute at once, as channels; they must divide the width.

    What is multiplied by zeros on the way costs less than the slower kernel, up to some channels;
    of small pictures it is not worth another order of additions.
    """
    if width < 128 or (channels > 8 and max(channels, features) > 16):
        return 1
    wanted = (64 if channels < 4 else 32) // features
    return next(run for run in (8, 4, 2, 1) if run <= max(wanted, 2) and width % run == 0)


def _convolved(images: Array, kernel: Array, *, stride: int = 1) -> Array:
    return lax.conv_general_dilated(
        images,
        kernel,
        window_strides=(1, stride),
        padding=((1, 1), (1, 1)),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def _turned(kernel: Float[Array, "3 3 C F"]) -> Float[Array, "3 3 F C"]:
    return kernel[::-1, ::-1].swapaxes(2, 3)


def _correlated(a: Float[Array, "B H W C"], b: Float[Array, "B H W F"]) -> Float[Array, "3 3 C F"]:
    """Sums over all pixels, of what is in `b` times what is around it in `a`."""
    return _convolved(a.transpose(3, 1, 2, 0), b.transpose(1, 2, 0, 3)).transpose(1, 2, 0, 3)
