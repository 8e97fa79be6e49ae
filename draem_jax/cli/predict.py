"""`draem-jax predict`."""

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from draem_jax.cli.common import (
    Verb,
    check_detection,
    define_detection,
    define_path,
    define_processes,
    define_roi,
    define_workdir,
    load_calibrated,
    parse_workdir,
    progress_bar,
    raise_left_out,
    region_rule,
    say,
    say_warnings,
    shown,
    tell_left_out,
    tell_roi,
    warn,
)
from draem_jax.errors import StoppedError, UserError
from draem_jax.hosts.joining import share

if TYPE_CHECKING:
    from draem_jax.inspection.shares import Share


def _define(values: flags.FlagValues) -> None:
    define_workdir(values, "Of the run to predict with.")
    define_path(values, "images", None, "A picture or a folder of pictures.")
    define_path(values, "out", None, "The folder to write to.")
    flags.DEFINE_float(
        "mm_per_pixel", None, "How many millimetres of the surface one pixel of the pictures is "
        "wide, for sizes in millimetres.", flag_values=values,
    )  # fmt: skip
    flags.DEFINE_bool(
        "strict", False, "Stop at the first picture that cannot be read, with status 1.",
        flag_values=values,
    )  # fmt: skip
    flags.DEFINE_bool(
        "watch", False, "Look at the pictures of the folder --images as they arrive, until SIGTERM "
        "or Ctrl-C stops it; what --out holds already is not done again.", flag_values=values,
    )  # fmt: skip
    flags.DEFINE_float(
        "poll_seconds", 1.0, "With --watch: from one look at the folder to the next. A file is "
        "taken when it has not changed from one to the next.", lower_bound=0.01, flag_values=values,
    )  # fmt: skip
    flags.DEFINE_float(
        "patience_seconds", 10.0, "With --watch: how long a file that cannot be read may stay as "
        "it is until that is noted.", lower_bound=0.0, flag_values=values,
    )  # fmt: skip
    define_path(
        values, "mm_per_pixel_csv", None, "Where pictures differ in that: a CSV file with the "
        "columns name (the picture's path within --images) and mm_per_pixel. --mm_per_pixel is for "
        "those that it leaves out.",
    )  # fmt: skip
    define_processes(values)
    define_roi(values)
    define_detection(values)


def _run(values: Any) -> None:
    from draem_jax.data.facts import tell_pictures
    from draem_jax.data.folders import find_pictures_in, pictures_of_folder
    from draem_jax.inspection.kept_types import load_types
    from draem_jax.inspection.millimetres import PixelWidths, check_mm_per_pixel
    from draem_jax.inspection.outputs import check_out
    from draem_jax.inspection.predict import PredictOptions, predict_files
    from draem_jax.inspection.shares import Share

    workdir = parse_workdir(values)
    check_detection(values, "predict", "images", "out")
    if values.mm_per_pixel is not None:
        check_mm_per_pixel(values.mm_per_pixel, f"--mm_per_pixel={values.mm_per_pixel:g}")
    for name in ("poll_seconds", "patience_seconds"):
        if math.isnan(values[name].value):
            raise UserError(f"--{name} is not a number; give seconds, such as 1")
    if values.watch and values.strict:
        raise UserError("--strict stops where --watch goes on; leave one of them out")
    index, count = share(processes=values.processes, process=values.process)
    if values.watch and count > 1:
        raise UserError(
            "--watch is for one process; give each a folder of its own, or --processes=1"
        )
    check_out(Path(values.out), watched=values.watch)
    if values.watch and not Path(values.images).is_dir():
        raise UserError(f"there is no folder {values.images} to watch; check --images")
    # A wrong path shall be told before loading.
    find = pictures_of_folder if values.watch else find_pictures_in
    given = find(Path(values.images))
    tell_left_out(given.left_out)
    tell_roi(values)
    detector = load_calibrated(values, workdir, roi=values.roi, ignore_border=values.ignore_border)
    say_warnings(tell_pictures(given.paths, by_windows=detector.fitting.is_tiled))
    if detector.thresholds is not None and (warning := detector.thresholds.warning(values.alpha)):
        warn(warning)
    types = load_types(detector)
    options = PredictOptions(
        rule=region_rule(values, detector),
        alpha=values.alpha,
        pixel_widths=PixelWidths(values.mm_per_pixel, values.mm_per_pixel_csv),
        strict=values.strict,
    )
    where = values.images, values.out
    if values.watch:
        _tell(_watch(values, detector, *where, types=types, options=options), Path(values.out))
        return
    if count > 1:
        _predict_share(detector, *where, share=Share(index, count), types=types, options=options)
        return
    start = time.monotonic()
    with progress_bar("picture") as progress:
        found = predict_files(detector, *where, types=types, options=options, progress=progress)
    rate = (found.pictures + len(found.errors)) / (time.monotonic() - start)
    _tell(found, Path(values.out), f"; {rate:.3g} a second")


