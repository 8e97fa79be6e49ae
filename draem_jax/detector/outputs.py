"""What a detector says: of a batch, as maps and scores alone; of one picture, with its regions."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float, UInt8

from draem_jax.regions.find import Region


class Prediction(NamedTuple):
    """What a detector says of a batch of pictures, at their own size.

    Attributes:
        anomaly_map: how likely each pixel is anomalous, float32 in [0, 1]; 0 where nobody looks.
        score: of each picture, float32 in [0, 1], higher for more anomalous ones.
        reconstruction: the pictures as they would be without defects, float32 in [0, 1].
    """

    anomaly_map: Float[np.ndarray, "B H W"]
    score: Float[np.ndarray, " B"]
    reconstruction: Float[np.ndarray, "B H W 3"]


class BatchOutput(NamedTuple):
    """What the networks say of one batch at the size they were trained at, on the devices.

    Attributes:
        margin: logit₁ − logit₀ of each pixel, float32: it orders pixels as the map does, without
            the map's ties at 1.
        anomaly_map: its sigmoid, in [0, 1].
        score: of each picture, in [0, 1].
        reconstruction: in [0, 1].
        features: what the discriminative network computes on its way to the margin, at a lower
            resolution; None where it was not asked for, or there is no such network.
        on_object: true on the object in each picture, where it alone is looked at; else None.
    """

    margin: Float[jax.Array, "B H W"]
    anomaly_map: Float[jax.Array, "B H W"]
    score: Float[jax.Array, " B"]
    reconstruction: Float[jax.Array, "B H W 3"]
    features: Float[jax.Array, "B h w C"] | None = None
    on_object: Bool[jax.Array, "B H W"] | None = None


class Seen(NamedTuple):
    """What the networks say of one canvas, on the host; see `draem_jax.data.fitting`.

    Attributes:
        image: the canvas, RGB.
        margin: as in `BatchOutput`, of the canvas; of tiles that overlap, one blended into another.
        anomaly_map: the margin's sigmoid.
        score: of what is looked at in the whole canvas.
        reconstruction: in [0, 1]; None where it was not asked for.
        features: as in `BatchOutput`; of tiles blended, too.
        on_object: true on the object, where it alone is looked at; else None.
    """

    image: UInt8[np.ndarray, "H W 3"]
    margin: Float[np.ndarray, "H W"]
    anomaly_map: Float[np.ndarray, "H W"]
    score: float
    reconstruction: Float[np.ndarray, "H W 3"] | None = None
    features: Float[np.ndarray, "_ _ C"] | None = None
    on_object: Bool[np.ndarray, "H W"] | None = None


class AtNetworkSize(NamedTuple):
    """A picture as the networks see it: at the size that they were trained at, or in tiles of it.

    Attributes:
        image: RGB.
        reconstruction: in [0, 1].
        features: the features of the discriminative network, at a lower resolution; None where they
            were not asked for, or there is no such network.
    """

    image: UInt8[np.ndarray, "h w 3"]
    reconstruction: Float[np.ndarray, "h w 3"]
    features: Float[np.ndarray, "_ _ C"] | None = None


@dataclass(frozen=True, eq=False)
class Inspection:
    """All that a detector says of one picture; maps are of the picture's own size.

    Attributes:
        image: RGB, as it was given.
        reconstruction: the picture as it would be without defects, in [0, 1].
        margin: logit₁ − logit₀ of each pixel.
        anomaly_map: how likely each pixel is anomalous, in [0, 1]; 0 where nobody looks.
        score: the score of the picture, in [0, 1].
        p_value: how often a normal picture scores as high, in (0, 1]; None for a detector without
            thresholds, since no normal pictures were held out from its training.
        is_anomalous: the decision, by the p-value and the false-alarm rate that was asked for;
            None without a p-value.
        regions: the anomalous ones, the largest first.
        at_network_size: the picture as the networks saw it.
        inside: true where the detector looks, see `draem_jax.data.roi`; None for everywhere.
        highest: the highest value in the picture's file where it has more than 8 bits a channel;
            None for what was not read from a file.
    """

    image: UInt8[np.ndarray, "H W 3"]
    reconstruction: Float[np.ndarray, "H W 3"]
    margin: Float[np.ndarray, "H W"]
    anomaly_map: Float[np.ndarray, "H W"]
    score: float
    p_value: float | None
    is_anomalous: bool | None
    regions: list[Region]
    at_network_size: AtNetworkSize
    inside: Bool[np.ndarray, "H W"] | None = None
    highest: int | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the picture."""
        return self.image.shape[:2]

    @property
    def mask(self) -> Bool[np.ndarray, "H W"]:
        """True where a region is."""
        mask = np.zeros(self.margin.shape, bool)
        for region in self.regions:
            mask[region.window] |= region.mask
        return mask
