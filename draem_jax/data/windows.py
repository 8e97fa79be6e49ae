"""Large pictures, read window by window.

A TIFF whose tiles or strips can be decoded one by one is never held as a whole, however large it
is. Any other picture is decoded once and kept, so that all are read in the same way.
"""

import contextlib
import functools
import itertools
import math
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from jaxtyping import UInt8

from draem_jax.data.decoding import (
    QUARTERS,
    Decoded,
    decode,
    read_header,
    read_orientation,
    turn,
)
from draem_jax.data.pictures import told
from draem_jax.data.resizing import Window, bring_down
from draem_jax.data.tiff import find_blocks

CACHE_BYTES = 256 << 20
"""What a picture's decoded blocks may take in memory, unless told otherwise."""

_TOO_LARGE = (
    "save it as a TIFF of 8 or 16 bits in tiles, which is read window by window, or cut it into "
    "tiles first"
)


class _Grid(NamedTuple):
    """The blocks that a picture is decoded by.

    Attributes:
        size: (height, width) of the picture as it lies in the file.
        block: (height, width) of a block; those at the lower and right border may be smaller.
        orientation: the EXIF number of how the picture is turned.
        content: gives the file of a picture that holds one block, by its row and column.
    """

    size: tuple[int, int]
    block: tuple[int, int]
    orientation: int
    content: Callable[[int, int], bytes]

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns) of blocks."""
        return math.ceil(self.size[0] / self.block[0]), math.ceil(self.size[1] / self.block[1])


class _Notes(NamedTuple):
    """What is kept of a block in any case; see `draem_jax.data.decoding.Decoded`."""

    highest: int | None
    opacity_ignored: bool


class PictureWindows:
    """A picture of which windows are read; see `open_windows`.

    Several threads may read it, but not several processes. It is closed at the end of a `with`
    block.

    Attributes:
        size: (height, width) of the picture.
    """

    def __init__(
        self,
        path: Path,
        grid: _Grid,
        close: Callable[[], None],
        *,
        full_scale: int | None,
        cache_bytes: int,
    ):
        height, width = grid.size
        self.size = (width, height) if grid.orientation in QUARTERS else (height, width)
        self._path, self._grid, self._close, self._full_scale = path, grid, close, full_scale
        self._is_open = True
        self._noted: dict[tuple[int, int], _Notes] = {}
        kept = cache_bytes // (3 * math.prod(grid.block))
        self._block = functools.lru_cache(max(kept, 1))(self._decode_block)

    def __enter__(self) -> "PictureWindows":
        return self

    def __exit__(self, *exception: Any) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file, and lets go of what was decoded."""
        self._is_open = False
        self._close()
        self._block.cache_clear()

    def read(self, top: int, left: int, height: int, width: int) -> UInt8[np.ndarray, "h w 3"]:
        """Reads a window.

        Args:
            top: the window's first row.
            left: the window's first column.
            height: the number of rows.
            width: the number of columns.

        Returns:
            `read_picture(path)[top : top + height, left : left + width]`, bit for bit: what lies
            beyond the picture is left out.

        Raises:
            ValueError: one of the numbers is negative, or the picture was closed.
            UserError: as in `read_picture`.
        """
        if min(top, left, height, width) < 0:
            raise ValueError(f"{height} x {width} pixels at {top}, {left} are no window")
        bottom, right = min(top + height, self.size[0]), min(left + width, self.size[1])
        top, left = min(top, bottom), min(left, right)
        rows, columns = self._unturn((top, bottom), (left, right))
        window = np.empty((rows[1] - rows[0], columns[1] - columns[0], 3), np.uint8)
        with self._telling():
            for (row, to_rows, from_rows), (column, to_columns, from_columns) in itertools.product(
                _pieces(rows, self._grid.block[0]), _pieces(columns, self._grid.block[1])
            ):
                block = self._block(row, column)
                window[to_rows, to_columns] = block[from_rows, from_columns]
        return turn(window, self._grid.orientation)

    def read_window(self, window: Window) -> UInt8[np.ndarray, "h w 3"]:
        """Reads the window that lies in some rows and columns, as `read` does."""
        rows, columns = window
        height, width = rows.stop - rows.start, columns.stop - columns.start
        return self.read(rows.start, columns.start, height, width)

    def highest(self) -> int | None:
        """The highest value in the file if it has more than 8 bits a channel, else None.

        Blocks that no window has been read of yet are decoded for it.

        Raises:
            ValueError: the picture was closed.
            UserError: as in `read`.
        """
        with self._telling():
            found = None
            for row, column in np.ndindex(self._grid.shape):
                highest = self._notes(row, column).highest
                if highest is None:
                    return None
                found = max(found or 0, highest)
            return found

    def opacity_ignored(self) -> bool:
        """Whether it is transparent everywhere, and read as if it were opaque.

        What comes before the first pixel that is not transparent is decoded for it.

        Raises:
            ValueError: the picture was closed.
            UserError: as in `read`.
        """
        with self._telling():
            return self._is_transparent

    def _telling(self) -> contextlib.AbstractContextManager[None]:
        if not self._is_open:
            raise ValueError(f"{self._path} was closed")
        return told(self._path, too_large=_TOO_LARGE)

    def _unturn(
        self, rows: tuple[int, int], columns: tuple[int, int]
    ) -> tuple[tuple[int, int], tuple[int, int]]:
        """From rows and columns of the picture to those in the file."""
        orientation, (height, width) = self._grid.orientation, self._grid.size
        if orientation in QUARTERS:
            rows, columns = columns, rows
        if orientation in (3, 4, 6, 7):
            rows = height - rows[1], height - rows[0]
        if orientation in (2, 3, 7, 8):
            columns = width - columns[1], width - columns[0]
        return rows, columns

    def _decode_block(self, row: int, column: int) -> UInt8[np.ndarray, "h w 3"]:
        decoded = self._decode(row, column)
        if decoded.opacity_ignored and not self._is_transparent:
            return np.full_like(decoded.picture, 255)
        return decoded.picture

    @functools.cached_property
    def _is_transparent(self) -> bool:
        return all(self._notes(*at).opacity_ignored for at in np.ndindex(self._grid.shape))

    def _notes(self, row: int, column: int) -> _Notes:
        """What was found in a block, which is decoded if it has not been yet."""
        if (row, column) not in self._noted:
            self._decode(row, column)
        return self._noted[row, column]

    def _decode(self, row: int, column: int) -> Decoded:
        decoded = decode(self._grid.content(row, column), full_scale=self._full_scale)
        self._noted[row, column] = _Notes(decoded.highest, decoded.opacity_ignored)
        return decoded


