"""Finding the object in a picture of any size, on an overview of it.

Where pictures are seen in tiles, the networks see no object as a whole, so it is found beforehand.
Processes that read pictures do so as well: nothing here imports JAX.
"""

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Int, UInt8
from PIL import Image, ImageFilter

from draem_jax.data.resizing import Window, bring_down

_PIXELS = 256 * 256
"""Of an overview, about; it keeps the picture's shape, and smaller pictures are their own."""


def find_object(
    read: Callable[[Window], UInt8[np.ndarray, "_ _ 3"]],
    of: tuple[int, int],
    *,
    border_share: float,
) -> Bool[np.ndarray, "_ _"]:
    """Where the object is in a picture, as small as an overview of it.

    So its outline is as fine as a pixel of the overview is. A picture in which nothing is found,
    as one that is black, is looked at everywhere.

    Args:
        read: gives the rows and columns of the picture that are asked for.
        of: (height, width) of the picture.
        border_share: see `foreground`.

    Returns:
        True on the object, for one pixel at least.
    """
    overview = bring_down(read, of, by=max(math.sqrt(math.prod(of) / _PIXELS), 1.0))
    found = foreground(overview, border_share=border_share)
    return found if found.any() else np.ones_like(found)


def foreground(
    image: UInt8[np.ndarray, "H W 3"], *, border_share: float
) -> Bool[np.ndarray, "H W"]:
    """What `draem_jax.anomalies.foreground.foreground` finds on the device, which says how.

    Args:
        image: the picture.
        border_share: the least share of the frame that a background takes, in [0, 1].

    Returns:
        True on the object.
    """
    black = Image.fromarray(255 * np.all(image == 0, axis=-1).astype(np.uint8))
    bare = np.array(black.filter(ImageFilter.MaxFilter(3))) > 0
    outermost = np.concatenate([bare[0], bare[-1], bare[:, 0], bare[:, -1]])
    on_black = outermost.mean() > border_share

    ends = _ends(~bare)
    counted = ~bare[ends]
    colour = np.zeros(3)
    if counted.any() and not on_black:
        colour = np.round(np.median(image[ends][counted], axis=0))
    distance = np.abs(image - colour).max(axis=-1).astype(int)
    is_far = distance > _otsu(np.bincount(distance.ravel(), minlength=256))

    near = np.sum(counted & ~is_far[ends]) / max(counted.sum(), 1)
    is_surface = (not on_black and near < border_share) or not is_far.any()
    return ~bare & (is_far | is_surface)


def _ends(
    inside: Bool[np.ndarray, "H W"],
) -> tuple[Int[np.ndarray, " N"], Int[np.ndarray, " N"]]:
    """Row and column of the first and the last pixel inside of each row and each column."""
    height, width = inside.shape
    rows, columns = np.arange(height), np.arange(width)
    left, right = inside.argmax(axis=1), width - 1 - inside[:, ::-1].argmax(axis=1)
    top, bottom = inside.argmax(axis=0), height - 1 - inside[::-1].argmax(axis=0)
    return (
        np.concatenate([rows, rows, top, bottom]),
        np.concatenate([left, right, columns, columns]),
    )


def _otsu(counts: Int[np.ndarray, "256"]) -> int:
    """The level up to which the lower class goes, where the variance between both is largest."""
    share = counts / counts.sum()
    below, mean_below = share.cumsum(), (share * np.arange(256)).cumsum()
    spread = below * (1 - below)
    between = np.square(mean_below[-1] * below - mean_below) / np.maximum(spread, 1e-6)
    return int(np.argmax(np.where(spread > 1e-6, between, -1)))
