"""All categories of a data set, one after the other, and the table of their results."""

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ml_collections import ConfigDict

from draem_jax import files
from draem_jax.config import differences, from_json, image_size, with_absolute_paths
from draem_jax.errors import InUseError, StoppedError, UserError
from draem_jax.evaluation.evaluate import evaluate
from draem_jax.evaluation.published import paper_figures
from draem_jax.metrics.table import title
from draem_jax.training.loop import train
from draem_jax.training.pictures import data_warnings
from draem_jax.training.workdir import locked, refuse_pictures

METRICS = ("image_auroc", "image_ap", "pixel_auroc", "pixel_ap")
MEAN = "mean"


@dataclass(frozen=True)
class Row:
    """What came of one category.

    Attributes:
        category: its name.
        metrics: the metrics of its test pictures; empty as long as there are none.
        failure: why there are none, in one line; empty where it has only not been run yet.
    """

    category: str
    metrics: Mapping[str, float | None]
    failure: str = ""


def benchmark(
    config: ConfigDict,
    workdir: str | Path,
    categories: Sequence[str],
    *,
    say: Callable[[str], None] = lambda line: None,
    warn: Callable[[str], None] = lambda line: None,
    quiet: bool = False,
) -> list[Row]:
    """Trains and evaluates each category, skipping what is done, and tables the results.

    Each category is a run of its own in `WORKDIR/CATEGORY`. Stopped at any moment and started
    again, the benchmark goes on where it was. `results.md` and `results.csv` are written anew after
    each category. One that fails is told in the table, and the others go on.

    Several processes may call it with the same directory: each takes the categories that no other
    one is at.

    Args:
        config: every run's, but for the category.
        workdir: where the runs and the table are kept.
        categories: in the order of the table.
        say: is told of each category as its turn comes.
        warn: is told what is odd about the data of each category that is trained, line by line.
        quiet: print nothing else.

    Returns:
        A row for each category, without metrics where another process is still at it.

    Raises:
        UserError: `workdir` holds runs with another config, or pictures and no runs.
        StoppedError: SIGTERM or Ctrl-C asked to stop; the run under way has saved itself.
    """
    workdir = Path(workdir)
    configs = {category: _of_category(config, category) for category in categories}
    rows = {category: Row(category, {}) for category in categories}
    if not any((workdir / category / "config.json").is_file() for category in categories):
        refuse_pictures(workdir)
    for category, own in configs.items():
        _refuse_another(own, workdir / category)
    for number, (category, own) in enumerate(configs.items(), start=1):
        folder = workdir / category
        try:
            with locked(folder, name=".benchmark"):
                done = _metrics_of(folder)
                say(f"{category} ({number} of {len(configs)})" + (": done before" if done else ""))
                if not done:
                    for line in data_warnings(own):
                        warn(f"{category}: {line}" if category else line)
                    train(own, folder, quiet=quiet)
                    evaluate(folder)
        except StoppedError:
            raise
        except InUseError:
            say(f"{category} ({number} of {len(configs)}): another process is at it")
        except UserError as error:
            rows[category] = Row(category, {}, failure=" ".join(str(error).split()))
            say(f"{category} failed: {rows[category].failure}")
        # Of those that other processes have done meanwhile as well.
        for name, row in rows.items():
            if not row.failure:
                rows[name] = Row(name, _metrics_of(workdir / name))
        table = list(rows.values())
        files.write_text(workdir / "results.md", results_markdown(config, table))
        files.write_text(workdir / "results.csv", results_csv(config.data.name, table))
    return list(rows.values())


def mean_of(rows: Sequence[Row], metric: str) -> float | None:
    """The mean of a metric over the categories; None as long as one of them lacks it."""
    values = [row.metrics.get(metric) for row in rows]
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known and len(known) == len(values) else None


