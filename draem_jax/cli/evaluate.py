"""`draem-jax evaluate`."""

from typing import Any

from absl import flags

from draem_jax.cli.common import (
    Verb,
    check_alpha,
    define_alpha,
    define_batch_size,
    define_checkpoint,
    define_cpu_devices,
    define_roi,
    define_workdir,
    parse_workdir,
    progress_bar,
    say,
    say_warnings,
    tell_roi,
)
from draem_jax.errors import UserError


def _define(values: flags.FlagValues) -> None:
    define_workdir(values, "Of the run to evaluate.")
    define_checkpoint(values)
    define_batch_size(values)
    define_alpha(values)
    flags.DEFINE_bool(
        "exact", False, "Keep every pixel and sort, instead of counting in bins: slower, and "
        "memory grows with the pictures.", flag_values=values,
    )  # fmt: skip
    flags.DEFINE_list(
        "aupro_limits", ["0.3"], "False-positive rates up to which AUPRO integrates.",
        flag_values=values,
    )  # fmt: skip
    flags.DEFINE_integer(
        "replicates", 200, "Of the bootstrap that gives the intervals; 0 for none.",
        lower_bound=0, upper_bound=100_000, flag_values=values,
    )  # fmt: skip
    flags.DEFINE_bool(
        "original_size", False, "Compare maps and masks at the pictures' original size.",
        flag_values=values,
    )  # fmt: skip
    flags.DEFINE_bool(
        "save_maps", False, "Write each picture's map to WORKDIR/evaluation/maps/.",
        flag_values=values,
    )  # fmt: skip
    define_roi(values)
    define_cpu_devices(values)


def _run(values: Any) -> None:
    from draem_jax.evaluation.evaluate import evaluate
    from draem_jax.evaluation.options import EvaluationOptions
    from draem_jax.evaluation.stream import MetricOptions
    from draem_jax.training.parallel import use_cpu_devices

    workdir = parse_workdir(values)
    check_alpha(values.alpha)
    try:
        metric_options = MetricOptions(
            aupro_limits=tuple(float(limit) for limit in values.aupro_limits),
            replicates=values.replicates,
            exact=values.exact,
        )
    except ValueError as error:
        raise UserError(
            f"--aupro_limits={','.join(values.aupro_limits)} must be rates in (0, 1], such as 0.3"
        ) from error
    use_cpu_devices(values.cpu_devices)
    tell_roi(values)
    with progress_bar("picture") as progress:
        metrics = evaluate(
            workdir,
            checkpoint=values.checkpoint,
            batch_size=values.batch_size,
            options=EvaluationOptions(
                metrics=metric_options,
                alpha=values.alpha,
                original_size=values.original_size,
                save_maps=values.save_maps,
                roi=values.roi,
                ignore_border=values.ignore_border,
            ),
            progress=progress,
            warn=lambda line: say_warnings([line]),
        )
    for name, value in metrics.values.items():
        say(f"{name:<13} {metrics.reasons[name] if value is None else f'{value:.4f}'}")
    say(f"report: {workdir / 'evaluation' / 'report.html'}")


VERB = Verb(
    "evaluate",
    "Measure a trained detector on its test pictures and write a report.",
    """\
    Writes metrics.json, scores.csv and report.html to WORKDIR/evaluation/. Where the data set has
    no test pictures, anomalies are simulated on normal ones that were held out from training. Where
    some were held out, a threshold is set by half of them: at most the share --alpha of normal
    pictures is called anomalous. What lies outside of the region of interest (config.data.roi,
    --roi) is neither scored nor counted; a picture whose whole defect lies there is normal.

      draem-jax evaluate --workdir=runs/quickstart
      draem-jax evaluate --workdir=runs/quickstart --alpha=0.1 --checkpoint=best
    """,
    _define,
    _run,
    on_hosts=True,
)
