"""The labels in a mask whose values waver, as lossy formats leave them."""

import numpy as np
from jaxtyping import UInt8
from scipy import ndimage

# Away from edges, JPEG and WebP keep flat areas flat: measured at qualities from 30 up, what is
# flat to _FLAT levels around white defects is no brighter than 10.
_FLAT = 8
_LEAST = 32
_SHARE = 1 / 50  # of all flat pixels that are marked: less may be a part of a soft edge


def lowest_label(values: UInt8[np.ndarray, "H W"]) -> int:
    """The lowest label above 0: of flat areas the darkest that is not background.

    Where no area is flat, as with defects of few pixels, that is the highest value; and so it is
    where all values are too low for labels to be told from what compression leaves around edges.
    """
    highest = int(values.max())
    ranges = ndimage.maximum_filter(values, 3) - ndimage.minimum_filter(values, 3)
    flat = values[(ranges <= _FLAT) & (values >= _LEAST)]
    counts = np.bincount(flat, minlength=256)
    nearby = ndimage.uniform_filter1d(counts.astype(float), 2 * _FLAT + 1, mode="constant")
    peaks = (counts > 0) & (nearby * (2 * _FLAT + 1) >= max(1, _SHARE * len(flat)))
    return int(peaks.argmax()) if peaks.any() else highest
