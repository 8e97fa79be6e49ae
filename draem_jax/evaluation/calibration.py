"""Thresholds of a trained detector, from normal pictures that its training never saw."""

import dataclasses
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float, UInt8
from ml_collections import ConfigDict

from draem_jax.anomalies import AnomalyParams
from draem_jax.config import anomaly_params
from draem_jax.data.loading import Part
from draem_jax.data.roi import both
from draem_jax.detector import Draem
from draem_jax.errors import UserError
from draem_jax.evaluation.canvases import (
    Canvases,
    JudgedCanvases,
    judge_canvases,
    simulate_on_canvases,
)
from draem_jax.hosts.joining import is_first
from draem_jax.scores import CANDIDATE_SCORES, score_by_name
from draem_jax.thresholds import BestF1, Thresholds, ascending, best_f1, choose_score
from draem_jax.training.feed import read_pictures, samples_of
from draem_jax.training.pictures import TrainingPictures, open_pictures
from draem_jax.training.samples import Draw, ReservedStep
from draem_jax.training.state import run_keys

_LEAST_ANOMALOUS = 64


class PictureSet(NamedTuple):
    """Pictures in memory to set thresholds by or to measure with, and the truth about them.

    Attributes:
        images: the pictures, RGB.
        masks: true where an anomaly is.
        planes: true where to look, see `draem_jax.data.roi`; None for everywhere.
    """

    images: UInt8[np.ndarray, "N H W 3"]
    masks: Bool[np.ndarray, "N H W"]
    planes: Bool[np.ndarray, "N H W"] | None = None

    def followed_by(self, other: "PictureSet") -> "PictureSet":
        """Both as one, of the same region of interest."""
        return jax.tree.map(lambda *parts: np.concatenate(parts), self, other)


class Judged(NamedTuple):
    """What a detector makes of pictures.

    Attributes:
        margins: of all pixels.
        scores: by its name each score of all pictures.
        inside: true where the detector looks; None for everywhere.
    """

    margins: Float[np.ndarray, "N H W"]
    scores: Mapping[str, Float[np.ndarray, " N"]]
    inside: Bool[np.ndarray, "N H W"] | None

    @property
    def largest_margins(self) -> Float[np.ndarray, " N"]:
        """The largest margin where the detector looks in each picture."""
        margins = self.margins
        if self.inside is not None:
            # Where there is nowhere to look, nothing is above any threshold.
            margins = np.where(self.inside, margins, margins.min())
        return margins.max(axis=(1, 2))

    def flattened(self, masks: Bool[np.ndarray, "N H W"]) -> JudgedCanvases:
        """The same, of the pixels that are looked at alone; `masks` are true on anomalies."""
        return JudgedCanvases(
            self.scores, self.largest_margins, self.pixels(self.margins), self.pixels(masks)
        )

    def pixels(self, plane: np.ndarray) -> np.ndarray:
        """The values in a plane of each picture that lie where the detector looks."""
        return plane.ravel() if self.inside is None else plane[self.inside]


def calibrated(detector: Draem, *, keep: bool = True) -> Draem:
    """The detector with thresholds, which are worked out where it has none yet.

    Args:
        detector: as it was loaded.
        keep: write what was worked out to the detector's work directory, where it is loaded from
            the next time.

    Returns:
        The detector; still without thresholds if no normal pictures were held out from training.

    Raises:
        UserError: the pictures cannot be read, or the thresholds not be kept.
    """
    if detector.thresholds is not None or not detector.config.data.holdout:
        return detector
    thresholds = calibrate(detector)
    if keep and is_first():
        thresholds.save(detector.thresholds_path)
    return dataclasses.replace(detector, thresholds=thresholds)


def calibrate(detector: Draem) -> Thresholds:
    """Works out thresholds; none of the pictures that they come from was trained on.

    One half of the held-out normal pictures, with simulated anomalies on them, chooses the image
    score (where the config says "auto") and the thresholds of the best F1. The other half, which
    chose nothing, gives the scores that false-alarm rates are read from.

    Args:
        detector: of a run with `config.data.holdout` above 0.

    Raises:
        UserError: the pictures cannot be read.
    """
    config = detector.config
    auto = config.evaluation.score == "auto"
    names = CANDIDATE_SCORES if auto else (config.evaluation.score,)
    selection = _open_part(detector, "selection")
    score, counts = names[0], (0, 0)
    best: tuple[BestF1 | None, BestF1 | None] = (None, None)
    if len(selection.normal):
        judged, defective = _judge_selection(detector, selection, names)
        scores = judged.scores
        if auto:
            # It takes a second to import, which those who find thresholds kept need not wait for.
            from sklearn.metrics import roc_auc_score

            score = choose_score({n: float(roc_auc_score(defective, scores[n])) for n in names})
        best = best_f1(scores[score], defective), best_f1(judged.margins, judged.truth)
        counts = len(defective), int(defective.sum())
    kept = _judge_normal(detector, _open_part(detector, "calibration"), score)
    return Thresholds(
        score=score,
        normal_scores=ascending(kept.scores[score]),
        normal_margins=ascending(kept.largest_margins),
        best_f1_score=best[0] and best[0].threshold,
        best_f1_margin=best[1] and best[1].threshold,
        simulated_pictures=counts[0],
        simulated_defective=counts[1],
        made_from={
            "data": config.data.name,
            "category": config.data.category,
            "step": detector.step,
            "seed": config.seed,
            **({} if detector.roi.is_everything else {"roi": str(detector.roi)}),
        },
    )


