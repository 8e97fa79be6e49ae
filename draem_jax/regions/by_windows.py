"""The regions of a large picture, found window by window as in a whole one, in bounded memory.

What may belong together, or have a say in where the other ends, is first seen in coarse blocks of
pixels. Each such group of blocks has a window of its own, which `draem_jax.regions.edges` and
`draem_jax.regions.find` are given as if it were a picture.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float32, Int, UInt32
from scipy import ndimage

from draem_jax.regions.edges import above_edges, broad_level
from draem_jax.regions.find import Region, find_regions
from draem_jax.regions.rule import RegionRule

Window = tuple[slice, slice]

BAND = 1 << 22
"""Pixels that are held at a time."""

_LARGEST_WINDOW = 1 << 23
"""Pixels of a window in which regions can be measured: about 80 bytes are taken for each."""

_MOST_REGIONS = 10_000
_MOST_PIXELS = 1 << 28
"""How many regions are kept of a picture, and the pixels of their rectangles together."""

_LEAST_SIDE, _MOST_BLOCKS = 4, 1 << 24
"""Of blocks: the smaller they are, the less is taken for one group."""

_RING = 3
"""Pixels around a group that its outline can depend on."""

_TOUCHING = np.ones((3, 3))


@runtime_checkable
class MapsByWindows(Protocol):
    """What a detector says of a large picture, at the picture's own size, read by windows."""

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the picture."""
        ...

    def margin(self, window: Window) -> Float32[np.ndarray, "h w"]:
        """The margin in a window."""
        ...

    def anomaly_map(self, window: Window) -> Float32[np.ndarray, "h w"]:
        """The anomaly map in a window."""
        ...

    def inside(self, window: Window) -> Bool[np.ndarray, "h w"] | None:
        """Where to look in a window; None for everywhere."""
        ...


class Found(NamedTuple):
    """The regions of a large picture.

    Attributes:
        regions: the largest first.
        too_large: windows that hold something that is too large to be measured.
        smaller: how many smaller regions were found, but not kept.
    """

    regions: list[Region]
    too_large: list[Window]
    smaller: int


def find_by_windows(maps: MapsByWindows, rule: RegionRule, *, scale: float = 1.0) -> Found:
    """Finds and measures the regions of a large picture.

    Args:
        maps: what is said of the picture.
        rule: what is called a region.
        scale: see `draem_jax.regions.edges.above_edges`.

    Returns:
        The regions, as `find_regions` finds them of all that `above_edges` makes of the picture.
    """
    threshold = rule.threshold.margin
    side = max(_LEAST_SIDE, math.ceil(math.sqrt(math.prod(maps.size) / _MOST_BLOCKS)))
    highest = _block_maxima(maps, side)
    if not (highest > threshold).any():
        return Found([], [], 0)
    surface = _median(lambda: _looked_at(maps))
    level = min(threshold, broad_level(threshold, surface))
    reach = max(rule.join_gap + 1, scale, _RING)
    groups = _group(highest > level, highest > threshold, reach / side)
    regions: list[Region] = []
    too_large, smaller = [], 0
    for group, blocks in enumerate(ndimage.find_objects(groups), start=1):
        window = _with_ring(blocks, side, maps.size)
        if _pixels(window) > _LARGEST_WINDOW:
            too_large.append(window)
            continue
        # What belongs to other groups, and is too far away to matter, must not be found again.
        margin = maps.margin(window)
        others = _of_pixels((groups > 0) & (groups != group), side, window)
        differences = above_edges(
            np.where(others, np.minimum(margin, np.float32(level)), margin),
            threshold,
            scale=scale,
            inside=maps.inside(window),
            surface=surface,
        )
        found = find_regions(
            differences,
            anomaly_map=maps.anomaly_map(window),
            join_gap=rule.join_gap,
            min_area=rule.min_area,
        )
        regions += [_moved(region, window) for region in found]
        if len(regions) > 2 * _MOST_REGIONS or _rectangles(regions) > 2 * _MOST_PIXELS:
            kept = _largest(regions)
            regions, smaller = kept, smaller + len(regions) - len(kept)
    kept = _largest(regions)
    numbered = [replace(region, label=label) for label, region in enumerate(kept, start=1)]
    return Found(numbered, too_large, smaller + len(regions) - len(kept))


def bands(size: tuple[int, int], *, multiple: int = 1) -> Iterator[Window]:
    """Cuts a picture into windows of whole rows, from top to bottom.

    Args:
        size: (height, width) of the picture.
        multiple: that the number of rows is of, but for the last window.
    """
    height, width = size
    rows = max(BAND // width // multiple, 1) * multiple
    for top in range(0, height, rows):
        yield slice(top, min(top + rows, height)), slice(0, width)


def _looked_at(maps: MapsByWindows) -> Iterator[Float32[np.ndarray, " pixels"]]:
    for window in bands(maps.size):
        margin, inside = maps.margin(window), maps.inside(window)
        yield margin.ravel() if inside is None else margin[inside]


def _block_maxima(maps: MapsByWindows, side: int) -> Float32[np.ndarray, "rows columns"]:
    """The highest margin of what is looked at in each block."""
    parts = []
    for window in bands(maps.size, multiple=side):
        margin, inside = maps.margin(window), maps.inside(window)
        if inside is not None:
            margin = np.where(inside, margin, np.float32(-np.inf))
        starts = (np.arange(0, length, side) for length in margin.shape)
        for axis, at in enumerate(starts):
            margin = np.maximum.reduceat(margin, at, axis=axis)
        parts.append(margin)
    return np.concatenate(parts)


def _median(parts: Callable[[], Iterator[Float32[np.ndarray, " pixels"]]]) -> float:
    """The median of values that come in parts, twice: exact, as `np.median` gives it."""
    coarse = np.zeros(1 << 16, np.int64)
    for part in parts():
        coarse += np.bincount(_ordered(part) >> 16, minlength=len(coarse))
    ends = np.cumsum(coarse)
    ranks = (ends[-1] - 1) // 2, ends[-1] // 2
    leading = [int(np.searchsorted(ends, rank, side="right")) for rank in ranks]
    fine = {high: np.zeros(1 << 16, np.int64) for high in leading}
    for part in parts():
        keys = _ordered(part)
        for high, counts in fine.items():
            counts += np.bincount(keys[keys >> 16 == high] & 0xFFFF, minlength=len(counts))
    middle = []
    for rank, high in zip(ranks, leading, strict=True):
        before = ends[high] - coarse[high]
        low = int(np.searchsorted(np.cumsum(fine[high]), rank - before, side="right"))
        middle.append(high << 16 | low)
    keys = np.array(middle, np.uint32)
    negative = keys >> 31 == 0
    return float(np.where(negative, ~keys, keys & 0x7FFFFFFF).view(np.float32).mean())


def _ordered(values: Float32[np.ndarray, " pixels"]) -> UInt32[np.ndarray, " pixels"]:
    """Whole numbers in the same order; see IEEE 754 on how floats are kept."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    return np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))


