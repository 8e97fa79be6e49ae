"""Unpacking a downloaded archive, such that no member can do harm and no damage goes unseen."""

import bz2
import errno
import functools
import gzip
import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from draem_jax.data.folders import SUFFIXES, is_ignored
from draem_jax.errors import UserError

ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2", ".zip")
"""Endings of archives' names. A file of another name is one too if its content is an archive's."""

_DAMAGED = (
    tarfile.TarError,
    zipfile.BadZipFile,
    lzma.LZMAError,
    zlib.error,
    gzip.BadGzipFile,
    EOFError,
    # What is written in them makes the standard library raise these as well.
    *(ValueError, OverflowError, struct.error),
)

# What an archive may unpack to, so that a small one can fill neither the disk nor the memory.
# Pictures hardly shrink where they are packed; a folder of even masks may do so by hundreds.
_ALWAYS_BYTES, _MOST_TIMES = 1 << 30, 300
_ALWAYS_MEMBERS, _LEAST_BYTES_PER_MEMBER = 10_000, 40
_LONGEST_HEADER = 1 << 20  # bytes of a member's names and notes in a tar
# Bytes that are read at once. The standard library unpacks as many packed by bzip2, into a block of
# 900,000 for each 45 of them, in memory.
_AT_ONCE = 1 << 14

