"""Unpacking a downloaded archive, such that no member can do harm and no damage goes unseen."""

import errno
import functools
import gzip
import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterator
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
)


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
        return zipfile.is_zipfile(path) or tarfile.is_tarfile(path)
    except (*_DAMAGED, OSError):
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
            in some names and slashes in others, or does not fit on the disk.
    """
    last, count, unneeded = "its start", 0, set(without)
    try:
        for member in _members(archive):
            _check(archive, member)
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
                shutil.copyfileobj(source, file, 1 << 20)
            count += 1
            progress(count)
    except _DAMAGED as error:
        raise UserError(
            f"{archive} is truncated or damaged (at {last}); download it again"
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
        with tarfile.open(archive, "r:*") as tar:
            slash, backslash = "", ""  # a member with each
            for item in tar:
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
            _check_end(archive, tar)


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


def _check_end(archive: Path, tar: tarfile.TarFile) -> None:
    """Raises if the tar was cut off between two members, which tarfile takes for its end."""
    file = tar.fileobj
    assert file is not None
    if isinstance(file, (gzip.GzipFile, lzma.LZMAFile)) or type(file).__name__ == "BZ2File":
        while file.read(1 << 20):  # raises unless the packed data end as they should
            pass
        return
    file.seek(tar.offset)
    if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("no mark at its end")


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
