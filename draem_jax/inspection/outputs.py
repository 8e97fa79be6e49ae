"""The pictures that are written of a picture, and where: map, overlay and mask."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from draem_jax import files
from draem_jax.detector import Draem, Inspection
from draem_jax.errors import UserError
from draem_jax.inspection import coco, table
from draem_jax.inspection.features import region_features
from draem_jax.inspection.large import LargeInspection
from draem_jax.inspection.overlays import Drawn, draw
from draem_jax.inspection.record import COCO_FILES, TABLES, FoundRegion, Record
from draem_jax.inspection.types import Named, TypeModel
from draem_jax.regions.rule import PixelThreshold, RegionRule
from draem_jax.reports.pictures import write_map_png, write_png

KINDS = ("maps", "overlays", "masks")
"""Folders of the pictures that are written, in the order of their columns."""

JOURNAL = "journal.jsonl"
"""What is written beside the tables where a folder is watched, see `draem_jax.inspection.watch`."""


@dataclass(frozen=True)
class Task:
    """A picture to look at.

    Attributes:
        path: its file.
        name: its path within the folder of pictures, as it is written.
        output: the path of its map, overlay and mask within their folders.
        mm_per_pixel: how wide its pixels are; None if that is not known.
    """

    path: Path
    name: str
    output: Path
    mm_per_pixel: float | None = None

    def left_out(self, error: UserError) -> Record:
        """What is said of it where it cannot be read."""
        return Record.left_out(self.path.absolute(), self.name, error)


@dataclass(frozen=True)
class Writer:
    """Writes what was found in pictures; for use in threads.

    Attributes:
        detector: that found it.
        out: the folder to write to.
        rule: what is called a region.
        types: the types of defects; None for none.
    """

    detector: Draem
    out: Path
    rule: RegionRule
    types: TypeModel | None

    def write(self, task: Task, inspection: Inspection | LargeInspection) -> Record:
        """Writes a picture's map, overlay and mask, and gives what else is to be written of it.

        Raises:
            UserError: they cannot be written.
        """
        named: Sequence[Named | None] = [None] * len(inspection.regions)
        if self.types is not None and isinstance(inspection, Inspection):
            named = self.types.name_regions(region_features(inspection))
        share, note = self._write_pictures(task, inspection)
        picture = task.path.absolute()
        fitting = self.detector.fitting
        notes: Sequence[str] = ()
        if isinstance(inspection, LargeInspection):
            notes = inspection.notes(task.path, typed=self.types is not None)
        regions = []
        for region, name in zip(inspection.regions, named, strict=True):
            regions.append(
                FoundRegion(
                    table.row(str(picture), region, self.rule.threshold, task.mm_per_pixel, name),
                    coco.annotation(region, [], number=0, image=0),
                    coco.polygons(region),
                    coco.run_lengths(region, inspection.size),
                    name.defect_type if name else "",
                )
            )
        cells = (
            picture,
            f"{inspection.score:.6f}",
            *_decision(inspection),
            f"{share:.6f}",
            *(Path(kind) / task.output for kind in KINDS),
            len(inspection.regions),
            *table.name_cells(named[0] if named else None),
            note,
        )
        return Record(
            name=task.name,
            row=tuple(map(str, cells)),
            size=inspection.size,
            regions=tuple(regions),
            highest=inspection.highest,
            is_small=fitting.is_tiled and fitting.pads(inspection.size),
            notes=tuple(notes),
        )

    def _write_pictures(
        self, task: Task, inspection: Inspection | LargeInspection
    ) -> tuple[float, str]:
        """Gives the share of pixels above the threshold as well, and what is missing."""
        maps, overlays, masks = (self.out / kind / task.output for kind in KINDS)
        if isinstance(inspection, LargeInspection):
            inspection.write_map(maps)
            inspection.write_mask(masks)
            write_png(overlays, inspection.overlay(task.mm_per_pixel))
            return inspection.share_above, inspection.note
        write_map_png(maps, inspection.anomaly_map)
        write_png(masks, inspection.mask.astype(np.uint8) * 255)
        write_png(overlays, _overlay(inspection, task.mm_per_pixel))
        return _share_above(inspection, self.rule.threshold), ""


def check_apart(paths: Sequence[Path], out: Path) -> None:
    """Raises UserError where outputs would come to lie among the pictures, or replace them."""
    folders = {(out / kind).resolve() for kind in KINDS}
    for path in paths:
        if inside := folders.intersection(path.resolve().parents):
            raise UserError(
                f"the picture {path} lies in {inside.pop()}, which is written to; choose another "
                "folder for the outputs"
            )


def check_out(out: Path, *, watched: bool = False) -> None:
    """Raises UserError where outputs would replace, or lie among, what was not written here.

    Args:
        out: the folder to write to.
        watched: whether it is for a watched folder; else it may not be that of one.
    """
    if not watched and (out / JOURNAL).exists():
        raise UserError(
            f"{out} belongs to a watched folder (it has a {JOURNAL}); choose another folder for "
            "the outputs, or give --watch to go on there"
        )
    least = {"predictions.csv": 2, "regions.csv": 7}  # columns that earlier versions had, too
    own = {
        out / name: files.has_columns(out / name, columns, least=least[name])
        for name, columns in TABLES.items()
    }
    predicted = own[out / "predictions.csv"] or (out / JOURNAL).exists()
    marked = any(files.is_marked(out / kind) for kind in KINDS)
    own |= {out / name: predicted for name in COCO_FILES}
    # Earlier versions marked none of the folders.
    own |= {out / kind: files.is_marked(out / kind) or (predicted and not marked) for kind in KINDS}
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
