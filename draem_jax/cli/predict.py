"""`draem-jax predict`."""

import sys
from pathlib import Path
from typing import Any

from absl import flags

from draem_jax.cli.common import (
    PROGRAM,
    Verb,
    define_checkpoint,
    define_cpu_devices,
    define_workdir,
    parse_workdir,
)
from draem_jax.errors import UserError


def _define(values: flags.FlagValues) -> None:
    define_workdir(values, "Of the run to predict with.")
    flags.DEFINE_string("images", None, "A picture or a folder of pictures.", flag_values=values)
    flags.DEFINE_string(
        "out", None, "The folder for maps, overlays and predictions.csv.", flag_values=values
    )
    define_checkpoint(values)
    define_cpu_devices(values)


def _run(values: Any) -> None:
    from tqdm import tqdm

    from draem_jax.data.pictures import list_pictures
    from draem_jax.detector import Draem
    from draem_jax.inspection.predict import predict_files
    from draem_jax.training.parallel import use_cpu_devices

    workdir = parse_workdir(values)
    for name in ("images", "out"):
        if not values[name].value:
            raise UserError(f"--{name} is missing; see `{PROGRAM} predict --help`")
    list_pictures(values.images, recursive=True)  # a wrong path shall be told before loading
    use_cpu_devices(values.cpu_devices)
    detector = Draem.load(workdir, checkpoint=values.checkpoint, batch_size=values.batch_size)
    with tqdm(unit="picture", disable=not sys.stderr.isatty()) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        count = predict_files(detector, values.images, values.out, progress=progress)
    print(f"{count} pictures; see {Path(values.out) / 'predictions.csv'}")


VERB = Verb(
    "predict",
    "Look for anomalies in any pictures.",
    """\
    Writes for each picture the anomaly map (16-bit PNG, 65535 for certainty), the map laid
    over the picture, and a line in predictions.csv.

      draem-jax predict --workdir=runs/quickstart --images=photos/ --out=found/
    """,
    _define,
    _run,
)
