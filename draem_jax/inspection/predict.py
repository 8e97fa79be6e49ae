"""Looking for anomalies in any pictures: files in; maps, regions, tables and overlays out."""

import contextlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from draem_jax import files
from draem_jax.data.depth import tell_outside
from draem_jax.data.facts import LARGE
from draem_jax.data.folders import list_pictures
from draem_jax.detector import Draem, Inspection
from draem_jax.errors import UserError
from draem_jax.inspection import coco, table
from draem_jax.inspection.features import region_features
from draem_jax.inspection.from_files import inspect_files_of_any_size
from draem_jax.inspection.large import LargeInspection
from draem_jax.inspection.millimetres import PixelWidths
from draem_jax.inspection.overlays import Drawn, draw
from draem_jax.inspection.types import Named, TypeModel
from draem_jax.regions.rule import PixelThreshold, RegionRule
from draem_jax.reports.pictures import write_map_png, write_png
from draem_jax.training.signals import stop_signals

_COLUMNS = (
    "picture",
    "score",
    "p_value",
    "anomalous",
    "anomalous_share",
    *("map", "overlay", "mask"),
    "regions",
    *("type", "type_probability", "type_likeness"),
    "error",
)
_KINDS = ("maps", "overlays", "masks")
"""Folders of the pictures that are written, in the order of their columns."""


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
    paths = list_pictures(images, recursive=True)
    _check_apart(paths, out)
    check_out(out)
    root = images if images.is_dir() else images.parent
    within = [path.relative_to(root) for path in paths]
    names = [files.escaped(path.as_posix()) for path in within]
    widths = options.pixel_widths.of(names)
    rule = options.rule or detector.region_rule()
    outputs = _Outputs(out, rule.threshold)
    inspections = inspect_files_of_any_size(
        detector,
        paths,
        rule=rule,
        alpha=options.alpha,
        with_features=types is not None,
        large_from=options.large_from,
        scratch=out,
    )
    done, stopped_by = 0, 0
    highest: list[int | None] = []
    small: list[Path] = []
    notes: list[str] = []
    try:
        with stop_signals() as stop_asked, contextlib.closing(inspections):
            for path, name, output, width, inspection in zip(
                paths, names, files.distinct_names(within, ".png"), widths, inspections, strict=True
            ):
                if not isinstance(inspection, UserError):
                    highest.append(inspection.highest)
                    named: Sequence[Named | None] = [None] * len(inspection.regions)
                    if types is not None and isinstance(inspection, Inspection):
                        named = types.name_regions(region_features(inspection))
                    if detector.fitting.is_tiled and detector.fitting.pads(inspection.size):
                        small.append(path)
                    if isinstance(inspection, LargeInspection):
                        notes += inspection.notes(path, typed=types is not None)
                    outputs.add(path, name, output, inspection, named, width)
                elif options.strict:
                    raise inspection
                else:
                    outputs.leave_out(path, inspection)
                done += 1
                progress(done, len(paths))
                if done < len(paths) and (stopped_by := stop_asked()):
                    break
    except BaseException as error:
        with contextlib.suppress(UserError):
            outputs.finish()
        if done and isinstance(error, UserError):
            raise UserError(
                f"{error}; {done} of {len(paths)} pictures were done before, see "
                f"{out / 'predictions.csv'}"
            ) from error
        raise
    outputs.finish()
    notes += _tell_small(small, detector.image_size)
    notes += tell_outside(highest, full_scale=detector.full_scale, depth=detector.config.data.depth)
    return outputs.summary(given=len(paths), stopped_by=stopped_by, notes=notes)


def _tell_small(paths: Sequence[Path], tile: tuple[int, int]) -> list[str]:
    if not paths:
        return []
    more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    return [
        f"{paths[0]}{more}: smaller than a tile of {tile[0]} x {tile[1]}, so mirrored beyond the "
        "sides, where nobody looks"
    ]


