"""`draem-jax benchmark`."""

from typing import Any

from absl import flags

from draem_jax.cli.common import (
    Verb,
    define_training,
    define_workdir,
    parse_workdir,
    say_warnings,
    stopped_status,
)
from draem_jax.errors import UserError


def _define(values: flags.FlagValues) -> None:
    define_workdir(values, "Where each category's run is kept, and the table of all.")
    flags.DEFINE_list(
        "categories", [], "Names with commas between; all of the data set if not given.",
        flag_values=values,
    )  # fmt: skip
    define_training(values)


def _run(values: Any) -> None:
    from draem_jax.data.prepared import categories
    from draem_jax.studies.benchmark import benchmark
    from draem_jax.training.parallel import use_cpu_devices

    workdir, config = parse_workdir(values), values.config
    known = categories(config.data.name)
    chosen = values.categories or known
    for name in chosen:
        if name not in known:
            raise UserError(
                f"{config.data.name} has no category {name!r}; choose among {', '.join(known)}"
            )
    use_cpu_devices(values.cpu_devices, dividing=max(1, config.train.batch_size))
    with stopped_status(values):
        rows = benchmark(
            config,
            workdir,
            chosen,
            say=lambda line: print(line, flush=True),
            warn=lambda line: say_warnings([line]),
        )
    print((workdir / "results.md").read_text(encoding="utf-8"))
    print(f"table: {workdir / 'results.md'}, {workdir / 'results.csv'}")
    failed = [row.category for row in rows if row.failure]
    if failed:
        raise UserError(
            f"{', '.join(failed)} failed (see {workdir / 'results.md'}); the same command tries "
            "again"
        )


VERB = Verb(
    "benchmark",
    "Train and evaluate every category of a data set, with a table of the results.",
    """\
    Each category is a run of its own in WORKDIR/CATEGORY. Stopped or killed, the same command goes
    on where it was; what is done is skipped. The table goes to results.md and results.csv, the
    paper's figures beside ours where the paper has any. Started several times, on any hosts that
    write to the same --workdir, the same command shares the categories.

      draem-jax benchmark --config=configs/mvtec_ad.py --workdir=runs/mvtec_ad
      draem-jax benchmark --config=configs/surfaces.py --workdir=runs/surfaces \\
          --categories=brick,gravel
    """,
    _define,
    _run,
    config="run",
)
