"""The labels in a mask that was saved in a lossy format, which changes values a little."""

import numpy as np
from jaxtyping import UInt8

# Away from edges, JPEG and WebP keep flat areas flat: measured at qualities from 30 up, what is
# flat to _FLAT levels around white defects is no brighter than 10.
_FLAT = 8
_LEAST = 32
_SHARE = 1 / 50  # of all flat pixels that are marked: less may be a part of a soft edge


def lowest_label(values: UInt8[np.ndarray, "H W"]) -> int:
    """The lowest label above 0: the value of the darkest flat area that is not background.

    Where no area is flat, as with defects of few pixels, it is the highest value; so too where all
    values are as low as those that compression leaves around edges.
    """
    from scipy import ndimage  # here, since processes that read pictures should stay light

    highest = int(values.max())
    ranges = ndimage.maximum_filter(values, 3) - ndimage.minimum_filter(values, 3)
    flat = values[(ranges <= _FLAT) & (values >= _LEAST)]
    counts = np.bincount(flat, minlength=256)
    nearby = ndimage.uniform_filter1d(counts.astype(float), 2 * _FLAT + 1, mode="constant")
    peaks = (counts > 0) & (nearby * (2 * _FLAT + 1) >= max(1, _SHARE * len(flat)))
    return int(peaks.argmax()) if peaks.any() else highest
