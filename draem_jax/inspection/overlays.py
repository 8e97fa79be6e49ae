"""What was found in a picture, drawn on it."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8

from draem_jax.reports.pictures import dim_outside, label_places, outline, overlay, scale_bar


class Drawn(NamedTuple):
    """What is drawn, all of one size.

    Attributes:
        image: the picture, RGB.
        anomaly_map: in [0, 1].
        mask: true where a region is.
        labels: (row, column) → what is written there.
        inside: true where the detector looks; None for everywhere.
    """

    image: UInt8[np.ndarray, "H W 3"]
    anomaly_map: Float[np.ndarray, "H W"]
    mask: Bool[np.ndarray, "H W"]
    labels: dict[tuple[int, int], str]
    inside: Bool[np.ndarray, "H W"] | None = None


def draw(
    parts: Drawn, *, mm_per_pixel: float | None, reduction: float = 1.0
) -> UInt8[np.ndarray, "height width 3"]:
    """Draws the map, the outlines and numbers of regions on a picture, over a scale.

    Args:
        parts: what is drawn.
        mm_per_pixel: how many millimetres a pixel of the original is wide; None if it is not known.
        reduction: how many pixels of the original one of these is.
    """
    drawn = overlay(parts.image, parts.anomaly_map)
    if parts.inside is not None:
        drawn = dim_outside(drawn, parts.inside)
    drawn = outline(drawn, parts.mask, width=max(1, min(parts.mask.shape) // 500))
    labelled = label_places(drawn, parts.labels)
    return scale_bar(labelled, mm_per_pixel=mm_per_pixel, reduction=reduction)