def results_markdown(config: ConfigDict, rows: Sequence[Row]) -> str:
    """The results as a table in Markdown, in per cent, the paper's figures beside them."""
    name, paper = config.data.name, paper_figures(config.data.name)
    shown = [metric for metric in METRICS if not paper or metric in paper[MEAN]]
    header = ["category"]
    for metric in shown:
        header += [title(metric), *(["paper"] if paper else [])]
    lines = [
        f"# {name}",
        "",
        f"{_duration(config)}, batches of {config.train.batch_size}, textures "
        f"{config.data.texture_source}, widths {config.model.reconstructive_width} / "
        f"{config.model.discriminative_width}, pictures of "
        f"{' x '.join(map(str, image_size(config)))}. Per cent"
        + ("; masks as in the authors' evaluation." if paper else "."),
        "",
        f"| {' | '.join(header)} |",
        f"|---{'|---:' * (len(header) - 1)}|",
    ]
    means = Row(MEAN, {metric: mean_of(rows, metric) for metric in METRICS})
    for row in [*rows, means]:
        cells = [f"**{row.category}**" if row is means else row.category]
        for metric in shown:
            cells.append(_percent(row.metrics.get(metric)))
            if paper:
                cells.append(_percent(paper.get(row.category, {}).get(metric)))
        lines.append(f"| {' | '.join(cells)} |")
    failures = [f"- {row.category} failed: {row.failure}" for row in rows if row.failure]
    waiting = [row.category for row in rows if not row.metrics and not row.failure]
    if waiting:
        failures.append(f"- not run yet: {', '.join(waiting)}")
    return "\n".join([*lines, *([""] if failures else []), *failures]) + "\n"


def results_csv(data: str, rows: Sequence[Row]) -> str:
    """The results as CSV, in [0, 1], empty where there is none."""
    paper = paper_figures(data)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["category", *METRICS, *(f"paper_{metric}" for metric in METRICS), "failure"])
    means = Row(MEAN, {metric: mean_of(rows, metric) for metric in METRICS})
    for row in [*rows, means]:
        known = paper.get(row.category, {})
        writer.writerow(
            [
                row.category,
                *(_digits(row.metrics.get(metric)) for metric in METRICS),
                *(_digits(known.get(metric)) for metric in METRICS),
                row.failure,
            ]
        )
    return text.getvalue()


def _of_category(config: ConfigDict, category: str) -> ConfigDict:
    own = config.copy_and_resolve_references()
    own.data.category = category
    return own


def _refuse_another(config: ConfigDict, folder: Path) -> None:
    """Says so before the first category starts, not when the turn of the tenth comes."""
    if not (folder / "config.json").is_file() or not any(folder.glob("checkpoints/[0-9]*")):
        return
    stored = with_absolute_paths(from_json(folder / "config.json"))
    if not config.train.steps:
        stored.train.steps = 0  # worked out from the epochs once the pictures are counted
    if changed := differences(stored, with_absolute_paths(config)):
        raise UserError(
            f"{folder} was made with another config ({'; '.join(changed)}); "
            "use the same one to go on with it, or choose another --workdir"
        )


def _metrics_of(folder: Path) -> dict[str, float | None]:
    """The metrics of a finished run, empty if it is not finished."""
    path = folder / "evaluation" / "metrics.json"
    if not path.is_file() or not (folder / "config.json").is_file():
        return {}
    config = from_json(folder / "config.json")
    try:
        stored = files.parse_json(path.read_text(encoding="utf-8"))
        if stored["step"] != config.train.steps:
            return {}
        # Beside the paper's figures belong those of the paper's protocol.
        protocol = "paper" if paper_figures(config.data.name) else "default"
        return {metric: stored["protocols"][protocol][metric] for metric in METRICS}
    except (ValueError, KeyError, TypeError):
        return {}


def _duration(config: ConfigDict) -> str:
    train = config.train
    return f"{train.steps} steps" if train.steps else f"{train.epochs} epochs"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"  # noqa: RUF001 (a dash)


def _digits(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