class _Outputs:
    """What `predict_files` writes, picture by picture."""

    def __init__(self, out: Path, threshold: PixelThreshold):
        self._out = out
        self._threshold = threshold
        self._pictures = files.GrowingTable(out / "predictions.csv", _COLUMNS)
        self._regions = files.GrowingTable(out / "regions.csv", table.COLUMNS)
        self._has_begun = False
        self._entries: list[dict[str, Any]] = []
        self._polygons: list[dict[str, Any]] = []
        self._run_lengths: list[dict[str, Any]] = []
        self._types: Counter[str] = Counter()
        self._errors: list[str] = []
        for kind in _KINDS:
            files.mark_output(out / kind)

    def add(
        self,
        path: Path,
        name: str,
        output: Path,
        inspection: Inspection | LargeInspection,
        named: Sequence[Named | None],
        mm_per_pixel: float | None,
    ) -> None:
        """Writes what was found in a picture; its line in `predictions.csv` comes last."""
        maps, overlays, masks = (self._out / kind / output for kind in _KINDS)
        if isinstance(inspection, LargeInspection):
            inspection.write_map(maps)
            inspection.write_mask(masks)
            write_png(overlays, inspection.overlay(mm_per_pixel))
            size, share, note = inspection.size, inspection.share_above, inspection.note
        else:
            write_map_png(maps, inspection.anomaly_map)
            write_png(masks, inspection.mask.astype(np.uint8) * 255)
            write_png(overlays, _overlay(inspection, mm_per_pixel))
            size, share = inspection.margin.shape, _share_above(inspection, self._threshold)
            note = ""
        self._begin()
        picture = path.absolute()
        self._regions.add(
            table.row(str(picture), region, self._threshold, mm_per_pixel, name_of_region)
            for region, name_of_region in zip(inspection.regions, named, strict=True)
        )
        self._pictures.add(
            [
                (
                    picture,
                    f"{inspection.score:.6f}",
                    *_decision(inspection),
                    f"{share:.6f}",
                    *(Path(kind) / output for kind in _KINDS),
                    len(inspection.regions),
                    *table.name_cells(named[0] if named else None),
                    note,
                )
            ]
        )
        self._entries.append(coco.image_entry(len(self._entries) + 1, name, size))
        for region in inspection.regions:
            ids = {"number": len(self._polygons) + 1, "image": len(self._entries)}
            self._polygons.append(coco.annotation(region, coco.polygons(region), **ids))
            self._run_lengths.append(coco.annotation(region, coco.run_lengths(region, size), **ids))
        self._types.update(name.defect_type for name in named if name)

    def leave_out(self, path: Path, error: UserError) -> None:
        """Notes a picture that cannot be read."""
        self._begin()
        empty = [""] * (len(_COLUMNS) - 2)
        self._pictures.add([(path.absolute(), *empty, error)])
        self._errors.append(str(error))

    def finish(self) -> None:
        """Writes the JSON files, if any picture was done."""
        if self._has_begun:
            for name, found in (
                ("regions.json", self._polygons),
                ("regions_rle.json", self._run_lengths),
            ):
                content = json.dumps(coco.dataset(self._entries, found), ensure_ascii=False)
                files.write_text(self._out / name, content + "\n")

    def summary(self, *, given: int, stopped_by: int, notes: Sequence[str]) -> PredictSummary:
        """Counts what was written."""
        return PredictSummary(
            pictures=len(self._entries),
            with_regions=len({found["image_id"] for found in self._polygons}),
            regions=len(self._polygons),
            threshold=self._threshold,
            types=dict(self._types.most_common()),
            errors=tuple(self._errors),
            given=given,
            stopped_by=stopped_by,
            notes=tuple(notes),
        )

    def _begin(self) -> None:
        """Puts new tables in the place of those of an earlier call."""
        if not self._has_begun:
            for name in ("regions.json", "regions_rle.json"):
                (self._out / name).unlink(missing_ok=True)
            self._regions.begin()
            self._pictures.begin()
            self._has_begun = True


def _check_apart(paths: Sequence[Path], out: Path) -> None:
    """Raises UserError where outputs would come to lie among the pictures, or replace them."""
    folders = {(out / kind).resolve() for kind in _KINDS}
    for path in paths:
        if inside := folders.intersection(path.resolve().parents):
            raise UserError(
                f"the picture {path} lies in {inside.pop()}, which is written to; choose another "
                "folder for the outputs"
            )


def check_out(out: Path) -> None:
    """Raises UserError where outputs would replace, or lie among, what was not written here."""
    tables = {
        out / "predictions.csv": files.has_columns(out / "predictions.csv", _COLUMNS, least=2),
        out / "regions.csv": files.has_columns(out / "regions.csv", table.COLUMNS, least=7),
    }
    predicted = tables[out / "predictions.csv"]
    marked = any(files.is_marked(out / kind) for kind in _KINDS)
    own = tables | {out / name: predicted for name in ("regions.json", "regions_rle.json")}
    # Earlier versions marked none of the folders.
    own |= {
        out / kind: files.is_marked(out / kind) or (predicted and not marked) for kind in _KINDS
    }
    for path, is_own in own.items():
        holds = any(path.iterdir()) if path.is_dir() else path.exists()
        if holds and not is_own:
            raise UserError(
                f"{path} was not written by predict and would be written to; choose another folder "
                "for the outputs"
            )


def _overlay(
    inspection: Inspection, mm_per_pixel: float | None
) -> UInt8[np.ndarray, "height width 3"]:
    labels = {region.start: str(region.label) for region in inspection.regions}
    parts = Drawn(
        inspection.image, inspection.anomaly_map, inspection.mask, labels, inspection.inside
    )
    return draw(parts, mm_per_pixel=mm_per_pixel)


def _share_above(inspection: Inspection, threshold: PixelThreshold) -> float:
    """Of the pixels that are looked at."""
    above = inspection.margin > threshold.margin
    if inspection.inside is None:
        return float(above.mean())
    return float(above[inspection.inside].sum() / max(1, inspection.inside.sum()))


def _decision(inspection: Inspection | LargeInspection) -> tuple[str, str]:
    if inspection.p_value is None:
        return "", ""
    return f"{inspection.p_value:.6g}", str(int(bool(inspection.is_anomalous)))
