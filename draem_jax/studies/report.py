"""What a study writes: `results.csv`, `results.md` and `report.html`."""

import csv
import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from draem_jax import files
from draem_jax.config import data_set, image_size
from draem_jax.data.pictures import resize_mask, resize_plane
from draem_jax.metrics.table import NAMES, heading
from draem_jax.reports.study_page import StudyPicture, StudyReport, StudyVariant, render_study
from draem_jax.reports.variants import LEVEL, Average, Difference
from draem_jax.studies.execution import MAX_SHOWN, Result, read_maps, shown_pictures
from draem_jax.studies.study import Run, Study, Variant
from draem_jax.studies.summary import StudySummary, summarise

_SHOWN = ("image_auroc", "pixel_auroc", "pixel_ap", "aupro_0.3")
_LEAST_OF_PRODUCT = 2  # pictures of each that are shown
_DEMONSTRATION = (
    "surfaces is a demonstration with drawn defects: what ranks high here need not do so on real "
    "ones."
)


def write_results(study: Study, results: Sequence[Result], workdir: str | Path) -> StudySummary:
    """Writes table, text and page of what there is so far.

    Args:
        study: of which.
        results: the results of its runs.
        workdir: the work directory of the study.

    Returns:
        What the results say.

    Raises:
        UserError: the files cannot be written.
    """
    workdir = Path(workdir)
    summary = summarise(study, results)
    files.write_text(workdir / "results.csv", results_csv(study, results))
    files.write_text(workdir / "results.md", results_markdown(study, results, summary))
    files.write_text(
        workdir / "report.html", render_study(_report(study, results, summary, workdir))
    )
    return summary


