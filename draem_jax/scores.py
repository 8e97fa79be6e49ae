"""From logits to an anomaly map, and from the map to one score for the picture."""

import math
import re
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from draem_jax.errors import UserError

Map = Float[Array, "B H W"]
Inside = Bool[Array, "B H W"]
Score = Callable[[Map, Inside | None], Float[Array, " B"]]

DEFAULT_SCORE = "mean21"
"""The paper's image score."""

CANDIDATE_SCORES = (DEFAULT_SCORE, "mean11", "mean5", "mean1", "top100", "top1%")
"""Names that are worth trying; see `score_by_name`."""


def margin(logits: Float[Array, "B H W 2"]) -> Float[Array, "B H W"]:
    """The logit of anomalous less that of normal, whose sigmoid is the anomaly map."""
    return logits[..., 1] - logits[..., 0]


def anomaly_map(logits: Float[Array, "B H W 2"]) -> Float[Array, "B H W"]:
    """The probability that a pixel is anomalous, in [0, 1] (paper, section 3.2)."""
    return jax.nn.sigmoid(margin(logits))


def image_score(
    anomaly_map: Map, inside: Inside | None = None, *, window: int = 21
) -> Float[Array, " B"]:
    """The largest mean of the map within a square window (paper, section 3.3, equation 5).

    As in the authors' code, the map is padded with zeros and the sum is divided by the whole
    window's area at the border as well. Where nobody looks counts as beyond the border.

    Args:
        anomaly_map: in [0, 1].
        inside: true where to look; everywhere if None.
        window: side of the square in pixels, odd.

    Returns:
        Scores in [0, 1], higher for more anomalous pictures.
    """
    if inside is not None:
        anomaly_map = jnp.where(inside, anomaly_map, 0)
    pad = window // 2
    for axis in (1, 2):
        dimensions, padding = [1, 1, 1], [(0, 0), (0, 0), (0, 0)]
        dimensions[axis], padding[axis] = window, (pad, pad)
        anomaly_map = lax.reduce_window(anomaly_map, 0.0, lax.add, dimensions, (1, 1, 1), padding)
    return jnp.max(anomaly_map, axis=(1, 2)) / window**2


def top_score(anomaly_map: Map, inside: Inside | None = None, *, count: int) -> Float[Array, " B"]:
    """The mean of the map's largest values, wherever they stand.

    Unlike `image_score` it adds up what lies apart: several small defects, or a scratch that is
    thinner than any window.

    Args:
        anomaly_map: in [0, 1].
        inside: true where to look; everywhere if None.
        count: how many values, at least 1; all of a map that has fewer.

    Returns:
        Scores in [0, 1], higher for more anomalous pictures; 0 where there is nowhere to look.
    """
    largest = _largest(anomaly_map, inside, count)
    if inside is None:
        return jnp.mean(largest, axis=1)
    return _mean_of_first(largest, jnp.sum(inside, axis=(1, 2)))


def score_by_name(name: str) -> Score:
    """Finds an image score by its name.

    - `mean21`: the largest mean in a window of 21 × 21, the paper's and the default; any odd side
      will do, and `mean1` is the map's maximum. See `image_score`.
    - `top100`: the mean of the 100 largest pixels. See `top_score`.
    - `top1%`: the mean of the largest one per cent of the pixels, rounded up to whole ones, so
      that it means the same at every size of picture, and of what is looked at in it; decimals
      such as `top0.5%` will do.

    Args:
        name: the name of the score.

    Returns:
        A function that can be jitted, from maps in [0, 1], and from where to look in them or None
        for everywhere, to scores in [0, 1].

    Raises:
        UserError: there is no such score.
    """
    parsed = parse_score(name)
    if parsed.window:
        return partial(image_score, window=parsed.window)
    if parsed.pixels:
        return partial(top_score, count=parsed.pixels)
    return partial(_top_share, share=parsed.share)


