"""Windows of a picture or map that is brought to another size, without the whole of it."""

import itertools
import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image

Window = tuple[slice, slice]

_LARGEST_SIDE = 2048
"""Pixels that are read at a time along each side: Pillow keeps places in few digits."""

_BAND_BYTES = 8 << 20
"""What is read at a time of a picture that is brought down as a whole."""


def resized_window(
    read: Callable[[Window], np.ndarray], of: tuple[int, int], to: tuple[int, int], window: Window
) -> np.ndarray:
    """A window of what `draem_jax.data.pictures.resize` or `resize_plane` makes of the whole.

    Args:
        read: gives the rows and columns that are asked for: (h, w, 3) uint8 or (h, w) float32.
        of: (height, width) of the whole.
        to: (height, width) that it is brought to.
        window: the rows and columns of it there.

    Returns:
        The window, but for how the filter's weights are rounded: of 8 bits, a few values may be
        one off.
    """
    if of == to:
        return read(window)
    sources = [_source(*sides) for sides in zip(of, to, window, strict=True)]
    for axis, (source, span) in enumerate(zip(sources, window, strict=True)):
        length = span.stop - span.start
        if length > 1 and source.stop - source.start > _LARGEST_SIDE:
            ends = (span.start, span.start + length // 2, span.stop)
            halves = [slice(*half) for half in itertools.pairwise(ends)]
            windows = [(half, window[1]) if axis == 0 else (window[0], half) for half in halves]
            return np.concatenate([resized_window(read, of, to, w) for w in windows], axis)
    part = read((sources[0], sources[1]))
    # The filter reaches beyond the box, as far as there is something to read.
    (top, bottom), (left, right) = (
        _box(*sides) for sides in zip(of, to, window, sources, strict=True)
    )
    size = window[1].stop - window[1].start, window[0].stop - window[0].start
    return np.array(
        Image.fromarray(part).resize(size, Image.Resampling.BILINEAR, (left, top, right, bottom))
    )


def bring_down(
    read: Callable[[Window], UInt8[np.ndarray, "_ _ 3"]], of: tuple[int, int], *, by: float
) -> UInt8[np.ndarray, "_ _ 3"]:
    """A whole picture brought down in size, band by band; the bands change no value.

    Pixels are averaged by squares of a whole number of them, and then resized: bilinear,
    antialiased.

    Args:
        read: gives the rows and columns that are asked for.
        of: (height, width) of the picture.
        by: how many times smaller it becomes along each side; at least 1.
    """
    height, width = of
    factor = int(by)
    rows = factor * max(_BAND_BYTES // (3 * width * factor), 1)
    reduced = Image.new("RGB", (math.ceil(width / factor), math.ceil(height / factor)))
    for top in range(0, height, rows):
        band = read((slice(top, min(top + rows, height)), slice(0, width)))
        reduced.paste(Image.fromarray(band).reduce(factor), (0, top // factor))
    # The last squares may lie partly beyond the picture.
    inside = (0, 0, width / factor, height / factor)
    size = max(round(width / by), 1), max(round(height / by), 1)
    return np.array(reduced.resize(size, Image.Resampling.BILINEAR, box=inside))


def nearest(of: int, to: int) -> Int[np.ndarray, " to"]:
    """Which row or column each one takes, as `draem_jax.data.pictures.resize_mask` resizes.

    Args:
        of: how many there are.
        to: how many there shall be.
    """
    places = Image.fromarray(np.arange(of, dtype=np.int32)[:, None])
    return np.array(places.resize((1, to), Image.Resampling.NEAREST))[:, 0]


def _source(of: int, to: int, span: slice) -> slice:
    """What is read for a span of pixels: with what the filter reaches around it."""
    step = of / to
    reach = math.ceil(max(step, 1)) + 1
    start, stop = math.floor(span.start * step) - reach, math.ceil(span.stop * step) + reach
    return slice(max(start, 0), min(stop, of))


def _box(of: int, to: int, span: slice, source: slice) -> tuple[float, float]:
    """Where the span begins and ends in what is read for it."""
    start, stop = (at * of / to - source.start for at in (span.start, span.stop))
    return max(start, 0.0), min(stop, float(source.stop - source.start))