def open_windows(
    path: str | Path, *, full_scale: int | None = None, cache_bytes: int = CACHE_BYTES
) -> PictureWindows:
    """Opens a picture, to read windows of it.

    Of TIFF and BigTIFF in tiles or strips, uncompressed or by a compression that Pillow knows, only
    the blocks that windows lie in are decoded: each about once if windows come row by row, and the
    blocks that a row of windows lies in fit in the cache. (Of a picture that is turned a quarter,
    those are a column of blocks.) What cannot be read so is decoded whole with the first window,
    and kept: other formats, a TIFF that is compressed as one strip, one of 32 bits.

    Args:
        path: the file, in any format that Pillow reads.
        full_scale: see `read_picture`. Pixels of 16 bits are scaled before they are kept.
        cache_bytes: what decoded blocks may take in memory; at least one is kept.

    Returns:
        The opened picture, to be closed.

    Raises:
        UserError: as in `read_picture`, as far as can be seen without decoding. Only a picture that
            must be decoded whole, or whose single tiles are as large, can have too many pixels.
    """
    path = Path(path)
    with told(path, too_large=_TOO_LARGE), contextlib.ExitStack() as opened:
        grid = _find_grid(opened.enter_context(path.open("rb")))
        if grid is None:
            opened.close()
            grid = _whole(path)
        return PictureWindows(
            path, grid, opened.pop_all().close, full_scale=full_scale, cache_bytes=cache_bytes
        )


def count_pixels(path: str | Path) -> int:
    """How many pixels a picture has, also where only windows of it can be read; reads none.

    Raises:
        UserError: as in `open_windows`.
    """
    path = Path(path)
    with told(path, too_large=_TOO_LARGE):
        with path.open("rb") as file:
            blocks = find_blocks(file)
        return math.prod(read_header(path, turn=False).size if blocks is None else blocks.size)


def read_overview(
    windows: PictureWindows, *, largest_side: int = 2048
) -> UInt8[np.ndarray, "h w 3"]:
    """Reads a whole picture brought down in size, see `draem_jax.data.resizing.bring_down`.

    Args:
        windows: the picture.
        largest_side: what its larger side is brought down to, in pixels; smaller pictures are left
            as they are.

    Raises:
        UserError: as in `PictureWindows.read`.
    """
    scale = max(max(windows.size) / largest_side, 1.0)
    return bring_down(windows.read_window, windows.size, by=scale)


def _find_grid(file: BinaryIO) -> _Grid | None:
    """The blocks of a TIFF, which are read from `file` from then on; None where there are none."""
    blocks = find_blocks(file)
    if blocks is None:
        return None
    lock = threading.Lock()

    def content(row: int, column: int) -> bytes:
        with lock:  # the file has one position
            return blocks.cut(file, row, column)

    return _Grid(blocks.size, blocks.block, read_orientation(blocks.head()), content)


def _whole(path: Path) -> _Grid:
    """A picture as a single block, which is turned when it is decoded."""
    size = read_header(path).size
    return _Grid(size, size, 1, lambda row, column: path.read_bytes())


def _pieces(span: tuple[int, int], block: int) -> list[tuple[int, slice, slice]]:
    """How a span of pixels is put together from blocks, along one axis.

    Args:
        span: the first pixel, and the one behind the last.
        block: the length of a block.

    Returns:
        For each block its number, where its piece lies in the span, and where in the block.
    """
    start, end = span
    pieces = []
    for number in range(start // block, math.ceil(end / block) if start < end else 0):
        first, last = max(start, number * block), min(end, (number + 1) * block)
        inside = slice(first - number * block, last - number * block)
        pieces.append((number, slice(first - start, last - start), inside))
    return pieces
