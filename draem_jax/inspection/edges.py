"""Where the regions of a picture end, given one threshold for all pictures.

A calibrated threshold is right for what the detector is sure of: there the margin falls so steeply
that the outline hardly depends on the threshold. Of a defect that it is less sure of, only parts
rise above the threshold, while the rest stands out from the surface all the same. An edge that is
blurred crosses the middle between its two sides where the sharp edge was, so such parts end half
way between the threshold and the surface. Around what is sure there is a narrow rim of the same
margins, which is blur and no part of the defect: it is told from the weak parts by its width.
"""

import math

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

_TOUCHING = np.ones((3, 3))
_RIM = 3
"""Pixels of the network that a weak part must be wide, or else it is the rim of a sure one."""


def above_edges(
    margin: Float[np.ndarray, "H W"], threshold: float, *, scale: float = 1.0
) -> Float[np.ndarray, "H W"]:
    """Subtracts from the margin what makes a pixel part of a region.

    That is the threshold; and for weak parts of a region, half way down from it to the picture's
    median margin. A weak part touches a pixel above the threshold, if need be by way of others,
    and is three of the network's pixels wide or more, or enclosed by the rest. If half of the
    picture or more lies above the threshold, there are no weak parts.

    Args:
        margin: of each pixel, at the picture's own size.
        threshold: on the margin.
        scale: how many pixels of the picture are one of the network's, along a side.

    Returns:
        The differences, above 0 in regions: what `find_regions` takes, with 0 as the threshold.
    """
    low = (threshold + float(np.median(margin))) / 2
    sure = margin > threshold
    if low >= threshold or not sure.any():
        return margin - threshold
    weak = _opened((margin > low) & ~sure, (_RIM * scale - 1) / 2)
    labels, _ = ndimage.label(sure | weak, _TOUCHING)
    weak &= np.isin(labels, labels[sure])
    weak |= ndimage.binary_fill_holes(sure | weak) & (margin > low) & ~sure
    outside = ndimage.binary_dilation(weak, _TOUCHING) & (margin <= low)
    return margin - np.where(weak | outside, low, threshold)


def _opened(mask: Bool[np.ndarray, "H W"], radius: float) -> Bool[np.ndarray, "H W"]:
    """The parts that a disc fits in; the picture goes on beyond its border as it is there."""
    if radius <= 0 or not mask.any():
        return mask
    around = math.ceil(radius) + 1
    padded = np.pad(mask, around, mode="edge")
    centres = ndimage.distance_transform_edt(padded) > radius
    if not centres.any():
        return np.zeros_like(mask)
    opened = ndimage.distance_transform_edt(~centres) <= radius
    return opened[around:-around, around:-around] & mask
