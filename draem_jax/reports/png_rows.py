"""PNG files that are written some rows at a time, so that no large picture is held for it.

The format is PNG, Third Edition (W3C, 2025).
"""

import itertools
import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from jaxtyping import UInt8, UInt16

from draem_jax.files import atomic_path

Rows = UInt8[np.ndarray, "rows W"] | UInt8[np.ndarray, "rows W 3"] | UInt16[np.ndarray, "rows W"]

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _RGB = 0, 2  # colour types
_UP = 2  # the filter that keeps what differs from the row above
_LEVEL = 1  # of zlib: maps hardly shrink further, and the time counts


def write_png_rows(path: str | Path, height: int, parts: Iterable[Rows]) -> None:
    """Writes a PNG file without loss, atomically, from rows that come from top to bottom.

    Args:
        path: the file; its name must end in .png.
        height: how many rows there are in all, at least 1.
        parts: some rows each, one at least; all 8-bit grey, all RGB, or all 16-bit grey.

    Raises:
        ValueError: there are fewer or more rows.
        UserError: the folder cannot be written, or the disk is full.
    """
    parts = iter(parts)
    first = next(parts)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write(_SIGNATURE)
        bits, colour = 8 * first.itemsize, _RGB if first.ndim == 3 else _GREY
        header = struct.pack(">IIBBBBB", first.shape[1], height, bits, colour, 0, 0, 0)
        file.write(_chunk(b"IHDR", header))
        for packed in _packed(itertools.chain([first], parts), height):
            file.write(_chunk(b"IDAT", packed))
        file.write(_chunk(b"IEND", b""))


def _packed(parts: Iterable[Rows], height: int) -> Iterator[bytes]:
    packer = zlib.compressobj(_LEVEL)
    above, count = None, 0
    for part in parts:
        # Values of 16 bits have their high byte first.
        rows = part.astype(part.dtype.newbyteorder(">")).view(np.uint8).reshape(len(part), -1)
        above = np.zeros_like(rows[:1]) if above is None else above
        filtered = np.empty((len(rows), 1 + rows.shape[1]), np.uint8)
        filtered[:, 0] = _UP
        np.subtract(rows[:1], above, out=filtered[:1, 1:])
        np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
        above, count = rows[-1:], count + len(rows)
        if packed := packer.compress(filtered.data):
            yield packed
    if count != height:
        raise ValueError(f"{count} rows were given of a picture that has {height}")
    yield packer.flush()


def _chunk(kind: bytes, content: bytes) -> bytes:
    check = zlib.crc32(content, zlib.crc32(kind))
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)
