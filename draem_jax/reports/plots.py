"""Plots as SVG text, drawn by Matplotlib without a display and without its global state.

A plot has no background, and its axes and words take the colour of the text around it, so it
suits light and dark pages. The text stays text, and curves are thinned out: a plot is a few
kilobytes.
"""

import html
import io
import math
import re
from collections.abc import Collection, Mapping
from typing import Any, Literal

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Values = Float[np.ndarray, " _"]
Curve = tuple[Values, Values, float | None]

Corner = Literal["lower right", "lower left"]

UNKNOWN = "\N{EN DASH}"  # stands where a figure is not defined

_POINTS = 150  # of a curve; more cannot be told apart at the size of a plot
_DOTS = 150  # of one row of scores
_LETTERS = 22  # of a type's name beside its row
_SERIES = ("#3b82c4", "#d9822b", "#5b9e6f", "#a06cc0")
_GOOD, _DEFECTIVE = _SERIES[:2]
_INK = "#010203"  # stands for the colour of the surrounding text until the SVG is written
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "axes.linewidth": 0.6,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _INK,
    "grid.alpha": 0.12,
    "grid.linewidth": 0.6,
    "text.color": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
}


def percent(value: float | None) -> str:
    """Writes a share with one decimal; a dash for None and NaN.

    What is less than the whole is never written as 100.0 %.
    """
    if value is None or not math.isfinite(value):
        return UNKNOWN
    text = f"{100 * value:.1f} %"
    return "> 99.9 %" if text == "100.0 %" and value < 1 else text


def roc(curves: Mapping[str, Curve]) -> str:
    """Plots receiver operating characteristics.

    Args:
        curves: name → (false positive rates, true positive rates, AUROC): arrays of one length in
            [0, 1], and the area in [0, 1] or None where it is not known.

    Returns:
        The plot, an <svg> element.
    """
    with matplotlib.rc_context(_STYLE):
        figure, axes = _square("False positive rate", "True positive rate")
        axes.plot([0, 1], [0, 1], color=_INK, alpha=0.3, linewidth=0.8, linestyle=(0, (4, 3)))
        _draw(axes, curves, "AUROC", "lower right")
        return _svg(figure, "ROC curve")


def precision_recall(curves: Mapping[str, Curve]) -> str:
    """Plots precision against recall.

    Args:
        curves: name → (recalls, precisions, average precision): arrays of one length in [0, 1],
            and the average precision in [0, 1] or None where it is not known.

    Returns:
        The plot, an <svg> element.
    """
    with matplotlib.rc_context(_STYLE):
        figure, axes = _square("Recall", "Precision")
        _draw(axes, curves, "AP", "lower left")
        return _svg(figure, "Precision-recall curve")


def scores(
    scores_by_type: Mapping[str, Values],
    *,
    good: Collection[str] = ("good",),
    threshold: float | None = None,
) -> str:
    """Plots the image scores, one row of dots for each type and a short line at its median.

    Of a type with many pictures, dots at evenly spaced ranks are drawn, its least and its greatest
    score among them.

    Args:
        scores_by_type: type → image scores, in the order of the rows from the top.
        good: the types that are no defects; they have their own colour.
        threshold: drawn as a line from top to bottom when given.

    Returns:
        The plot, an <svg> element.
    """
    with matplotlib.rc_context(_STYLE):
        figure, axes = _rows(list(scores_by_type), "Image score (short line: median)")
        for row, (name, values) in enumerate(scores_by_type.items()):
            if not values.size:
                continue
            shown = _thin_sorted(np.sort(values))
            color = _GOOD if name in good else _DEFECTIVE
            axes.plot(shown, row + _jitter(len(shown)), "o", color=color, alpha=0.7, ms=3.4, mew=0)
            axes.plot([np.median(values)] * 2, [row - 0.38, row + 0.38], color=_INK, linewidth=1)
        if threshold is not None:
            axes.axvline(threshold, color=_INK, linewidth=0.9, linestyle=(0, (4, 3)))
            axes.annotate(
                "threshold",
                (threshold, 1),
                (0, 3),
                xycoords=("data", "axes fraction"),
                textcoords="offset points",
                ha="center",
                fontsize=8,
            )
        return _svg(figure, "Image scores by defect type")


