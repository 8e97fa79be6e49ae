"""Files of `torch.save`: what is in them, and their tensors one at a time.

Both forms are read: the archive that PyTorch has written since version 1.6, whose storages are
files of their own, and the older one, whose storages stand one behind another.
"""

import io
import math
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from draem_jax.errors import UserError
from draem_jax.pytorch.pickles import LONGEST, DamagedError, Known, Name, read_pickle

_STORAGES: dict[str, np.dtype] = {
    "FloatStorage": np.dtype(np.float32),
    "DoubleStorage": np.dtype(np.float64),
    "HalfStorage": np.dtype(np.float16),
    "LongStorage": np.dtype(np.int64),
    "IntStorage": np.dtype(np.int32),
    "ShortStorage": np.dtype(np.int16),
    "CharStorage": np.dtype(np.int8),
    "ByteStorage": np.dtype(np.uint8),
    "BoolStorage": np.dtype(np.bool_),
}
_TYPES = {f"{module}.{s}": t for module in ("torch", "torch.cuda") for s, t in _STORAGES.items()}

# What the older form begins with.
_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001

_MOST_AXES = 8

# What the standard library raises of an archive that is damaged.
_BROKEN = (
    *(zipfile.BadZipFile, zlib.error, struct.error, EOFError, ValueError, LookupError),
    *(NotImplementedError, RuntimeError, OverflowError),
)


@dataclass(frozen=True)
class Storage:
    """A row of numbers in a file.

    Attributes:
        key: what the file calls it.
        dtype: of the numbers.
        count: how many there are.
    """

    key: str
    dtype: np.dtype
    count: int


@dataclass(frozen=True)
class Tensor:
    """A tensor whose numbers have not been read; they lie within its storage.

    Attributes:
        storage: where the numbers are.
        offset: where the first one is, in numbers.
        shape: of the tensor.
        strides: from one to the next along each axis, in numbers.
    """

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclass(frozen=True)
class TorchFile:
    """What `torch.save` has saved.

    Attributes:
        path: of the file.
        length: its length in bytes.
        content: see `read_pickle`, with a `Tensor` for each tensor.
    """

    path: Path
    length: int
    content: Any
    _read_storage: Callable[[Storage], np.ndarray]

    def read(self, tensor: Tensor) -> np.ndarray:
        """The numbers of a tensor of `content`, from the file; not to be written to.

        Raises:
            UserError: they are not there, or damaged.
        """
        with _told(self.path):
            flat = self._read_storage(tensor.storage)
        return np.lib.stride_tricks.as_strided(
            flat[tensor.offset :],
            tensor.shape,
            [stride * flat.itemsize for stride in tensor.strides],
            writeable=False,
        )


@contextmanager
def open_torch_file(path: str | Path, *, allows_foreign: bool = False) -> Iterator[TorchFile]:
    """Opens a file of `torch.save`; nothing that it names is imported or run.

    Args:
        path: of the file.
        allows_foreign: read a file as well that holds other things than tensors, each of which
            becomes a `Foreign`; refuse it otherwise.

    Yields:
        What it holds, whose tensors can be read inside the block.

    Raises:
        UserError: it cannot be read, is damaged or not of `torch.save`, or names what it may not.
    """
    path = Path(path)
    try:
        file = path.open("rb")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    with file:
        length = file.seek(0, io.SEEK_END)
        file.seek(0)
        read = _read_archive if file.read(4) == b"PK\x03\x04" else _read_old_form
        with _told(path):
            content, read_storage = read(file, length, allows_foreign)
        yield TorchFile(path, length, content, read_storage)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turns what goes wrong with a file into one line that names it."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{path} is refused: {error}") from error
    except DamagedError as error:
        raise UserError(f"{path} is no whole file of weights: {error}") from error
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error


def _read_archive(
    file: BinaryIO, length: int, allows_foreign: bool
) -> tuple[Any, Callable[[Storage], np.ndarray]]:
    try:
        archive = zipfile.ZipFile(file)
    except _BROKEN as error:
        raise DamagedError("its archive is damaged or cut short") from error

    def read(name: str, most: int) -> bytes:
        """The bytes of a part, which are as many as the archive says, and stand in the file."""
        try:
            part = archive.getinfo(name)
        except KeyError as error:
            raise DamagedError(f"it has no {name}") from error
        if part.compress_type != zipfile.ZIP_STORED or part.file_size != part.compress_size:
            raise DamagedError(f"{name} is compressed, as PyTorch never does")
        if part.file_size > min(most, length):
            raise DamagedError(f"{name} says that it has {part.file_size} bytes, which is too many")
        try:
            content = archive.read(part)
        except _BROKEN as error:
            raise DamagedError(f"{name} is damaged ({error})") from error
        if len(content) != part.file_size:
            raise DamagedError(f"{name} is cut short")
        return content

    pickles = [name for name in archive.namelist() if name.count("/") == 1]
    roots = [name.partition("/")[0] for name in pickles if name.endswith("/data.pkl")]
    if len(roots) != 1:
        raise DamagedError("an archive of PyTorch holds one data.pkl, and this one does not")
    root = roots[0]
    is_big = False
    if f"{root}/byteorder" in pickles:
        is_big = read(f"{root}/byteorder", 16) == b"big"

    def sized(storage: Storage) -> None:
        size = archive.getinfo(f"{root}/data/{storage.key}").file_size
        if size != storage.count * storage.dtype.itemsize:
            raise DamagedError(
                f"its pickle says {storage.count} numbers of data/{storage.key}, which has "
                f"{size} bytes"
            )

    def read_storage(storage: Storage) -> np.ndarray:
        content = read(f"{root}/data/{storage.key}", length)
        return np.frombuffer(content, storage.dtype.newbyteorder(">" if is_big else "<"))

    storages: dict[str, Storage] = {}
    known = _known(storages, length, allows_foreign)
    content = read_pickle(io.BytesIO(read(f"{root}/data.pkl", LONGEST)), known)
    for storage in storages.values():
        try:
            sized(storage)
        except KeyError as error:
            raise DamagedError(f"it has no data/{storage.key}") from error
    return content, _remembering(read_storage)


