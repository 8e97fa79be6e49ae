"""Conversions between RGB and six colour spaces as 8-bit OpenCV makes them.

All take and return three planes of levels: floats holding whole numbers from 0 to 255, in the
channels that OpenCV's conversion of the same name has in 8 bits (hue from 0 to 179, L* times
255 / 100, a* and b* plus 128, u* and v* squeezed to 0 … 255). They round as OpenCV does but compute
in float32 instead of fixed-point tables, so single values differ by a level or two, and by more on
the way back from L*u*v* where the picture is dark, which 8 bits of it hold only coarsely.

Planes, because XLA computes them in one pass from the picture to the picture; what has its channels
last is written for every conversion.
"""

import enum
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Plane = Float[Array, "H W"]
Planes = tuple[Plane, Plane, Plane]


class ColourSpace(enum.IntEnum):
    """The colour spaces with a channel for brightness, in the order of `CONVERSIONS`."""

    YCRCB = 0
    HSV = 1
    HLS = 2
    LAB = 3
    LUV = 4
    YUV = 5


def rgb_to_ycrcb(rgb: Planes) -> Planes:
    """Y, Cr, Cb of ITU-R BT.601, chroma centred on 128."""
    red, _, blue = rgb
    luma = _luma(rgb)
    return _levels(luma, 0.713 * (red - luma) + 128, 0.564 * (blue - luma) + 128)


def ycrcb_to_rgb(ycrcb: Planes) -> Planes:
    """The way back from `rgb_to_ycrcb`."""
    luma, cr, cb = ycrcb[0], ycrcb[1] - 128, ycrcb[2] - 128
    return _levels(luma + 1.403 * cr, luma - 0.714 * cr - 0.344 * cb, luma + 1.773 * cb)


def rgb_to_yuv(rgb: Planes) -> Planes:
    """Y, U, V of analogue PAL, chroma centred on 128."""
    red, _, blue = rgb
    luma = _luma(rgb)
    return _levels(luma, 0.492 * (blue - luma) + 128, 0.877 * (red - luma) + 128)


def yuv_to_rgb(yuv: Planes) -> Planes:
    """The way back from `rgb_to_yuv`."""
    luma, u, v = yuv[0], yuv[1] - 128, yuv[2] - 128
    return _levels(luma + 1.14 * v, luma - 0.395 * u - 0.581 * v, luma + 2.032 * u)


def rgb_to_hsv(rgb: Planes) -> Planes:
    """Hue in steps of 2°, saturation and value."""
    highest, lowest = _extremes(rgb)
    spread = highest - lowest
    return _levels(_hue(rgb), 255 * spread / jnp.maximum(highest, 1), highest)


def hsv_to_rgb(hsv: Planes) -> Planes:
    """The way back from `rgb_to_hsv`."""
    hue, saturation, value = hsv
    chroma = value * saturation / 255

    def channel(offset: int) -> Plane:
        sector = _wrapped(offset + hue / 30, 6)
        return value - chroma * jnp.clip(jnp.minimum(sector, 4 - sector), 0, 1)

    return _levels(channel(5), channel(3), channel(1))


def rgb_to_hls(rgb: Planes) -> Planes:
    """Hue in steps of 2°, lightness and saturation."""
    highest, lowest = _extremes(rgb)
    total, spread = highest + lowest, highest - lowest
    room = jnp.where(total < 255, total, 510 - total)
    return _levels(_hue(rgb), total / 2, 255 * spread / jnp.maximum(room, 1))


def hls_to_rgb(hls: Planes) -> Planes:
    """The way back from `rgb_to_hls`."""
    hue, lightness, saturation = hls
    reach = saturation / 255 * jnp.minimum(lightness, 255 - lightness)

    def channel(offset: int) -> Plane:
        sector = _wrapped(offset + hue / 15, 12)
        return lightness - reach * jnp.clip(jnp.minimum(sector - 3, 9 - sector), -1, 1)

    return _levels(channel(0), channel(8), channel(4))


def rgb_to_lab(rgb: Planes) -> Planes:
    """CIE L*a*b* of sRGB under D65."""
    curved = _each(_lab_curve, _white_relative_xyz(rgb))
    return _levels(*_mixed(curved, _LAB_OF_CURVED, _LAB_OFFSET))


def lab_to_rgb(lab: Planes) -> Planes:
    """The way back from `rgb_to_lab`."""
    curved = _mixed(lab, _CURVED_OF_LAB, -_CURVED_OF_LAB @ _LAB_OFFSET)
    return _rgb_of_white_relative_xyz(_each(_inverse_lab_curve, curved))


def rgb_to_luv(rgb: Planes) -> Planes:
    """CIE L*u*v* of sRGB under D65."""
    x, y, z = _white_relative_xyz(rgb)
    lightness = 116 * _lab_curve(y) - 16
    x, z = x * _WHITE[0], z * _WHITE[2]
    per_total = 13 * lightness / jnp.maximum(x + 15 * y + 3 * z, 1e-6)
    u = 4 * x * per_total - 13 * _WHITE_U * lightness
    v = 9 * y * per_total - 13 * _WHITE_V * lightness
    return _levels(lightness * (255 / 100), (u + 134) * (255 / 354), (v + 140) * (255 / 262))


