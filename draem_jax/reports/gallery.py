"""The pictures of a report: which are wrong, in what order, and how they are shown."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from draem_jax.reports.data_uris import fit, fit_mask, jpeg, png
from draem_jax.reports.pictures import (
    Mask,
    Picture,
    dim_outside,
    heat_map,
    outline,
    overlay,
    to_uint8,
)
from draem_jax.reports.plots import percent

Outcome = Literal["miss", "false alarm", "right"]

WORST_FIRST = (
    "A defective picture is the worse the more normal pictures score at least as high, a normal "
    "one the worse the more defective pictures score at most as high; among equals, the one whose "
    "map differs more from the true mask comes first."
)


@dataclass(frozen=True)
class ReportPicture:
    """One test picture and what the model made of it.

    Attributes:
        name: how the picture is called, such as its path in the test folder.
        defect_type: the group it belongs to, such as "crack", or "good".
        score: the image score; higher is more anomalous.
        image: the picture, RGB or grey: float in [0, 1] or uint8.
        reconstruction: the same, as the model would have it without a defect.
        anomaly_map: float in [0, 1].
        mask: the true defect, values above 0; None where it is not known.
        is_defective: whether the picture is of a defect.
        rank_error: see `rank_errors`. Give it for every picture or for none; where it is None,
            `render` works it out from the pictures that it is given.
        p_value: how likely a normal picture is to score as high, where it is known.
        inside: values above 0 where the model looks; None for everywhere.
    """

    name: str
    defect_type: str
    score: float
    image: Picture
    reconstruction: Picture
    anomaly_map: Float[np.ndarray, "H W"]
    mask: Mask | None
    is_defective: bool
    rank_error: float | None = None
    p_value: float | None = None
    inside: Mask | None = None


@dataclass(frozen=True)
class GalleryEntry:
    """A picture as the gallery shows it.

    Attributes:
        picture: what is shown.
        tiles: (title, data URI or None where there is nothing to show).
        empty: what stands in place of a mask.
        ratio: width over height.
        remark: how the picture stands among the others, or nothing.
        outcome: what was decided, None where there was none.
    """

    picture: ReportPicture
    tiles: Sequence[tuple[str, str | None]]
    empty: str
    ratio: float
    remark: str
    outcome: Outcome | None


def outcome(picture: ReportPicture, threshold: float | None) -> Outcome | None:
    """Says what came of calling anomalous what scores above the threshold."""
    if threshold is None:
        return None
    if (picture.score > threshold) == picture.is_defective:
        return "right"
    return "miss" if picture.is_defective else "false alarm"


def make_entries(
    pictures: Sequence[ReportPicture], *, threshold: float | None, max_pictures: int
) -> list[GalleryEntry]:
    """Draws the worst pictures, the worst first.

    Args:
        pictures: to choose from.
        threshold: on the score; with one, misses and false alarms come before all others.
        max_pictures: at most so many.

    Raises:
        ValueError: some pictures have a rank error and some have none.
    """
    errors = _errors(pictures)
    outcomes = [outcome(picture, threshold) for picture in pictures]
    order = worst_first(
        errors,
        np.array([picture.score for picture in pictures], float),
        np.array([picture.is_defective for picture in pictures], bool),
        [picture.anomaly_map for picture in pictures],
        [picture.mask for picture in pictures],
        wrong=np.array([made in ("miss", "false alarm") for made in outcomes], bool),
    )[:max_pictures]
    return [_entry(pictures[i], float(errors[i]), outcomes[i]) for i in order]


def rank_errors(
    scores: Float[np.ndarray, " N"], is_defective: Bool[np.ndarray, " N"]
) -> Float[np.ndarray, " N"]:
    """Says of each picture how far it stands on the wrong side of the others.

    Args:
        scores: image scores; higher is more anomalous.
        is_defective: which pictures are of a defect.

    Returns:
        For a defective picture, the share of the normal ones that score at least as high; for a
        normal one, the share of the defective ones that score at most as high. All 0 where the
        pictures are all normal or all defective.
    """
    normal, defective = np.sort(scores[~is_defective]), np.sort(scores[is_defective])
    errors = np.zeros(len(scores))
    if normal.size and defective.size:
        below = np.searchsorted(normal, scores[is_defective], side="left")
        errors[is_defective] = 1 - below / normal.size
        errors[~is_defective] = (
            np.searchsorted(defective, scores[~is_defective], side="right") / defective.size
        )
    return errors


def worst_first(
    errors: Float[np.ndarray, " N"],
    scores: Float[np.ndarray, " N"],
    is_defective: Bool[np.ndarray, " N"],
    anomaly_maps: Iterable[np.ndarray],
    masks: Iterable[np.ndarray | None],
    *,
    wrong: Bool[np.ndarray, " N"] | None = None,
) -> Int[np.ndarray, " N"]:
    """Orders pictures by how badly the model judged them.

    The worst have the greatest rank error. Among equals, the greatest mean of |map − mask| comes
    first, a normal picture's mask being empty and a defective picture without a mask coming last;
    then the score that is further on the wrong side, then the given order.

    Args:
        errors: see `rank_errors`.
        scores: image scores; higher is more anomalous.
        is_defective: which pictures are of a defect.
        anomaly_maps: N maps (H, W), float in [0, 1]; sizes may differ.
        masks: N masks (H, W), values above 0 being the defect, or None where unknown.
        wrong: which pictures a decision got wrong; they come before all others.

    Returns:
        Indices of the pictures, the worst first.
    """
    map_errors = [
        _map_error(anomaly_map, mask, bool(defective))
        for anomaly_map, mask, defective in zip(anomaly_maps, masks, is_defective, strict=True)
    ]
    wrongness = np.where(is_defective, -scores, scores)
    # The last key is the first in rank, and lexsort is stable.
    keys = [-wrongness, -np.asarray(map_errors, float), -errors]
    return np.lexsort((*keys, ~wrong) if wrong is not None else keys)


def _map_error(anomaly_map: np.ndarray, mask: np.ndarray | None, defective: bool) -> float:
    if mask is None:
        return -1.0 if defective else float(np.mean(np.abs(anomaly_map)))
    return float(np.mean(np.abs(anomaly_map - (mask > 0))))


def _errors(pictures: Sequence[ReportPicture]) -> Float[np.ndarray, " N"]:
    given = [picture.rank_error for picture in pictures if picture.rank_error is not None]
    if given and len(given) != len(pictures):
        raise ValueError("give rank_error for all pictures of a report or for none")
    if given:
        return np.array(given, float)
    scores = np.array([picture.score for picture in pictures], float)
    return rank_errors(scores, np.array([picture.is_defective for picture in pictures], bool))


def _remark(picture: ReportPicture, rank_error: float) -> str:
    if rank_error == 0:
        return ""
    share = percent(rank_error)
    if picture.is_defective:
        return f"{share} of the normal pictures score at least as high"
    return f"{share} of the defective pictures score at most as high"


def _entry(picture: ReportPicture, rank_error: float, made: Outcome | None) -> GalleryEntry:
    image, reconstruction = fit(to_uint8(picture.image)), fit(to_uint8(picture.reconstruction))
    anomaly_map = fit(picture.anomaly_map.astype(np.float32))
    glow = overlay(image, anomaly_map)
    mask = None
    if picture.inside is not None:
        glow = dim_outside(glow, fit_mask(picture.inside))
    if picture.mask is not None and picture.mask.any():
        mask = fit_mask(picture.mask)
        glow = outline(glow, mask)
    tiles = [
        ("Picture", jpeg(image)),
        ("Reconstruction", jpeg(reconstruction)),
        ("Anomaly map", jpeg(heat_map(anomaly_map))),
        ("Overlay", jpeg(glow)),
        ("True mask", None if mask is None else png(mask)),
    ]
    empty = "no defect"
    if picture.is_defective:
        empty = "not known" if picture.mask is None else "empty"
    ratio = round(image.shape[1] / image.shape[0], 4)
    return GalleryEntry(picture, tiles, empty, ratio, _remark(picture, rank_error), made)