def _group(
    marked: Bool[np.ndarray, "rows columns"], sure: Bool[np.ndarray, "rows columns"], reach: float
) -> Int[np.ndarray, "rows columns"]:
    """Numbers the groups of blocks that may have to do with each other; 0 for others.

    Args:
        marked: the blocks that hold what may be of a region.
        sure: those of them that a region begins in; groups without are none.
        reach: how far pixels reach, in blocks.
    """
    # Each goes half way, towards pixels that may lie at the blocks' nearer ends.
    half = math.ceil(min(reach, max(marked.shape)) / 2) if reach > 1 else 0
    near = ndimage.maximum_filter(marked, 2 * half + 1, mode="constant") if half else marked
    # What lies in a hole of something broad is broad as well.
    groups, count = ndimage.label(ndimage.binary_fill_holes(near), _TOUCHING)
    is_sure = np.zeros(count + 1, bool)
    is_sure[groups[sure]] = True
    numbers = np.where(is_sure, np.cumsum(is_sure, dtype=np.int32), np.int32(0))
    groups *= marked
    return numbers[groups]


def _with_ring(blocks: Window, side: int, size: tuple[int, int]) -> Window:
    """The pixels of some blocks, and some around them."""
    rows, columns = (
        slice(max(0, s.start * side - _RING), min(of, s.stop * side + _RING))
        for s, of in zip(blocks, size, strict=True)
    )
    return rows, columns


def _of_pixels(
    blocks: Bool[np.ndarray, "rows columns"], side: int, window: Window
) -> Bool[np.ndarray, "h w"]:
    """Blocks as a mask of the pixels in a window."""
    rows, columns = (np.arange(s.start, s.stop) // side for s in window)
    return blocks[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1][
        np.ix_(rows - rows[0], columns - columns[0])
    ]


def _moved(region: Region, window: Window) -> Region:
    """A region of a window, at its place in the picture."""
    top, left = window[0].start, window[1].start
    moved = np.add(region.bbox, (top, left, top, left)).tolist()
    return replace(region, bbox=tuple(moved))


def _largest(regions: list[Region]) -> list[Region]:
    """As many as are kept, the largest first; those as large from top to bottom."""
    ordered = sorted(regions, key=lambda region: (-region.area, region.start))[:_MOST_REGIONS]
    pixels = np.cumsum([region.mask.size for region in ordered])
    return ordered[: int(np.searchsorted(pixels, _MOST_PIXELS, side="right"))]


def _rectangles(regions: list[Region]) -> int:
    return sum(region.mask.size for region in regions)


def _pixels(window: Window) -> int:
    return math.prod(s.stop - s.start for s in window)
