"""Thresholds of a trained detector, from normal pictures that its training never saw."""

import dataclasses
from collections.abc import Callable, Iterator

import jax
import numpy as np
from jaxtyping import Bool, Float, UInt8
from ml_collections import ConfigDict

from draem_jax.config import anomaly_params
from draem_jax.detector import Draem
from draem_jax.detector.draem import thresholds_path
from draem_jax.errors import UserError
from draem_jax.scores import CANDIDATE_SCORES, score_by_name
from draem_jax.thresholds import BestF1, Thresholds, ascending, best_f1, choose_score
from draem_jax.training.feed import read_samples
from draem_jax.training.pictures import TrainingPictures, open_pictures
from draem_jax.training.samples import Draw, ReservedStep
from draem_jax.training.state import run_keys

_LEAST_ANOMALOUS = 64


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
    if keep:
        thresholds.save(thresholds_path(detector.workdir, detector.step))
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
    selection = open_pictures(config, part="selection", trained_on=detector.trained_on)
    score, counts = names[0], (0, 0)
    best: tuple[BestF1 | None, BestF1 | None] = (None, None)
    if len(selection.normal):
        normal = read_all(selection)
        anomalous, masks = simulate_on(config, selection)
        margins, scores = margins_and_scores(detector, np.concatenate([normal, anomalous]), names)
        defective = np.arange(len(margins)) >= len(normal)
        if auto:
            # It takes a second to import, which those who find thresholds kept need not wait for.
            from sklearn.metrics import roc_auc_score

            score = choose_score({n: float(roc_auc_score(defective, scores[n])) for n in names})
        truth = np.concatenate([np.zeros((len(normal), *masks.shape[1:]), bool), masks])
        best = (
            best_f1(scores[score], defective),
            best_f1(margins.ravel(), truth.ravel()),
        )
        counts = len(margins), len(anomalous)
    calibration = read_all(
        open_pictures(config, part="calibration", trained_on=detector.trained_on)
    )
    margins, scores = margins_and_scores(detector, calibration, (score,))
    return Thresholds(
        score=score,
        normal_scores=ascending(scores[score]),
        normal_margins=ascending(margins.max(axis=(1, 2))),
        best_f1_score=best[0] and best[0].threshold,
        best_f1_margin=best[1] and best[1].threshold,
        simulated_pictures=counts[0],
        simulated_defective=counts[1],
        made_from={
            "data": config.data.name,
            "category": config.data.category,
            "step": detector.step,
            "seed": config.seed,
        },
    )


def simulate_on(
    config: ConfigDict, pictures: TrainingPictures
) -> tuple[UInt8[np.ndarray, "N H W 3"], Bool[np.ndarray, "N H W"]]:
    """Simulates anomalies on normal pictures by the config's recipe; none is rotated.

    Args:
        config: the config of the run.
        pictures: to put them on.

    Returns:
        At least 64 pictures unless the recipe makes hardly any anomaly, each with one, and masks.

    Raises:
        UserError: the recipe makes no anomaly at all.
    """
    params = dataclasses.replace(
        anomaly_params(config), untouched_share=0.0, normal_rotation_share=0.0
    )
    count = max(_LEAST_ANOMALOUS, len(pictures.normal))
    # A mask may come out empty; twice as many samples leave enough of the others.
    indices = np.arange(2 * count, dtype=np.int32)
    draw = Draw(run_keys(config)[1], ReservedStep.CALIBRATION, indices)
    samples = read_samples(pictures, draw, params)
    masks = np.asarray(samples.mask)[..., 0] > 0
    chosen = np.flatnonzero(masks.any(axis=(1, 2)))[:count]
    if not chosen.size:
        raise UserError(
            "the config's recipe simulates no anomaly at all; see `draem-jax preview`, and lower "
            "config.anomalies.threshold"
        )
    augmented = np.rint(np.asarray(samples.augmented)[chosen] * 255).astype(np.uint8)
    return augmented, masks[chosen]


def read_all(pictures: TrainingPictures) -> UInt8[np.ndarray, "N H W 3"]:
    """All normal pictures as one array."""
    return np.stack([pictures.normal[i] for i in range(len(pictures.normal))])


def margins_and_scores(
    detector: Draem, images: UInt8[np.ndarray, "N H W 3"], names: tuple[str, ...]
) -> tuple[Float[np.ndarray, "N H W"], dict[str, Float[np.ndarray, " N"]]]:
    """Runs a detector on pictures, a batch at a time, and gives what thresholds are set by.

    Args:
        detector: the trained detector.
        images: of the trained size, one at least.
        names: the names of image scores, see `draem_jax.scores.score_by_name`.

    Returns:
        The margins of all pixels; and by its name each score of all pictures.
    """
    functions: dict[str, Callable] = {name: jax.jit(score_by_name(name)) for name in names}
    parts = list(_batches(detector, images, functions))
    margins = np.concatenate([margins for margins, _ in parts])
    return margins, {n: np.concatenate([scores[n] for _, scores in parts]) for n in names}


def _batches(
    detector: Draem, images: np.ndarray, functions: dict[str, Callable]
) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
    for start in range(0, len(images), detector.batch_size):
        batch = images[start : start + detector.batch_size]
        output = detector.run_batch(batch)
        yield (
            np.asarray(output.margin)[: len(batch)],
            {
                name: np.asarray(score(output.anomaly_map))[: len(batch)]
                for name, score in functions.items()
            },
        )
