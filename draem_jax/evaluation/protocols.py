"""How a mask is brought to the size that maps are compared at."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool

from draem_jax.data.pictures import resize_mask

Mask = Bool[np.ndarray, "h w"]


def nearest_mask(mask: Mask, size: tuple[int, int]) -> Bool[np.ndarray, "H W"]:
    """A pixel is defective where the nearest one of the original is."""
    return resize_mask(mask, size)


def eroded_mask(mask: Mask, size: tuple[int, int]) -> Bool[np.ndarray, "H W"]:
    """A pixel is defective where all that bilinear interpolation looks at is, as in the paper.

    The authors' evaluation resizes the mask of 0 and 255 bilinearly, without antialiasing, to
    whole levels, divides by 255 and cuts off what is behind the point: only full white is left, so
    defects are thinner, and thin ones vanish.

    Args:
        mask: at its original size.
        size: (height, width), 256 × 256 in the paper.
    """
    if mask.shape == size:
        return mask
    values = 255.0 * mask
    for axis, wanted in enumerate(size):
        values = _interpolate(values, wanted, axis)
    return np.rint(values) >= 255


def _interpolate(values: np.ndarray, wanted: int, axis: int) -> np.ndarray:
    """Linear interpolation at the centres of the new pixels, the border pixels going on outside."""
    count = values.shape[axis]
    at = ((np.arange(wanted) + 0.5) * count / wanted - 0.5).clip(0, count - 1)
    before = np.floor(at).astype(int)
    behind = np.minimum(before + 1, count - 1)
    share = np.expand_dims(at - before, 1 - axis)
    return np.take(values, before, axis) * (1 - share) + np.take(values, behind, axis) * share


PROTOCOLS: dict[str, Callable[[Mask, tuple[int, int]], np.ndarray]] = {
    "default": nearest_mask,
    "paper": eroded_mask,
}
"""By the name under which their metrics are reported."""
