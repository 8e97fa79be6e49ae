"""Thresholds without defects: from held-out normal pictures, and from simulated anomalies.

Two questions, two answers:

- *How sure can I be that a good part is not thrown away?* Split-conformal p-values from held-out
  normal pictures, and a decision at a false-alarm rate that the user names. The guarantee holds
  for every finite number of pictures and every distribution of scores (Vovk, Gammerman and
  Shafer, Algorithmic Learning in a Random World, 2005; for anomaly detection Laxhammar and
  Falkman, 2010).
- *Where would one cut if defects look like the simulated ones?* The threshold of the best F1 on
  simulated anomalies, which has no guarantee but balances misses and false alarms.

The normal pictures must be held out of everything that the detector was made with: of training,
and of choosing the checkpoint and the score. Pictures that chose anything are no longer
exchangeable with new ones, and the guarantee is then only approximate.

Every decision here, of images and pixels, is `value > threshold`.

**Pixels.** The values are margins, logit₁ − logit₀: the map is their sigmoid, but in float32 it
is 1 from a margin of 17 on, where thresholds need to tell values apart. What is controlled is the
share of normal pictures in which *any* pixel lies above the threshold, by the same conformal
argument on each picture's largest margin. The pixels of one picture hang together, so counting
them as if each were a new observation would promise far more than was seen; the picture is the
unit that repeats. It streams: one number a picture. The threshold holds as well for maps that are
resized by a rule that does not overshoot, such as the bilinear one. It is high on purpose; to
outline a defect as fully as possible, the best F1 of pixels is the other choice.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import betaincinv

from draem_jax import files
from draem_jax.errors import UserError
from draem_jax.regions.rule import EVEN, PixelRule, PixelThreshold
from draem_jax.scores import DEFAULT_SCORE, score_by_name

Fact = str | int | float | bool | None

_FORMAT = "draem_jax thresholds"
_VERSION = 1
_CONFIDENCE = 0.9  # with which the rate of one set of pictures is bounded


class BestF1(NamedTuple):
    """Where F1 is best.

    Attributes:
        threshold: what lies above it is called anomalous.
        f1: what is reached there, in (0, 1].
    """

    threshold: float
    f1: float


def p_values(
    calibration: Float[np.ndarray, " n"], scores: Float[np.ndarray, " N"]
) -> Float[np.ndarray, " N"]:
    """Computes split-conformal p-values.

    A new normal picture's p-value is at most α with a probability of at most α, for every α, if it
    is exchangeable with the calibration pictures. Equal scores count against calling a picture
    anomalous, so ties only make the p-values larger.

    Args:
        calibration: scores of n held-out normal pictures, in any order.
        scores: the scores of new pictures; higher is more anomalous.

    Returns:
        (1 + number of calibration scores that are at least as high) / (n + 1), in (0, 1].
    """
    below = np.searchsorted(np.sort(calibration), scores, side="left")
    return (1 + len(calibration) - below) / (len(calibration) + 1)


def conformal_threshold(calibration: Float[np.ndarray, " n"], alpha: float) -> float | None:
    """Finds the threshold that at most the share `alpha` of normal pictures exceeds.

    A score lies above it exactly if its p-value (see `p_values`) is at most `alpha`.

    Args:
        calibration: scores of n held-out normal pictures, or their largest margins; any order.
        alpha: the false-alarm rate, in (0, 1). It is read as the decimal that it is written as:
            0.1 is one tenth.

    Returns:
        The threshold, one of the calibration scores; None if n is too small for any score to be
        called anomalous, see `pictures_needed`.

    Raises:
        UserError: `alpha` is not in (0, 1).
    """
    allowed = _allowed(len(calibration), alpha)
    return float(np.sort(calibration)[-1 - allowed]) if allowed >= 0 else None


def pictures_needed(alpha: float) -> int:
    """Counts the held-out normal pictures without which nothing can be called at rate `alpha`.

    The smallest p-value of n pictures is 1 / (n + 1), so that n must be at least 1 / α − 1.

    Raises:
        UserError: `alpha` is not in (0, 1).
    """
    return math.ceil(1 / _exact(alpha)) - 1


def best_f1(values: Float[np.ndarray, " N"], is_defective: Bool[np.ndarray, " N"]) -> BestF1 | None:
    """Finds the threshold of the best F1 among images or pixels.

    Args:
        values: scores or margins; higher is more anomalous.
        is_defective: their labels.

    Returns:
        The threshold, halfway between the two values that it parts, and the F1 there; among equal
        F1 the highest threshold, which raises the fewest false alarms. None where a class is
        missing.
    """
    levels, index = np.unique(values, return_inverse=True)
    normal = np.bincount(index[~is_defective], minlength=len(levels))
    defective = np.bincount(index[is_defective], minlength=len(levels))
    best = _best_cut(normal, defective)
    if best is None:
        return None
    cut, f1 = best
    upper = levels[cut]
    lower = levels[cut - 1] if cut else np.nextafter(upper, upper.dtype.type(-np.inf))
    middle = lower + (upper - lower) / 2
    # Between neighbours there is no room: the middle is rounded to one of them.
    return BestF1(float(middle if middle < upper else lower), f1)


def choose_score(aurocs: Mapping[str, float | None], *, default: str = DEFAULT_SCORE) -> str:
    """Chooses the image score that tells simulated anomalies from normal pictures best.

    Args:
        aurocs: name of the score (see `draem_jax.scores.score_by_name`) → image AUROC on held-out
            normal pictures and simulated anomalies, never on the test set; None or NaN where it
            is not defined.
        default: preferred among equals.

    Returns:
        The name with the highest AUROC. Among equals the default if it is one of them, else the
        first given; the default where nothing is defined.
    """
    known = {k: v for k, v in aurocs.items() if v is not None and not math.isnan(v)}
    best = max(known.values(), default=None)
    if best is None or known.get(default) == best:
        return default
    return next(name for name, value in known.items() if value == best)


@dataclass(frozen=True)
class Thresholds:
    """What is kept beside a checkpoint to decide about new pictures.

    The calibration scores themselves are kept, so that p-values and the thresholds of any
    false-alarm rate can be computed when they are asked for.

    Attributes:
        score: name of the image score that all scores here are of.
        normal_scores: image scores of the held-out normal pictures, ascending.
        normal_margins: the largest margin of each of these pictures, ascending.
        best_f1_score: the image score of the best F1 on simulated anomalies; None if there were
            none.
        best_f1_margin: the margin of the best F1 of pixels there.
        simulated_pictures: how many pictures the two were found on, normal ones included.
        simulated_defective: how many of them had a simulated anomaly.
        made_from: what the numbers come from, such as data, training step and seed.

    Raises:
        ValueError: a number is not finite, a count contradicts another, or scores or margins are
            not in ascending order.
    """

    score: str
    normal_scores: tuple[float, ...]
    normal_margins: tuple[float, ...]
    best_f1_score: float | None = None
    best_f1_margin: float | None = None
    simulated_pictures: int = 0
    simulated_defective: int = 0
    made_from: Mapping[str, Fact] = field(default_factory=dict)

    def __post_init__(self) -> None:
        fault = _fault(dataclasses.asdict(self))
        if fault:
            raise ValueError(fault)

    @classmethod
    def load(cls, path: str | Path) -> Thresholds:
        """Reads what `save` wrote.

        Raises:
            UserError: there is no such file, or it is damaged, or holds something else.
        """
        path = Path(path)
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise UserError(
                f"cannot read the thresholds in {path}: {error.strerror}; calibrate the detector"
            ) from error
        except UnicodeDecodeError as error:
            raise _unusable(path, "it is not a text file") from error
        try:
            content = json.loads(text, parse_constant=_refuse)
        except (ValueError, RecursionError) as error:
            raise _unusable(path, "it is not JSON") from error
        if not isinstance(content, dict) or content.pop("format", None) != _FORMAT:
            raise _unusable(path, "it is another kind of file")
        if content.pop("version", None) != _VERSION:
            raise _unusable(path, "it was written by another version")
        fault = _fault(content)
        if fault:
            raise _unusable(path, fault)
        lists = {key: tuple(map(float, content[key])) for key in _LISTS}
        return cls(**{**content, **lists})

    def save(self, path: str | Path) -> None:
        """Writes the thresholds as JSON, atomically.

        Raises:
            UserError: the folder cannot be written.
        """
        content = {"format": _FORMAT, "version": _VERSION, **dataclasses.asdict(self)}
        files.write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")

    @property
    def normal_pictures(self) -> int:
        """How many held-out normal pictures stand behind the p-values."""
        return len(self.normal_scores)

    def p_values(self, scores: Float[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
        """Computes the p-values of new pictures' scores; see the function of the same name."""
        return p_values(np.array(self.normal_scores, float), scores)

    def image_threshold(self, alpha: float) -> float | None:
        """The image score that at most the share `alpha` of normal pictures exceeds.

        None if there are too few pictures, see `warning`.
        """
        return conformal_threshold(np.array(self.normal_scores, float), alpha)

    def margin_threshold(self, alpha: float) -> float | None:
        """The margin that at most `alpha` of normal pictures exceed in any of their pixels.

        None if there are too few pictures, see `warning`.
        """
        return conformal_threshold(np.array(self.normal_margins, float), alpha)

    def guarantee(self, alpha: float) -> str:
        """Says in plain words what holds for decisions at rate `alpha`."""
        n, allowed = self.normal_pictures, _allowed(self.normal_pictures, alpha)
        if allowed < 0:
            return "Nothing is called anomalous, so there are no false alarms, and no finds."
        bound = float(betaincinv(allowed + 1, n - allowed, _CONFIDENCE))
        return (
            f"At most {_percent(alpha)} of normal pictures are called anomalous, on average over "
            f"new pictures and over the choice of the {n} held-out ones, if new normal pictures "
            "come about as these did; nothing is assumed about how scores are distributed. For "
            f"these {n} pictures alone, the rate is at most {_percent_up(bound)} with "
            f"{_percent(_CONFIDENCE)} confidence. How many defects are found is not promised."
        )

    def warning(self, alpha: float) -> str | None:
        """Says what is wrong if too few normal pictures support the rate `alpha`, else None."""
        n, needed = self.normal_pictures, pictures_needed(alpha)
        if n >= needed:
            return None
        return (
            f"{n} held-out normal picture{'' if n == 1 else 's'} cannot support a false-alarm rate "
            f"of {_percent(alpha)}: nothing can ever be called anomalous. It takes at least "
            f"{needed:,}, or a rate of {_percent_up(1 / (n + 1))} or more."
        )


