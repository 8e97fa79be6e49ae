"""3×3 convolutions with one pixel of zero padding, and gradients that suit the platform."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from draem_jax.networks import cpu_convolution
from draem_jax.platforms import by_platform

_NHWC = ("NHWC", "HWIO", "NHWC")


def _same(
    images: Float[Array, "B H W C"], kernel: Float[Array, "3 3 C F"]
) -> Float[Array, "B H W F"]:
    return lax.conv_general_dilated(
        images, kernel, window_strides=(1, 1), padding=((1, 1), (1, 1)), dimension_numbers=_NHWC
    )


@jax.custom_vjp
def conv3x3(
    images: Float[Array, "B H W C"], kernel: Float[Array, "3 3 C F"]
) -> Float[Array, "B H W F"]:
    """Convolves with stride 1 and one pixel of zero padding, so that the size is kept.

    The result and its gradient are those of `lax.conv_general_dilated`; only the way in which they
    are computed differs by platform. It can be differentiated once, in reverse mode.

    Args:
        images: any floating dtype.
        kernel: of the same dtype as `images`.

    Returns:
        The convolved images, in the dtype of the arguments.
    """
    return by_platform(images, kernel, cpu=cpu_convolution.same, default=_same)


def _forward(images, kernel):
    return conv3x3(images, kernel), (images, kernel)


def _backward(residuals, cotangent):
    return by_platform(*residuals, cotangent, cpu=cpu_convolution.gradients, default=_gradient)


def _gradient(images, kernel, cotangent):
    images_gradient, kernel_gradient = jax.vjp(_same, images, kernel)[1](cotangent)
    # Laid out as the kernel here: within the optimiser, it could not update in place.
    flat = lax.optimization_barrier(kernel_gradient.reshape(-1))
    return images_gradient, flat.reshape(kernel.shape)


conv3x3.defvjp(_forward, _backward)


@jax.custom_vjp
def conv3x3_to_few(
    images: Float[Array, "B H W C"], kernel: Float[Array, "3 3 C F"]
) -> Float[Array, "B H W F"]:
    """Convolves as `conv3x3` does, to so few channels that they are kept in float32.

    Sums and result are float32, or float64 where the arguments are.

    Args:
        images: any floating dtype.
        kernel: of the same dtype as `images`.
    """
    return by_platform(images, kernel, cpu=_precise, default=_as_product)


def _few_forward(images, kernel):
    return conv3x3_to_few(images, kernel), (images, kernel)


def _few_backward(residuals, cotangent):
    return by_platform(
        *residuals,
        cotangent,
        cpu=_precise_gradient,
        tpu=_swapped_gradient,
        default=_rounded_gradient,
    )


conv3x3_to_few.defvjp(_few_forward, _few_backward)


def _precise(images, kernel):
    precise = jnp.promote_types(images.dtype, jnp.float32)
    return cpu_convolution.same(images.astype(precise), kernel.astype(precise))


def _precise_gradient(images, kernel, cotangent):
    images_gradient, kernel_gradient = cpu_convolution.gradients(
        images.astype(cotangent.dtype), kernel.astype(cotangent.dtype), cotangent
    )
    return images_gradient.astype(images.dtype), kernel_gradient.astype(kernel.dtype)


def _rounded_gradient(images, kernel, cotangent):
    return _gradient(images, kernel, cotangent.astype(images.dtype))


def _swapped_gradient(images, kernel, cotangent):
    # As JAX derives it, the kernel's gradient is a convolution to few channels, which leaves the
    # matrix units of a TPU all but empty: it would take longer than ten large layers, to compile as
    # to run. On CPUs the many stand for the channels out, and that suits TPUs as well.
    cotangent = cotangent.astype(images.dtype)
    images_gradient, _ = _gradient(images, kernel, cotangent)
    return images_gradient, cpu_convolution.kernel_gradient(images, cotangent)


def _as_product(images, kernel):
    # A convolution gives its result in the dtype of its arguments, and would have to read float32
    # to write it. So each place of the kernel is applied by one matrix product, and what the nine
    # make is moved to where it belongs and added up.
    few = kernel.shape[-1]
    products = lax.dot_general(
        images,
        kernel.transpose(2, 0, 1, 3).reshape(kernel.shape[2], -1),
        (((3,), (0,)), ((), ())),
        preferred_element_type=jnp.promote_types(images.dtype, jnp.float32),
    )
    places = jnp.pad(products, ((0, 0), (1, 1), (1, 1), (0, 0)))
    _, height, width, _ = images.shape
    return sum(
        places[:, i : i + height, j : j + width, few * (3 * i + j) :][..., :few]
        for i in range(3)
        for j in range(3)
    )
