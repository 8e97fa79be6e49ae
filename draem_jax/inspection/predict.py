"""Looking for anomalies in any pictures: files in; maps, regions, tables and overlays out."""

import contextlib
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar

from draem_jax import files
from draem_jax.data.depth import tell_outside
from draem_jax.data.facts import LARGE
from draem_jax.data.folders import list_pictures
from draem_jax.detector import Draem
from draem_jax.errors import CannotWriteError, UserError
from draem_jax.in_order import THREADS, map_in_order
from draem_jax.inspection.from_files import MOST_PIXELS, Opening, open_files_of_any_size
from draem_jax.inspection.millimetres import PixelWidths
from draem_jax.inspection.outputs import KINDS, Task, Writer, check_apart, check_out
from draem_jax.inspection.record import COCO_FILES, Record, Tables, count, write_coco
from draem_jax.inspection.types import TypeModel
from draem_jax.regions.rule import PixelThreshold, RegionRule
from draem_jax.training.signals import stop_signals

Done = TypeVar("Done")


@dataclass(frozen=True)
class PredictOptions:
    """What can be chosen for predictions.

    Attributes:
        rule: what is called a region; the detector's own if None.
        alpha: the share of normal pictures that may be called anomalous.
        pixel_widths: how wide a pixel is; where that is not known, regions have no figures in
            millimetres.
        strict: stop at the first picture that cannot be read, instead of leaving it out.
        large_from: pixels from which on a picture is large, where pictures are seen in tiles.
    """

    rule: RegionRule | None = None
    alpha: float = 0.05
    pixel_widths: PixelWidths = field(default_factory=PixelWidths)
    strict: bool = False
    large_from: int = LARGE


_OPTIONS = PredictOptions()

AHEAD = 2 * THREADS
"""Pictures that are finished and written at a time."""


class PredictSummary(NamedTuple):
    """How much was found.

    Attributes:
        pictures: how many were looked at.
        with_regions: in how many of them there is a region.
        regions: how many there are in all.
        threshold: what a pixel had to exceed for a region to begin.
        types: how many regions are of which type, the most frequent first; empty where the detector
            knows no types.
        errors: of each picture that was left out, why.
        given: how many pictures there are, with those left out and those not come to.
        stopped_by: number of the signal that asked to stop before all were done; 0 if none did.
        notes: on how pictures were read, and what is missing of large ones, one line each.
    """

    pictures: int
    with_regions: int
    regions: int
    threshold: PixelThreshold
    types: Mapping[str, int]
    errors: Sequence[str]
    given: int
    stopped_by: int
    notes: Sequence[str]


