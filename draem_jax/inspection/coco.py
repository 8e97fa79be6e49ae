"""Regions in the format of the COCO data set, which pycocotools and most annotation tools read.

COCO's coordinates are (x, y) of pixels' corners: the first pixel of a picture reaches from (0, 0)
to (1, 1). The format is described at https://cocodataset.org/#format-data.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage
from skimage.measure import find_contours

from draem_jax import files
from draem_jax.regions.find import Region

Segmentation = list[list[int]] | dict[str, list[int]]

_CATEGORY = {"id": 1, "name": "anomaly", "supercategory": "anomaly"}


def write_dataset(
    path: Path, images: Iterable[Mapping[str, Any]], annotations: Iterable[Mapping[str, Any]]
) -> None:
    """Writes a whole file, atomically, entry by entry.

    Args:
        path: the file.
        images: see `image_entry`.
        annotations: see `annotation`; their one category is "anomaly".

    Raises:
        UserError: it cannot be written.
    """
    parts: dict[str, Iterable[Mapping[str, Any]]] = {
        "images": images,
        "categories": [_CATEGORY],
        "annotations": annotations,
    }
    with (
        files.atomic_path(path) as temporary,
        temporary.open("w", encoding="utf-8", errors=files.ESCAPE) as file,
    ):
        file.write('{"info": {"description": "Anomalous regions found by draem_jax"}')
        for name, entries in parts.items():
            file.write(f', "{name}": [')
            for i, entry in enumerate(entries):
                file.write(", " * (i > 0) + json.dumps(entry, ensure_ascii=False))
            file.write("]")
        file.write("}\n")


def image_entry(number: int, file_name: str, shape: tuple[int, int]) -> dict[str, Any]:
    """A picture's entry, by its number, from 1, its file and its (height, width)."""
    height, width = shape
    return {"id": number, "file_name": file_name, "width": width, "height": height}


def annotation(
    region: Region, segmentation: Segmentation, *, number: int, image: int
) -> dict[str, Any]:
    """A region's entry.

    Args:
        region: one of a picture's.
        segmentation: its `polygons` or its `run_lengths`.
        number: that of the entry in the file, from 1.
        image: the number of the picture.
    """
    top, left, bottom, right = region.bbox
    return {
        "id": number,
        "image_id": image,
        "category_id": _CATEGORY["id"],
        "bbox": [left, top, right - left, bottom - top],
        "area": region.area,
        "segmentation": segmentation,
        "iscrowd": 0,
        "score": round(region.peak_score, 6),
    }


def polygons(region: Region) -> list[list[int]]:
    """The outlines of a region along the edges of its pixels.

    COCO's polygons are filled, so holes in the region are filled here; its run lengths keep them.
    Parts that do not touch side by side have a polygon each.

    Args:
        region: one of a picture's.

    Returns:
        [x0, y0, x1, y1, …] of each polygon's corners, in whole pixels of the picture.
    """
    top, left, _, _ = region.bbox
    # Between the quarters of the pixels, half of each contour's coordinates lie on the pixels'
    # edges; the others lie a quarter off a corner, which rounding finds.
    quarters = np.pad(ndimage.binary_fill_holes(region.mask), 1).repeat(2, 0).repeat(2, 1)
    contours = find_contours(quarters, 0.5, fully_connected="low")
    found = []
    for contour in contours:
        corners = np.rint((contour[:-1] + 0.5) / 2).astype(int) - 1
        corners = corners[(corners != np.roll(corners, 1, axis=0)).any(axis=1)]
        before = corners - np.roll(corners, 1, axis=0)
        after = np.roll(corners, -1, axis=0) - corners
        turns = corners[before[:, 0] * after[:, 1] != before[:, 1] * after[:, 0]]
        found.append((turns[:, ::-1] + (left, top)).ravel().tolist())
    return found


def run_lengths(region: Region, shape: tuple[int, int]) -> dict[str, list[int]]:
    """The region's mask as lengths of runs, not compressed.

    Args:
        region: one of a picture's.
        shape: (height, width) of the picture.

    Returns:
        `size`, the height and the width, and `counts`: of the mask read column by column, how many
        pixels are outside, then inside, then outside and so on.
    """
    height, width = shape
    top, left, _, _ = region.bbox
    # Of each column, where a run begins and where the pixels behind it do.
    columns, rows = np.nonzero(np.diff(np.pad(region.mask, [(1, 1), (0, 0)]), axis=0).T)
    places, counts = np.unique((left + columns) * height + top + rows, return_counts=True)
    edges = places[counts == 1]  # a run that goes on in the next column ends and begins at once
    lengths = np.diff(np.concatenate([[0], edges, [height * width]])).tolist()
    if lengths[-1] == 0:
        lengths.pop()
    return {"size": list(shape), "counts": lengths}
