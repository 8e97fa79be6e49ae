"""Plots as SVG text, drawn by Matplotlib without a display and without its global state.

A plot has no background, and its axes and words take the colour of the text around it, so it
suits light and dark pages. The text stays text, and curves are thinned out: a plot is a few
kilobytes.
"""

import html
import io
import math
import re
import textwrap
import warnings
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

import matplotlib
import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, MaxNLocator, NullLocator

Values = Float[np.ndarray, " _"]
Curve = tuple[Values, Values, float | None]
LearningCurve = tuple[Int[np.ndarray, " _"] | Values, Values]

Corner = Literal["lower right", "lower left"]

UNKNOWN = "\N{EN DASH}"  # stands where a figure is not defined

_POINTS = 150  # of a curve; more cannot be told apart at the size of a plot
_PANEL_POINTS = 60
_DOTS = 150  # of one row of scores
_LETTERS = 22  # of a type's name beside its row
_SERIES = ("#3b82c4", "#d9822b", "#5b9e6f", "#a06cc0")
_NORMAL, _DEFECTIVE = _SERIES[:2]
# Okabe and Ito's colours, which the colour-blind tell apart, less those that white or black hides.
_VARIANTS = ("#e69f00", "#56b4e9", "#009e73", "#d55e00", "#cc79a7", "#0072b2")
_NAMES = ("images", "pixels")  # have the same colours in every plot
_DASHES = ("-", (0, (4, 1.5)), (0, (1, 1.2)))
_STRETCHES = 60  # of a learning curve
_NEUTRAL = "#85878f"
_NOTE = "#b7791f"  # captions; legible on light and dark alike
_SIZE = (3.6, 3.1)
_PANEL_SIZE = (1.95, 1.75)
_BINS = 40  # of the scores
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

_PANEL_STYLE = {
    "font.size": 7,
    "axes.labelsize": 6.5,
    "legend.fontsize": 6.5,
    "legend.handlelength": 1,
    "legend.handletextpad": 0.5,
    "lines.linewidth": 1.3,
}


def percent(value: float | None) -> str:
    """Writes a share with one decimal; a dash for None and NaN.

    What is less than the whole is never written as 100.0 %.
    """
    if value is None or not math.isfinite(value):
        return UNKNOWN
    text = f"{100 * value:.1f} %"
    return "> 99.9 %" if text == "100.0 %" and value < 1 else text


def roc(
    curves: Mapping[str, Curve],
    *,
    caption: str = "",
    panel: str = "",
    behind: Mapping[str, Curve] | None = None,
) -> str:
    """Plots receiver operating characteristics.

    Args:
        curves: name → (false positive rates, true positive rates, AUROC): arrays of one length in
            [0, 1], and the area in [0, 1] or None where it is not known.
        caption: written on the plot, so that it stays with it when it is copied.
        panel: what a small plot is about, such as a defect type, one of many side by side; it is
            for readers who listen, not drawn.
        behind: curves that are drawn faintly, such as those of all types. A name has one colour,
            here and in `curves`.

    Returns:
        The plot, an <svg> element.
    """
    with matplotlib.rc_context(_style(panel)):
        figure, axes = _square("False positive rate", "True positive rate", panel)
        axes.plot([0, 1], [0, 1], color=_INK, alpha=0.3, linewidth=0.8, linestyle=(0, (4, 3)))
        _draw(axes, curves, behind, "AUROC", "lower right", panel)
        return _svg(figure, _about("ROC curve", panel), caption)


def precision_recall(
    curves: Mapping[str, Curve],
    *,
    caption: str = "",
    panel: str = "",
    behind: Mapping[str, Curve] | None = None,
) -> str:
    """Plots precision against recall.

    Args:
        curves: name → (recalls, precisions, average precision): arrays of one length in [0, 1],
            and the average precision in [0, 1] or None where it is not known.
        caption: see `roc`, as for what follows.
        panel: a small plot's subject.
        behind: curves that are drawn faintly.

    Returns:
        The plot, an <svg> element.
    """
    with matplotlib.rc_context(_style(panel)):
        figure, axes = _square("Recall", "Precision", panel)
        _draw(axes, curves, behind, "AP", "lower left", panel)
        return _svg(figure, _about("Precision-recall curve", panel), caption)