def ascending(values: Float[np.ndarray, " n"]) -> tuple[float, ...]:
    """Scores or margins as `Thresholds` keeps them."""
    return tuple(np.sort(values).tolist())


def pixel_threshold(
    thresholds: Thresholds | None, *, rule: PixelRule = "best_f1", alpha: float = 0.05
) -> PixelThreshold:
    """Chooses the threshold that regions begin at.

    Args:
        thresholds: the thresholds of the detector; None if it has none.
        rule: "best_f1" for the threshold that tells simulated anomalies' pixels best, or, where
            there is none, the margin 0, which is 0.5 in the map; "conformal" for the one that at
            most the share `alpha` of normal pictures exceeds anywhere.
        alpha: for "conformal".

    Raises:
        UserError: the rule is "conformal", and no normal pictures were held out, or too few.
    """
    if rule == "conformal":
        if thresholds is None:
            raise UserError(
                "the run has no thresholds, as no normal pictures were held out from its training: "
                "train with config.data.holdout above 0, or choose the pixel threshold best_f1"
            )
        margin = thresholds.margin_threshold(alpha)
        if margin is None:
            raise UserError(thresholds.warning(alpha) or "there is no conformal threshold")
        return PixelThreshold(margin, "conformal")
    if thresholds is None or thresholds.best_f1_margin is None:
        return EVEN
    return PixelThreshold(thresholds.best_f1_margin, "best_f1")