_PACKED: dict[bytes, Callable[[Path], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ": lzma.open,
    b"\x5d\0\0": lzma.open,
}
"""How packed tars are opened, by what they begin with."""

_READ = (*SUFFIXES, ".csv", ".txt")
_MADE_ON_WINDOWS = (0, 10, 14)  # by zip's numbers: FAT, NTFS, VFAT
_LOCKED = 0x41  # bits of a member's flags: by a password, by strong encryption
_METHODS = {9: "Deflate64", 93: "Zstandard", 95: "XZ", 96: "JPEG", 97: "WavPack", 98: "PPMd"}
_AES = 99


class _Member(NamedTuple):
    name: str
    path: PurePosixPath
    special: str  # what it is, unless it is a file or a folder
    is_file: bool
    open: Callable[[], Any]  # gives a file to read


def is_archive(path: Path) -> bool:
    """Whether a file is an archive, by its name or else by what it begins with."""
    if not path.is_file():
        return False
    if path.name.lower().endswith(ENDINGS):
        return True
    try:
        if zipfile.is_zipfile(path):
            return True
        with _opened_tar(path):
            return True
    except (*_DAMAGED, OSError, MemoryError, UserError):
        return False


def unpack(
    archive: Path,
    into: Path,
    *,
    without: Collection[str] = (),
    progress: Callable[[int], None] = lambda count: None,
) -> None:
    """Unpacks the pictures and lists of an archive.

    Every other file is made as an empty one, so that what is left out can be told as for a folder.

    Args:
        archive: a tar (plain, or packed by gzip, xz or bzip2) or zip file; told by its content.
        into: an empty folder.
        without: names of folders that are not needed.
        progress: called with the number of files unpacked so far.

    Raises:
        UserError: the archive is damaged, holds a link, a device or a path that leads out of it,
            is locked by a password, is packed by a method that cannot be read, has backslashes
            in some names and slashes in others, unpacks to hundreds of times its size, or does
            not fit on the disk.
    """
    last, count, unneeded = "its start", 0, set(without)
    try:
        length = archive.stat().st_size
        left, most = _most_bytes(length), _ALWAYS_MEMBERS + length // _LEAST_BYTES_PER_MEMBER
        for number, member in enumerate(_members(archive), start=1):
            _check(archive, member)
            if number > most:
                raise _bomb(archive)
            last = member.name
            path = member.path
            if not member.is_file or unneeded & set(path.parts[:3]):
                continue
            target = into.joinpath(*path.parts)
            target.parent.mkdir(parents=True, exist_ok=True)
            if is_ignored(path) or path.suffix.lower() not in _READ:
                target.touch()
                continue
            with member.open() as source, target.open("wb") as file:
                left = _copy(source, file, left)
            if left < 0:
                raise _bomb(archive)
            count += 1
            progress(count)
    except _DAMAGED as error:
        raise UserError(
            f"{archive} is truncated or damaged (at {last}); download it again"
        ) from error
    except MemoryError as error:
        raise UserError(
            f"{archive} does not fit in memory (at {last}); unpack it yourself, and give the folder"
        ) from error
    except NotImplementedError as error:  # of the archive as a whole
        raise UserError(
            f"{archive} cannot be read ({error}); unpack it yourself, and give the folder"
        ) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(
                f"the disk is full: {into.parent} has no room to unpack {archive}; make room, or "
                "choose another folder for prepared data"
            ) from error
        raise UserError(f"cannot unpack {archive}: {error.strerror or error}") from error


def _copy(source: Any, target: Any, left: int) -> int:
    """Copies a file as long as bytes are left; gives how many are then, below 0 for too few."""
    while left >= 0 and (chunk := source.read(_AT_ONCE)):
        target.write(chunk)
        left -= len(chunk)
    return left


def _members(archive: Path) -> Iterator[_Member]:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as packed:
            inside = packed.infolist()
            no_slash = not any(_has_slash(info.filename) for info in inside)
            for info in inside:
                name = info.filename
                if no_slash or info.create_system in _MADE_ON_WINDOWS:
                    name = name.replace("\\", "/")
                yield _Member(
                    info.filename,
                    PurePosixPath(name),
                    "a link" if stat.S_ISLNK(info.external_attr >> 16) else "",
                    not name.endswith("/"),
                    functools.partial(_open, archive, packed, info),
                )
    elif archive.name.lower().endswith(".zip"):
        raise zipfile.BadZipFile("no directory at its end")
    else:
        with _opened_tar(archive) as (tar, file):
            slash, backslash = "", ""  # a member with each
            while item := tar.next():
                tar.members.clear()  # type: ignore[attr-defined]  # else all are kept in memory
                path = PurePosixPath(item.name.replace("\\", "/"))
                # Names are known one by one: to look at all first, a large archive is read twice.
                slash = item.name if _has_slash(item.name) else slash
                if "\\" in item.name and item.isfile() and path.suffix.lower() in _READ:
                    backslash = item.name
                if slash and backslash:
                    raise UserError(
                        f"{archive} holds {slash!r} and {backslash!r}, so that it cannot be told "
                        "what is a folder; unpack it yourself, and give the folder"
                    )
                links = item.issym() or item.islnk()
                yield _Member(
                    item.name,
                    path,
                    "a link" if links else "a device" if item.isdev() else "",
                    item.isfile(),
                    functools.partial(tar.extractfile, item),
                )
            file.check_end(tar.offset)


class _BoundedFile:
    """The content of a tar, which refuses to give more than a tar of its length may hold."""

    def __init__(self, archive: Path, file: Any, *, is_packed: bool):
        self._archive, self._file, self._is_packed = archive, file, is_packed
        self._most = _most_bytes(archive.stat().st_size)

    def read(self, size: int) -> bytes:
        if size > _LONGEST_HEADER:  # what is in members is read in small pieces
            raise tarfile.ReadError("a header is too long")
        self._check(self._file.tell() + size)
        return self._file.read(size)

    def seek(self, position: int) -> int:
        self._check(position)
        return self._file.seek(position)

    def tell(self) -> int:
        return self._file.tell()

    def check_end(self, position: int) -> None:
        """Raises if the tar was cut off between two members, which tarfile takes for its end."""
        if self._is_packed:
            while self.read(_LONGEST_HEADER):  # raises unless the packed data end as they should
                pass
            return
        self.seek(position)
        if self.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError("no mark at its end")

    def _check(self, position: int) -> None:
        if self._is_packed and position > self._most:
            raise _bomb(self._archive)


@contextmanager
def _opened_tar(archive: Path) -> Iterator[tuple[tarfile.TarFile, _BoundedFile]]:
    """Opens a tar, plain or packed, and yields its content beside it."""
    with archive.open("rb") as start:
        head = start.read(8)
    opened = next((how for begin, how in _PACKED.items() if head.startswith(begin)), None)
    with opened(archive) if opened else archive.open("rb") as content:
        file = _BoundedFile(archive, content, is_packed=opened is not None)
        with tarfile.open(fileobj=file, mode="r:") as tar:  # type: ignore[call-overload]
            yield tar, file


def _most_bytes(length: int) -> int:
    return max(_ALWAYS_BYTES, _MOST_TIMES * length)


def _bomb(archive: Path) -> UserError:
    return UserError(
        f"{archive} unpacks to hundreds of times its size, as no pictures do; do not trust it, or "
        "unpack it yourself and give the folder"
    )


def _has_slash(name: str) -> bool:
    return "/" in name.removeprefix("./")


def _open(archive: Path, packed: zipfile.ZipFile, info: zipfile.ZipInfo) -> Any:  # a file to read
    if info.flag_bits & _LOCKED or info.compress_type == _AES:
        raise UserError(f"{archive}: {info.filename} is locked; unpack it yourself")
    try:
        return packed.open(info)
    except RuntimeError as error:
        method = _METHODS.get(info.compress_type, f"the method {info.compress_type}")
        raise UserError(
            f"{archive}: {info.filename} is packed by {method}, which cannot be read; unpack it "
            "yourself and give the folder, or pack it by Deflate"
        ) from error


def _check(archive: Path, member: _Member) -> None:
    path = PurePosixPath(member.name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or (path.parts and path.parts[0].endswith(":")):
        raise UserError(
            f"{archive} holds {member.name!r}, which would be written outside the folder it is "
            "unpacked in; do not trust it, and download it from its publisher"
        )
    if member.special:
        raise UserError(
            f"{archive} holds {member.name!r}, {member.special}; unpack it yourself, and give the "
            "folder"
        )
