"""Looking for anomalies in any pictures: files in; maps, regions, tables and overlays out."""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from draem_jax import files
from draem_jax.data.folders import list_pictures
from draem_jax.data.pictures import read_picture
from draem_jax.detector import Draem
from draem_jax.errors import UserError
from draem_jax.inspection import coco, table
from draem_jax.inspection.features import region_features
from draem_jax.inspection.inspected import (
    Inspected,
    PixelRule,
    PixelThreshold,
    inspect_pictures,
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

_COLUMNS = (
    "picture",
    "score",
    "p_value",
    "anomalous",
    "anomalous_share",
    "map",
    "overlay",
    "mask",
    "regions",
    *("type", "type_probability", "type_likeness"),
)


class Predicted(NamedTuple):
    """How much was found.

    Attributes:
        pictures: how many there are.
        with_regions: in how many of them there is a region.
        regions: how many there are in all.
        threshold: what a pixel had to exceed for a region to begin.
        types: how many regions are of which type, the most frequent first; empty where the detector
            knows no types.
    """

    pictures: int
    with_regions: int
    regions: int
    threshold: PixelThreshold
    types: Mapping[str, int]


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
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Predicted:
    """Predicts for a picture, or for all pictures of a folder and of the folders within.

    `out` gets

    - `predictions.csv`: of each picture the score, p-value, whether it is called anomalous, the
      share of its pixels above the pixel threshold, its map, overlay and mask, its number of
      regions, and the type of the largest one. Without thresholds p-value and decision stay empty.
    - `regions.csv`: a line for each region, see `draem_jax.inspection.table`.
    - `regions.json` and `regions_rle.json`: the regions in COCO's format, as polygons and as run
      lengths, see `draem_jax.inspection.coco`. A picture's file name is its path within `images`.
    - `maps/NAME.png`: the anomaly map at the picture's own size, 16 bits, 65535 for certainty.
    - `masks/NAME.png`: 255 in regions, 0 elsewhere.
    - `overlays/NAME.png`: map, outlines and numbers of the regions on the picture, over a scale.

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
        progress: called with the pictures done and all of them.

    Raises:
        UserError: there are no pictures, one cannot be read, `out` cannot be written, there is no
            such pixel threshold, or the millimetres do not make sense or are missing for a
            picture. What was written before stays; the tables are written last.
    """
    images, out = Path(images), Path(out)
    paths = list_pictures(images, recursive=True)
    root = images if images.is_dir() else images.parent
    within = [path.relative_to(root) for path in paths]
    widths = _pixel_widths([path.as_posix() for path in within], mm_per_pixel, mm_per_pixel_csv)
    threshold = pixel_threshold(thresholds, rule=pixel_rule, alpha=alpha)
    inspections = inspect_pictures(
        detector,
        map(read_picture, paths),
        threshold.margin,
        join_gap=join_gap,
        min_area=min_area,
        with_features=types is not None,
    )
    rows: list[Sequence[Any]] = []
    region_rows: list[Sequence[Any]] = []
    found_types: list[str] = []
    entries: list[dict[str, Any]] = []
    with_polygons: list[dict[str, Any]] = []
    with_run_lengths: list[dict[str, Any]] = []
    for path, inner, name, width, inspected in zip(
        paths, within, _output_names(within), widths, inspections, strict=True
    ):
        shape = inspected.margin.shape
        entries.append(coco.image_entry(len(entries) + 1, inner.as_posix(), shape))
        named: Sequence[Named | None] = [None] * len(inspected.regions)
        if types is not None:
            named = types.name_regions(region_features(inspected))
            found_types += [name.defect_type for name in named if name]
        for region, name_of_region in zip(inspected.regions, named, strict=True):
            region_rows.append(table.row(str(path), region, threshold, width, name_of_region))
            ids = {"number": len(region_rows), "image": len(entries)}
            with_polygons.append(coco.annotation(region, coco.polygons(region), **ids))
            with_run_lengths.append(coco.annotation(region, coco.run_lengths(region, shape), **ids))
        write_map_png(out / "maps" / name, inspected.anomaly_map)
        write_png(out / "masks" / name, inspected.mask.astype(np.uint8) * 255)
        write_png(out / "overlays" / name, _overlay(inspected, width))
        rows.append(
            (
                path,
                f"{inspected.score:.6f}",
                *_decision(inspected.score, thresholds, alpha),
                f"{np.mean(inspected.margin > threshold.margin):.6f}",
                *(Path(kind) / name for kind in ("maps", "overlays", "masks")),
                len(inspected.regions),
                *table.name_cells(named[0] if named else None),
            )
        )
        progress(len(rows), len(paths))
    _write_json(out / "regions.json", coco.dataset(entries, with_polygons))
    _write_json(out / "regions_rle.json", coco.dataset(entries, with_run_lengths))
    files.write_csv(out / "regions.csv", table.COLUMNS, region_rows)
    files.write_csv(out / "predictions.csv", _COLUMNS, rows)
    return Predicted(
        pictures=len(rows),
        with_regions=sum(row[_COLUMNS.index("regions")] > 0 for row in rows),
        regions=len(region_rows),
        threshold=threshold,
        types=dict(Counter(found_types).most_common()),
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


def _write_json(path: Path, content: dict[str, Any]) -> None:
    files.write_text(path, json.dumps(content, ensure_ascii=False) + "\n")


def _output_names(paths: list[Path]) -> list[Path]:
    """Names the outputs as PNG, keeping the suffix where `a.jpg` and `a.png` would collide."""
    plain = [path.with_suffix(".png") for path in paths]
    counts = Counter(plain)
    return [
        name if counts[name] == 1 else path.with_name(path.name + ".png")
        for name, path in zip(plain, paths, strict=True)
    ]