def bars(values: Mapping[str, float | None], *, label: str) -> str:
    """Plots one bar for each type, with its value at the end.

    Args:
        values: type → value in [0, 1], or None (or NaN) where it is not defined; in the order of
            the bars from the top.
        label: what the values are.

    Returns:
        The plot, an <svg> element.
    """
    with matplotlib.rc_context(_STYLE):
        figure, axes = _rows(list(values), label)
        axes.set_xlim(0, 1)
        for row, value in enumerate(values.values()):
            length = 0.0 if value is None or math.isnan(value) else value
            axes.barh(row, length, height=0.6, color=_SERIES[0])
            within = length > 0.85
            axes.annotate(
                percent(value),
                (length, row),
                (-4 if within else 4, 0),
                textcoords="offset points",
                ha="right" if within else "left",
                va="center",
                fontsize=8,
                color="white" if within else _INK,
            )
        return _svg(figure, f"{label} by defect type")


def _square(x_label: str, y_label: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(3.6, 3.1), layout="constrained")
    axes = figure.add_subplot()
    axes.set(xlabel=x_label, ylabel=y_label, xlim=(-0.015, 1.015), ylim=(-0.015, 1.015))
    return figure, axes


def _rows(names: list[str], label: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(3.6, 0.9 + 0.32 * max(len(names), 1)), layout="constrained")
    axes = figure.add_subplot()
    labels = [name if len(name) <= _LETTERS else f"{name[: _LETTERS - 1]}…" for name in names]
    axes.set_yticks(range(len(names)), labels=labels, parse_math=False)
    axes.set(xlabel=label, ylim=(len(names) - 0.4, -0.6))
    axes.grid(visible=False, axis="y")
    axes.spines.left.set_visible(False)
    return figure, axes


def _draw(axes: Axes, curves: Mapping[str, Curve], area: str, corner: Corner) -> None:
    for number, (name, (x, y, value)) in enumerate(curves.items()):
        label = name if value is None else f"{name} · {area} {percent(value)}"
        color = _SERIES[number % len(_SERIES)]
        (line,) = axes.plot(*_thin(x, y), color=color, clip_on=False)
        line.set_label(label)
    if curves:
        legend = axes.legend(loc=corner)
        legend.set_in_layout(False)  # a long name may run over the edge, not squeeze the axes
        for text in legend.get_texts():
            text.set_parse_math(False)


def _thin(x: Values, y: Values) -> tuple[Values, Values]:
    """Keeps points that are evenly spaced along the curve, its ends among them."""
    if len(x) <= _POINTS:
        return x, y
    length = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(x), np.diff(y)))])
    kept = np.searchsorted(length, np.linspace(0, length[-1], _POINTS))
    kept = np.unique(np.concatenate([[0], kept.clip(max=len(x) - 1), [len(x) - 1]]))
    return x[kept], y[kept]


def _thin_sorted(values: Values) -> Values:
    if len(values) <= _DOTS:
        return values
    return values[np.rint(np.linspace(0, len(values) - 1, _DOTS)).astype(int)]


def _jitter(count: int) -> Values:
    # The golden ratio's multiples spread any number of neighbours apart, the same on each run.
    return 0.5 * (np.arange(count) * 0.6180339887 % 1) - 0.25


def _svg(figure: Figure, label: str) -> str:
    text = io.StringIO()
    # Marks are named by a hash of their shape and the salt; plots on one page must not share names.
    with matplotlib.rc_context({"svg.hashsalt": label}):
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(text, format="svg", transparent=True, metadata=nothing)
    svg = text.getvalue()
    svg = svg[svg.index("<svg ") :]
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)  # it would rule the whole page
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r'font-family: [^;"]*', "font-family: system-ui, sans-serif", svg)
    svg = re.sub(r' (?:width|height)="[\d.]+pt"', "", svg)
    svg = svg.replace(_INK, "currentColor")
    attributes = f'role="img" aria-label="{html.escape(label)}" stroke-linejoin="round"'
    return svg.replace("<svg ", f"<svg {attributes} ", 1)
