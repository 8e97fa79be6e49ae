"""Inspecting a large picture that is seen in tiles, in memory that does not grow with it.

What the networks say goes to a file as it comes, and is read again by windows: for the regions, and
for maps and masks, which are written some rows at a time.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, UInt8
from scipy.special import expit

from draem_jax import files
from draem_jax.data.resizing import Window, resized_window
from draem_jax.data.roi import PlaneWindows
from draem_jax.data.windows import PictureWindows, open_windows, read_overview
from draem_jax.detector import Draem
from draem_jax.detector.tiling import CanvasOfFile
from draem_jax.inspection.overlays import Drawn, draw
from draem_jax.regions.by_windows import Found, bands, find_by_windows
from draem_jax.regions.find import Region
from draem_jax.regions.rule import RegionRule
from draem_jax.reports.pictures import map_levels
from draem_jax.reports.png_rows import write_png_rows
from draem_jax.scores import ScoreOfRows

_OVERVIEW = 2048
"""The larger side of a large picture's overlay, in pixels."""

_MOST_LABELS = 100
"""Regions that are numbered on it: more would hide it."""


@dataclass(frozen=True, eq=False)
class LargeInspection:
    """What a detector says of a large picture; see `draem_jax.detector.Inspection`.

    It can be asked as long as the block of `inspect_large` lasts.

    Attributes:
        size: (height, width) of the picture.
        score: the score of the picture, in [0, 1].
        p_value: see `Inspection`.
        is_anomalous: the same.
        share_above: of the pixels that are looked at, those above the threshold of regions.
        regions: the anomalous ones, the largest first.
        highest: see `Inspection`.
        note: what is missing from the regions, in one line; "" if nothing is.
    """

    size: tuple[int, int]
    score: float
    p_value: float | None
    is_anomalous: bool | None
    share_above: float
    regions: list[Region]
    highest: int | None
    note: str
    _seen: "_Seen"

    def notes(self, path: Path, *, typed: bool) -> list[str]:
        """What the user should know of the picture, a line each.

        Args:
            path: of the picture.
            typed: whether regions would be given types, which they are not here.
        """
        of_types = "its regions have no types, which are for smaller pictures" if typed else ""
        return [f"{path}: {note}" for note in (self.note, of_types) if note]

    def write_map(self, path: Path) -> None:
        """Writes the anomaly map, as `draem_jax.reports.pictures.write_map_png` does."""
        maps = self._seen.maps
        parts = (map_levels(maps.anomaly_map(window)) for window in bands(self.size))
        write_png_rows(path, self.size[0], parts)

    def write_mask(self, path: Path) -> None:
        """Writes where regions are, in white; of what could not be measured all that is above."""
        parts = (self._mask(window).astype(np.uint8) * 255 for window in bands(self.size))
        write_png_rows(path, self.size[0], parts)

    def overlay(self, mm_per_pixel: float | None) -> UInt8[np.ndarray, "height width 3"]:
        """The picture with map, outlines and numbers, brought down to 2048 pixels at most.

        Args:
            mm_per_pixel: how many millimetres a pixel of the picture is wide, if that is known.
        """
        image = read_overview(self._seen.windows, largest_side=_OVERVIEW)
        size, (height, width) = image.shape[:2], self.size
        mask = np.zeros(size, bool)
        for window in bands(self.size):
            rows, columns = np.nonzero(self._mask(window))
            rows += window[0].start
            mask[rows * size[0] // height, columns * size[1] // width] = True
        labels = {}
        for region in self.regions[:_MOST_LABELS]:
            row, column = region.start
            labels[row * size[0] // height, column * size[1] // width] = str(region.label)
        likely, inside = self._seen.maps.overview(size)
        parts = Drawn(image, likely, mask, labels, inside)
        return draw(parts, mm_per_pixel=mm_per_pixel, reduction=width / size[1])

    def _mask(self, window: Window) -> Bool[np.ndarray, "rows W"]:
        """True where a region is in some rows."""
        rows, _ = window
        mask = np.zeros(_shape(window), bool)
        for region in self.regions:
            (first, last), (top, left, bottom, right) = (rows.start, rows.stop), region.bbox
            start, stop = max(first, top), min(last, bottom)
            if start < stop:
                mask[start - first : stop - first, left:right] |= (
                    region.mask[start - top : stop - top]
                )  # fmt: skip
        for part in self._seen.too_large:
            start, stop = max(rows.start, part[0].start), min(rows.stop, part[0].stop)
            if start < stop:
                above = self._seen.maps.above((slice(start, stop), part[1]), self._seen.threshold)
                mask[start - rows.start : stop - rows.start, part[1]] |= above
        return mask


class _Seen(NamedTuple):
    """What stands behind a large inspection.

    Attributes:
        windows: the picture.
        maps: what the networks say of it.
        threshold: of regions, on the margin.
        too_large: see `draem_jax.regions.by_windows.Found`.
    """

    windows: PictureWindows
    maps: "_Maps"
    threshold: float
    too_large: list[Window]


@contextmanager
def inspect_large(
    detector: Draem, path: Path, *, rule: RegionRule, alpha: float, scratch: Path
) -> Iterator[LargeInspection]:
    """Inspects the picture of a file, by a detector that sees pictures in tiles.

    Memory is that of a row of tiles, and some 100 MiB for each of the other steps. The file of what
    is said takes four bytes for each pixel that the networks see.

    Args:
        detector: the detector.
        path: the picture; what `draem_jax.data.windows` cannot read by windows is held as a whole.
        rule: what is called a region.
        alpha: see `Draem.inspect_pictures`.
        scratch: the folder that the file is written to; it has no name there, and is gone with the
            block.

    Raises:
        UserError: the picture cannot be read, nobody can tell where to look in it, or there is no
            room for what is said of it.
    """
    name = path.absolute().with_suffix("").as_posix()
    with (
        open_windows(path, full_scale=detector.full_scale) as windows,
        files.scratch_file(scratch) as file,
    ):
        size = windows.size
        canvas = detector.fitting.content_size(size)
        maps = _Maps(size, canvas, file, detector.roi.plane_windows(name, windows))
        score = _see(detector, windows, maps)
        found = find_by_windows(maps, rule, scale=detector.fitting.network_pixel(size))
        p_value = None
        if detector.thresholds is not None:
            p_value = float(detector.thresholds.p_values(np.array([score]))[0])
        yield LargeInspection(
            size=size,
            score=score,
            p_value=p_value,
            is_anomalous=None if p_value is None else p_value <= alpha,
            share_above=_share_above(maps, rule.threshold.margin),
            regions=found.regions,
            highest=windows.highest(),
            note=_note(found),
            _seen=_Seen(windows, maps, rule.threshold.margin, found.too_large),
        )


@dataclass(frozen=True, eq=False)
class _Maps:
    """What the networks say, kept in a file; see `draem_jax.regions.by_windows.MapsByWindows`.

    Attributes:
        size: (height, width) of the picture.
        canvas: that of what the networks see of it, whose margin is kept.
        file: the margin, float32, row by row.
        looked_at: where to look in the picture; None for everywhere.
    """

    size: tuple[int, int]
    canvas: tuple[int, int]
    file: BinaryIO
    looked_at: PlaneWindows | None

    def margin(self, window: Window) -> Float32[np.ndarray, "h w"]:
        """The margin in a window of the picture."""
        return resized_window(self._read, self.canvas, self.size, window)

    def anomaly_map(self, window: Window) -> Float32[np.ndarray, "h w"]:
        """The anomaly map there."""
        likely = resized_window(self._read_likely, self.canvas, self.size, window)
        inside = self.inside(window)
        return likely if inside is None else np.where(inside, likely, np.float32(0))

    def inside(self, window: Window) -> Bool[np.ndarray, "h w"] | None:
        """Where to look there; None for everywhere."""
        return None if self.looked_at is None else self.looked_at.read(window)

    def above(self, window: Window, threshold: float) -> Bool[np.ndarray, "h w"]:
        """Where the margin is above a threshold, of what is looked at."""
        above, inside = self.margin(window) > threshold, self.inside(window)
        return above if inside is None else above & inside

    def overview(
        self, size: tuple[int, int]
    ) -> tuple[Float32[np.ndarray, "h w"], Bool[np.ndarray, "h w"] | None]:
        """The whole map, and where to look, at a small size."""
        whole = slice(0, size[0]), slice(0, size[1])
        likely = resized_window(self._read_likely, self.canvas, size, whole)
        if self.looked_at is None:
            return likely, None
        inside = self.looked_at.resized(size).read(whole)
        return np.where(inside, likely, np.float32(0)), inside

    def _read(self, window: Window) -> Float32[np.ndarray, "h w"]:
        (rows, columns), width = window, self.canvas[1]
        part = np.empty(_shape(window), np.float32)
        # What lies without a gap in the file is read at once.
        pieces = [part] if part.shape[1] == width else part
        for row, piece in enumerate(pieces, start=rows.start):
            self.file.seek((row * width + columns.start) * part.itemsize)
            self.file.readinto(piece.data)  # type: ignore[attr-defined]
        return part

    def _read_likely(self, window: Window) -> Float32[np.ndarray, "h w"]:
        return expit(self._read(window))


def _see(detector: Draem, windows: PictureWindows, maps: _Maps) -> float:
    """Runs the networks on a picture, keeps its margin, and gives its score."""
    height, width = maps.canvas
    inside = None if maps.looked_at is None else maps.looked_at.resized(maps.canvas)
    looked_at = height * width if inside is None else inside.count()
    score = ScoreOfRows(detector.score_name, looked_at=looked_at)
    grid = detector.tiles(detector.fitting.canvas_size(maps.size))
    for rows in detector.see_rows(CanvasOfFile(windows, maps.canvas, grid)):
        margin = rows.values["margin"][: max(0, height - rows.top), :width, 0]
        maps.file.write(np.ascontiguousarray(margin).data)
        for part, columns in bands(margin.shape) if len(margin) else ():
            here = slice(rows.top + part.start, rows.top + part.stop), columns
            score.add(expit(margin[part]), None if inside is None else inside.read(here))
    maps.file.flush()
    return score.value()


def _share_above(maps: _Maps, threshold: float) -> float:
    above, count = 0, 0
    for window in bands(maps.size):
        above += int(maps.above(window, threshold).sum())
        inside = maps.inside(window)
        count += math.prod(_shape(window)) if inside is None else int(inside.sum())
    return above / max(1, count)


def _shape(window: Window) -> tuple[int, int]:
    rows, columns = window
    return rows.stop - rows.start, columns.stop - columns.start


def _note(found: Found) -> str:
    notes = []
    if found.too_large:
        rows, columns = found.too_large[0]
        more = len(found.too_large) - 1
        notes.append(
            f"what was found in rows {rows.start} to {rows.stop} and columns {columns.start} to "
            f"{columns.stop}"
            + (f" and {more} other such {'window' if more == 1 else 'windows'}" if more else "")
            + " is too large to be measured, and only marked in the mask"
        )
    if found.smaller:
        notes.append(f"{found.smaller} smaller regions are left out")
    return "; ".join(notes)
