"""Writing state dicts so that `torch.load(…, weights_only=True)` reads them."""

import struct
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

_TYPES = {np.dtype(np.float32): "FloatStorage", np.dtype(np.int64): "LongStorage"}

# Storages begin at multiples of it, as PyTorch wants them that maps files into memory.
_ALIGNMENT = 64
_LOCAL_HEADER = 30  # bytes before the name of a part in an archive

_DATE = (1980, 1, 1, 0, 0, 0)  # so that equal weights are equal files


class ArrayToWrite(NamedTuple):
    """An entry of a state dict.

    Attributes:
        name: of the entry.
        array: its numbers, float32 or int64.
    """

    name: str
    array: np.ndarray


def write_state_dict(path: Path, arrays: Iterable[ArrayToWrite], *, name: str) -> None:
    """Writes a state dict in the form of an archive.

    Args:
        path: to write to.
        arrays: its entries in their order; each is asked for once, and let go when it is written.
        name: of the folder within the archive, which has a meaning to nobody.
    """
    described: list[tuple[str, str, tuple[int, ...]]] = []
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for i, (entry, array) in enumerate(arrays):
            described.append((entry, _TYPES[array.dtype], array.shape))
            little = array.astype(array.dtype.newbyteorder("<"), copy=False)
            _write(archive, f"{name}/data/{i}", np.ascontiguousarray(little).tobytes())
        _write(archive, f"{name}/data.pkl", _pickle(described))
        _write(archive, f"{name}/byteorder", b"little")
        _write(archive, f"{name}/version", b"3\n")


def _write(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    part = zipfile.ZipInfo(name, _DATE)
    assert archive.fp is not None
    begins = archive.fp.tell() + _LOCAL_HEADER + len(name.encode()) + 4
    part.extra = _field(-begins % _ALIGNMENT)
    archive.writestr(part, content)


def _field(length: int) -> bytes:
    """A field of an archive's header that says nothing, of so many bytes and four."""
    return b"FB" + struct.pack("<H", length) + bytes(length)


def _pickle(described: Iterable[tuple[str, str, tuple[int, ...]]]) -> bytes:
    """The pickle, of protocol 2, of an `OrderedDict` of tensors; storages are called by number.

    Put together by hand: the standard library pickles nothing that it cannot import.
    """
    parts = [b"\x80\x02", _EMPTY_DICT, b"("]
    for i, (name, storage, shape) in enumerate(described):
        strides = [int(np.prod(shape[axis + 1 :])) for axis in range(len(shape))]
        identifier = b"".join(
            (
                b"(",
                _text("storage"),
                _name("torch", storage),
                _text(str(i)),
                _text("cpu"),
                _number(int(np.prod(shape))),
                b"tQ",
            )
        )
        arguments = (
            identifier,
            _number(0),
            _numbers(shape),
            _numbers(strides),
            b"\x89",  # needs no gradient
            _EMPTY_DICT,  # no hooks
        )
        parts += [_text(name), _name("torch._utils", "_rebuild_tensor_v2"), b"("]
        parts += [*arguments, b"tR"]
    return b"".join((*parts, b"u."))


def _name(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def _text(text: str) -> bytes:
    return b"X" + struct.pack("<I", len(text.encode())) + text.encode()


def _number(number: int) -> bytes:
    return b"J" + struct.pack("<i", number)


def _numbers(numbers: Iterable[int]) -> bytes:
    return b"(" + b"".join(map(_number, numbers)) + b"t"


_EMPTY_DICT = _name("collections", "OrderedDict") + b")R"
