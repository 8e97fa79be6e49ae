"""`draem-jax study`."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from draem_jax.cli.common import (
    Verb,
    define_stopped_status,
    define_workdir,
    parse_workdir,
    say,
    say_warnings,
    stopped_status,
)
from draem_jax.errors import StoppedError

_PATIENCE = 600.0  # seconds that another process may take to write the results

if TYPE_CHECKING:
    from draem_jax.studies.runner import Progress
    from draem_jax.studies.study import Study


def _define(values: flags.FlagValues) -> None:
    define_workdir(values, "Where all runs of the study and its results are kept.")
    flags.DEFINE_integer(
        "cpu_devices", 0, "On CPUs: devices, each of which takes a run at a time; 0 for one a "
        "core.", lower_bound=0, upper_bound=1024, flag_values=values,
    )  # fmt: skip
    define_stopped_status(values)


def _run(values: Any) -> None:
    from draem_jax.studies.runner import run_study
    from draem_jax.studies.study import parse_study
    from draem_jax.training.parallel import use_cpu_devices
    from draem_jax.training.pictures import data_warnings

    workdir = parse_workdir(values)
    study = parse_study(values.config)
    use_cpu_devices(values.cpu_devices)
    for note in study.notes:
        say(note)
    for run in study.first_runs():
        say_warnings(f"{run.product}: {line}" for line in data_warnings(run.config))
    try:
        with _progress(study.protocol) as tell, stopped_status(values):
            run_study(study, workdir, tell=tell)
    except StoppedError:
        _write_and_tell(study, workdir)
        raise
    _write_and_tell(study, workdir)


def _write_and_tell(study: "Study", workdir: Path) -> None:
    from draem_jax.studies.report import write_results
    from draem_jax.studies.runner import finished_results
    from draem_jax.training.workdir import locked

    # So that of several processes the last to end, which knows all runs, writes last.
    with locked(workdir, wait=_PATIENCE):
        results = finished_results(study, workdir)
        if results:
            write_results(study, results, workdir)
    if len(results) < (total := len(study.runs())):
        say(
            f"{total - len(results)} of {total} runs are not done: other processes are making "
            "them, or the same command will"
        )
    if not results:
        return
    say((workdir / "results.md").read_text(encoding="utf-8"))
    print(f"report: {workdir / 'report.html'}")


@contextmanager
def _progress(protocol: str) -> Iterator[Callable[["Progress"], None]]:
    """A bar over the whole grid on a terminal; a line for each finished run in any case."""
    from tqdm import tqdm

    from draem_jax.training.log import duration

    bar = tqdm(unit="step", disable=not sys.stderr.isatty(), dynamic_ncols=True)

    def tell(progress: "Progress") -> None:
        bar.total = progress.steps
        bar.set_description(f"{progress.runs_done} of {progress.runs} runs", refresh=False)
        bar.update(progress.steps_done - bar.n)
        if progress.finished is None:
            return
        result, left = progress.finished, ""
        if progress.seconds_left:
            left = f"; about {duration(progress.seconds_left)} left"
        figures = ", ".join(
            f"{name} {value:.3f}"
            for name in ("image_auroc", "pixel_ap")
            if (value := result.metrics(protocol).get(name)) is not None
        )
        tqdm.write(
            f"{progress.runs_done}/{progress.runs} {result.run.title}: "
            f"{figures or 'diverged'}{left}",
            file=sys.stderr,
        )

    with bar:
        yield tell


VERB = Verb(
    "study",
    "Train variants of a recipe side by side, and tell which differences the data support.",
    """\
    A study is a base recipe, named variants of it, products and seeds; its file lists them. A
    product is a category of a data set, or a data set of its own. Each run takes one device, as
    many at a time, and is a work directory of its own under WORKDIR/runs/. Stopped or killed, the
    same command goes on; what is done is skipped. Variants, seeds and products may be added later.
    Started several times, on any hosts that write to the same --workdir, the same command shares
    the runs, and those of a process that dies are left to the others: a GPU bears some small ones
    at a time, with its memory divided by XLA_PYTHON_CLIENT_MEM_FRACTION (0.3 for three).

      draem-jax study --config=configs/studies/quick.py --workdir=runs/quick
      draem-jax study --config=configs/studies/opacity.py --workdir=runs/opacity \\
          --config.categories=grass,gravel --config.seeds=0,1,2,3,4 --config.base.train.steps=2000

    Writes results.csv (a line a run), results.md (the ranking) and report.html: means over seeds
    and those of each product, paired differences to the baseline, learning curves, and each
    variant's anomalies and maps.
    """,
    _define,
    _run,
    config="study",
)
