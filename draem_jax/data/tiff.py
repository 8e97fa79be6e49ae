"""Blocks of a TIFF, cut out as small TIFFs of their own, so that a large one is never read whole.

A TIFF holds its pixels in tiles, or in strips of whole rows, each packed by itself. A few of them
with the same tags are again a TIFF, of a part of the picture, and a reader decodes its pixels to
what they are in the large one. So nothing of modes, depths and compressions has to be known here.

The formats are TIFF, Revision 6.0 (Adobe, 1992), and BigTIFF, its variant with 64-bit offsets.
"""

import dataclasses
import itertools
import math
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import BinaryIO, NamedTuple

import numpy as np
from jaxtyping import Int64

_BLOCK_SIDE = 512
"""Small tiles and strips are cut out together, as opening a file for each would cost more than
decoding it: up to this width, and up to the pixels of a square of this side."""

# What is read at most of a file that is damaged or lies, in directories, tags and bytes.
_MOST_PAGES, _MOST_TAGS, _LONGEST_VALUE, _LONGEST_VALUES = 1000, 1000, 1 << 26, 1 << 28

_MOST_PIXELS = 1 << 38
"""Of a picture. All of its segments may be the same one, so that its file need not be long."""

# What a file begins with: its byte order, and whether it is a BigTIFF.
_HEADS = {
    b"II*\0": ("<", False),
    b"MM\0*": (">", False),
    b"II+\0": ("<", True),
    b"MM\0+": (">", True),
}

# The types that values may have here, by their numbers. A rational is two numbers of 32 bits.
_32_BITS, _RATIONAL, _64_BITS = 4, 5, 16
_TYPES = {1: "u1", 2: "u1", 3: "u2", _32_BITS: "u4", _RATIONAL: "u4", 7: "u1", _64_BITS: "u8"}

_WIDTH, _HEIGHT = 256, 257
_STRIP_OFFSETS, _STRIP_ROWS, _STRIP_BYTES = 273, 278, 279
_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_BYTES = 322, 323, 324, 325
_PLACING = {
    *(_WIDTH, _HEIGHT, _STRIP_OFFSETS, _STRIP_ROWS, _STRIP_BYTES),
    *(_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_BYTES),
}
"""Where pixels lie: told anew of a block."""

_BITS, _COMPRESSION, _CHANNELS, _PLANES, _SAMPLE_FORMAT = 258, 259, 277, 284, 339
_DECODING = {
    *(_BITS, _COMPRESSION, _CHANNELS, _PLANES, _SAMPLE_FORMAT),
    262,  # photometric interpretation
    266,  # order of bits
    *(292, 293),  # options of fax compressions
    317,  # predictor
    320,  # palette
    332,  # inks
    338,  # what channels beyond the colours are
    347,  # JPEG tables
    *(529, 530, 531, 532),  # YCbCr: coefficients, subsampling, positions, black and white
}
"""How pixels are decoded: the same of a block."""

_TURNING = {274, 700}
"""How the picture is turned: orientation, and XMP, which may hold one."""

_SUBFILE = 254
_REDUCED, _MASK = 1, 4  # of _SUBFILE: a page at a lower resolution, or the mask of another page

_KNOWN = _PLACING | _DECODING | _TURNING | {_SUBFILE}

_NONE = 1
# Those that pack each segment by itself: none, fax (2 to 4), LZW, JPEG (not that of TIFF 6.0, whose
# tables lie elsewhere), deflate (two numbers), PackBits, LZMA, Zstandard, WebP.
_COMPRESSIONS = {_NONE, 2, 3, 4, 5, 7, 8, 32946, 32773, 34925, 50000, 50001}


class Value(NamedTuple):
    """The value of a tag.

    Attributes:
        kind: the number of its type.
        numbers: what it holds, in the byte order of the file.
    """

    kind: int
    numbers: np.ndarray


Tags = Mapping[int, Value]