def results_csv(study: Study, results: Sequence[Result]) -> str:
    """A line for each run."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["variant", "product", "seed", "status", *NAMES])
    for result in results:
        run, status = result.run, "diverged" if result.diverged else "done"
        values = (result.metrics(study.protocol).get(name) for name in NAMES)
        figures = ["" if value is None else f"{value:.6f}" for value in values]
        writer.writerow([run.variant, run.product, run.seed, status, *figures])
    return text.getvalue()


def results_markdown(study: Study, results: Sequence[Result], summary: StudySummary) -> str:
    """The ranking as a table in Markdown, and what it supports in words."""
    shown = _shown(study)
    header = ["", "variant"]
    for metric in shown:
        published = any(metric in variant.published for variant in study.variants)
        header += [heading(metric), *(["published"] if published else [])]
    header += [f"{heading(study.metric)}, difference"]
    by_name = {variant.name: variant for variant in study.variants}
    lines = [
        f"# {_title(study)}",
        "",
        *(f"- {name}: {value}" for name, value in _facts(study, results).items()),
        "",
        f"| {' | '.join(header)} |",
        f"|{'---|' * len(header)}",
    ]
    for rank, name in enumerate(summary.ranking, start=1):
        cells = [str(rank), name]
        for metric in shown:
            cells.append(_average_text(summary.averages[name][metric]))
            if any(metric in variant.published for variant in study.variants):
                value = by_name[name].published.get(metric)
                cells.append("" if value is None else f"{100 * value:.1f}")
        cells.append(_difference_text(summary.differences.get(name, {}).get(study.metric)))
        lines.append(f"| {' | '.join(cells)} |")
    lines += [
        "",
        "Per cent: mean ± standard deviation over seeds. Differences are paired by product and "
        f"seed, with the {LEVEL:.0%} bootstrap interval over seeds and products. Few seeds make "
        "that interval too narrow; a difference marked * is supported by a t-test, corrected for "
        "the number of variants (p below 0.05).",
        "",
        *(f"- {sentence}" for sentence in _verdicts(study, summary)),
    ]
    if len(study.products) > 1:
        for metric in _by_product(study):
            lines += ["", *_products_table(study, summary, metric)]
    notes = [*_notes(study), *_diverged(results)]
    lines += ["", *(f"- {note}" for note in notes)] if notes else []
    return "\n".join(lines) + "\n"


def _products_table(study: Study, summary: StudySummary, metric: str) -> list[str]:
    """One metric of each variant on each product, in Markdown."""
    names = [product.name for product in study.products]
    lines = [
        f"{heading(metric)} of each product:",
        "",
        f"| variant | {' | '.join(names)} |",
        f"|{'---|' * (1 + len(names))}",
    ]
    for variant in summary.ranking:
        averages = summary.by_product[variant][metric]
        lines.append(f"| {variant} | {' | '.join(_average_text(averages[n]) for n in names)} |")
    return lines


def _verdicts(study: Study, summary: StudySummary) -> list[str]:
    """What is supported in the ranking metric, or that nothing is; and what is in the others."""
    sentences = []
    for name in summary.ranking:
        for metric in _shown(study):
            found = summary.differences.get(name, {}).get(metric)
            if found is not None and (found.is_supported or metric == study.metric):
                sentences.append(f"{name}: {_verdict(found, heading(metric), study.baseline)}")
    return sentences


def _verdict(found: Difference, metric: str, baseline: str) -> str:
    if found.mean is None:
        return "no run to compare"
    chance = "" if found.p_value is None else f" (p = {found.p_value:.2g})"
    if not found.is_supported:
        return f"no difference from {baseline} in {metric} shown{chance}"
    side, points = "better" if found.mean > 0 else "worse", 100 * abs(found.mean)
    return f"{side} than {baseline} in {metric} by {points:.1f} points{chance}"


def _average_text(average: Average) -> str:
    if average.mean is None:
        return ""
    spread = "" if average.deviation is None else f" ± {100 * average.deviation:.1f}"
    return f"{100 * average.mean:.1f}{spread}"


def _difference_text(difference: Difference | None) -> str:
    if difference is None or difference.mean is None:
        return ""
    text = f"{100 * difference.mean:+.1f}"
    if difference.low is not None and difference.high is not None:
        text += f" [{100 * difference.low:+.1f}, {100 * difference.high:+.1f}]"
    return text + (" *" if difference.is_supported else "")


def _report(
    study: Study, results: Sequence[Result], summary: StudySummary, workdir: Path
) -> StudyReport:
    expected = len(study.products) * len(study.seeds)
    return StudyReport(
        title=_title(study),
        facts=_facts(study, results),
        notes=_notes(study),
        baseline=study.baseline,
        metrics=_shown(study),
        variants=[
            _variant(
                variant,
                [result for result in results if result.run.variant == variant.name],
                expected,
                summary,
                workdir,
            )
            for variant in study.variants
        ],
        pictures=_pictures(study, results, workdir),
    )


def _variant(
    variant: Variant, results: Sequence[Result], expected: int, summary: StudySummary, workdir: Path
) -> StudyVariant:
    products = summary.by_product[variant.name][summary.metrics[0]]
    strips = [workdir / result.run.folder / "strip.png" for result in results]
    strip = next((path for path in strips if path.is_file()), None)
    return StudyVariant(
        name=variant.name,
        changes=[f"{name} = {value}" for name, value in variant.changes.items()],
        averages=summary.averages[variant.name],
        published=variant.published,
        differences=summary.differences.get(variant.name, {}),
        runs=sum(not result.diverged for result in results),
        diverged=_diverged(results),
        missing=expected - len(results),
        curves=[curve for r in results if (curve := _curve(workdir / r.run.folder)) is not None],
        strip=None if strip is None else np.asarray(Image.open(strip).convert("RGB")),
        products=products if len(products) > 1 else {},
    )


def _curve(folder: Path) -> tuple[np.ndarray, np.ndarray] | None:
    """The loss that a run was trained by, as it was logged."""
    points = []
    try:
        for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
            values = files.parse_json(line)
            if "total" in values:
                points.append((values["step"], values["total"]))
    except (OSError, ValueError):
        return None
    if not points:
        return None
    steps, losses = np.array(points, np.float64).T
    return steps, losses


def _pictures(study: Study, results: Sequence[Result], workdir: Path) -> list[StudyPicture]:
    """Test pictures of each product with the maps of each variant's first run on it."""
    several = len(study.products) > 1
    shown: list[StudyPicture] = []
    for product in study.products:
        of_product = [result for result in results if result.run.product == product.name]
        pictures = _pictures_of(of_product, workdir)
        if several:
            chosen = shown_pictures(
                [picture.name for picture in pictures],
                most=max(_LEAST_OF_PRODUCT, MAX_SHOWN // len(study.products)),
            )
            pictures = [
                replace(pictures[i], name=f"{product.name}: {pictures[i].name}") for i in chosen
            ]
        shown += pictures
    return shown


def _pictures_of(results: Sequence[Result], workdir: Path) -> list[StudyPicture]:
    """Test pictures of one product."""
    maps: dict[str, dict[int, np.ndarray]] = {}
    first: Run | None = None
    for result in results:
        run = result.run
        if run.variant not in maps and (kept := read_maps(run, workdir)):
            maps[run.variant], first = kept, first or run
    if first is None:
        return []
    test = data_set(first.config).test_pictures(size=image_size(first.config))
    pictures = []
    for index in sorted(set.intersection(*(set(kept) for kept in maps.values()))):
        picture = test[index]
        height, width = picture.image.shape[:2]
        pictures.append(
            StudyPicture(
                name=picture.name,
                defect_type=picture.defect_type,
                image=picture.image,
                mask=resize_mask(picture.mask, (height, width)) if picture.has_mask else None,
                maps={
                    name: resize_plane(kept[index], (height, width)) for name, kept in maps.items()
                },
            )
        )
    return pictures


def _shown(study: Study) -> tuple[str, ...]:
    return tuple(dict.fromkeys([study.metric, *_SHOWN]))


def _by_product(study: Study) -> tuple[str, ...]:
    """The metrics whose figures are given for each product."""
    return tuple(dict.fromkeys([study.metric, "image_auroc"]))


def _title(study: Study) -> str:
    data = _data_names(study)
    on = data[0] if len(data) == 1 else f"{len(study.products)} products"
    return f"Study of {len(study.variants)} variants on {on}"


def _data_names(study: Study) -> tuple[str, ...]:
    return tuple(dict.fromkeys(run.config.data.name for run in study.first_runs()))


def _facts(study: Study, results: Sequence[Result]) -> dict[str, str]:
    base = study.base
    sizes = [image_size(run.config) for run in study.first_runs()]
    size = " or ".join(dict.fromkeys(f"{height} x {width}" for height, width in sizes))
    length = f"{base.train.steps} steps" if base.train.steps else f"{base.train.epochs} epochs"
    expected = len(study.variants) * len(study.products) * len(study.seeds)
    return {
        "products": ", ".join(product.name for product in study.products),
        "seeds": ", ".join(map(str, study.seeds)),
        "runs": f"{len(results)} of {expected}",
        "each run": f"{length} of {base.train.batch_size} at {size}",
        "widths": f"{base.model.reconstructive_width} / {base.model.discriminative_width}",
        "baseline": study.baseline,
        "masks": f"{study.protocol} protocol",
    }


def _notes(study: Study) -> list[str]:
    notes = [*study.notes, *([_DEMONSTRATION] if "surfaces" in _data_names(study) else [])]
    if len(study.seeds) < 5:
        notes.append(
            f"{len(study.seeds)} seed{'s' if len(study.seeds) > 1 else ''}: only large differences "
            "can be told from chance."
        )
    return notes


def _diverged(results: Sequence[Result]) -> list[str]:
    return [f"{r.run.title} diverged: {r.diverged}" for r in results if r.diverged]
