"""Which defects are found: one by one, with their size and how much they stand out.

Averages over pixels say little of small and faint defects, since large ones have most pixels. Here
every defect counts once: each 8-connected region of a mask, as for the per-region overlap.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, UInt8
from scipy import ndimage

from draem_jax.evaluation.truth import label_regions

SMALL = 0.003
"""Share of the picture's area below which a defect counts as small."""

FAINT = 15.0
"""Contrast, in levels of 0-255, below which a defect counts as faint."""

_RING = 8  # pixels around a defect that say what the picture would be like without it


@dataclass(frozen=True)
class Defect:
    """One defect of one picture, and what a detector makes of it.

    Attributes:
        picture: the name of the picture.
        share: of the picture's area that it covers, in (0, 1].
        contrast: mean absolute difference to what the picture would be without it, over its pixels
            and channels, in levels of 0-255.
        excess: the largest margin on it, less the threshold.
    """

    picture: str
    share: float
    contrast: float
    excess: float

    @property
    def is_found(self) -> bool:
        """Whether at least one of its pixels lies above the threshold."""
        return self.excess > 0

    @property
    def is_small(self) -> bool:
        """Whether it covers less than `SMALL` of the picture."""
        return self.share < SMALL

    @property
    def is_faint(self) -> bool:
        """Whether its contrast is below `FAINT`."""
        return self.contrast < FAINT


def list_defects(
    name: str,
    image: UInt8[np.ndarray, "H W 3"],
    mask: Bool[np.ndarray, "H W"],
    margin: Float[np.ndarray, "H W"],
    *,
    threshold: float,
    undamaged: UInt8[np.ndarray, "H W 3"] | None = None,
) -> list[Defect]:
    """Lists the defects of a picture.

    Args:
        name: the name of the picture.
        image: the picture, RGB.
        mask: true on defects.
        margin: what a detector says of it, at the picture's own size.
        threshold: the margin above which a defect is found.
        undamaged: the same picture without its defects, where it is known. Else what a defect would
            be without it is the mean colour of a ring around it; on structured surfaces, that
            makes contrasts larger.
    """
    labels, count = label_regions(mask)
    defects = []
    for label, window in enumerate(ndimage.find_objects(labels, count), start=1):
        around = tuple(slice(max(0, s.start - _RING), s.stop + _RING) for s in window)
        region, pixels = labels[around] == label, image[around].astype(np.float64)
        if undamaged is not None:
            expected = undamaged[around].astype(np.float64)
        else:
            ring = ndimage.binary_dilation(region, iterations=_RING) & ~mask[around]
            # A defect that fills the picture has nothing around it.
            expected = np.broadcast_to(pixels[ring if ring.any() else ~ring].mean(0), pixels.shape)
        defects.append(
            Defect(
                name,
                share=float(region.sum() / mask.size),
                contrast=float(np.abs(pixels - expected)[region].mean()),
                excess=float(margin[around][region].max()) - threshold,
            )
        )
    return defects


def threshold_of_normal(margins: Iterable[Float[np.ndarray, "_ _"]], *, exceeded: float) -> float:
    """The margin that a share of the pixels of normal pictures exceeds.

    With it, detectors are compared at the same rate of false alarms, whatever the scale of their
    margins (as in AUPIMO, Bertoldo et al., BMVC 2024). It needs no simulated anomalies, which
    differ between recipes.

    Args:
        margins: of the normal pictures.
        exceeded: the share, in (0, 1).
    """
    every = np.concatenate([np.ravel(margin) for margin in margins])
    return float(np.quantile(every, 1 - exceeded, method="higher"))


def recall(defects: Sequence[Defect]) -> float:
    """The share of defects that are found; NaN of none."""
    return float(np.mean([defect.is_found for defect in defects])) if defects else math.nan
