"""One HTML page for one evaluation: figures, curves and the pictures, the worst first.

The page stands alone: pictures, plots, style and script are inside it, and it asks for nothing
from outside, so it can be mailed, archived or opened years later.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from markupsafe import Markup

from draem_jax.metrics.table import heading, metric_of
from draem_jax.reports import plots
from draem_jax.reports.gallery import WORST_FIRST, ReportPicture, make_entries
from draem_jax.reports.templates import fill, inline

Value = float | None
Interval = tuple[float, float]
Curves = Mapping[str, plots.Curve]


@dataclass(frozen=True)
class Report:
    """What a page shows. What is left empty is left out.

    Attributes:
        title: the title of the page.
        facts: name → value of what was run: data, checkpoint, configuration.
        notes: sentences that the reader must not miss, such as that the data are a demonstration.
        metrics: name of a metric (see `draem_jax.metrics.table`) → value, written in per cent;
            None or NaN where the test set does not define it.
        metrics_by_type: defect type → key → value, as `metrics`. The values of pixel_ap are also
            plotted.
        intervals: key → (low, high), as `metrics`.
        intervals_by_type: defect type → key → (low, high).
        interval_level: the confidence that the intervals have.
        reasons: key → sentence that says why the metric is None.
        reasons_by_type: defect type → key → sentence.
        roc_curves: name → (false positive rates, true positive rates, AUROC).
        pr_curves: name → (recalls, precisions, average precision).
        pro_curves: name → (false positive rates of pixels, mean overlaps, AUPRO).
        pro_limit: the false positive rate up to which PRO curves are drawn and their area counts.
        roc_curves_by_type: defect type → name → curve, as `roc_curves`.
        pr_curves_by_type: defect type → name → curve, as `pr_curves`.
        pro_curves_by_type: defect type → name → curve, as `pro_curves`.
        scores_by_type: type → image scores; those of `pictures` when empty and they are all.
        threshold: on the image score, when given: a picture that scores above it is called
            anomalous. It is drawn among the scores, decisions are counted, and the gallery marks
            misses and false alarms and shows them first.
        threshold_text: how the threshold was chosen and what it promises.
        caption: what the reader of any single figure must know, such as "simulated anomalies,
            not a test set". It is written on every plot, table and picture.
        pictures: all test pictures, or those chosen for the page, in any order.
        total_pictures: how many the test set has; the number of `pictures` when None.
    """

    title: str
    facts: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    metrics: Mapping[str, Value] = field(default_factory=dict)
    metrics_by_type: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)
    intervals: Mapping[str, Interval] = field(default_factory=dict)
    intervals_by_type: Mapping[str, Mapping[str, Interval]] = field(default_factory=dict)
    interval_level: float = 0.95
    reasons: Mapping[str, str] = field(default_factory=dict)
    reasons_by_type: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    roc_curves: Curves = field(default_factory=dict)
    pr_curves: Curves = field(default_factory=dict)
    pro_curves: Curves = field(default_factory=dict)
    pro_limit: float = 0.3
    roc_curves_by_type: Mapping[str, Curves] = field(default_factory=dict)
    pr_curves_by_type: Mapping[str, Curves] = field(default_factory=dict)
    pro_curves_by_type: Mapping[str, Curves] = field(default_factory=dict)
    scores_by_type: Mapping[str, plots.Values] = field(default_factory=dict)
    threshold: float | None = None
    threshold_text: str = ""
    caption: str = ""
    pictures: Sequence[ReportPicture] = ()
    total_pictures: int | None = None


def render(report: Report, *, max_pictures: int = 48) -> str:
    """Writes a report as one HTML page.

    Args:
        report: what to show.
        max_pictures: at most so many pictures are shown, the worst ones; each takes some 60 kB
            of the page at 256 × 256.

    Returns:
        The page. Texts are escaped, so names may hold any characters.
    """
    gallery = make_entries(report.pictures, threshold=report.threshold, max_pictures=max_pictures)
    scores = _Scores.of(report)
    return fill(
        "page.html.j2",
        report=report,
        cards=[_card(report, key, value) for key, value in report.metrics.items()],
        level=f"{100 * report.interval_level:.3g} %",
        decisions=_decisions(report, scores),
        curves=_curves(report, scores),
        table=_table(report, scores),
        overviews=_overviews(report, scores),
        types=_types(report, scores),
        gallery=gallery,
        type_counts=_type_counts([entry.picture for entry in gallery]),
        outcome_counts=Counter(entry.outcome for entry in gallery),
        total=report.total_pictures or len(report.pictures),
        worst_first=WORST_FIRST,
    )


@dataclass(frozen=True)
class _Scores:
    """All image scores by type, and which types are of normal pictures."""

    by_type: Mapping[str, plots.Values]
    normal: frozenset[str]

    @classmethod
    def of(cls, report: Report) -> "_Scores":
        normal = {picture.defect_type for picture in report.pictures if not picture.is_defective}
        by_type = report.scores_by_type
        if not by_type and _is_complete(report):
            by_type = _scores_by_type(report.pictures)
        return cls(by_type, frozenset(normal or {"good"}))

    def joined(self, *, defective: bool) -> plots.Values:
        chosen = [v for name, v in self.by_type.items() if (name not in self.normal) == defective]
        return np.concatenate([*chosen, np.zeros(0)])

    def defect_types(self) -> list[str]:
        return [name for name in self.by_type if name not in self.normal]


def _is_complete(report: Report) -> bool:
    return report.total_pictures in (None, len(report.pictures))


def _card(report: Report, key: str, value: Value) -> dict[str, str]:
    text = plots.percent(value)
    missing = _why_missing(report, key) if text == plots.UNKNOWN else ""
    return {
        "label": heading(key),
        "value": text,
        "interval": _interval(value, report.intervals.get(key)),
        "explanation": metric_of(key).explanation,
        "missing": missing,
    }


def _interval(value: Value, interval: Interval | None) -> str:
    if value is None or interval is None or not all(map(math.isfinite, (value, *interval))):
        return ""
    low, high = (plots.percent(end) for end in interval)
    return f"{low.removesuffix(' %')} {plots.UNKNOWN} {high}"


def _why_missing(report: Report, key: str) -> str:
    if key in report.reasons:
        return report.reasons[key]
    kinds = {picture.is_defective for picture in report.pictures}
    complete = _is_complete(report)
    if complete and kinds == {True}:
        return "Not defined: the test set has no normal picture."
    if complete and kinds == {False}:
        return "Not defined: the test set has no defective picture."
    if metric_of(key).ranked == "image":
        return "Not defined: it needs normal and defective pictures."
    return "Not defined: it needs true masks of defects."


def _decisions(report: Report, scores: _Scores) -> dict[str, object] | None:
    if report.threshold is None or not scores.by_type:
        return None
    normal, defective = scores.joined(defective=False), scores.joined(defective=True)
    alarms = int((normal > report.threshold).sum())
    found = int((defective > report.threshold).sum())
    rows = []
    if defective.size:
        missed = len(defective) - found
        rows.append(("Defective", (found, "found", ""), (missed, "missed", "wrong")))
    if normal.size:
        passed = len(normal) - alarms
        rows.append(("Good", (alarms, "false alarms", "wrong"), (passed, "passed", "")))
    return {"threshold": f"{report.threshold:.4g}", "rows": rows}


def _table(report: Report, scores: _Scores) -> dict[str, list]:
    keys = list(dict.fromkeys(key for row in report.metrics_by_type.values() for key in row))
    threshold = report.threshold
    counted = scores.defect_types() if threshold is not None else []
    labels = ["Found"] if counted else []
    rows, reasons = [], []
    for name in dict.fromkeys([*report.metrics_by_type, *counted]):
        row = report.metrics_by_type.get(name, {})
        intervals = report.intervals_by_type.get(name, {})
        cells = [
            (plots.percent(row.get(key)), _interval(row.get(key), intervals.get(key)))
            for key in keys
        ]
        if counted:
            values = scores.by_type.get(name, np.zeros(0))
            found = int((values > threshold).sum())
            cells.insert(0, (f"{found} of {len(values)}" if len(values) else plots.UNKNOWN, ""))
        rows.append((name, cells))
        for key, reason in report.reasons_by_type.get(name, {}).items():
            reasons.append((name, heading(key), reason))
    return {"labels": labels + [heading(key) for key in keys], "rows": rows, "reasons": reasons}


def _curves(report: Report, scores: _Scores) -> list[tuple[str, Markup]]:
    caption, drawn = report.caption, []
    if scores.by_type:
        plot = plots.histogram(
            scores.joined(defective=False),
            scores.joined(defective=True),
            threshold=report.threshold,
            caption=caption,
        )
        drawn.append(("Image scores", plot))
    if report.roc_curves:
        drawn.append(("ROC", plots.roc(report.roc_curves, caption=caption)))
    if report.pr_curves:
        plot = plots.precision_recall(report.pr_curves, caption=caption)
        drawn.append(("Precision and recall", plot))
    if report.pro_curves:
        plot = plots.pro(report.pro_curves, limit=report.pro_limit, caption=caption)
        drawn.append(("Overlap with each region (PRO)", plot))
    return [(title, inline(plot)) for title, plot in drawn]


def _overviews(report: Report, scores: _Scores) -> list[tuple[str, Markup]]:
    drawn = []
    if scores.by_type:
        plot = plots.scores(
            scores.by_type,
            normal=scores.normal,
            threshold=report.threshold,
            caption=report.caption,
        )
        drawn.append(("Image scores", plot))
    pixel_ap = {
        name: row["pixel_ap"] for name, row in report.metrics_by_type.items() if "pixel_ap" in row
    }
    if pixel_ap:
        plot = plots.bars(pixel_ap, label=heading("pixel_ap"), caption=report.caption)
        drawn.append((heading("pixel_ap"), plot))
    return [(title, inline(plot)) for title, plot in drawn]


def _types(report: Report, scores: _Scores) -> list[tuple[str, list[tuple[str, Markup]]]]:
    """Draws the plots of each defect type; they stand in one row, which a phone breaks in two."""
    roc, pr, pro = report.roc_curves_by_type, report.pr_curves_by_type, report.pro_curves_by_type
    normal = scores.joined(defective=False)
    everything = np.concatenate([normal, scores.joined(defective=True)])
    limits = (everything.min(), everything.max()) if everything.size else None
    result = []
    for name in dict.fromkeys([*roc, *pr, *pro]):
        look = {"caption": report.caption, "panel": name}
        drawn = []
        if name in scores.by_type:
            plot = plots.histogram(
                normal, scores.by_type[name], threshold=report.threshold, limits=limits, **look
            )
            drawn.append(("Scores", plot))
        if name in roc:
            drawn.append(("ROC", plots.roc(roc[name], behind=report.roc_curves, **look)))
        if name in pr:
            plot = plots.precision_recall(pr[name], behind=report.pr_curves, **look)
            drawn.append(("Precision and recall", plot))
        if name in pro:
            plot = plots.pro(pro[name], limit=report.pro_limit, behind=report.pro_curves, **look)
            drawn.append(("PRO", plot))
        result.append((name, [(title, inline(plot)) for title, plot in drawn]))
    return result


def _scores_by_type(pictures: Sequence[ReportPicture]) -> dict[str, plots.Values]:
    """Groups the scores: the normal pictures first, then the defect types by name."""
    groups: dict[str, list[float]] = {}
    for picture in sorted(
        pictures, key=lambda picture: (picture.is_defective, picture.defect_type)
    ):
        groups.setdefault(picture.defect_type, []).append(picture.score)
    return {name: np.array(scores, float) for name, scores in groups.items()}


def _type_counts(pictures: Sequence[ReportPicture]) -> list[tuple[str, int]]:
    return [(name, len(scores)) for name, scores in _scores_by_type(pictures).items()]
