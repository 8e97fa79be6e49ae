"""All that is said of one picture: the detector's maps at the picture's own size, and its regions.

From Python:

    detector, thresholds = calibrated(workdir, Draem.load(workdir))
    inspected = inspect_picture(detector, picture, pixel_threshold(thresholds).margin)
    for region in inspected.regions:
        inspected.picture[region.window], inspected.reconstruction[region.window], region.mask
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float, UInt8
from scipy.special import expit

from draem_jax.data.pictures import read_decoded, resize, resize_channels, resize_plane
from draem_jax.detector import Draem
from draem_jax.errors import UserError
from draem_jax.inspection.edges import above_edges
from draem_jax.inspection.regions import Region, find_regions
from draem_jax.thresholds import Thresholds

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
        return float(expit(self.margin))


def pixel_threshold(
    thresholds: Thresholds | None, *, rule: PixelRule = "best_f1", alpha: float = 0.05
) -> PixelThreshold:
    """Chooses the threshold that regions begin at.

    Args:
        thresholds: of the detector; None if it has none.
        rule: "best_f1" for the threshold that tells simulated anomalies' pixels best, or, where
            there is none, the margin 0, which is 0.5 in the map; "conformal" for the one that at
            most the share `alpha` of good pictures exceeds anywhere.
        alpha: for "conformal".

    Raises:
        UserError: the rule is "conformal", and there are no held-out good pictures, or too few.
    """
    if rule == "conformal":
        if thresholds is None:
            raise UserError(
                "the run has no thresholds, as no good pictures were held out from its training: "
                "train with config.data.holdout above 0, or choose the pixel threshold best_f1"
            )
        margin = thresholds.margin_threshold(alpha)
        if margin is None:
            raise UserError(thresholds.warning(alpha) or "there is no conformal threshold")
        return PixelThreshold(margin, "conformal")
    if thresholds is None or thresholds.best_f1_margin is None:
        return PixelThreshold(0.0, "even")
    return PixelThreshold(thresholds.best_f1_margin, "best_f1")


class Seen(NamedTuple):
    """A picture as the networks see it, at the size they were trained at.

    Attributes:
        picture: RGB.
        reconstruction: in [0, 1].
        features: of the discriminative network, at a lower resolution; None where they were not
            asked for, or there is no such network.
    """

    picture: UInt8[np.ndarray, "h w 3"]
    reconstruction: Float[np.ndarray, "h w 3"]
    features: Float[np.ndarray, "_ _ C"] | None = None


@dataclass(frozen=True, eq=False)
class Inspected:
    """What is said of a picture; maps are of its own size.

    Attributes:
        picture: RGB, as it was given.
        reconstruction: the picture as it would be without defects, in [0, 1].
        margin: logit₁ − logit₀ of each pixel.
        anomaly_map: how likely each pixel is anomalous, in [0, 1].
        score: of the picture, in [0, 1].
        regions: the largest first.
        seen: the picture at the networks' size; all else here is of the picture's own.
        highest: the highest value in the picture's file where it has more than 8 bits a channel.
    """

    picture: UInt8[np.ndarray, "H W 3"]
    reconstruction: Float[np.ndarray, "H W 3"]
    margin: Float[np.ndarray, "H W"]
    anomaly_map: Float[np.ndarray, "H W"]
    score: float
    regions: list[Region]
    seen: Seen
    highest: int | None = None

    @property
    def mask(self) -> Bool[np.ndarray, "H W"]:
        """True where a region is."""
        mask = np.zeros(self.margin.shape, bool)
        for region in self.regions:
            mask[region.window] |= region.mask
        return mask


def inspect_picture(
    detector: Draem,
    picture: UInt8[np.ndarray, "H W 3"],
    threshold: float,
    *,
    join_gap: int | float = 0,
    min_area: int | float = 0,
    with_features: bool = False,
) -> Inspected:
    """Inspects one picture; see `inspect_pictures`."""
    return next(
        inspect_pictures(
            detector,
            [picture],
            threshold,
            join_gap=join_gap,
            min_area=min_area,
            with_features=with_features,
        )
    )


def inspect_pictures(
    detector: Draem,
    pictures: Iterable[UInt8[np.ndarray, "_ _ 3"]],
    threshold: float,
    *,
    join_gap: int | float = 0,
    min_area: int | float = 0,
    with_features: bool = False,
) -> Iterator[Inspected]:
    """Looks for regions in pictures of any sizes, a batch of them at a time.

    Args:
        detector: the trained detector.
        pictures: RGB; taken as they are needed.
        threshold: on the margin, for a region to begin; see `pixel_threshold`. Where it ends is
            said in `draem_jax.inspection.edges`.
        join_gap: see `find_regions`, in pixels of the picture, as all sizes are.
        min_area: see `find_regions`.
        with_features: whether to keep what the discriminative network computes, for
            `draem_jax.inspection.features`.

    Yields:
        What is said of each picture, in their order.
    """
    remaining = iter(pictures)
    while batch := list(itertools.islice(remaining, detector.batch_size)):
        small = np.stack([resize(picture, detector.image_size) for picture in batch])
        fitted = detector.fitted_to(len(batch))
        found = jax.device_get(fitted.inspect(small, with_features=with_features))
        for i, picture in enumerate(batch):
            size = picture.shape[:2]
            margin = resize_plane(found.margin[i], size)
            anomaly_map = resize_plane(found.anomaly_map[i], size)
            scale = math.sqrt(margin.size / math.prod(detector.image_size))
            yield Inspected(
                picture=picture,
                reconstruction=resize_channels(found.reconstruction[i], size),
                margin=margin,
                anomaly_map=anomaly_map,
                score=float(found.score[i]),
                regions=find_regions(
                    above_edges(margin, threshold, scale=scale),
                    anomaly_map=anomaly_map,
                    join_gap=join_gap,
                    min_area=min_area,
                ),
                seen=Seen(
                    picture=small[i],
                    reconstruction=found.reconstruction[i],
                    features=None if found.features is None else found.features[i],
                ),
            )


def inspect_files(
    detector: Draem,
    paths: Sequence[Path],
    threshold: float,
    *,
    join_gap: int | float = 0,
    min_area: int | float = 0,
    with_features: bool = False,
) -> Iterator[Inspected | UserError]:
    """Inspects the pictures of files; see `inspect_pictures`.

    Yields:
        What is said of each picture, in their order, or why it cannot be read.
    """
    unreadable: dict[int, UserError] = {}
    highest: dict[int, int | None] = {}

    def readable() -> Iterator[UInt8[np.ndarray, "_ _ 3"]]:
        for i, path in enumerate(paths):
            try:
                # As those were read that the detector was trained on.
                decoded = read_decoded(path, full_scale=detector.full_scale)
            except UserError as error:
                unreadable[i] = error
            else:
                highest[i] = decoded.highest
                yield decoded.picture

    inspections = inspect_pictures(
        detector,
        readable(),
        threshold,
        join_gap=join_gap,
        min_area=min_area,
        with_features=with_features,
    )
    # Pictures are read a batch ahead, so what precedes one that was inspected has been read.
    following = next(inspections, None)
    for i in range(len(paths)):
        if i in unreadable:
            yield unreadable.pop(i)
        elif following is not None:
            yield replace(following, highest=highest.pop(i))
            following = next(inspections, None)
