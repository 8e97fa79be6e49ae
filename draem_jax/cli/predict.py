"""`draem-jax predict`."""

import sys
from pathlib import Path
from typing import Any

from absl import flags

from draem_jax.cli.common import (
    PROGRAM,
    Verb,
    check_alpha,
    define_alpha,
    define_checkpoint,
    define_cpu_devices,
    define_workdir,
    parse_workdir,
    progress_bar,
)
from draem_jax.errors import UserError


def _define(values: flags.FlagValues) -> None:
    define_workdir(values, "Of the run to predict with.")
    flags.DEFINE_string("images", None, "A picture or a folder of pictures.", flag_values=values)
    flags.DEFINE_string(
        "out", None, "The folder for maps, overlays and predictions.csv.", flag_values=values
    )
    define_checkpoint(values)
    define_alpha(values)
    define_cpu_devices(values)


def _run(values: Any) -> None:
    from draem_jax.data.pictures import list_pictures
    from draem_jax.detector import Draem
    from draem_jax.evaluation.calibration import calibrated
    from draem_jax.inspection.predict import predict_files
    from draem_jax.training.parallel import use_cpu_devices

    workdir = parse_workdir(values)
    check_alpha(values.alpha)
    for name in ("images", "out"):
        if not values[name].value:
            raise UserError(f"--{name} is missing; see `{PROGRAM} predict --help`")
    list_pictures(values.images, recursive=True)  # a wrong path shall be told before loading
    use_cpu_devices(values.cpu_devices)
    detector = Draem.load(workdir, checkpoint=values.checkpoint, batch_size=values.batch_size)
    detector, thresholds = calibrated(workdir, detector)
    if thresholds is not None and (warning := thresholds.warning(values.alpha)):
        print(f"{PROGRAM}: warning: {warning}", file=sys.stderr)
    with progress_bar("picture") as progress:
        count = predict_files(
            detector,
            values.images,
            values.out,
            thresholds=thresholds,
            alpha=values.alpha,
            progress=progress,
        )
    print(f"{count} pictures; see {Path(values.out) / 'predictions.csv'}")


VERB = Verb(
    "predict",
    "Look for anomalies in any pictures.",
    """\
    Writes for each picture the anomaly map (16-bit PNG, 65535 for certainty), the map laid
    over the picture, and a line in predictions.csv: score, p-value (how often a good picture
    scores as high) and whether it is called anomalous, which at most the share --alpha of good
    pictures is.

      draem-jax predict --workdir=runs/quickstart --images=photos/ --out=found/
      draem-jax predict --workdir=runs/quickstart --images=photo.jpg --out=found/ --alpha=0.1
    """,
    _define,
    _run,
)
