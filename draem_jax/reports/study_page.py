"""One HTML page for one study: variants of a recipe, ranked and held against the baseline.

The page stands alone, as that of an evaluation does.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, UInt8
from markupsafe import Markup

from draem_jax.metrics.table import heading, metric_of
from draem_jax.reports import plots
from draem_jax.reports.data_uris import fit, fit_mask, jpeg, png
from draem_jax.reports.pictures import heat_map
from draem_jax.reports.templates import fill, inline
from draem_jax.reports.variants import LEVEL, Average, Difference

_MINUS = "\N{MINUS SIGN}"
_PLOTTED = "image_auroc"  # its differences are drawn beside those of the ranking metric
_PICTURE_SIDE = 256  # the longest side of a test picture on the page, in pixels
_STRIP_SIDE = 1536  # of a strip of anomalies


@dataclass(frozen=True)
class StudyVariant:
    """What came of one variant.

    Attributes:
        name: the name of the variant.
        changes: to the base config, such as "data.texture_source = solid".
        averages: metric (such as image_auroc) → its average; what is left out is not known.
        published: metric → what others report of it, such as the paper.
        differences: metric → difference to the baseline; empty for the baseline.
        runs: how many have finished.
        diverged: a sentence for each run that diverged: which, and at which step.
        missing: how many runs are yet to be made.
        curves: the curves of its runs, (steps, losses). A loss that is not finite ends the curve.
        strip: some of its simulated anomalies in a row, RGB.
        products: product → its average of the metric that ranks; empty where there is but one.
    """

    name: str
    changes: Sequence[str]
    averages: Mapping[str, Average]
    published: Mapping[str, float]
    differences: Mapping[str, Difference]
    runs: int
    diverged: Sequence[str]
    missing: int
    curves: Sequence[plots.LearningCurve]
    strip: UInt8[np.ndarray, "H W 3"] | None
    products: Mapping[str, Average] = field(default_factory=dict)


@dataclass(frozen=True)
class StudyPicture:
    """A test picture, and what the variants make of it.

    Attributes:
        name: the name of the picture, such as its path in the test folder.
        defect_type: the group it belongs to, such as "crack", or "good".
        image: RGB.
        mask: the true defect; None where it is not known.
        maps: variant → anomaly map in [0, 1]; variants without a run are left out.
    """

    name: str
    defect_type: str
    image: UInt8[np.ndarray, "H W 3"]
    mask: Bool[np.ndarray, "H W"] | None
    maps: Mapping[str, Float[np.ndarray, "H W"]]


@dataclass(frozen=True)
class StudyReport:
    """What the page of a study shows. What is left empty is left out.

    Attributes:
        title: the title of the page.
        facts: name → value of what was run: base config, products, seeds.
        notes: sentences that the reader must not miss.
        baseline: the name of the variant that the others are held against.
        metrics: keys of the figures to show, the one that ranks the variants first. All are
            shares of which more is better.
        variants: in the order of the study's file; the page ranks them.
        pictures: the same for all variants.
    """

    title: str
    facts: Mapping[str, str]
    notes: Sequence[str]
    baseline: str
    metrics: Sequence[str]
    variants: Sequence[StudyVariant]
    pictures: Sequence[StudyPicture]


def render_study(report: StudyReport) -> str:
    """Writes the report of a study as one HTML page.

    Args:
        report: what to show. Each variant's maps of a picture take some 5 kB of the page.

    Returns:
        The page. Texts are escaped, so names may hold any characters.
    """
    ranked = _ranked(report)
    return fill(
        "study_page.html.j2",
        report=report,
        level=f"{100 * LEVEL:.3g} %",
        labels=[heading(key) for key in report.metrics],
        products=list(report.variants[0].products) if report.variants else [],
        rows=[_row(report, rank, variant) for rank, variant in ranked],
        findings=_findings(report, [variant for _, variant in ranked]),
        details=_details(report, [variant for _, variant in ranked]),
        explanations=[(heading(key), metric_of(key).explanation) for key in report.metrics],
        has_published=any(
            key in variant.published for variant in report.variants for key in variant.averages
        ),
        differences=_differences(report, [variant for _, variant in ranked]),
        curves=_curves(report),
        strips=_strips(report),
        pictures=[_picture(report, picture) for picture in report.pictures],
        diverged=[(v.name, sentence) for v in report.variants for sentence in v.diverged],
    )


def _ranked(report: StudyReport) -> list[tuple[int | None, StudyVariant]]:
    """Orders by the first metric, the best first; what has no figure comes last, without a rank."""

    def mean(variant: StudyVariant) -> float | None:
        averages = (variant.averages.get(key) for key in report.metrics[:1])
        value = next((average.mean for average in averages if average), None)
        return None if value is None or math.isnan(value) else value

    means = [(mean(variant), variant) for variant in report.variants]
    order = sorted(means, key=lambda pair: math.inf if pair[0] is None else -pair[0])
    return [
        # Equals share a rank.
        (None if value is None else 1 + sum(m is not None and m > value for m, _ in means), variant)
        for value, variant in order
    ]


def _row(report: StudyReport, rank: int | None, variant: StudyVariant) -> dict[str, object]:
    difference = _main_difference(report, variant)
    return {
        "rank": plots.UNKNOWN if rank is None else rank,
        "variant": variant,
        "is_baseline": variant.name == report.baseline,
        "cells": [
            _cell(variant.averages.get(key), variant.published.get(key)) for key in report.metrics
        ],
        "products": [_cell(average) for average in variant.products.values()],
        "difference": _points(difference.mean) if difference else plots.UNKNOWN,
        "interval": _interval(difference),
        "direction": _direction(difference),
    }


def _main_difference(report: StudyReport, variant: StudyVariant) -> Difference | None:
    return variant.differences.get(report.metrics[0]) if report.metrics else None


def _cell(average: Average | None, published: float | None = None) -> dict[str, str]:
    if average is None:
        return {"mean": plots.UNKNOWN, "deviation": "", "published": ""}
    return {
        "mean": _share(average.mean),
        "deviation": "" if average.deviation is None else _share(average.deviation),
        "published": "" if published is None else _share(published),
    }


def _share(value: float | None) -> str:
    return plots.percent(value).removesuffix(" %")


def _points(value: float | None) -> str:
    """Writes a difference of shares in points of per cent, with its sign."""
    if value is None or not math.isfinite(value):
        return plots.UNKNOWN
    text = f"{100 * value:+.1f}".replace("-", _MINUS)
    return "0.0" if text[1:] == "0.0" else text


def _interval(difference: Difference | None) -> str:
    if difference is None or difference.low is None or difference.high is None:
        return ""
    return f"{_points(difference.low)} to {_points(difference.high)}"


def _direction(difference: Difference | None) -> str:
    if difference is None or difference.mean is None or not difference.is_supported:
        return ""
    return "better" if difference.mean > 0 else "worse"


def _findings(report: StudyReport, variants: Sequence[StudyVariant]) -> list[tuple[str, str, str]]:
    """Name, mark and sentence for each variant but the baseline."""
    if not report.metrics:
        return []
    return [
        (
            v.name,
            _direction(_main_difference(report, v)),
            _finding(report, v) + _elsewhere(report, v),
        )
        for v in variants
        if v.name != report.baseline
    ]


def _finding(report: StudyReport, variant: StudyVariant) -> str:
    """Says in words whether the data support that the variant differs from the baseline."""
    difference = _main_difference(report, variant)
    if not variant.runs:
        return "no run has finished, so nothing can be said."
    if difference is None or difference.mean is None:
        return "it has no run in common with the baseline, so nothing can be said."
    metric, points = heading(report.metrics[0]), f"{_points(difference.mean)} points"
    interval, direction = _interval(difference), _direction(difference)
    if not interval:
        return f"no difference shown in {metric} ({points}; too few pairs to judge)."
    reasons = f"{points}, interval {interval}"
    if difference.p_value is not None:
        reasons += f", {_p_value(difference.p_value)}"
    if direction:
        return f"{direction} than the baseline in {metric} ({reasons})."
    if _excludes_zero(difference):
        reasons += "; the interval leaves zero out, but the t test does not agree"
    return f"no difference shown in {metric} ({reasons})."


def _elsewhere(report: StudyReport, variant: StudyVariant) -> str:
    """Says what the data support in the metrics that do not rank the variants."""
    found = []
    for key in report.metrics[1:]:
        difference = variant.differences.get(key)
        direction = _direction(difference)
        if direction and difference is not None and difference.mean is not None:
            reasons = [f"{_points(difference.mean)} points"]
            if difference.p_value is not None:
                reasons.append(_p_value(difference.p_value))
            found.append(f"{direction} in {heading(key)} ({', '.join(reasons)})")
    return f" But {' and '.join(found)}." if found else ""


def _excludes_zero(difference: Difference) -> bool:
    low, high = difference.low, difference.high
    return low is not None and high is not None and (low > 0 or high < 0)


def _p_value(value: float) -> str:
    # No line breaks within.
    return (
        "p\N{NO-BREAK SPACE}<\N{NO-BREAK SPACE}0.001"
        if value < 0.001
        else f"p\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}{value:.3f}"
    )


def _details(report: StudyReport, variants: Sequence[StudyVariant]) -> list[tuple[str, list]]:
    """The differences in all metrics, a row for each variant that has any."""
    rows = []
    for variant in variants:
        cells = []
        for key in report.metrics:
            difference = variant.differences.get(key)
            p_value = difference.p_value if difference else None
            cells.append(
                {
                    "mean": _points(difference.mean) if difference else plots.UNKNOWN,
                    "interval": _interval(difference),
                    "p_value": "" if p_value is None else _p_value(p_value),
                    "direction": _direction(difference),
                }
            )
        if variant.differences:
            rows.append((variant.name, cells))
    return rows


def _differences(report: StudyReport, variants: Sequence[StudyVariant]) -> list[tuple[str, Markup]]:
    keys = [*report.metrics[:1], *(key for key in report.metrics[1:] if key == _PLOTTED)]
    drawn = []
    for key in keys:
        chosen = {v.name: v.differences[key] for v in variants if key in v.differences}
        if chosen:
            plot = plots.differences(
                {name: (d.mean, d.low, d.high) for name, d in chosen.items()},
                supported=[name for name, d in chosen.items() if d.is_supported],
                label=heading(key),
            )
            drawn.append((heading(key), inline(plot)))
    return drawn


def _curves(report: StudyReport) -> dict[str, object] | None:
    """The curves of all variants in one plot, and those of each in a small one."""
    curves = {variant.name: variant.curves for variant in report.variants if variant.curves}
    if not curves:
        return None
    panels = []
    for name in curves:
        plot = plots.learning_curves(curves, baseline=report.baseline, panel=name)
        panels.append((name, inline(plot)))
    overlaid = plots.learning_curves(curves, baseline=report.baseline)
    return {"overlaid": inline(overlaid), "panels": panels if len(panels) > 1 else []}


def _strips(report: StudyReport) -> list[tuple[str, str]]:
    return [
        (variant.name, jpeg(fit(variant.strip, longest_side=_STRIP_SIDE)))
        for variant in report.variants
        if variant.strip is not None
    ]


def _picture(report: StudyReport, picture: StudyPicture) -> dict[str, object]:
    image = fit(picture.image, longest_side=_PICTURE_SIDE)
    mask = None
    if picture.mask is not None and picture.mask.any():
        mask = png(fit_mask(picture.mask, longest_side=_PICTURE_SIDE))
    maps = []
    for variant in report.variants:
        anomaly_map = picture.maps.get(variant.name)
        shown = None
        if anomaly_map is not None:
            small = fit(anomaly_map.astype(np.float32), longest_side=_PICTURE_SIDE)
            shown = jpeg(heat_map(small))
        maps.append((variant.name, shown))
    return {
        "name": picture.name,
        "is_good": picture.mask is not None and mask is None,
        "ratio": round(image.shape[1] / image.shape[0], 4),
        "type": picture.defect_type,
        "image": jpeg(image),
        "mask": mask,
        "empty": "not known" if picture.mask is None else "no defect",
        "maps": maps,
    }