def luv_to_rgb(luv: Planes) -> Planes:
    """The way back from `rgb_to_luv`."""
    lightness, u, v = luv
    scale = lightness * (13 * 100 / 255)
    y = _inverse_lab_curve((lightness * (100 / 255) + 16) / 116)
    u = u * (354 / 255) - 134 + scale * _WHITE_U
    v = v * (262 / 255) - 140 + scale * _WHITE_V
    # OpenCV's bound on what a colour without light would blow up to.
    per_v = jnp.clip(0.25 / jnp.where(v == 0, 1e-6, v), -0.25, 0.25)
    x = 9 * y * u * per_v / _WHITE[0]
    z = y * ((12 * scale - 3 * u) * per_v - 5) / _WHITE[2]
    return _rgb_of_white_relative_xyz((x, y, z))


# To, from, and which channel is the brightness, by `ColourSpace`.
CONVERSIONS = (
    (rgb_to_ycrcb, ycrcb_to_rgb, 0),
    (rgb_to_hsv, hsv_to_rgb, 2),
    (rgb_to_hls, hls_to_rgb, 1),
    (rgb_to_lab, lab_to_rgb, 0),
    (rgb_to_luv, luv_to_rgb, 0),
    (rgb_to_yuv, yuv_to_rgb, 0),
)

_WHITE = (0.950456, 1.0, 1.088754)
_WHITE_TOTAL = _WHITE[0] + 15 * _WHITE[1] + 3 * _WHITE[2]
_WHITE_U = 4 * _WHITE[0] / _WHITE_TOTAL
_WHITE_V = 9 * _WHITE[1] / _WHITE_TOTAL
# Relative to the white point, so that white is (1, 1, 1).
_XYZ_OF_RGB = (
    np.array(
        [
            [0.412453, 0.357580, 0.180423],
            [0.212671, 0.715160, 0.072169],
            [0.019334, 0.119193, 0.950227],
        ]
    )
    / np.array(_WHITE)[:, None]
)
_RGB_OF_XYZ = np.linalg.inv(_XYZ_OF_RGB)
_LAB_OF_CURVED = np.array([[0, 116 * 2.55, 0], [500, -500, 0], [0, 200, -200]])
_LAB_OFFSET = np.array([-16 * 2.55, 128, 128])
_CURVED_OF_LAB = np.linalg.inv(_LAB_OF_CURVED)
_NO_OFFSET = np.zeros(3)


def _each(curve: Callable[[Plane], Plane], planes: Planes) -> Planes:
    first, second, third = planes
    return curve(first), curve(second), curve(third)


def _extremes(rgb: Planes) -> tuple[Plane, Plane]:
    """The highest and the lowest channel of each pixel."""
    red, green, blue = rgb
    highest = jnp.maximum(jnp.maximum(red, green), blue)
    return highest, jnp.minimum(jnp.minimum(red, green), blue)


def _levels(first: Plane, second: Plane, third: Plane) -> Planes:
    """Rounds half up, as OpenCV's fixed point does, and clips."""
    return _each(lambda plane: jnp.clip(jnp.floor(plane + 0.5), 0, 255), (first, second, third))


def _wrapped(values: Plane, period: int) -> Plane:
    """The remainder of values in [0, 2 · period); XLA's is sixty times slower on CPUs."""
    return jnp.where(values >= period, values - period, values)


def _power(base: Plane, exponent: float) -> Plane:
    """Powers of values above 0; this form is vectorised on CPUs."""
    return jnp.exp(exponent * jnp.log(base))


def _luma(rgb: Planes) -> Plane:
    red, green, blue = rgb
    return jnp.floor(0.299 * red + 0.587 * green + 0.114 * blue + 0.5)


def _hue(rgb: Planes) -> Plane:
    """From 0 to 179; 0 for greys."""
    red, green, blue = rgb
    highest, lowest = _extremes(rgb)
    spread = highest - lowest
    sixth = jnp.where(
        highest == red,
        green - blue,
        jnp.where(highest == green, blue - red + 2 * spread, red - green + 4 * spread),
    )
    hue = jnp.floor(30 * sixth / jnp.maximum(spread, 1) + 0.5)
    return _wrapped(jnp.where(hue < 0, hue + 180, hue), 180)


def _mixed(planes: Planes, matrix: np.ndarray, offset: np.ndarray = _NO_OFFSET) -> Planes:
    """A 3 × 3 matrix applied to the channels of each pixel, then an offset added."""
    x, y, z = planes

    def row(n: int) -> Plane:
        a, b, c = matrix[n].tolist()
        return a * x + b * y + c * z + float(offset[n])

    return row(0), row(1), row(2)


def _white_relative_xyz(rgb: Planes) -> Planes:
    return _mixed(_each(_linear, rgb), _XYZ_OF_RGB)


def _rgb_of_white_relative_xyz(xyz: Planes) -> Planes:
    return _levels(*_each(_companded, _mixed(xyz, _RGB_OF_XYZ)))


def _linear(levels: Plane) -> Plane:
    """Light in [0, 1], by the curve of sRGB."""
    value = levels / 255
    curve = _power((value + 0.055) / 1.055, 2.4)
    return jnp.where(value <= 0.04045, value / 12.92, curve)


def _companded(light: Plane) -> Plane:
    """The way back from `_linear`, before it is rounded."""
    light = jnp.clip(light, 0, 1)
    curve = 1.055 * _power(jnp.maximum(light, 0.003), 1 / 2.4) - 0.055
    return 255 * jnp.where(light <= 0.0031308, 12.92 * light, curve)


def _lab_curve(t: Plane) -> Plane:
    return jnp.where(t > 0.008856, _power(jnp.maximum(t, 1e-3), 1 / 3), 7.787 * t + 16 / 116)


def _inverse_lab_curve(f: Plane) -> Plane:
    return jnp.where(f > 0.206893, f * f * f, (f - 16 / 116) / 7.787)