class ScoreOfRows:
    """The score of one map that comes some rows at a time, from top to bottom.

    It is that of `score_by_name`, in little memory however large the map is.
    """

    def __init__(self, name: str, *, looked_at: int):
        """Begins with no rows.

        Args:
            name: the name of the score.
            looked_at: how many pixels the whole map has where anybody looks.

        Raises:
            UserError: there is no such score.
        """
        parsed = parse_score(name)
        self._window = parsed.window
        count = parsed.pixels or math.ceil(parsed.share * looked_at)
        self._count = min(count, looked_at)
        self._largest = np.zeros(0, np.float32)
        self._last_rows: np.ndarray | None = None
        self._highest = 0.0

    def add(
        self,
        rows: Float[np.ndarray, "rows W"],
        inside: Bool[np.ndarray, "rows W"] | None = None,
    ) -> None:
        """Adds the next rows of the map.

        Args:
            rows: in [0, 1].
            inside: true where to look; everywhere if None.
        """
        if not self._window:
            looked_at = rows.ravel() if inside is None else rows[inside]
            values = np.concatenate([self._largest, looked_at])
            if (more := len(values) - self._count) > 0:
                values = np.partition(values, more)[more:] if self._count else values[:0]
            self._largest = values
            return
        if inside is not None:
            rows = np.where(inside, rows, 0)
        if self._last_rows is not None:
            rows = np.concatenate([self._last_rows, rows])
        self._highest = max(self._highest, _highest_sum(rows, self._window))
        self._last_rows = rows[max(0, len(rows) - self._window + 1) :]

    def value(self) -> float:
        """The score, once all rows were added."""
        if self._window:
            return self._highest / self._window**2
        return float(self._largest.mean(dtype=np.float64)) if self._count else 0.0


def _highest_sum(plane: Float[np.ndarray, "H W"], window: int) -> float:
    """The largest sum in a square window, of which parts may lie beyond the plane."""
    for axis in (0, 1):
        below = max(0, window - plane.shape[axis])
        padding = [(0, 0), (0, 0)]
        padding[axis] = (1, below)
        sums = np.cumsum(np.pad(plane, padding), axis=axis, dtype=np.float64)
        first, last = (slice(None),) * axis, sums.shape[axis] - window
        plane = sums[(*first, slice(window, None))] - sums[(*first, slice(last))]
    return float(plane.max(initial=0))


class ScoreKind(NamedTuple):
    """A score by its name: one of a window's side, a number of pixels, and a share of them."""

    window: int = 0
    pixels: int = 0
    share: Fraction = Fraction(0)


def parse_score(name: str) -> ScoreKind:
    """What a score's name says, see `score_by_name`.

    Raises:
        UserError: there is no such score.
    """
    window = re.fullmatch(r"mean([1-9]\d{0,3})", name, re.ASCII)
    if window and int(window[1]) % 2:
        return ScoreKind(window=int(window[1]))
    count = re.fullmatch(r"top([1-9]\d{0,8})", name, re.ASCII)
    if count:
        return ScoreKind(pixels=int(count[1]))
    percent = re.fullmatch(r"top(\d{1,3}(?:\.\d{1,6})?)%", name, re.ASCII)
    if percent and 0 < Fraction(percent[1]) <= 100:
        return ScoreKind(share=Fraction(percent[1]) / 100)
    raise UserError(
        f"there is no image score {name!r}; give mean and an odd window (mean21), "
        "top and a number of pixels (top100), or top and a share (top1%)"
    )


def _top_share(
    anomaly_map: Map, inside: Inside | None = None, *, share: Fraction
) -> Float[Array, " B"]:
    height, width = anomaly_map.shape[1:]
    count = math.ceil(share * height * width)
    if inside is None:
        return top_score(anomaly_map, count=count)
    # Less a little, so that what rounding adds to a whole number does not make it the next one.
    counts = jnp.ceil(jnp.sum(inside, axis=(1, 2)) * float(share) - 1e-3).astype(jnp.int32)
    return _mean_of_first(_largest(anomaly_map, inside, count), counts)


def _largest(anomaly_map: Map, inside: Inside | None, count: int) -> Float[Array, "B K"]:
    """The largest values of each map, in descending order; 0 for what is not looked at."""
    if inside is not None:
        anomaly_map = jnp.where(inside, anomaly_map, 0)
    flat = anomaly_map.reshape(anomaly_map.shape[0], -1)  # the number may be a symbol
    return lax.top_k(flat, min(count, flat.shape[1]))[0]


def _mean_of_first(values: Float[Array, "B K"], counts: Int[Array, " B"]) -> Float[Array, " B"]:
    """The mean of so many values of each row as it counts, as far as there are as many."""
    counts = jnp.minimum(counts, values.shape[1])[:, None]
    first = jnp.where(jnp.arange(values.shape[1])[None] < counts, values, 0)
    return jnp.sum(first, axis=1) / jnp.maximum(counts[:, 0], 1)
