"""`draem-jax finetune`."""

from pathlib import Path
from typing import Any

from absl import flags

from draem_jax.cli.common import (
    PROGRAM,
    Verb,
    check_alpha,
    define_alpha,
    define_path,
    define_training,
    define_workdir,
    parse_workdir,
    say,
    say_warnings,
    stopped_status,
)
from draem_jax.errors import UserError
from draem_jax.hosts.joining import count, is_first


def _define(values: flags.FlagValues) -> None:
    define_workdir(values, "Of the run to start from; nothing in it is changed.")
    define_path(
        values, "out_workdir", None, "Where the tuned detector is kept; a work directory as any "
        "other.",
    )  # fmt: skip
    define_path(
        values, "accept", None, "A folder of pictures on which nothing is a defect, whatever the "
        "detector makes of it.",
    )  # fmt: skip
    define_path(
        values, "defects", None, "A folder of defects with masks: DIR/TYPE/NAME.png and "
        "DIR/ground_truth/TYPE/NAME.png (or NAME_mask.png), or NAME_mask.png beside NAME.png.",
    )  # fmt: skip
    flags.DEFINE_string(
        "checkpoint", "latest", "To start from: latest, best (least loss on simulated anomalies) "
        "or a step.", flag_values=values,
    )  # fmt: skip
    define_alpha(values)
    define_training(values)


def _run(values: Any) -> None:
    from draem_jax.evaluation.finetuning import compare
    from draem_jax.training.finetune import finetune
    from draem_jax.training.parallel import use_cpu_devices
    from draem_jax.training.pictures import data_warnings

    workdir = parse_workdir(values)
    check_alpha(values.alpha)
    if not values.out_workdir:
        raise UserError("--out-workdir=DIRECTORY is missing")
    out = Path(values.out_workdir)
    config = values.config if "config" in values else None
    share = config.train.batch_size // count() if config else 0
    use_cpu_devices(values.cpu_devices, dividing=share)
    if config:
        say_warnings(data_warnings(config))
    with stopped_status(values):
        finetune(
            workdir,
            out,
            accept=values.accept,
            defects=values.defects,
            checkpoint=values.checkpoint,
            config=config,
        )
    if not is_first():
        return
    comparison = compare(out, alpha=values.alpha)
    comparison.save(out)
    say(comparison.table())
    for note in comparison.notes:
        say(f"note: {note}")
    say_warnings(comparison.warnings)
    say(f"pictures before and after: {out / 'finetune.png'}")
    say(f"next: {PROGRAM} evaluate --workdir={out}")


VERB = Verb(
    "finetune",
    "Teach a trained detector what is acceptable, and what is not.",
    """\
    For a detector that calls something a defect that is none, like a stain, or that misses a
    kind of defect. Give it some pictures of the former (--accept) or of the latter (--defects),
    ten or more; the whole mask counts, such as a missing lead of which only the cut can be seen.
    The part that knows what is normal stays as it is; the part that judges goes on learning,
    from these and from simulated anomalies, so that it does not forget.

      draem-jax finetune --workdir=runs/wall --accept=stains/ --out-workdir=runs/wall-stains
      draem-jax finetune --workdir=runs/wall --defects=holes/ --out-workdir=runs/wall-holes \\
          --config.finetune.steps=600 --config.finetune.defect_share=0.4

    Prints and keeps how it does before and after (finetune.json; finetune.png has pictures), and
    warns where it got worse.
    With many labelled defects the same command is supervised training, such as with
    --defects=DAGM/Class1/Train.
    """,
    _define,
    _run,
    run_config="finetune",
    on_hosts=True,
)
