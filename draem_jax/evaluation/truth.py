"""Ground truth as one plane a picture: which pixels count, which are defects, how big they are."""

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int
from scipy import ndimage

from draem_jax.data.layouts import GOOD

__all__ = ["GOOD", "LEFT_OUT", "encode_mask", "label_regions", "region_weights", "unknown_mask"]

LEFT_OUT = -1.0
"""Marks pixels that no pixel metric counts: padding, pictures whose mask is not known, and what is
not looked at."""

_EIGHT_CONNECTED = np.ones((3, 3), int)


def encode_mask(
    mask: Bool[np.ndarray, "H W"], inside: Bool[np.ndarray, "H W"] | None = None
) -> Float32[np.ndarray, "H W"]:
    """Encodes a mask for the pixel metrics.

    Args:
        mask: true where a pixel is defective.
        inside: true where to look, see `draem_jax.data.roi`; everywhere if None. Of a defect that
            lies partly outside only the part inside counts.

    Returns:
        0 at normal pixels; at defect pixels 1 / size of their 8-connected region, so that each
        region weighs 1 (the regions of the per-region overlap: Bergmann et al., IJCV 2021, section
        5.1); and `LEFT_OUT` where nobody looks.
    """
    if inside is None:
        return region_weights(mask).astype(np.float32)
    weights = region_weights(mask & inside)
    return np.where(inside, weights, LEFT_OUT).astype(np.float32)


def region_weights(mask: Bool[np.ndarray, "H W"]) -> Float64[np.ndarray, "H W"]:
    """1 / size of their 8-connected region at defect pixels, 0 elsewhere."""
    if not mask.any():
        return np.zeros(mask.shape)
    labels, _ = label_regions(mask)
    weights = 1 / np.maximum(np.bincount(labels.ravel()), 1)
    weights[0] = 0
    return weights[labels]


def label_regions(mask: Bool[np.ndarray, "H W"]) -> tuple[Int[np.ndarray, "H W"], int]:
    """The number of their 8-connected region, from 1, at defect pixels, 0 elsewhere; how many."""
    return ndimage.label(mask, structure=_EIGHT_CONNECTED)


def unknown_mask(shape: tuple[int, int]) -> Float32[np.ndarray, "H W"]:
    """The plane of a picture whose mask is not known."""
    return np.full(shape, LEFT_OUT, np.float32)