@dataclasses.dataclass(frozen=True)
class TiffBlocks:
    """Where the pixels of a TIFF lie, and how they are decoded.

    Its segments are tiles or strips; a block is some of them, side by side and below each other.

    Attributes:
        order: the byte order of the file, "<" or ">".
        tags: how pixels are decoded, and how the picture is turned.
        size: (height, width) of the picture as it lies in the file, before it is turned.
        segment: (height, width) of a segment.
        tiled: whether segments are tiles, which have their full size at the borders, too.
        group: (rows, columns) of segments in a block.
        offsets: where each segment begins in the file, by plane, row and column.
        nbytes: how long each is.
    """

    order: str
    tags: Tags
    size: tuple[int, int]
    segment: tuple[int, int]
    tiled: bool
    group: tuple[int, int]
    offsets: Int64[np.ndarray, "planes rows columns"]
    nbytes: Int64[np.ndarray, "planes rows columns"]

    @property
    def block(self) -> tuple[int, int]:
        """(height, width) of a block; those at the lower and right border may be smaller."""
        return self.segment[0] * self.group[0], self.segment[1] * self.group[1]

    def cut(self, file: BinaryIO, row: int, column: int) -> bytes:
        """A block as a TIFF, not to be turned, whatever the tags say.

        Args:
            file: the file that holds the picture.
            row: the block's row among the blocks.
            column: the block's column among the blocks.

        Raises:
            EOFError: the file ends before the block does.
        """
        rows, columns = self.group
        where = (
            slice(None),
            slice(row * rows, (row + 1) * rows),
            slice(column * columns, (column + 1) * columns),
        )
        places = zip(self.offsets[where].flat, self.nbytes[where].flat, strict=True)
        segments = [_read(file, int(offset), int(nbytes)) for offset, nbytes in places]
        height, width = self.block
        size = min(height, self.size[0] - row * height), min(width, self.size[1] - column * width)
        decoding = {tag: value for tag, value in self.tags.items() if tag in _DECODING}
        return self._write(size, decoding, segments)

    def head(self) -> bytes:
        """A TIFF of the size of a block, with all the tags, but without pixels."""
        return self._write(self.block, self.tags, [b""])

    def _write(self, size: tuple[int, int], tags: Tags, segments: list[bytes]) -> bytes:
        lengths = [len(segment) for segment in segments]
        offsets = list(itertools.accumulate(lengths, initial=8))
        placing: dict[int, Sequence[int]] = {_HEIGHT: size[:1], _WIDTH: size[1:]}
        if self.tiled:
            placing |= {_TILE_HEIGHT: self.segment[:1], _TILE_WIDTH: self.segment[1:]}
            placing |= {_TILE_OFFSETS: offsets[:-1], _TILE_BYTES: lengths}
        else:
            placing |= {_STRIP_ROWS: self.segment[:1]}
            placing |= {_STRIP_OFFSETS: offsets[:-1], _STRIP_BYTES: lengths}
        unsigned = f"{self.order}u4"
        placed = {tag: Value(_32_BITS, np.array(n, unsigned)) for tag, n in placing.items()}

        # Pixels come first, then long values, then the directory, each of which knows where the
        # former lie.
        contents, position = segments, offsets[-1]
        directory = struct.pack(f"{self.order}H", len(tags) + len(placed))
        for tag, (kind, numbers) in sorted({**tags, **placed}.items()):
            content, count = numbers.tobytes(), len(numbers) // (2 if kind == _RATIONAL else 1)
            directory += struct.pack(f"{self.order}HHI", tag, kind, count)
            if len(content) <= 4:
                directory += content.ljust(4, b"\0")
            else:
                directory += struct.pack(f"{self.order}I", position)
                contents = [*contents, content]
                position += len(content)
        start = next(start for start, kind in _HEADS.items() if kind == (self.order, False))
        start += struct.pack(f"{self.order}I", position)
        no_other_page = struct.pack(f"{self.order}I", 0)
        return b"".join([start, *contents, directory, no_other_page])


def find_blocks(file: BinaryIO) -> TiffBlocks | None:
    """Finds the blocks of a file's first page that is neither a preview nor a mask of another one.

    Args:
        file: a file of any format.

    Returns:
        The blocks; None where the picture must be read whole: it is no TIFF, or a damaged one, is
        packed in a way that is not known here, or what a pixel comes out as depends on all others
        (those of more than 16 bits, or with a sign).

    Raises:
        OSError: the file ends before its pixels do. Where they are compressed, `TiffBlocks.cut`
            finds out.
    """
    try:
        order, big = _HEADS[_read(file, 0, 4)]
        pages = _read_pages(file, order, big=big)
        first = next(pages)
        candidates = itertools.chain([first], pages)
        tags = next((page for page in candidates if _is_page(page)), first)
        return _find_blocks(order, tags, length=file.seek(0, os.SEEK_END))
    except (EOFError, KeyError, OverflowError, ValueError):  # missing, or not what it should be
        return None


