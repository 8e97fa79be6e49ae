"""From a stream's totals to metrics with intervals, thresholds and curves, by defect type."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from draem_jax.evaluation import exact
from draem_jax.evaluation.bootstrap import multinomial_draws, percentile_interval
from draem_jax.evaluation.pixel_counts import (
    BINS,
    COARSE_BINS,
    NAN_BIN,
    GroupCounts,
    coarsen,
    lowest_in_bin,
)
from draem_jax.evaluation.stream import MetricOptions, PictureRow, Totals
from draem_jax.evaluation.truth import GOOD
from draem_jax.metrics.rankings import (
    Curve,
    Ranking,
    f1_max,
    precision_recall_curve,
    pro_curve,
    rank,
    roc_curve,
    thin,
)
from draem_jax.metrics.table import Ranked, metrics_of

Interval = tuple[float, float]


@dataclass(frozen=True)
class Metrics:
    """The metrics of some pictures.

    Attributes:
        values: by name; None where a metric is not defined.
        reasons: why, for each that is None, one sentence.
        intervals: by name; None where there is no value or too little to resample.
        thresholds: the score, and the margin logit₁ − logit₀, at and above which pictures and
            pixels count as defective at the highest F1; by the name of that F1.
        curves: `image_roc`, `image_precision_recall`, `pixel_roc`, `pixel_precision_recall` and
            `pro`, thinned; only those that are defined.
    """

    values: dict[str, float | None]
    reasons: dict[str, str]
    intervals: dict[str, Interval | None]
    thresholds: dict[str, float | None]
    curves: dict[str, Curve] = field(repr=False)

    def as_json(self) -> dict[str, Any]:
        """All but the curves; there is no NaN in it, and no infinity."""
        return {
            **self.values,
            "intervals": {k: None if v is None else list(v) for k, v in self.intervals.items()},
            "thresholds": self.thresholds,
            "reasons": self.reasons,
        }


@dataclass(frozen=True)
class Evaluation:
    """The metrics of a test set.

    Attributes:
        overall: of all pictures.
        types: of each defect type's pictures together with all normal ones, in alphabetical order.
        pictures: what is known of each, by index.
        looked_at: the mean share of the pictures that the detector looked at.
    """

    overall: Metrics
    types: dict[str, Metrics]
    pictures: list[PictureRow]
    looked_at: float = 1.0

    def as_json(self) -> dict[str, Any]:
        """The metrics overall and by defect type, see `Metrics.as_json`."""
        types = {kind: metrics.as_json() for kind, metrics in self.types.items()}
        return {**self.overall.as_json(), "defect_types": types}


def compute_metrics(totals: Totals, options: MetricOptions) -> Evaluation:
    """Computes all metrics.

    Their names are those of `draem_jax.metrics.table`; `aupimo` is the mean over pictures with
    defect pixels. Pixel metrics are over all pixels of all pictures whose mask is known.

    Intervals are percentiles of the bootstrap over pictures, normal and defective ones resampled
    apart. For images the replicates are exact. For pixels they are Poisson draws scaled to the
    number of pictures, in coarse bins (32 to an octave); an interval is the replicates' moved by
    what the coarse bins put the metric itself off. AUPIMO's holds the false-positive rate fixed.

    Args:
        totals: those of a `MetricStream`, merged if there are several.
        options: the same that the stream had.

    Raises:
        ValueError: a score or a margin is NaN.
    """
    rows = sorted(totals.rows, key=lambda row: row.index)
    if any(np.isnan(row.score) for row in rows):
        raise ValueError("a picture's score is not a number")
    if any(counts.pixels[:, NAN_BIN].any() for counts in totals.groups.values()):
        raise ValueError("a margin is not a number: the network's outputs are not finite")
    if options.exact:
        rows = _with_exact_aupimo(rows, totals, options)
    types = sorted({row.defect_type for row in rows} - {GOOD})
    return Evaluation(
        overall=_metrics(rows, totals, options, types),
        types={kind: _metrics(rows, totals, options, [kind]) for kind in types},
        pictures=rows,
    )


def _metrics(
    rows: list[PictureRow], totals: Totals, options: MetricOptions, types: list[str]
) -> Metrics:
    rows = [row for row in rows if row.defect_type in (GOOD, *types)]
    parts = [
        _image_metrics(rows, options),
        _pixel_metrics(rows, totals, options, types),
        _aupimo(rows, totals, options),
    ]
    return Metrics(
        *(
            {name: entry for part in parts for name, entry in getattr(part, kind.name).items()}
            for kind in fields(Metrics)
        )
    )


def _image_metrics(rows: list[PictureRow], options: MetricOptions) -> Metrics:
    is_defective = np.array([row.defect_type != GOOD for row in rows], bool)
    scores = np.array([row.score for row in rows], np.float64)
    if is_defective.all():
        return _undefined("image", "There is no normal picture.", options)
    if not is_defective.any():
        return _undefined("image", "There is no defective picture.", options)
    replicates = None
    if options.replicates and min(is_defective.sum(), (~is_defective).sum()) > 1:
        replicates = _image_replicates(scores, is_defective, options)
    return _ranking_metrics("image", rank(scores, is_defective), replicates, options)


def _image_replicates(
    scores: Float[np.ndarray, " N"], is_defective: Bool[np.ndarray, " N"], options: MetricOptions
) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(options.seed)
    at_once = max(1, 2**22 // len(scores))
    parts = []
    for start in range(0, options.replicates, at_once):
        number = min(at_once, options.replicates - start)
        weights = np.zeros((number, len(scores)))
        for kind in (is_defective, ~is_defective):
            weights[:, kind] = multinomial_draws(rng, int(kind.sum()), number)
        parts.append(_measure("image", rank(scores, is_defective, weights=weights), options))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _pixel_metrics(
    rows: list[PictureRow], totals: Totals, options: MetricOptions, types: list[str]
) -> Metrics:
    normal, defective = _strata(totals, types)
    groups = normal + defective
    pixels = np.sum([group.pixels for group in groups], axis=0)
    regions = np.sum([group.regions for group in groups], axis=0)
    if not pixels.any():
        return _undefined("pixel", "The mask of no picture is known.", options)
    if not pixels[1].any():
        return _undefined("pixel", "No pixel is marked as a defect.", options)
    if not pixels[0].any():
        return _undefined("pixel", "Every pixel is marked as a defect.", options)
    if options.exact:
        ranking = exact.rank_pixels(*_planes(rows, totals))
    else:
        filled = np.flatnonzero(pixels.any(0))[::-1]
        lowest = lowest_in_bin()[filled].astype(np.float64)
        ranking = Ranking(lowest, pixels[0, filled], pixels[1, filled], regions[filled])
    replicates = None
    if options.replicates and min(_pictures(normal), _pictures(defective)) > 1:
        drawn = _measure(
            "pixel",
            _coarse_ranking(_pixel_replicates(normal) + _pixel_replicates(defective)),
            options,
        )
        coarse = _measure("pixel", _coarse_ranking(coarsen(np.stack([*pixels, regions]))), options)
        values = _measure("pixel", ranking, options)
        replicates = {
            name: (drawn[name] + values[name] - coarse[name]).clip(0, 1) for name in values
        }
    return _ranking_metrics("pixel", ranking, replicates, options)


def _pixel_replicates(groups: list[GroupCounts]) -> Float[np.ndarray, "R 3 1024"]:
    """The sums over a stratum, as if each replicate had drawn as many pictures as there are."""
    drawn = np.sum([group.draws for group in groups], axis=0)
    factor = np.where(drawn > 0, _pictures(groups) / np.maximum(drawn, 1), 0)
    return np.sum([group.replicates for group in groups], axis=0) * factor[:, None, None]


def _coarse_ranking(counts: Float[np.ndarray, "*R 3 1024"]) -> Ranking:
    descending = counts[..., ::-1]
    return Ranking(
        lowest_in_bin()[:: BINS // COARSE_BINS][::-1],
        *(descending[..., part, :] for part in range(3)),
    )


def _measure(ranked: Ranked, ranking: Ranking, options: MetricOptions) -> dict[str, Any]:
    """All metrics of a ranking of images or pixels, for each replicate."""
    metrics = metrics_of(ranked, limits=options.aupro_limits)
    return {name: compute(ranking) for name, compute in metrics.items()}


def _ranking_metrics(
    ranked: Ranked,
    ranking: Ranking,
    replicates: dict[str, np.ndarray] | None,
    options: MetricOptions,
) -> Metrics:
    values = _measure(ranked, ranking, options)
    threshold = ranking.scores[f1_max(ranking.normal, ranking.defect)[1]]
    finite = np.finfo(np.float32)
    curves = {
        f"{ranked}_roc": thin(roc_curve(ranking)),
        f"{ranked}_precision_recall": thin(precision_recall_curve(ranking)),
    }
    if ranking.regions is not None:
        curves["pro"] = thin(pro_curve(ranking))
    return Metrics(
        values={key: float(value) for key, value in values.items()},
        reasons={},
        intervals={
            key: percentile_interval(replicates[key], confidence=options.confidence)
            if replicates
            else None
            for key in values
        },
        thresholds={f"{ranked}_f1_max": float(np.clip(threshold, finite.min, finite.max))},
        curves=curves,
    )


def _undefined(ranked: Ranked, reason: str, options: MetricOptions) -> Metrics:
    names = list(metrics_of(ranked, limits=options.aupro_limits))
    return Metrics(
        values=dict.fromkeys(names),
        reasons=dict.fromkeys(names, reason),
        intervals=dict.fromkeys(names),
        thresholds={f"{ranked}_f1_max": None},
        curves={},
    )


def _aupimo(rows: list[PictureRow], totals: Totals, options: MetricOptions) -> Metrics:
    values = np.array([row.aupimo for row in rows if row.aupimo is not None], np.float64)
    reason = _no_aupimo(values, totals, options)
    if reason:
        return Metrics({"aupimo": None}, {"aupimo": reason}, {"aupimo": None}, {}, {})
    interval = None
    if options.replicates and len(values) > 1:
        rng = np.random.default_rng(options.seed)
        means = multinomial_draws(rng, len(values), options.replicates) @ values / len(values)
        interval = percentile_interval(means, confidence=options.confidence)
    return Metrics({"aupimo": float(values.mean())}, {}, {"aupimo": interval}, {}, {})


def _no_aupimo(values: np.ndarray, totals: Totals, options: MetricOptions) -> str | None:
    normal = totals.groups.get(GOOD)
    if normal is None or not normal.pictures:
        return "There is no normal picture whose mask is known."
    if not len(values):
        return "No defective picture has a pixel marked as a defect."
    pixels, rate = int(normal.pixels.sum()), options.aupimo_bounds[0]
    if pixels * rate < 1:
        return f"The normal pictures' {pixels} pixels are too few for a rate of {rate:g}."
    return None


def _strata(totals: Totals, types: list[str]) -> tuple[list[GroupCounts], list[GroupCounts]]:
    groups = totals.groups
    return [groups[GOOD]] if GOOD in groups else [], [groups[k] for k in types if k in groups]


def _pictures(groups: list[GroupCounts]) -> int:
    return int(sum(group.pictures for group in groups))


def _planes(rows: list[PictureRow], totals: Totals) -> tuple[list[np.ndarray], list[np.ndarray]]:
    planes = [totals.kept[row.index] for row in rows]
    return [margins for margins, _ in planes], [truth for _, truth in planes]


def _with_exact_aupimo(
    rows: list[PictureRow], totals: Totals, options: MetricOptions
) -> list[PictureRow]:
    normal = [row for row in rows if row.defect_type == GOOD]
    measured = [row for row in rows if row.aupimo is not None]
    if not measured:
        return rows
    values = exact.picture_aupimo(
        *_planes(normal, totals), *_planes(measured, totals), bounds=options.aupimo_bounds
    )
    by_index = {row.index: float(value) for row, value in zip(measured, values, strict=True)}
    return [replace(row, aupimo=by_index.get(row.index)) for row in rows]
