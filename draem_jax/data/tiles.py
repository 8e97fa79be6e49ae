"""Tiles that overlap: where they lie on a canvas, and how what is said of them becomes one map."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32

UNIT = 32
"""Tiles begin at multiples of it, as far as the networks' pooling goes, so that each place lies in
the same way in all tiles that it is part of."""


class Tile(NamedTuple):
    """A tile's place: its rows and columns on the canvas, and its row and column among tiles."""

    window: tuple[slice, slice]
    row: int
    column: int


@dataclass(frozen=True)
class TileGrid:
    """Tiles that cover a canvas.

    Attributes:
        size: (height, width) of a tile, multiples of `UNIT`.
        tops: the first rows of the tiles, ascending.
        lefts: the first columns of the tiles.
    """

    size: tuple[int, int]
    tops: tuple[int, ...]
    lefts: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.tops) * len(self.lefts)

    def __iter__(self) -> Iterator[Tile]:
        height, width = self.size
        for row, top in enumerate(self.tops):
            for column, left in enumerate(self.lefts):
                window = slice(top, top + height), slice(left, left + width)
                yield Tile(window, row, column)

    @property
    def covered(self) -> tuple[int, int]:
        """The (height, width) that the tiles cover together."""
        return self.tops[-1] + self.size[0], self.lefts[-1] + self.size[1]

    def shrunk(self, factor: int) -> "TileGrid":
        """The same on a canvas that has one pixel for so many along each side."""
        return TileGrid(
            (self.size[0] // factor, self.size[1] // factor),
            tuple(top // factor for top in self.tops),
            tuple(left // factor for left in self.lefts),
        )

    def row_weights(self) -> Float32[np.ndarray, "rows h"]:
        """What the rows of each row of tiles weigh in the whole; see `blending_weights`."""
        return blending_weights(self.tops, self.size[0])

    def column_weights(self) -> Float32[np.ndarray, "columns w"]:
        """What the columns of each column of tiles weigh in the whole."""
        return blending_weights(self.lefts, self.size[1])


def usual_overlap(size: tuple[int, int]) -> int:
    """How many pixels neighbouring tiles share unless it is said otherwise: a quarter of a tile.

    Args:
        size: (height, width) of a tile.
    """
    return min(size) // 4


def lay_tiles(canvas: tuple[int, int], size: tuple[int, int], *, overlap: int) -> TileGrid:
    """Lays the fewest tiles that cover a canvas, evenly spaced.

    With an overlap of 0 they lie side by side from the top left corner instead, so that they can be
    those that a picture was put together of; only the last ones are moved back to end with it.

    Args:
        canvas: (height, width) to cover; the last tiles reach beyond it by less than `UNIT`, or as
            far as it is smaller than a tile.
        size: (height, width) of a tile, multiples of `UNIT`.
        overlap: pixels that neighbours share at least, from 0 to less than a tile's side; rounded
            up to a multiple of `UNIT`.
    """
    tops, lefts = (
        _starts(of, side, overlap=overlap) for of, side in zip(canvas, size, strict=True)
    )
    return TileGrid(size, tops, lefts)


def _starts(length: int, side: int, *, overlap: int) -> tuple[int, ...]:
    units, side = math.ceil(length / UNIT), side // UNIT
    beyond = max(0, units - side)
    # What is rounded up must leave a step.
    step = max(1, side - math.ceil(overlap / UNIT))
    count = math.ceil(beyond / step)
    if overlap == 0:
        return tuple(min(i * step, beyond) * UNIT for i in range(count + 1))
    return tuple(i * beyond // max(1, count) * UNIT for i in range(count + 1))


def blending_weights(starts: tuple[int, ...], side: int) -> Float32[np.ndarray, "tiles side"]:
    """Weights of tiles along one axis, whose sum is 1 at each place of the canvas.

    Each tile's weight rises smoothly from its border (a squared sine), where it knows least of what
    is around, to its middle; and is divided by the sum of all.

    Args:
        starts: where the tiles begin.
        side: how long each is.
    """
    window = np.sin(np.pi * (np.arange(side) + 0.5) / side) ** 2
    total = np.zeros(starts[-1] + side)
    for start in starts:
        total[start : start + side] += window
    return np.stack([window / total[s : s + side] for s in starts]).astype(np.float32)


class Blending:
    """Puts tiles together to a whole, from top to bottom, and keeps no more than a row of them.

    Memory is that of one row of tiles, however high the canvas is.
    """

    def __init__(self, grid: TileGrid, channels: int = 1):
        """Begins with nothing.

        Args:
            grid: the tiles.
            channels: of what the tiles hold.
        """
        self._grid = grid
        self._rows, self._columns = grid.row_weights(), grid.column_weights()
        self._buffer = np.zeros((grid.size[0], grid.covered[1], channels), np.float32)
        self._top = 0

    def add(
        self, tile: Tile, values: Float[np.ndarray, "h w C"]
    ) -> Float32[np.ndarray, "rows W C"] | None:
        """Adds the next tile.

        Args:
            tile: its place among the tiles, which come in their order; that on the canvas does not
                matter.
            values: what it holds.

        Returns:
            The rows that nothing is added to any more, those that follow what was returned before;
            None until a row of tiles is complete.
        """
        weights = np.multiply.outer(self._rows[tile.row], self._columns[tile.column])
        left = self._grid.lefts[tile.column]
        self._buffer[:, left : left + values.shape[1]] += weights[..., None] * values
        if tile.column + 1 < len(self._grid.lefts):
            return None
        is_last = tile.row + 1 == len(self._grid.tops)
        end = self._grid.covered[0] if is_last else self._grid.tops[tile.row + 1]
        count = end - self._top
        done = self._buffer[:count].copy()
        self._buffer[: -count or None] = self._buffer[count:].copy()
        self._buffer[len(self._buffer) - count :] = 0
        self._top = end
        return done