def pro(
    curves: Mapping[str, Curve],
    *,
    limit: float = 0.3,
    caption: str = "",
    panel: str = "",
    behind: Mapping[str, Curve] | None = None,
) -> str:
    """Plots the mean overlap with each defect's region against the false positive rate.

    Args:
        curves: name → (false positive rates of pixels, mean overlaps, AUPRO): ascending arrays of
            one length in [0, 1], and the area up to the limit over the limit, or None.
        limit: the false positive rate up to which the area counts and the curve is drawn.
        caption: see `roc`, as for what follows.
        panel: a small plot's subject.
        behind: curves that are drawn faintly.

    Returns:
        The plot, an <svg> element.
    """

    def to_limit(curve: Curve) -> Curve:
        x, y, area = curve
        within = x < limit
        end = np.interp(limit, x, y)
        return np.append(x[within], limit) / limit, np.append(y[within], end), area

    with matplotlib.rc_context(_style(panel)):
        figure, axes = _square("False positive rate of pixels", "Mean overlap", panel)
        ticks = np.array([0, 0.5, 1]) if panel else np.linspace(0, 1, 4)
        axes.set_xticks(ticks, labels=[f"{tick * limit:.3g}" for tick in ticks])
        cut = {name: to_limit(curve) for name, curve in curves.items()}
        cut_behind = {name: to_limit(curve) for name, curve in (behind or {}).items()}
        _draw(axes, cut, cut_behind, "AUPRO", "lower right", panel)
        return _svg(figure, _about("PRO curve", panel), caption)