def _read_old_form(
    file: BinaryIO, length: int, allows_foreign: bool
) -> tuple[Any, Callable[[Storage], np.ndarray]]:
    file.seek(0)
    head = io.BytesIO(file.read(LONGEST))
    storages: dict[str, Storage] = {}
    known = _known(storages, length, allows_foreign)
    try:
        begins = read_pickle(head, known) == _MAGIC and read_pickle(head, known) == _PROTOCOL
    except DamagedError:
        begins = False
    if not begins:
        raise DamagedError("it does not begin as those of torch.save do")
    system, content, keys = (read_pickle(head, known) for _ in range(3))
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise DamagedError("it was written by a machine whose numbers are the other way round")
    if not isinstance(keys, list):
        raise DamagedError("its pickle is damaged")
    starts: dict[str, int] = {}
    position = head.tell()
    for key in keys:
        if not isinstance(key, str) or (storage := storages.get(key)) is None:
            raise DamagedError("it has storages that no tensor is in")
        file.seek(position)
        if file.read(8) != struct.pack("<q", storage.count):
            raise DamagedError(f"storage {key[:20]} is not as long as its pickle says")
        starts[key] = position + 8
        position = starts[key] + storage.count * storage.dtype.itemsize
    if position > length:
        raise DamagedError("it is cut short")
    if starts.keys() != storages.keys():
        raise DamagedError("storages are missing")

    def read_storage(storage: Storage) -> np.ndarray:
        file.seek(starts[storage.key])
        content = file.read(storage.count * storage.dtype.itemsize)
        return np.frombuffer(content, storage.dtype.newbyteorder("<"), storage.count)

    return content, _remembering(read_storage)


def _remembering(
    read: Callable[[Storage], np.ndarray],
) -> Callable[[Storage], np.ndarray]:
    """Keeps the storage that was read last: all tensors may lie in one."""
    last: list[tuple[Storage, np.ndarray]] = []

    def read_once(storage: Storage) -> np.ndarray:
        if not last or last[0][0] != storage:
            last.clear()
            last.append((storage, read(storage)))
        return last[0][1]

    return read_once


def _known(storages: dict[str, Storage], length: int, allows_foreign: bool) -> Known:
    """What pickles of PyTorch name; storages that are met are put into `storages`."""

    def storage_of(identifier: Any) -> Storage:
        if not isinstance(identifier, tuple) or len(identifier) not in (5, 6):
            raise DamagedError("its pickle is damaged")
        kind, storage_type, key, _place, count, *view = identifier
        if kind != "storage" or not isinstance(key, str) or not _is_count(count) or any(view):
            raise DamagedError("its pickle is damaged")
        dtype = _TYPES.get(storage_type.name) if isinstance(storage_type, Name) else None
        if dtype is None:
            raise DamagedError("it holds numbers of an unknown type")
        if count * dtype.itemsize > length:
            raise DamagedError(f"its pickle says {count} numbers, more than it has room for")
        storage = Storage(key, dtype, count)
        if storages.setdefault(key, storage) != storage:
            raise DamagedError("its pickle is damaged")
        return storage

    def other_storage_of(identifier: Any) -> Any:
        # A file that holds other things may have tensors of unknown types among them.
        try:
            return storage_of(identifier)
        except DamagedError:
            return None

    calls: Mapping[str, Callable[[tuple[Any, ...]], Any]] = {
        "collections.OrderedDict": _empty_dict,
        "torch._utils._rebuild_tensor_v2": _other_tensor if allows_foreign else _tensor,
        "torch._utils._rebuild_parameter": _first,
        "torch.Size": _first,
    }
    persistent = other_storage_of if allows_foreign else storage_of
    return Known(
        calls=calls,
        values=frozenset(_TYPES),
        persistent=persistent,
        allows_foreign=allows_foreign,
    )


def _empty_dict(arguments: tuple[Any, ...]) -> dict[Any, Any]:
    if arguments:
        raise DamagedError("its pickle is damaged")
    return {}


def _first(arguments: tuple[Any, ...]) -> Any:
    return arguments[0]


def _other_tensor(arguments: tuple[Any, ...]) -> Tensor | None:
    return _tensor(arguments) if isinstance(arguments[0], Storage) else None


def _tensor(arguments: tuple[Any, ...]) -> Tensor:
    storage, offset, shape, strides = arguments[:4]
    fits = (
        isinstance(storage, Storage)
        and _is_count(offset)
        and isinstance(shape, tuple)
        and isinstance(strides, tuple)
        and len(shape) == len(strides) <= _MOST_AXES
        and all(map(_is_count, (*shape, *strides)))
    )
    if not fits:
        raise DamagedError("its pickle is damaged")
    reach = sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))
    is_empty = 0 in shape
    # No more numbers than there are, so that none of them stands for many.
    inside = offset + reach < storage.count and math.prod(shape) <= storage.count
    if offset > storage.count or not (is_empty or inside):
        raise DamagedError("a tensor is larger than what it is stored in")
    return Tensor(storage, offset, shape, strides)


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**48
