import colorsys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage import color

from draem_jax.anomalies.colour import (
    CONVERSIONS,
    rgb_to_hls,
    rgb_to_hsv,
    rgb_to_lab,
    rgb_to_luv,
    rgb_to_ycrcb,
    rgb_to_yuv,
)


@pytest.fixture(scope="module")
def colours():
    return np.random.default_rng(0).integers(0, 256, (40, 50, 3)).astype(np.float32)


def by_colorsys(convert, scales):
    def apply(rgb):
        flat = [convert(*pixel) for pixel in rgb.reshape(-1, 3) / 255]
        return (np.array(flat) * scales).reshape(rgb.shape)

    return apply


def luma_and_chroma(matrix):
    return lambda rgb: rgb @ np.array(matrix).T + [0, 128, 128]


INDEPENDENT = {
    rgb_to_hsv: by_colorsys(colorsys.rgb_to_hsv, [180, 255, 255]),
    rgb_to_hls: by_colorsys(colorsys.rgb_to_hls, [180, 255, 255]),
    rgb_to_lab: lambda rgb: color.rgb2lab(rgb / 255) * [2.55, 1, 1] + [0, 128, 128],
    rgb_to_luv: lambda rgb: (
        (color.rgb2luv(rgb / 255) + np.array([0, 134, 140])) * [2.55, 255 / 354, 255 / 262]
    ),
    rgb_to_ycrcb: luma_and_chroma(
        [[0.299, 0.587, 0.114], [0.5, -0.4187, -0.0813], [-0.1687, -0.3313, 0.5]]
    ),
    rgb_to_yuv: luma_and_chroma(
        [[0.299, 0.587, 0.114], [-0.147, -0.289, 0.436], [0.615, -0.515, -0.1]]
    ),
}


def of_picture(convert):
    """The conversion with channels last."""
    return jax.jit(lambda rgb: jnp.stack(convert(tuple(jnp.moveaxis(rgb, -1, 0))), axis=-1))


@pytest.mark.parametrize("convert", INDEPENDENT)
def test_agrees_with_an_independent_conversion(colours, convert):
    ours = np.asarray(of_picture(convert)(colours), np.float64)
    error = np.abs(ours - INDEPENDENT[convert](colours).clip(0, 255))
    if convert in (rgb_to_hsv, rgb_to_hls):
        error[..., 0] = np.minimum(error[..., 0], 180 - error[..., 0])
    assert (error.max(axis=-1) <= 1.5).mean() > 0.99
    assert error.max() <= 2.5


@pytest.mark.parametrize(("there", "back", "_"), CONVERSIONS)
def test_there_and_back(colours, there, back, _):
    restored = of_picture(lambda rgb: back(there(rgb)))(colours)
    error = np.abs(np.asarray(restored) - colours).max(axis=-1)
    # Eight bits of L*u*v* are coarse where it is dark.
    assert (error <= 5).mean() > (0.97 if there is not rgb_to_luv else 0.85)
    assert np.median(error) <= 2