def _judge_selection(
    detector: Draem, pictures: TrainingPictures, names: tuple[str, ...]
) -> tuple[JudgedCanvases, Bool[np.ndarray, " N"]]:
    """What a detector makes of normal pictures and simulated anomalies, and which are these."""
    if pictures.fitting.is_tiled:
        canvases = simulate_in_tiles(detector.config, pictures)
        return judge_canvases(detector, canvases, names), canvases.defective
    normal, anomalous = read_all(pictures), simulate_on(detector.config, pictures)
    both_kinds = normal.followed_by(anomalous)
    judged = judge(detector, both_kinds, names)
    defective = np.arange(len(both_kinds.images)) >= len(normal.images)
    return judged.flattened(both_kinds.masks), defective


def _judge_normal(detector: Draem, pictures: TrainingPictures, score: str) -> JudgedCanvases:
    if pictures.fitting.is_tiled:
        return judge_canvases(detector, Canvases(pictures, ()), (score,))
    normal = read_all(pictures)
    return judge(detector, normal, (score,)).flattened(normal.masks)


def simulate_in_tiles(config: ConfigDict, pictures: TrainingPictures) -> Canvases:
    """Simulates anomalies as `simulate_on` does, on pictures that are seen in tiles.

    Args:
        config: the config of the run.
        pictures: to put them on.

    Raises:
        UserError: the recipe makes no anomaly at all.
    """
    count, draw, params = _what_to_simulate(config, pictures)
    canvases = simulate_on_canvases(pictures, draw, params, count=count)
    if not canvases.patches:
        raise _nothing_simulated()
    return canvases


def simulate_on(config: ConfigDict, pictures: TrainingPictures) -> PictureSet:
    """Simulates anomalies on normal pictures by the config's recipe; none is rotated.

    There are none where nobody looks.

    Args:
        config: the config of the run.
        pictures: to put them on.

    Returns:
        At least 64 pictures unless the recipe makes hardly any anomaly, each with one.

    Raises:
        UserError: the recipe makes no anomaly at all.
    """
    count, draw, params = _what_to_simulate(config, pictures)
    drawn_from = read_pictures(pictures, draw)
    samples = samples_of(drawn_from, draw, params)
    masks = np.asarray(samples.mask)[..., 0] > 0
    chosen = np.flatnonzero(masks.any(axis=(1, 2)))[:count]
    if not chosen.size:
        raise _nothing_simulated()
    augmented = np.rint(np.asarray(samples.augmented)[chosen] * 255).astype(np.uint8)
    planes = None if drawn_from.inside is None else drawn_from.inside.planes
    return PictureSet(
        augmented, masks[chosen], None if planes is None else np.asarray(planes)[chosen]
    )


def _what_to_simulate(
    config: ConfigDict, pictures: TrainingPictures
) -> tuple[int, Draw, AnomalyParams]:
    """How many anomalies are wanted, which samples to make for them, and how."""
    params = dataclasses.replace(anomaly_params(config).with_plain_normals(), untouched_share=0.0)
    count = max(_LEAST_ANOMALOUS, len(pictures.normal))
    # A mask may come out empty; twice as many samples leave enough of the others.
    indices = np.arange(2 * count, dtype=np.int32)
    return count, Draw(run_keys(config)[1], ReservedStep.CALIBRATION, indices), params


def _nothing_simulated() -> UserError:
    return UserError(
        "the config's recipe simulates no anomaly at all; see `draem-jax preview`, and lower "
        "config.anomalies.threshold or config.anomalies.subtle.label_threshold"
    )


def read_all(pictures: TrainingPictures) -> PictureSet:
    """All normal pictures, on which there is no anomaly."""
    indices = range(len(pictures.normal))
    images = np.stack([pictures.normal[i] for i in indices])
    planes = None
    if pictures.planes is not None:
        planes = np.stack([pictures.planes[i] for i in indices])
    return PictureSet(images, np.zeros(images.shape[:3], bool), planes)


def judge(detector: Draem, pictures: PictureSet, names: tuple[str, ...]) -> Judged:
    """Runs a detector on pictures, a batch at a time, and gives what thresholds are set by.

    Args:
        detector: the trained detector.
        pictures: of the trained size, one at least.
        names: the names of image scores, see `draem_jax.scores.score_by_name`.
    """
    functions: dict[str, Callable] = {name: jax.jit(score_by_name(name)) for name in names}
    parts = list(_batches(detector, pictures, functions))
    return jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts)


def _batches(
    detector: Draem, pictures: PictureSet, functions: dict[str, Callable]
) -> Iterator[Judged]:
    for start in range(0, len(pictures.images), detector.batch_size):
        places = slice(start, start + detector.batch_size)
        images, _, planes = jax.tree.map(operator.itemgetter(places), pictures)
        output: Any = detector.run_batch(images, planes)
        count = len(images)
        if planes is not None:
            planes = np.pad(planes, [(0, len(output.margin) - count), (0, 0), (0, 0)])
        inside = both(planes, output.on_object)
        scores = {name: score(output.anomaly_map, inside) for name, score in functions.items()}
        yield jax.tree.map(
            lambda array, count=count: np.asarray(array)[:count],
            Judged(output.margin, scores, inside),
        )


def _open_part(detector: Draem, part: Part) -> TrainingPictures:
    return open_pictures(
        detector.config, part=part, trained_on=detector.trained_on, roi=detector.roi
    )
