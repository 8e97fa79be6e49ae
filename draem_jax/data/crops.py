"""Crops of canvases, as training by tiles sees them: where they may lie, and cutting them.

A crop is told by its corner, its first row and column. Which one it is comes from random bits by
integers alone, so that the host and every device choose the same.
"""

from typing import Any

import numpy as np
from jaxtyping import Bool, Int32

Window = tuple[slice, slice]
"""Rows and columns of a canvas."""


def corner_range(
    canvas: tuple[int, int], size: tuple[int, int], plane: Bool[np.ndarray, "H W"] | None = None
) -> Int32[np.ndarray, " 4"]:
    """Where the corners of crops may lie, so that no crop is cut where nobody looks.

    Along each axis a crop lies within what the region of interest spans or, where that is shorter
    than a crop, spans it. As padding is no part of the region, none is in a crop unless the
    picture is smaller than it.

    Args:
        canvas: (height, width) of the canvas, at least those of a crop.
        size: (height, width) of a crop.
        plane: true where to look in the canvas; None for everywhere.

    Returns:
        The first row and the first column that a corner may have, and how many of each there are.
    """
    firsts, counts = [], []
    for axis in (0, 1):
        begin, end = 0, canvas[axis]
        if plane is not None:
            looked_at = np.flatnonzero(plane.any(axis=1 - axis))
            begin, end = int(looked_at[0]), int(looked_at[-1]) + 1
        ends = sorted((begin, end - size[axis]))
        first, last = np.clip(ends, 0, canvas[axis] - size[axis])
        firsts.append(first)
        counts.append(last - first + 1)
    return np.array([*firsts, *counts], np.int32)


def corners_of(bits: Any, ranges: Any) -> Any:
    """Chooses corners by random bits.

    Args:
        bits: for row and column; uint32 (..., 2), of NumPy or of JAX.
        ranges: from `corner_range`; int32 (..., 4).

    Returns:
        First rows and columns; int32 (..., 2).
    """
    firsts, counts = ranges[..., :2], ranges[..., 2:]
    return firsts + (bits % counts.astype(np.uint32)).astype(np.int32)


def window_at(corner: Any, size: tuple[int, int]) -> Window:
    """The window of a crop, given its corner."""
    (top, left), (height, width) = map(int, corner), size
    return slice(top, top + height), slice(left, left + width)