def histogram(
    normal: Values,
    defective: Values,
    *,
    threshold: float | None = None,
    limits: tuple[float, float] | None = None,
    caption: str = "",
    panel: str = "",
) -> str:
    """Plots how many normal and how many defective pictures have which score.

    Args:
        normal: scores of the normal pictures.
        defective: scores of the defective ones.
        threshold: drawn as a line from top to bottom when given.
        limits: the limits of the scores that are shown; they are widened to what is given. With
            those of all types, the plots of single types can be compared.
        caption: see `roc`, as for what follows.
        panel: a small plot's subject.

    Returns:
        The plot, an <svg> element.
    """
    with matplotlib.rc_context(_style(panel)):
        figure = Figure(figsize=_PANEL_SIZE if panel else _SIZE, layout="constrained")
        axes = figure.add_subplot()
        axes.set(xlabel="Image score", ylabel="Pictures")
        shown = np.concatenate([normal, defective, np.array(limits or (), float)])
        if threshold is not None:
            shown = np.append(shown, threshold)
        low, high = (shown.min(), shown.max()) if shown.size else (0.0, 1.0)
        if low == high:
            low, high = low - 0.5, high + 0.5
        edges = np.linspace(low, high, 1 + (_BINS // 2 if panel else _BINS))
        for values, color, name in (
            (normal, _NORMAL, "good"),
            (defective, _DEFECTIVE, "defective"),
        ):
            counts = np.histogram(values, edges)[0]
            if counts.any():
                axes.stairs(counts, edges, fill=True, color=color, alpha=0.45, linewidth=0)
                axes.stairs(counts, edges, color=color, linewidth=1.1, label=name)
        axes.yaxis.set_major_locator(MaxNLocator(3 if panel else 5, integer=True))
        axes.xaxis.set_major_locator(MaxNLocator(3 if panel else 6))
        if not panel and (normal.size or defective.size):
            figure.legend(loc="outside lower center", ncols=2)  # away from bars and threshold
        _draw_threshold(axes, threshold)
        return _svg(figure, _about("Image scores", panel), caption)


def scores(
    scores_by_type: Mapping[str, Values],
    *,
    normal: Collection[str] = ("good",),
    threshold: float | None = None,
    caption: str = "",
) -> str:
    """Plots the image scores, one row of dots for each type and a short line at its median.

    Of a type with many pictures, dots at evenly spaced ranks are drawn, its least and its greatest
    score among them.

    Args:
        scores_by_type: type → image scores, in the order of the rows from the top.
        normal: the types that are no defects; they have their own colour.
        threshold: drawn as a line from top to bottom when given.
        caption: see `roc`.

    Returns:
        The plot, an <svg> element.
    """
    with matplotlib.rc_context(_style("")):
        figure, axes = _rows(list(scores_by_type), "Image score (short line: median)")
        for row, (name, values) in enumerate(scores_by_type.items()):
            if not values.size:
                continue
            shown = _thin_sorted(np.sort(values))
            color = _NORMAL if name in normal else _DEFECTIVE
            axes.plot(shown, row + _jitter(len(shown)), "o", color=color, alpha=0.7, ms=3.4, mew=0)
            axes.plot([np.median(values)] * 2, [row - 0.38, row + 0.38], color=_INK, linewidth=1)
        _draw_threshold(axes, threshold)
        return _svg(figure, "Image scores by defect type", caption)


def bars(values: Mapping[str, float | None], *, label: str, caption: str = "") -> str:
    """Plots one bar for each type, with its value at the end.

    Args:
        values: type → value in [0, 1], or None (or NaN) where it is not defined; in the order of
            the bars from the top.
        label: what the values are.
        caption: see `roc`.

    Returns:
        The plot, an <svg> element.
    """
    with matplotlib.rc_context(_style("")):
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
        return _svg(figure, f"{label} by defect type", caption)


def differences(
    values: Mapping[str, tuple[float | None, float | None, float | None]],
    *,
    label: str,
    supported: Collection[str] = (),
) -> str:
    """Plots differences to a baseline with their intervals, one row each, about a line at zero.

    Args:
        values: name → (difference, lower and upper end of its interval), shares in [-1, 1], None
            where they are not known; in the order of the rows from the top.
        label: the metric's name.
        supported: the names whose difference the data support; their marks are filled.

    Returns:
        The plot, an <svg> element.
    """
    with matplotlib.rc_context(_style("")):
        figure, axes = _rows(list(values), f"{label}: difference\nto the baseline, points")
        axes.axvline(0, color=_INK, linewidth=0.9)
        shown = [0.0]
        for row, (name, (mean, low, high)) in enumerate(values.items()):
            if mean is None or not math.isfinite(mean):
                axes.annotate(
                    "not known",
                    (0, row),
                    (4, 0),
                    textcoords="offset points",
                    va="center",
                    fontsize=8,
                )
                continue
            is_supported = name in supported
            color = _NEUTRAL if not is_supported else _NORMAL if mean > 0 else _DEFECTIVE
            if low is not None and high is not None:
                axes.plot([100 * low, 100 * high], [row, row], color=color, linewidth=1.6)
                shown += [100 * low, 100 * high]
            face = color if is_supported else "none"
            axes.plot([100 * mean], [row], "o", color=color, mfc=face, ms=5.5, mew=1.4)
            shown.append(100 * mean)
        reach = max(1.0, max(shown) - min(shown))
        axes.set_xlim(min(shown) - 0.06 * reach, max(shown) + 0.06 * reach)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        return _svg(figure, f"Differences in {label}")


def learning_curves(
    curves: Mapping[str, Sequence[LearningCurve]],
    *,
    baseline: str = "",
    panel: str = "",
) -> str:
    """Plots the losses of several variants' runs over the steps, one colour a variant.

    Each point is the mean over a short stretch of steps, so that what is seen is the course.

    Args:
        curves: variant → for each of its runs (steps, losses), arrays of one length. A curve ends
            where its loss is not finite, with a cross.
        baseline: the variant that has the colour of the text.
        panel: one of the variants. A small plot shows it before the baseline, drawn faintly; its
            colours and its limits are those of the plot of all.

    Returns:
        The plot, an <svg> element.
    """
    runs = _smooth(curves)
    looks = _looks([name for name, drawn in runs.items() if drawn], baseline)
    with matplotlib.rc_context(_style(panel)):
        height = 2.9 + 0.09 * (len(looks) + 1)
        figure = Figure(figsize=_PANEL_SIZE if panel else (3.6, height), layout="constrained")
        axes = figure.add_subplot()
        if not panel:
            axes.set(xlabel="Step", ylabel="Loss")
        for name in dict.fromkeys([baseline, panel] if panel else looks):
            alpha = 0.5 if panel and name != panel else 0.85
            for x, y, is_whole in runs.get(name, ()):
                axes.plot(x, y, **looks[name], linewidth=0.9, alpha=alpha)
                if not is_whole:
                    axes.plot(x[-1:], y[-1:], "x", color=looks[name]["color"], ms=5)
        _limit_losses(axes, [run for drawn in runs.values() for run in drawn])
        axes.set_xlim(0, _last_step(curves))
        axes.xaxis.set_major_locator(MaxNLocator(2 if panel else 5, integer=True))
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        if not panel and looks:
            handles = [Line2D([], [], **look, linewidth=2) for look in looks.values()]
            names = [_short(name, _LETTERS) for name in looks]
            legend = figure.legend(
                handles, names, loc="outside lower center", ncols=2, fontsize=8, handlelength=1.6
            )
            for text in legend.get_texts():
                text.set_parse_math(False)
        return _svg(figure, _about("Learning curves", panel))


def _looks(names: list[str], baseline: str) -> dict[str, dict[str, Any]]:
    """Gives each name a colour, and dashes when the colours begin anew."""
    looks = {}
    others = [name for name in names if name != baseline]
    for number, name in enumerate(others):
        turn, color = divmod(number, len(_VARIANTS))
        looks[name] = {"color": _VARIANTS[color], "linestyle": _DASHES[turn % len(_DASHES)]}
    return ({baseline: {"color": _INK, "linestyle": "-"}} if baseline in names else {}) | looks


def _smooth(
    curves: Mapping[str, Sequence[LearningCurve]],
) -> dict[str, list[tuple[Values, Values, bool]]]:
    """Averages curves over the same stretches of steps; says of each whether it is whole."""
    last = _last_step(curves)
    smooth: dict[str, list[tuple[Values, Values, bool]]] = {name: [] for name in curves}
    for name, runs in curves.items():
        for steps, losses in runs:
            finite = np.isfinite(losses)
            end = len(losses) if finite.all() else int(np.argmin(finite))
            if not end:
                continue
            place = (steps[:end] * (_STRETCHES / last)).astype(int)
            place = np.minimum(place, _STRETCHES - 1)
            counts = np.bincount(place)
            kept = counts > 0
            x, y = (
                np.bincount(place, values[:end])[kept] / counts[kept] for values in (steps, losses)
            )
            smooth[name].append((x, y, end == len(losses)))
    return smooth


def _last_step(curves: Mapping[str, Sequence[LearningCurve]]) -> float:
    return max([1.0, *(float(x[-1]) for runs in curves.values() for x, _ in runs if len(x))])


def _limit_losses(axes: Axes, runs: list[tuple[Values, Values, bool]]) -> None:
    """Shows the runs that did not diverge in full, in decades where all losses are positive."""
    if not runs:
        return
    low = min(y.min() for _, y, _ in runs)
    high = max(y.max() for _, y, _ in [run for run in runs if run[2]] or runs)
    if low <= 0 or low == high:
        return
    axes.set_yscale("log")
    axes.set_ylim(low / 1.1, high * 1.1)
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _style(panel: str) -> dict[Any, Any]:
    return {**_STYLE, **_PANEL_STYLE} if panel else _STYLE


def _about(kind: str, panel: str) -> str:
    return f"{kind}: {panel}" if panel else kind


def _plain(name: str) -> str:
    # Half characters, as in file names that are not UTF-8, and line breaks cannot be drawn.
    return " ".join(name.encode("utf-8", "backslashreplace").decode().split())


def _short(name: str, letters: int) -> str:
    name = _plain(name)
    return name if len(name) <= letters else f"{name[: letters - 1]}…"


def _square(x_label: str, y_label: str, panel: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=_PANEL_SIZE if panel else _SIZE, layout="constrained")
    axes = figure.add_subplot()
    axes.set(xlabel=x_label, ylabel=y_label, xlim=(-0.015, 1.015), ylim=(-0.015, 1.015))
    if panel:
        axes.set(xticks=[0, 0.5, 1], yticks=[0, 0.5, 1])
    return figure, axes


def _rows(names: list[str], label: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(3.6, 0.9 + 0.32 * max(len(names), 1)), layout="constrained")
    axes = figure.add_subplot()
    labels = [_short(name, _LETTERS) for name in names]
    axes.set_yticks(range(len(names)), labels=labels, parse_math=False)
    axes.set(xlabel=label, ylim=(len(names) - 0.4, -0.6))
    axes.grid(visible=False, axis="y")
    axes.spines.left.set_visible(False)
    return figure, axes


def _draw(
    axes: Axes,
    curves: Mapping[str, Curve],
    behind: Mapping[str, Curve] | None,
    area: str,
    corner: Corner,
    panel: str,
) -> None:
    points = _PANEL_POINTS if panel else _POINTS
    behind = behind or {}
    names = list(dict.fromkeys([*_NAMES, *behind, *curves]))
    colors = {name: _SERIES[number % len(_SERIES)] for number, name in enumerate(names)}
    for name, (x, y, _) in behind.items():
        x, y = _thin(x, y, points)
        axes.plot(x, y, color=colors[name], alpha=0.4, linewidth=0.8, clip_on=False)
    for name, (x, y, value) in curves.items():
        (line,) = axes.plot(*_thin(x, y, points), color=colors[name], clip_on=False)
        label = _short(name, 2 * _LETTERS)
        if value is not None:  # a small plot has no room for the area's name
            label += f" {percent(value)}" if panel else f" · {area} {percent(value)}"
        line.set_label(label)
    if curves:
        legend = axes.legend(loc=corner)
        legend.set_in_layout(False)  # a long name may run over the edge, not squeeze the axes
        for text in legend.get_texts():
            text.set_parse_math(False)


def _draw_threshold(axes: Axes, threshold: float | None) -> None:
    if threshold is None:
        return
    axes.axvline(threshold, color=_INK, linewidth=0.9, linestyle=(0, (4, 3)))
    axes.annotate(
        "threshold",
        (threshold, 1),
        (0, 3),
        xycoords=("data", "axes fraction"),
        textcoords="offset points",
        ha="center",
        fontsize="small",
    )


def _thin(x: Values, y: Values, points: int = _POINTS) -> tuple[Values, Values]:
    """Keeps points that are evenly spaced along the curve, its ends among them."""
    if len(x) <= points:
        return x, y
    length = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(x), np.diff(y)))])
    kept = np.searchsorted(length, np.linspace(0, length[-1], points))
    kept = np.unique(np.concatenate([[0], kept.clip(max=len(x) - 1), [len(x) - 1]]))
    return x[kept], y[kept]


