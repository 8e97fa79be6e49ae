"""Looking for anomalies in any pictures: files in; maps, regions, tables and overlays out."""

import contextlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from draem_jax import files
from draem_jax.data.depth import tell_outside
from draem_jax.data.folders import list_pictures
from draem_jax.detector import Draem
from draem_jax.errors import UserError
from draem_jax.inspection import coco, table
from draem_jax.inspection.features import region_features
from draem_jax.inspection.inspected import (
    Inspected,
    PixelRule,
    PixelThreshold,
    inspect_files,
    pixel_threshold,
)
from draem_jax.inspection.millimetres import check_mm_per_pixel, read_mm_per_pixel
from draem_jax.inspection.regions import Region
from draem_jax.inspection.types import Named, TypeModel
from draem_jax.reports.pictures import (
    label_places,
    outline,
    overlay,
    scale_bar,
    write_map_png,
    write_png,
)
from draem_jax.thresholds import Thresholds
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


class Predicted(NamedTuple):
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
        notes: on how the pictures were read, one line each.
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
    thresholds: Thresholds | None = None,
    types: TypeModel | None = None,
    alpha: float = 0.05,
    pixel_rule: PixelRule = "best_f1",
    join_gap: int | float = 0,
    min_area: int | float = 0,
    mm_per_pixel: float | None = None,
    mm_per_pixel_csv: str | Path | None = None,
    strict: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Predicted:
    """Predicts for a picture, or for all pictures of a folder and of the folders within.

    `out` gets

    - `predictions.csv`: of each picture the score, p-value, whether it is called anomalous, the
      share of its pixels above the pixel threshold, its map, overlay and mask, its number of
      regions, and the type of the largest one. Without thresholds p-value and decision stay empty.
      Of a picture that cannot be read it has the reason, as `error`, and nothing else.
    - `regions.csv`: a line for each region, see `draem_jax.inspection.table`.
    - `regions.json` and `regions_rle.json`: the regions in COCO's format, as polygons and as run
      lengths, see `draem_jax.inspection.coco`. A picture's file name is its path within `images`.
    - `maps/NAME.png`: the anomaly map at the picture's own size, 16 bits, 65535 for certainty.
    - `masks/NAME.png`: 255 in regions, 0 elsewhere.
    - `overlays/NAME.png`: map, outlines and numbers of the regions on the picture, over a scale.

    The tables gain a picture's lines as soon as it is done; the JSON files are written last, also
    where SIGTERM or Ctrl-C asked to stop, or an error ends it. Tables and JSON files of an earlier
    call give way when the first picture is done. For the names of the outputs see
    `draem_jax.files.distinct_names`.

    Args:
        detector: the trained detector.
        images: a picture's file or a folder of pictures.
        out: the folder to write to; files of the same names are replaced.
        thresholds: of the detector, see `draem_jax.evaluation.calibration`.
        types: of defects that the detector knows, see `draem_jax.inspection.naming`; without them,
            regions and pictures have no types.
        alpha: the share of good pictures that may be called anomalous.
        pixel_rule: where regions begin, see `draem_jax.inspection.inspected.pixel_threshold`.
        join_gap: regions with fewer pixels than this between them become one.
        min_area: regions of fewer pixels are left out.
        mm_per_pixel: how many millimetres a pixel is wide; without it, regions have no figures in
            millimetres.
        mm_per_pixel_csv: a table with the columns `name`, a path within `images`, and
            `mm_per_pixel`. `mm_per_pixel` is for the pictures that it leaves out.
        strict: stop at the first picture that cannot be read, instead of leaving it out.
        progress: called with the pictures done and all of them.

    Raises:
        UserError: there are no pictures, `out` cannot be written or would replace some of them
            or other files that were not written here, there is no such pixel threshold, the
            millimetres do not make sense or are missing for a picture, or, with `strict`, a
            picture cannot be read. What was done stays.
    """
    images, out = Path(images), Path(out)
    paths = list_pictures(images, recursive=True)
    _check_apart(paths, out)
    check_out(out)
    root = images if images.is_dir() else images.parent
    within = [path.relative_to(root) for path in paths]
    names = [files.escaped(path.as_posix()) for path in within]
    widths = _pixel_widths(names, mm_per_pixel, mm_per_pixel_csv)
    threshold = pixel_threshold(thresholds, rule=pixel_rule, alpha=alpha)
    outputs = _Outputs(out, threshold)
    inspections = inspect_files(
        detector,
        paths,
        threshold.margin,
        join_gap=join_gap,
        min_area=min_area,
        with_features=types is not None,
    )
    done, stopped_by = 0, 0
    highest: list[int | None] = []
    try:
        with stop_signals() as stop_asked:
            for path, name, output, width, inspected in zip(
                paths, names, files.distinct_names(within, ".png"), widths, inspections, strict=True
            ):
                if isinstance(inspected, Inspected):
                    highest.append(inspected.highest)
                    named: Sequence[Named | None] = [None] * len(inspected.regions)
                    if types is not None:
                        named = types.name_regions(region_features(inspected))
                    decision = _decision(inspected.score, thresholds, alpha)
                    outputs.add(path, name, output, inspected, decision, named, width)
                elif strict:
                    raise inspected
                else:
                    outputs.leave_out(path, inspected)
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
    notes = tell_outside(highest, full_scale=detector.full_scale, depth=detector.config.data.depth)
    return outputs.predicted(given=len(paths), stopped_by=stopped_by, notes=notes)


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
        inspected: Inspected,
        decision: tuple[str, str],
        named: Sequence[Named | None],
        mm_per_pixel: float | None,
    ) -> None:
        """Writes what was found in a picture; its line in `predictions.csv` comes last."""
        write_map_png(self._out / "maps" / output, inspected.anomaly_map)
        write_png(self._out / "masks" / output, inspected.mask.astype(np.uint8) * 255)
        write_png(self._out / "overlays" / output, _overlay(inspected, mm_per_pixel))
        self._begin()
        picture = path.absolute()
        self._regions.add(
            table.row(str(picture), region, self._threshold, mm_per_pixel, name_of_region)
            for region, name_of_region in zip(inspected.regions, named, strict=True)
        )
        self._pictures.add(
            [
                (
                    picture,
                    f"{inspected.score:.6f}",
                    *decision,
                    f"{np.mean(inspected.margin > self._threshold.margin):.6f}",
                    *(Path(kind) / output for kind in _KINDS),
                    len(inspected.regions),
                    *table.name_cells(named[0] if named else None),
                    "",
                )
            ]
        )
        shape = inspected.margin.shape
        self._entries.append(coco.image_entry(len(self._entries) + 1, name, shape))
        for region in inspected.regions:
            ids = {"number": len(self._polygons) + 1, "image": len(self._entries)}
            self._polygons.append(coco.annotation(region, coco.polygons(region), **ids))
            self._run_lengths.append(
                coco.annotation(region, coco.run_lengths(region, shape), **ids)
            )
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

    def predicted(self, *, given: int, stopped_by: int, notes: Sequence[str]) -> Predicted:
        """Counts what was written."""
        return Predicted(
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


def _pixel_widths(
    names: list[str], mm_per_pixel: float | None, table_path: str | Path | None
) -> list[float | None]:
    """Of each picture, how many millimetres a pixel is wide."""
    if mm_per_pixel is not None:
        check_mm_per_pixel(mm_per_pixel, "mm_per_pixel")
    if table_path is None:
        return [mm_per_pixel] * len(names)
    known = read_mm_per_pixel(table_path, names)
    missing = [name for name in names if name not in known]
    if missing and mm_per_pixel is None:
        raise UserError(
            f"{table_path} has no line for {missing[0]}"
            + (f" and {len(missing) - 1} other pictures" if len(missing) > 1 else "")
            + "; add it, or give mm_per_pixel for the pictures that the table leaves out"
        )
    return [known.get(name, mm_per_pixel) for name in names]


def _overlay(
    inspected: Inspected, mm_per_pixel: float | None
) -> UInt8[np.ndarray, "height width 3"]:
    drawn = overlay(inspected.picture, inspected.anomaly_map)
    drawn = outline(drawn, inspected.mask, width=max(1, min(inspected.mask.shape) // 500))
    labels = {_top(region): str(region.label) for region in inspected.regions}
    return scale_bar(label_places(drawn, labels), mm_per_pixel=mm_per_pixel)


def _top(region: Region) -> tuple[int, int]:
    """The first pixel of its first row."""
    top, left, _, _ = region.bbox
    return top, left + int(region.mask[0].argmax())


def _decision(score: float, thresholds: Thresholds | None, alpha: float) -> tuple[str, str]:
    if thresholds is None:
        return "", ""
    (p_value,) = thresholds.p_values(np.array([score]))
    return f"{p_value:.6g}", str(int(p_value <= alpha))
