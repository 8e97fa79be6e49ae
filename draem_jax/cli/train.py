"""`draem-jax train`."""

from typing import Any

from absl import flags

from draem_jax.cli.common import (
    PROGRAM,
    Verb,
    define_training,
    define_workdir,
    parse_workdir,
    say,
    say_warnings,
    stopped_status,
)
from draem_jax.hosts.joining import count, is_first


def _define(values: flags.FlagValues) -> None:
    define_workdir(values, "Where checkpoints, metrics and samples of the run are kept.")
    flags.DEFINE_bool(
        "resume", True, "Go on where the work directory's last checkpoint stands; --noresume "
        "refuses a directory that holds one.", flag_values=values,
    )  # fmt: skip
    define_training(values)


def _run(values: Any) -> None:
    from draem_jax.training.loop import train
    from draem_jax.training.parallel import use_cpu_devices
    from draem_jax.training.pictures import data_warnings

    workdir = parse_workdir(values)
    share = values.config.train.batch_size // count()
    use_cpu_devices(values.cpu_devices, dividing=max(1, share))
    say_warnings(data_warnings(values.config))
    with stopped_status(values):
        train(values.config, workdir, resume=values.resume)
    if not is_first():
        return
    # Importing what calibrates takes a second, which the first step need not wait for.
    from draem_jax.detector import Draem
    from draem_jax.evaluation.calibration import calibrated

    calibrated(Draem.load(workdir))
    say(f"next: {PROGRAM} evaluate --workdir={workdir}")


VERB = Verb(
    "train",
    "Train a detector, or go on with training it.",
    """\
    Trains on the normal pictures of the config's data set. Stopped or killed, the same
    command goes on from the last checkpoint, to the same result. Stopped by SIGTERM or Ctrl-C, it
    saves itself and exits with 143 or 130, so that nothing takes it for done.

      draem-jax train --config=configs/quickstart.py --workdir=runs/quickstart
      draem-jax train --config=configs/surfaces.py:gravel --workdir=runs/gravel \\
          --config.train.steps=5000 --config.train.batch_size=32

    The work directory gets config.json, checkpoints/, metrics.jsonl, tensorboard/ and
    samples/ (sheets of normal, augmented, mask, reconstruction and anomaly map).
    """,
    _define,
    _run,
    config="run",
    on_hosts=True,
)
