"""Where the regions of a picture end, given one threshold for all pictures.

A calibrated threshold suits narrow defects: below it is the blur around them. Of a broad defect the
detector may be sure in parts only, and yet all of it stands out from the surface; cut off at the
threshold, it would be measured too small. So a region ends deeper where it is broad.
"""

import math

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

_TOUCHING = np.ones((3, 3))
_BROAD = 7
"""Pixels of the network that a region must be wide to count as broad there."""
_DEPTH = 0.2
"""How far down broad parts end, from the threshold (0) to the surface (1).

A blurred edge is half way down, and the threshold is where pixels of simulated anomalies are told
best; this lies between. It was chosen on seven detectors of `surfaces`: 1/3 measures too much where
maps are averaged over flips, and 0.1 too little of what detectors of the authors' recipe find.
"""


def above_edges(
    margin: Float[np.ndarray, "H W"],
    threshold: float,
    *,
    scale: float = 1.0,
    inside: Bool[np.ndarray, "H W"] | None = None,
    surface: float | None = None,
) -> Float[np.ndarray, "H W"]:
    """Subtracts from the margin what makes a pixel part of a region.

    That is the threshold, and for broad parts of a region a lower level: a fifth of the way down
    to the picture's median margin. Every region has a pixel above the threshold. If half of the
    picture or more lies above it, there is no surface to compare with, and no lower level. What is
    not looked at is no part of a region, and does not count for the median.

    Args:
        margin: of each pixel, at the picture's own size.
        threshold: on the margin.
        scale: how many pixels of the picture are one of the network's, along a side.
        inside: true where to look; everywhere if None.
        surface: the median of a picture that these are a window of; their own if None.

    Returns:
        The differences, above 0 in regions: what `find_regions` takes, with 0 as the threshold.
    """
    if surface is None:
        looked_at = margin if inside is None or not inside.any() else margin[inside]
        surface = float(np.median(looked_at))
    low = broad_level(threshold, surface)
    if inside is not None:
        # As far below as it would be above, so that outlines end half way to the next pixel.
        level = min(low, threshold)
        margin = np.where(inside, margin, level - np.abs(margin - level))
    sure = margin > threshold
    if low >= threshold or not sure.any():
        return margin - threshold
    standing_out = _reached(margin > low, sure)
    broad = _opened(ndimage.binary_fill_holes(standing_out), (_BROAD * scale - 1) / 2)
    # An opened region has lost its corners; what is next to it is given back.
    broad = _near(broad, scale) & standing_out
    broad &= _reached(sure | broad, sure)
    outside = _near(broad, 1.5) & ~standing_out
    return margin - np.where(broad | outside, low, threshold)


def broad_level(threshold: float, surface: float) -> float:
    """The margin at which broad parts of regions end; there are none if it is not lower.

    Args:
        threshold: on the margin.
        surface: the median margin of the picture.
    """
    return threshold + _DEPTH * (surface - threshold)


def _reached(mask: Bool[np.ndarray, "H W"], seeds: Bool[np.ndarray, "H W"]) -> np.ndarray:
    """The parts of a mask that have a seed in them."""
    labels, _ = ndimage.label(mask, _TOUCHING)
    return np.isin(labels, labels[seeds])


def _opened(mask: Bool[np.ndarray, "H W"], radius: float) -> Bool[np.ndarray, "H W"]:
    """The parts of a mask that a disc fits in; beyond the picture the border's pixels go on."""
    around = math.ceil(max(radius, 0)) + 1
    padded = np.pad(mask, around, mode="edge")
    if padded.all():
        return mask
    centres = ndimage.distance_transform_edt(padded) > radius
    return _near(centres, radius)[around:-around, around:-around] & mask


def _near(mask: Bool[np.ndarray, "H W"], distance: float) -> Bool[np.ndarray, "H W"]:
    """The mask, and all pixels within a distance of it."""
    return ndimage.distance_transform_edt(~mask) <= distance if mask.any() else mask
