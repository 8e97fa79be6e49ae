"""`draem-jax evaluate`."""

from typing import Any

from absl import flags

from draem_jax.cli.common import (
    Verb,
    define_checkpoint,
    define_cpu_devices,
    define_workdir,
    parse_workdir,
)


def _define(values: flags.FlagValues) -> None:
    define_workdir(values, "Of the run to evaluate.")
    define_checkpoint(values)
    define_cpu_devices(values)


def _run(values: Any) -> None:
    from draem_jax.evaluation.evaluate import evaluate
    from draem_jax.training.parallel import use_cpu_devices

    workdir = parse_workdir(values)
    use_cpu_devices(values.cpu_devices)
    metrics = evaluate(workdir, checkpoint=values.checkpoint, batch_size=values.batch_size)
    for name, value in metrics.items():
        print(f"{name:<12} {'-' if value is None else f'{value:.4f}'}")
    print(f"report: {workdir / 'evaluation' / 'report.html'}")


VERB = Verb(
    "evaluate",
    "Measure a trained detector on its test pictures and write a report.",
    """\
    Writes metrics.json, scores.csv and report.html to WORKDIR/evaluation/.

      draem-jax evaluate --workdir=runs/quickstart
    """,
    _define,
    _run,
)