def _thin_sorted(values: Values) -> Values:
    if len(values) <= _DOTS:
        return values
    return values[np.rint(np.linspace(0, len(values) - 1, _DOTS)).astype(int)]


def _jitter(count: int) -> Values:
    # The golden ratio's multiples spread any number of neighbours apart, the same on each run.
    return 0.5 * (np.arange(count) * 0.6180339887 % 1) - 0.25


def _svg(figure: Figure, label: str, caption: str = "") -> str:
    if caption:
        width = figure.get_figwidth()
        lines = textwrap.fill(_plain(caption), int(18 * width))
        title = figure.suptitle(
            lines, fontsize=7.5 if width > 3 else 6, fontstyle="italic", color=_NOTE
        )
        title.set_parse_math(False)
    text = io.StringIO()
    # Marks are named by a hash of their shape and the salt; plots on one page must not share names.
    with matplotlib.rc_context({"svg.hashsalt": label}), warnings.catch_warnings():
        # The text is drawn by the reader's fonts, so it does not matter what this one lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(text, format="svg", transparent=True, metadata=nothing)
    svg = text.getvalue()
    svg = svg[svg.index("<svg ") :]
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)  # it would rule the whole page
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r'font-family: [^;"]*', "font-family: system-ui, sans-serif", svg)
    svg = re.sub(r"(font: (?:[a-z]+ )*[\d.]+px )[^;\"]*", r"\1system-ui, sans-serif", svg)
    svg = re.sub(r' (?:width|height)="[\d.]+pt"', "", svg)
    svg = re.sub(r' (?:d|x|y|transform)="[^"]*"', _round, svg)
    svg = svg.replace(_INK, "currentColor")
    attributes = f'role="img" aria-label="{html.escape(_plain(label))}" stroke-linejoin="round"'
    return svg.replace("<svg ", f"<svg {attributes} ", 1)


def _round(attribute: re.Match[str]) -> str:
    return re.sub(r"(\.\d\d)\d+", r"\1", attribute[0])
