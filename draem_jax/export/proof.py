"""Holding an exported model against the checkpoint that it was made of, on the same pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt8

from draem_jax.data.folders import list_pictures
from draem_jax.data.pictures import read_picture
from draem_jax.detector import Draem
from draem_jax.errors import UserError
from draem_jax.evaluation.evaluate import data_title, open_test_pictures
from draem_jax.evaluation.protocols import nearest_mask
from draem_jax.export.contract import Look
from draem_jax.metrics.rankings import auroc, average_precision, rank

BATCH_SIZES = (1, 3, 8)
"""Pictures that a model is given at once, in turn, as far as there are so many."""

TOLERANCE: Mapping[str, float] = {"score": 1e-4, "anomaly_map": 1e-3, "reconstruction": 1e-3}
"""By how much a model in float32 may differ from the checkpoint."""

_COMPARED = tuple(TOLERANCE)


@dataclass(frozen=True)
class HeldOut:
    """Pictures that training never saw.

    Attributes:
        images: at the size that the networks see.
        masks: of each picture, true on defects; None where that is not known.
        source: where they come from, for people.
    """

    images: UInt8[np.ndarray, "N H W 3"]
    masks: Sequence[Bool[np.ndarray, "H W"] | None]
    source: str


@dataclass(frozen=True)
class Said:
    """What a model says of pictures; see `draem_jax.export.contract.OUTPUTS`."""

    score: Float[np.ndarray, " N"]
    anomaly_map: Float[np.ndarray, "N H W"]
    margin: Float[np.ndarray, "N H W"]
    reconstruction: Float[np.ndarray, "N H W 3"]


@dataclass(frozen=True)
class Figures:
    """How well a model tells defects; None where it cannot be measured.

    Attributes:
        image_auroc: of the scores.
        pixel_ap: of the margins.
    """

    image_auroc: float | None
    pixel_ap: float | None


@dataclass(frozen=True)
class Comparison:
    """A model beside the checkpoint.

    Attributes:
        pictures: how many both looked at.
        differences: the largest of each output.
        decisions: of how many pictures both decide otherwise; None where nothing is decided.
        on_threshold: of how many more, whose score is within the tolerance of the threshold.
        checkpoint: how well the checkpoint tells defects.
        model: how well the model does.
    """

    pictures: int
    differences: Mapping[str, float]
    decisions: int | None
    on_threshold: int
    checkpoint: Figures
    model: Figures

    def as_json(self) -> dict[str, Any]:
        """What the manifest holds."""
        return asdict(self) | {"batch_sizes": list(BATCH_SIZES)}

    def beyond_tolerance(self) -> str | None:
        """Says where a model in float32 differs by more than it may; None if nowhere."""
        for name, allowed in TOLERANCE.items():
            # NaN is beyond any tolerance.
            if not self.differences[name] <= allowed:
                return f"{name} differs by up to {self.differences[name]:.3g}, {allowed:g} may be"
        if self.decisions:
            return f"{self.decisions} of {self.pictures} decisions differ"
        return None

    def losses(self) -> dict[str, float]:
        """What the model has lost, by name, as far as it can be measured; 0 for gains."""
        lost = {}
        for name in ("image_auroc", "pixel_ap"):
            before, after = getattr(self.checkpoint, name), getattr(self.model, name)
            if before is not None and after is not None:
                lost[name] = max(0.0, before - after)
        if self.decisions is not None:
            lost["decisions"] = (self.decisions + self.on_threshold) / self.pictures
        return lost

    def beyond_loss(self, limit: float) -> str | None:
        """Says what was lost beyond a limit; None if nothing."""
        if not all(np.isfinite(value) for value in self.differences.values()):
            return "it computes numbers that are not finite"
        beyond = {name: lost for name, lost in self.losses().items() if not lost <= limit}
        if not beyond:
            return None
        shown = {"image_auroc": "image AUROC", "pixel_ap": "pixel AP", "decisions": "decisions"}
        return " and ".join(
            f"{lost:.3g} of the {shown[name]} {'differ' if name == 'decisions' else 'is lost'}"
            for name, lost in beyond.items()
        )


def held_out_pictures(detector: Draem, *, count: int, images: str | Path | None = None) -> HeldOut:
    """Pictures to prove a model on.

    Args:
        detector: whose test pictures they are; simulated ones where its data set has none.
        count: how many at most, spread evenly over all.
        images: a picture or a folder of pictures to take instead, about which nothing is known.

    Raises:
        UserError: there are none, or they cannot be read.
    """
    if images is not None:
        paths = spread(list_pictures(Path(images), recursive=True), count)
        read = [read_picture(path, full_scale=detector.full_scale) for path in paths]
        fitted = np.stack([detector.fitting.fit(picture) for picture in read])
        return HeldOut(fitted, [None] * len(fitted), f"pictures of {Path(images).name}")
    test, simulated = open_test_pictures(detector)
    pictures = [test[index] for index in spread(range(len(test)), count)]
    of = data_title(detector)
    return HeldOut(
        np.stack([picture.image for picture in pictures]),
        [
            nearest_mask(picture.mask, detector.image_size) if picture.has_mask else None
            for picture in pictures
        ],
        f"{'held-out' if simulated else 'test'} pictures of {of}"
        + (", with simulated anomalies" if simulated else ""),
    )


def said_by_checkpoint(detector: Draem, images: UInt8[np.ndarray, "N H W 3"]) -> Said:
    """What a detector says of pictures at the size that its networks see."""
    seen = list(detector.see((image, None) for image in images))
    return Said(
        np.array([one.score for one in seen], np.float32),
        np.stack([one.anomaly_map for one in seen]),
        np.stack([one.margin for one in seen]),
        np.stack([one.reconstruction for one in seen if one.reconstruction is not None]),
    )


def said_by(look: Look, images: UInt8[np.ndarray, "N H W 3"]) -> Said:
    """What a model says of pictures, given to it in batches of `BATCH_SIZES`."""
    parts: list[Mapping[str, np.ndarray]] = []
    done = 0
    while done < len(images):
        size = BATCH_SIZES[min(len(parts), len(BATCH_SIZES) - 1)]
        # The last ones with some before them, so that no other size comes up.
        start = max(0, min(done, len(images) - size))
        found = look(images[start : start + size])
        parts.append({name: array[done - start :] for name, array in found.items()})
        done = start + size
    return Said(**{name: np.concatenate([p[name] for p in parts]) for name in parts[0]})


def compare(
    expected: Said, found: Said, held_out: HeldOut, *, threshold: float | None, decides: bool
) -> Comparison:
    """Compares what a model says with what the checkpoint says.

    Args:
        expected: of the checkpoint.
        found: of the model.
        held_out: the pictures that both looked at.
        threshold: what a score must exceed to be called anomalous; None if none can.
        decides: whether the detector decides about pictures at all.
    """
    differences = {
        name: float(np.abs(getattr(found, name) - getattr(expected, name)).max())
        for name in _COMPARED
    }
    differ = np.zeros(len(expected.score), bool)
    near = differ
    if threshold is not None:
        differ = (expected.score > threshold) != (found.score > threshold)
        near = np.abs(expected.score - threshold) <= TOLERANCE["score"]
    return Comparison(
        pictures=len(expected.score),
        differences=differences,
        decisions=int((differ & ~near).sum()) if decides else None,
        on_threshold=int((differ & near).sum()),
        checkpoint=_figures(expected, held_out),
        model=_figures(found, held_out),
    )


def _figures(said: Said, held_out: HeldOut) -> Figures:
    known = [i for i, mask in enumerate(held_out.masks) if mask is not None]
    if not known or not np.isfinite(said.margin).all():
        return Figures(None, None)
    masks = np.stack([mask for mask in held_out.masks if mask is not None])
    images = rank(said.score[known], np.any(masks, axis=(1, 2)))
    pixels = rank(said.margin[known].ravel(), masks.ravel())
    return Figures(
        _number(auroc(images.normal, images.defect)),
        _number(average_precision(pixels.normal, pixels.defect)),
    )


def _number(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None


def spread(items: Sequence[Any], count: int) -> list[Any]:
    """So many of the items at most, evenly spread.

    Raises:
        UserError: there are none.
    """
    if not len(items):
        raise UserError("there are no pictures to prove the export on; name some with --images")
    places = np.linspace(0, len(items) - 1, min(count, len(items)))
    return [items[place] for place in np.unique(places.round().astype(int))]
