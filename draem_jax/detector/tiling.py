"""Seeing pictures in tiles: a batch holds tiles of many pictures, and maps come out whole."""

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import Float32, UInt8

from draem_jax.data.fitting import pad_mirrored
from draem_jax.data.resizing import resized_window
from draem_jax.data.tiles import Blending, Tile, TileGrid
from draem_jax.data.windows import PictureWindows
from draem_jax.detector.outputs import BatchOutput

_IN_FLIGHT = 2  # batches: enough that the devices never wait, and memory stays bounded


@runtime_checkable
class Canvas(Protocol):
    """A picture at the scale that the networks see, read tile by tile."""

    @property
    def grid(self) -> TileGrid:
        """Its tiles."""
        ...

    def read(self, window: tuple[slice, slice]) -> UInt8[np.ndarray, "h w 3"]:
        """Reads a tile; what is beyond the picture is its mirror image."""
        ...


@dataclass(frozen=True)
class CanvasInMemory:
    """A canvas that is an array; see `Canvas`."""

    image: UInt8[np.ndarray, "H W 3"]
    grid: TileGrid

    def read(self, window: tuple[slice, slice]) -> UInt8[np.ndarray, "h w 3"]:
        """Reads a tile."""
        return pad_mirrored(self.image[window], self.grid.size)


@dataclass(frozen=True, eq=False)
class CanvasOfFile:
    """A canvas that is read from a file by windows; see `Canvas`.

    Attributes:
        windows: the file.
        size: (height, width) that the picture is resized to.
        grid: the tiles.
    """

    windows: PictureWindows
    size: tuple[int, int]
    grid: TileGrid

    def read(self, window: tuple[slice, slice]) -> UInt8[np.ndarray, "h w 3"]:
        """Reads a tile; values may be one off from those of a canvas that is resized whole."""
        rows, columns = (
            slice(s.start, min(s.stop, of)) for s, of in zip(window, self.size, strict=True)
        )
        tile = resized_window(
            self.windows.read_window, self.windows.size, self.size, (rows, columns)
        )
        return pad_mirrored(tile, self.grid.size)


class Rows(NamedTuple):
    """Rows of a picture's maps that are done.

    Attributes:
        number: of the picture, counted from 0.
        top: the first of the rows, in the margin.
        values: by its name each map's rows, float32 (rows, W, C); of features at their resolution.
        is_last: whether the picture ends with them.
    """

    number: int
    top: int
    values: Mapping[str, Float32[np.ndarray, "_ _ _"]]
    is_last: bool


class _Place(NamedTuple):
    number: int
    canvas: Canvas
    tile: Tile


def see_in_tiles(
    run: Callable[[UInt8[np.ndarray, "B h w 3"]], BatchOutput],
    canvases: Iterable[Canvas],
    *,
    batch_size: int,
    maps: Sequence[str] = ("margin",),
) -> Iterator[Rows]:
    """Sees pictures in tiles, and puts together what is said of them.

    A tile is read when its batch is made up; a picture's rows come as soon as no tile adds to them
    any more. So memory is that of some batches and of a row of tiles, beside what canvases hold.

    Args:
        run: the networks on at most a batch of tiles, which it may pad; it need not wait.
        canvases: the pictures, taken as they are needed.
        batch_size: tiles of a batch; the last one may have fewer.
        maps: the names of those of a batch's outputs that are wanted, "margin" among them.

    Yields:
        The rows of each picture from top to bottom, one picture after the other. What reaches
        beyond the canvas is among them.
    """
    places = (
        _Place(number, canvas, tile)
        for number, canvas in enumerate(canvases)
        for tile in canvas.grid
    )
    blendings: dict[str, Blending] = {}
    waiting: deque[tuple[list[_Place], BatchOutput]] = deque()
    while batch := list(itertools.islice(places, batch_size)):
        waiting.append((batch, run(np.stack([p.canvas.read(p.tile.window) for p in batch]))))
        if len(waiting) > _IN_FLIGHT:
            yield from _blend(*waiting.popleft(), maps, blendings)
    while waiting:
        yield from _blend(*waiting.popleft(), maps, blendings)


def _blend(
    batch: Sequence[_Place],
    output: BatchOutput,
    maps: Sequence[str],
    blendings: dict[str, Blending],
) -> Iterator[Rows]:
    """Adds a batch's tiles; `blendings` are those of the picture under way, by the maps' names."""
    values = jax.device_get({name: getattr(output, name) for name in maps})
    for i, (number, canvas, tile) in enumerate(batch):
        grid = canvas.grid
        done: dict[str, Any] = {}
        top = grid.tops[tile.row]
        for name in maps:
            part = values[name][i]
            part = part[..., None] if part.ndim == 2 else part
            if tile.row == tile.column == 0:
                shrunk = grid.shrunk(grid.size[0] // len(part))
                blendings[name] = Blending(shrunk, channels=part.shape[-1])
            done[name] = blendings[name].add(tile, part)
        if tile.column + 1 == len(grid.lefts):
            yield Rows(number, top, done, tile.row + 1 == len(grid.tops))