_LISTS = ("normal_scores", "normal_margins")
_COUNTS = ("simulated_pictures", "simulated_defective")


def _exact(alpha: float) -> Fraction:
    # In binary 0.1 is a little more than one tenth; what the user means is the decimal.
    if not 0 < alpha < 1:
        raise UserError(
            f"a false-alarm rate lies between 0 and 1, not at {alpha:g}; "
            "try 0.01 for one normal picture in a hundred"
        )
    return Fraction(str(float(alpha)))


def _allowed(count: int, alpha: float) -> int:
    """How many calibration scores may be as high as one that is called; −1 if none can be."""
    return math.floor(_exact(alpha) * (count + 1)) - 1


def _best_cut(normal: np.ndarray, defective: np.ndarray) -> tuple[int, float] | None:
    """From counts in ascending order to the first index that is called, and the F1."""
    total = defective.sum()
    if not total or not normal.sum():
        return None
    true = np.cumsum(defective[::-1], dtype=np.float64)
    false = np.cumsum(normal[::-1], dtype=np.float64)
    f1 = 2 * true / (true + false + total)
    best = int(np.argmax(f1))  # the first of equals, so never an empty level
    return len(normal) - 1 - best, float(f1[best])


def _fault(content: dict[str, Any]) -> str | None:
    """Says what is wrong with the fields of thresholds, None if nothing is."""
    if set(content) != {attribute.name for attribute in dataclasses.fields(Thresholds)}:
        return "fields are missing or unknown"
    for key in _LISTS:
        values = content[key]
        if not isinstance(values, list | tuple) or not all(map(_is_finite, values)):
            return f"{key} are not finite numbers"
        if list(values) != sorted(values):
            return f"{key} are not in ascending order"
    if len(content["normal_scores"]) != len(content["normal_margins"]):
        return "there is not one score and one margin for each normal picture"
    for key in ("best_f1_score", "best_f1_margin"):
        if content[key] is not None and not _is_finite(content[key]):
            return f"{key} is not a finite number"
    if not all(type(content[key]) is int for key in _COUNTS):
        return "the simulated pictures are not counted"
    if not 0 <= content["simulated_defective"] <= content["simulated_pictures"]:
        return "more simulated anomalies than simulated pictures are counted"
    made_from = content["made_from"]
    if not isinstance(made_from, dict) or not all(map(_is_fact, made_from.values())):
        return "what it was made from is not said"
    try:
        score_by_name(content["score"])
    except (UserError, TypeError):
        return "its image score is unknown"
    return None


def _is_finite(value: object) -> bool:
    if type(value) not in (int, float):
        return False
    try:
        return math.isfinite(value)  # type: ignore[arg-type]
    except OverflowError:  # an integer beyond all floats
        return False


def _is_fact(value: object) -> bool:
    return value is None or isinstance(value, str | bool) or _is_finite(value)


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is no JSON")


def _unusable(path: Path, why: str) -> UserError:
    shown = re.sub(r"\s+", " ", str(path))
    return UserError(f"{shown} holds no usable thresholds: {why}; calibrate the detector again")


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _percent_up(share: float) -> str:
    # A bound must not be rounded to where it no longer holds.
    unit = 10.0 ** (math.floor(math.log10(share)) - 2)
    return _percent(math.ceil(share / unit) * unit)