def _find_blocks(order: str, tags: Tags, *, length: int) -> TiffBlocks:
    size = _number(tags, _HEIGHT), _number(tags, _WIDTH)
    tiled = _TILE_WIDTH in tags
    if tiled:
        segment = _number(tags, _TILE_HEIGHT), _number(tags, _TILE_WIDTH)
    else:
        segment = min(_number(tags, _STRIP_ROWS, size[0]), size[0]), size[1]
    _expect(min(size + segment) > 0 and max(size + segment) < 2**32)
    _expect(math.prod(size) <= _MOST_PIXELS)
    _expect(tiled != (_STRIP_OFFSETS in tags))
    planes, bits = _planes(tags)
    shape = (planes, *(math.ceil(a / s) for a, s in zip(size, segment, strict=True)))
    offsets = _table(tags, _TILE_OFFSETS if tiled else _STRIP_OFFSETS, shape)
    row_bytes = math.ceil(segment[1] * bits / 8)
    _expect(row_bytes > 0)
    compression = _number(tags, _COMPRESSION, _NONE)
    if compression == _NONE:
        if not tiled and (np.diff(offsets, axis=1) == segment[0] * row_bytes).all():
            # Row follows upon row through all the strips: they may be cut anywhere.
            if int(offsets[:, 0].max()) + size[0] * row_bytes > length:
                raise OSError("the file ends before its pixels do")
            segment = min(max(_BLOCK_SIDE**2 // size[1], 1), size[0]), size[1]
            offsets = offsets[:, :1] + np.arange(0, size[0], segment[0])[:, None] * row_bytes
        nbytes = np.full(offsets.shape, segment[0] * row_bytes)
        if not tiled:
            nbytes[:, -1] = (size[0] - (offsets.shape[1] - 1) * segment[0]) * row_bytes
    else:
        _expect(compression in _COMPRESSIONS)
        nbytes = _table(tags, _TILE_BYTES if tiled else _STRIP_BYTES, shape)
        # libtiff reads no more of a segment, whatever the file says.
        nbytes = np.minimum(nbytes, 10 * segment[0] * row_bytes + 4096)
    columns = max(_BLOCK_SIDE // segment[1], 1)
    rows = max(_BLOCK_SIDE**2 // (segment[0] * segment[1] * columns), 1)
    kept = {tag: value for tag, value in tags.items() if tag in _DECODING | _TURNING}
    _expect(all(value.kind != _64_BITS for value in kept.values()))  # blocks are no BigTIFFs
    return TiffBlocks(order, kept, size, segment, tiled, (rows, columns), offsets, nbytes)


def _planes(tags: Tags) -> tuple[int, int]:
    """How many planes the channels lie in, and the bits of a pixel in each."""
    channels = _number(tags, _CHANNELS, 1)
    bits = set(map(int, tags[_BITS].numbers)) if _BITS in tags else {1}
    formats = set(map(int, tags[_SAMPLE_FORMAT].numbers)) if _SAMPLE_FORMAT in tags else {1}
    _expect(len(bits) == 1 and max(bits) <= 16 and formats == {1})  # unsigned integers
    match _number(tags, _PLANES, 1):
        case 1:
            return 1, channels * max(bits)
        case 2:
            return channels, max(bits)
    raise ValueError


def _read_pages(file: BinaryIO, order: str, *, big: bool) -> Iterator[Tags]:
    """Reads the tags that matter here, of one page after the other."""
    wide, length = order + ("Q" if big else "I"), order + ("Q" if big else "H")
    entry = struct.Struct(f"{order}HH" + ("Q8s" if big else "I4s"))
    (position,) = _unpack(file, 8 if big else 4, wide)
    left = _LONGEST_VALUES  # of bytes, in all pages together
    for _ in range(_MOST_PAGES):
        if not position:
            return
        (count,) = _unpack(file, position, length)
        _expect(count <= _MOST_TAGS)
        entries = _read(file, position + struct.calcsize(length), count * entry.size)
        tags: dict[int, Value] = {}
        for tag, kind, amount, content in entry.iter_unpack(entries):
            if tag in _KNOWN and tag not in tags and amount:
                tags[tag] = _read_value(file, order, kind, amount, content)
                left -= tags[tag].numbers.nbytes
                _expect(left >= 0)
        yield tags
        (position,) = _unpack(file, position + struct.calcsize(length) + len(entries), wide)


def _read_value(file: BinaryIO, order: str, kind: int, amount: int, content: bytes) -> Value:
    """Reads a value that lies in `content`, or where that says."""
    number = np.dtype(order + _TYPES[kind])
    amount *= 2 if kind == _RATIONAL else 1
    nbytes = amount * number.itemsize
    if nbytes > len(content):
        _expect(nbytes <= _LONGEST_VALUE)
        where = int.from_bytes(content, "little" if order == "<" else "big")
        content = _read(file, where, nbytes)
    return Value(kind, np.frombuffer(content, number, amount))


def _is_page(tags: Tags) -> bool:
    return not _number(tags, _SUBFILE, 0) & (_REDUCED | _MASK)


def _number(tags: Tags, tag: int, default: int | None = None) -> int:
    if tag not in tags and default is not None:
        return default
    return int(tags[tag].numbers[0])


def _table(
    tags: Tags, tag: int, shape: tuple[int, ...]
) -> Int64[np.ndarray, "planes rows columns"]:
    numbers = tags[tag].numbers
    _expect(len(numbers) == math.prod(shape) and int(numbers.max()) < 2**62)
    return numbers.astype(np.int64).reshape(shape)


def _unpack(file: BinaryIO, offset: int, numbers: str) -> tuple[int, ...]:
    return struct.unpack(numbers, _read(file, offset, struct.calcsize(numbers)))


def _read(file: BinaryIO, offset: int, nbytes: int) -> bytes:
    """Reads bytes of a file; raises EOFError, and reads nothing, where it ends before them."""
    if offset + nbytes > file.seek(0, os.SEEK_END):
        raise EOFError
    file.seek(offset)
    return file.read(nbytes)


def _expect(holds: bool) -> None:
    if not holds:
        raise ValueError