def predict_files(
    detector: Draem,
    images: str | Path,
    out: str | Path,
    *,
    types: TypeModel | None = None,
    options: PredictOptions = _OPTIONS,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> PredictSummary:
    """Predicts for a picture, or for all pictures of a folder and of the folders within.

    `out` gets

    - `predictions.csv`: of each picture the score, p-value, whether it is called anomalous, the
      share of its pixels above the pixel threshold (of those that are looked at), its map, overlay
      and mask, its number of regions, and the type of the largest one. Without thresholds p-value
      and decision stay empty. Of a picture that cannot be read it has the reason, as `error`, and
      nothing else.
    - `regions.csv`: a line for each region, see `draem_jax.inspection.table`.
    - `regions.json` and `regions_rle.json`: the regions in COCO's format, as polygons and as run
      lengths, see `draem_jax.inspection.coco`. A picture's file name is its path within `images`.
    - `maps/NAME.png`: the anomaly map at the picture's own size, 16 bits, 65535 for certainty.
    - `masks/NAME.png`: 255 in regions, 0 elsewhere.
    - `overlays/NAME.png`: map, outlines and numbers of the regions on the picture, over a scale;
      dark where nobody looks.

    Large pictures that the detector sees in tiles take bounded memory, see
    `draem_jax.inspection.large`. Their overlays are brought down to 2048 pixels along the larger
    side, with numbers at the 100 largest regions; their regions have no types; and `error` says
    what is missing from their regions, where something is too large to be measured or where there
    are too many.

    The tables gain a picture's lines as soon as it is done; the JSON files are written last, also
    where SIGTERM or Ctrl-C asked to stop, or an error ends it. Tables and JSON files of an earlier
    call give way when the first picture is done. For the names of the outputs see
    `draem_jax.files.distinct_names`.

    Args:
        detector: the trained detector.
        images: a picture's file or a folder of pictures.
        out: the folder to write to; files of the same names are replaced.
        types: the types of defects that the detector knows, see `draem_jax.inspection.naming`;
            without them, regions and pictures have no types.
        options: what is called anomalous and a region, and how wide a pixel is.
        progress: called with the pictures done and all of them.

    Raises:
        UserError: there are no pictures, `out` cannot be written or would replace some of them
            or other files that were not written here, the millimetres do not make sense or are
            missing for a picture, or, with `options.strict`, a picture cannot be read. What was
            done stays.
    """
    images, out = Path(images), Path(out)
    tasks = tasks_of(images, out, options)
    rule = options.rule or detector.region_rule()
    looking: Generator[Record, None, None] = look_at(
        tasks,
        Writer(detector, out, rule, types),
        options=options,
        attempt=lambda task, look: look(),
        ahead=1 if options.strict else AHEAD,  # nothing is written behind what it stops at
    )
    tables = Tables(out)
    records: list[Record] = []
    stopped_by = 0
    for kind in KINDS:
        files.mark_output(out / kind)
    try:
        with stop_signals() as stop_asked, contextlib.closing(looking):
            for record in looking:
                if record.error and options.strict:
                    raise UserError(record.error)
                if not records:
                    _begin(out, tables)
                tables.add(record)
                records.append(record)
                progress(len(records), len(tasks))
                if len(records) < len(tasks) and (stopped_by := stop_asked()):
                    break
    except BaseException as error:
        with contextlib.suppress(UserError):
            _finish(out, records)
        if records and isinstance(error, UserError):
            raise UserError(
                f"{error}; {len(records)} of {len(tasks)} pictures were done before, see "
                f"{out / 'predictions.csv'}"
            ) from error
        raise
    _finish(out, records)
    return summarise(
        lambda: records, detector, threshold=rule.threshold, given=len(tasks), stopped_by=stopped_by
    )


def tasks_of(images: Path, out: Path, options: PredictOptions) -> list[Task]:
    """What is to be looked at, in the order of the tables; see `predict_files`.

    Raises:
        UserError: the same, of pictures, `out` and millimetres.
    """
    paths = list_pictures(images, recursive=True)
    check_apart(paths, out)
    check_out(out)
    root = images if images.is_dir() else images.parent
    within = [path.relative_to(root) for path in paths]
    names = [files.escaped(path.as_posix()) for path in within]
    widths = options.pixel_widths.of(names)
    return list(map(Task, paths, names, files.distinct_names(within, ".png"), widths))


def look_at(
    tasks: Sequence[Task],
    writer: Writer,
    *,
    options: PredictOptions,
    attempt: Callable[[Task, Callable[[], Record]], Done],
    ahead: int = AHEAD,
) -> Generator[Done, None, None]:
    """Looks at pictures and writes their maps, overlays and masks.

    Files are read ahead, and outputs drawn and written behind, in threads, while the devices see
    the next batch. What is under way takes bounded memory, however large the pictures.

    Args:
        tasks: the pictures.
        writer: writes what is found.
        options: as of `predict_files`; the rule is the writer's.
        attempt: is called in a thread for each picture, with what looks at the rest of it and
            writes, which may be called again.
        ahead: pictures that are finished and written at a time, at most.

    Yields:
        What `attempt` gives, as a rule the picture's record, in the order of the tasks.

    Raises:
        CannotWriteError: outputs cannot be written; what precedes has been yielded.
    """
    openings = open_files_of_any_size(
        writer.detector,
        [task.path for task in tasks],
        rule=writer.rule,
        alpha=options.alpha,
        with_features=writer.types is not None,
        large_from=options.large_from,
        scratch=writer.out,
    )

    def look(pair: tuple[Task, Opening]) -> Done:
        task, opening = pair
        return attempt(task, lambda: _look(task, opening, writer))

    yield from map_in_order(
        look,
        zip(tasks, openings, strict=True),
        ahead=ahead,
        cost=lambda pair: pair[1].pixels,
        budget=MOST_PIXELS,
    )


def summarise(
    records: Callable[[], Iterable[Record]],
    detector: Draem,
    *,
    threshold: PixelThreshold,
    given: int,
    stopped_by: int,
) -> PredictSummary:
    """Counts what was found, and tells what the user should know of it.

    Args:
        records: gives those of all pictures; they are gone through several times.
        detector: that found it.
        threshold: see `PredictSummary`.
        given: the same.
        stopped_by: the same.
    """
    counts = count(records())
    notes = [note for one in records() for note in one.notes]
    notes += _tell_small((one.row[0] for one in records() if one.is_small), detector.image_size)
    notes += tell_outside(
        (one.highest for one in records()),
        full_scale=detector.full_scale,
        depth=detector.config.data.depth,
    )
    return PredictSummary(
        pictures=counts.pictures,
        with_regions=counts.with_regions,
        regions=counts.regions,
        threshold=threshold,
        types=counts.types,
        errors=counts.errors,
        given=given,
        stopped_by=stopped_by,
        notes=notes,
    )


def _look(task: Task, opening: Opening, writer: Writer) -> Record:
    with contextlib.ExitStack() as opened:
        try:
            inspection = opened.enter_context(opening.open())
        except CannotWriteError:  # no room for what is kept beside a large picture
            raise
        except UserError as error:
            return task.left_out(error)
        return writer.write(task, inspection)


def _begin(out: Path, tables: Tables) -> None:
    """Puts new tables in the place of those of an earlier call."""
    for name in COCO_FILES:
        (out / name).unlink(missing_ok=True)
    tables.begin()


def _finish(out: Path, records: Sequence[Record]) -> None:
    """Writes the JSON files, if any picture was done."""
    if records:
        write_coco(out, lambda: records)


def _tell_small(pictures: Iterable[str], tile: tuple[int, int]) -> list[str]:
    first, *others = [*pictures] or [""]
    if not first:
        return []
    more = f" and {len(others)} more" if others else ""
    return [
        f"{first}{more}: smaller than a tile of {tile[0]} x {tile[1]}, so mirrored beyond the "
        "sides, where nobody looks"
    ]