def _predict_share(detector: Any, images: str, out: str, *, share: "Share", **options: Any) -> None:
    from draem_jax.inspection.shares import predict_share

    with progress_bar("picture") as progress:
        found, waits_for = predict_share(
            detector, images, out, share=share, progress=progress, **options
        )
    if not waits_for:
        _tell(found, Path(out))
        return
    if not found.stopped_by:
        say(
            f"{_count(found.given, 'picture')} done; {waits_for} of {share.count} processes are "
            f"not, the last of which writes {Path(out) / 'predictions.csv'}"
        )
        return
    raise StoppedError(
        f"stopped after {found.pictures + len(found.errors)} of the {found.given} pictures of this "
        "process; the same command goes on",
        found.stopped_by,
    )


def _watch(values: Any, detector: Any, images: str, out: str, **options: Any) -> Any:
    from draem_jax.inspection.watch import Telling, WatchOptions, watch_folder

    say(f"watching {images}; SIGTERM or Ctrl-C ends it")
    return watch_folder(
        detector,
        images,
        out,
        watching=WatchOptions(values.poll_seconds, values.patience_seconds),
        telling=Telling(lambda record: say(record.line()), warn),
        **options,
    )


def _tell(found: Any, out: Path, rate: str = "") -> None:
    say(f"{_count(found.pictures, 'picture')}; see {out / 'predictions.csv'}{rate}")
    say(
        f"{_count(found.regions, 'region')} in {_count(found.with_regions, 'picture')}, from "
        f"{found.threshold.map_value:.3g} in the map ({found.threshold.rule}); see "
        f"{out / 'regions.csv'} and {out / 'overlays'}"
    )
    if found.types:
        say("types: " + ", ".join(f"{n} {shown(name)}" for name, n in found.types.items()))
    say_warnings(found.notes)
    if found.stopped_by:
        done = found.pictures + len(found.errors)
        left_out = f" ({len(found.errors)} of them left out)" if found.errors else ""
        raise StoppedError(
            f"stopped after {done} of {found.given} pictures{left_out}; what was done is in {out}",
            found.stopped_by,
        )
    raise_left_out(found.errors, found.given, out / "predictions.csv")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


VERB = Verb(
    "predict",
    "Look for anomalies in any pictures, and measure them.",
    """\
    Writes into --out

      predictions.csv    of each picture: score, p-value (how often a normal picture scores as
                         high) and whether it is called anomalous, which at most the share
                         --alpha of normal pictures is; of one that cannot be read, the error
      regions.csv        of each anomalous region: bounding box, area, length and width,
                         direction, severity, in pixels and with --mm_per_pixel in millimetres;
                         and after `types fit` its type
      regions.json       the regions as polygons, in COCO's format; regions_rle.json as run
                         lengths, which keep holes
      maps/              the anomaly maps (16-bit PNG, 65535 for certainty)
      masks/             the regions, white on black
      overlays/          the pictures with map, numbered outlines and a scale bar; dark where
                         nobody looks (see --roi)

    A detector that was trained on tiles (config.data.tile) looks at TIFFs of any size, in memory
    that does not grow with them. From 50 megapixels on, overlays are brought down to 2048 pixels,
    and regions have no types; what is too large to be measured is told.

    A picture that cannot be read is left out, and the status is 3 then; --strict stops at it. The
    tables gain lines as pictures are done, and keep them when Ctrl-C or SIGTERM stops the command
    (status 130 or 143). Those of an earlier prediction into the same --out give way to new ones
    when the first picture is done.

    Several processes share the pictures, on as many hosts as write to the same --out: each is
    given the same command and its --process. The last one to end writes the tables; one that was
    killed goes on where it was.

    With --watch it goes on with the pictures that arrive in the folder, each once, and says a line
    of each; see docs/watching.md. The same command takes up what another one left, however it
    ended.

      draem-jax predict --workdir=runs/quickstart --images=photos/ --out=found/
      draem-jax predict --workdir=runs/quickstart --images=photo.jpg --out=found/ \\
        --mm_per_pixel=0.05 --min_area=50
      draem-jax predict --workdir=runs/quickstart --images=arriving/ --out=found/ --watch
      draem-jax predict --workdir=runs/quickstart --images=photos/ --out=found/ \\
        --processes=2 --process=0
    """,
    _define,
    _run,
)
