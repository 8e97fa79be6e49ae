"""What makes pixels a region: how anomalous they must be, what is joined, what is left out."""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

PixelRule = Literal["best_f1", "conformal"]


class PixelThreshold(NamedTuple):
    """What a pixel's margin must exceed for a region to begin.

    Attributes:
        margin: the threshold.
        rule: where it comes from: "best_f1", "conformal", or "even" for a map of 0.5.
    """

    margin: float
    rule: Literal["best_f1", "conformal", "even"]

    @property
    def map_value(self) -> float:
        """The same threshold on the anomaly map, in [0, 1]."""
        return (1 + math.tanh(self.margin / 2)) / 2


EVEN = PixelThreshold(0.0, "even")
"""Where the networks call a pixel as likely anomalous as normal."""


@dataclass(frozen=True)
class RegionRule:
    """What is called a region.

    Attributes:
        threshold: that a region's margin exceeds somewhere. Where a region ends is said in
            `draem_jax.regions.edges`.
        join_gap: regions with fewer pixels of the picture than this between them become one.
        min_area: regions of fewer pixels of the picture are left out.
    """

    threshold: PixelThreshold = EVEN
    join_gap: int | float = 3
    min_area: int | float = 10
