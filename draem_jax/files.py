"""Writing files so that a reader never sees half of one, under names that can be written."""

import csv
import errno
import hashlib
import io
import itertools
import json
import os
import re
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Any, BinaryIO

from draem_jax.errors import CannotWriteError, UserError

OUTPUT_MARKER = ".draem_jax_output"
"""A hidden file that says of a folder that its pictures were written by this package."""

ESCAPE = "backslashreplace"
"""How texts are written that an encoding has no room for: see `escaped`."""

_TEMPORARY = re.compile(r"\..{1,16}\.[a-z0-9_]{8}(\..{0,15})?", re.DOTALL)
"""What `atomic_path` calls its files."""

_LONGEST_NAME = 255  # bytes, on all common file systems
_KEPT_OF_NAME = 160  # of one that is longer


def absolute_path(path: str | Path) -> str:
    """A path as it is found from anywhere: ~ expanded, no ".." or "/" too many; links stay."""
    return os.path.abspath(expand(path))  # noqa: PTH100 (resolve would follow links)


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path beside `path` that takes its place when the block succeeds.

    Args:
        path: the file to write; parent folders are made. An existing file is replaced only once
            the block has ended without an exception, in one step.

    Yields:
        The path to write to. It keeps the suffix of `path`, since many writers choose the
        format by it.

    Raises:
        CannotWriteError: the folder cannot be made or written, or the disk is full.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            prefix=f".{path.stem[:16]}.", suffix=path.suffix[:16], dir=path.parent
        )
    except OSError as error:
        raise _cannot_write(path, error) from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        if error.filename not in (None, name):  # of another file, which was read
            raise
        raise _cannot_write(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def new_folder(path: str | Path) -> Iterator[Path]:
    """Yields a temporary folder beside `path` that takes its place when the block succeeds.

    Args:
        path: the folder to make, which may be there if it is empty; parent folders are made.

    Raises:
        UserError: there is something at `path`, or the folder cannot be made or written, or the
            disk is full.
    """
    path = Path(path)
    check_new_folder(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name[:16]}.", dir=path.parent) as outer:
            inner = Path(outer) / "new"
            inner.mkdir()
            yield inner
            check_new_folder(path)
            if path.is_dir():
                path.rmdir()
            inner.rename(path)
    except OSError as error:
        raise _cannot_write(path, error) from error


def check_new_folder(path: Path) -> None:
    """Raises UserError where `new_folder` could not put a folder."""
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise UserError(f"{path} is there already; choose a new folder, or delete it")


@contextmanager
def scratch_file(folder: str | Path) -> Iterator[BinaryIO]:
    """Yields an empty file to write and read, which has no name and is gone after the block.

    Args:
        folder: where room for it is taken; made if it is missing.

    Raises:
        CannotWriteError: the folder cannot be made or written, or the disk is full.
    """
    folder = Path(folder)
    begun = False
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            begun = True
            yield file
    except OSError as error:
        if begun and error.filename is not None:  # of another file, which was read
            raise
        raise _cannot_write(folder, error) from error


def parse_json(text: str | bytes) -> Any:
    """What a text of JSON holds, whoever wrote it.

    Raises:
        ValueError: it is no JSON, or is nested too deeply to be read.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def write_text(path: str | Path, text: str) -> None:
    """Writes `text` to `path` as UTF-8, `escaped`, atomically (see `atomic_path`)."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors=ESCAPE)


def write_bytes(path: str | Path, content: bytes) -> None:
    """Writes `content` to `path`, atomically (see `atomic_path`)."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_csv(path: str | Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Writes a table as CSV in UTF-8, atomically (see `atomic_path`).

    Args:
        path: the file.
        columns: their names, the first line.
        rows: lists of values, written as text, `escaped`.
    """
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.writelines(map(_csv_row, itertools.chain([columns], rows)))


class GrowingTable:
    """A CSV file that gains rows while it is read: only whole ones can be seen in it.

    Nothing is written before `begin`, which puts a new file in the place of one that is there.
    """

    def __init__(self, path: str | Path, columns: Sequence[str]):
        self.path = Path(path)
        self._columns = columns

    def begin(self, rows: Iterable[Sequence[object]] = ()) -> None:
        """Writes the names of the columns, and rows that are there from the beginning, atomically.

        Raises:
            CannotWriteError: the folder cannot be written, or the disk is full.
        """
        write_csv(self.path, self._columns, rows)

    def add(self, rows: Iterable[Sequence[object]]) -> None:
        """Adds rows; all of them, or none.

        Args:
            rows: lists of values, written as text, `escaped`.

        Raises:
            CannotWriteError: they cannot be written, as on a full disk.
        """
        append(self.path, b"".join(map(_csv_row, rows)))


def append(path: Path, content: bytes, *, durable: bool = False) -> int:
    """Adds to the end of a file that is there; all of it, or nothing.

    Args:
        path: the file.
        content: what is added.
        durable: whether to wait until the disk has it.

    Returns:
        Where in the file it begins.

    Raises:
        CannotWriteError: it cannot be written, as on a full disk.
    """
    try:
        with path.open("r+b", buffering=0) as file:
            before = file.seek(0, os.SEEK_END)
            try:
                written = file.write(content)
                if written < len(content):  # the disk became full on the way
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                if durable:
                    os.fsync(file.fileno())
            except OSError:
                file.truncate(before)
                raise
            return before
    except OSError as error:
        raise _cannot_write(path, error) from error


def make_durable(paths: Iterable[Path]) -> None:
    """Waits until the disk has what was written to files.

    Raises:
        CannotWriteError: it cannot be written, as on a full disk.
    """
    for path in paths:
        try:
            with path.open("rb") as file:
                os.fsync(file.fileno())
        except OSError as error:
            raise _cannot_write(path, error) from error


def remove_temporary(folder: Path, names: Collection[str] | None = None) -> None:
    """Removes what `atomic_path` leaves where a process is killed; none may write meanwhile.

    Args:
        folder: that was written to.
        names: of the files that were written there; None where nothing else is in the folder, which
            is looked through with those within then.
    """
    begins = None if names is None else {f".{PurePath(name).stem[:16]}." for name in names}
    for path in folder.rglob(".*") if begins is None else folder.glob(".*"):
        is_own = begins is None or any(map(path.name.startswith, begins))
        if is_own and _TEMPORARY.fullmatch(path.name) and path.is_file():
            path.unlink(missing_ok=True)


def mark_output(folder: Path) -> None:
    """Makes a folder and marks its pictures as output, which is never read as input.

    Raises:
        CannotWriteError: the folder cannot be made or written.
    """
    marker = folder / OUTPUT_MARKER
    try:
        folder.mkdir(parents=True, exist_ok=True)
        marker.touch()
    except OSError as error:
        raise _cannot_write(folder, error) from error


def is_marked(folder: Path) -> bool:
    """Whether a folder was marked by `mark_output`."""
    return (folder / OUTPUT_MARKER).is_file()


def has_columns(path: Path, columns: Sequence[str], *, least: int) -> bool:
    """Whether a table begins with the first of these columns, as one that was written here does.

    Args:
        path: the path of a CSV file, which may be missing.
        columns: their names.
        least: how many of them must be there, since later versions may add to them.
    """
    try:
        with path.open("rb") as file:
            return file.readline().startswith(_csv_row(columns[:least]).strip())
    except OSError:
        return False


def expand(path: str | Path) -> Path:
    """A path with the home in the place of `~` or `~user`, where there is such a user.

    Raises:
        UserError: it is longer than a path may be, which Python would say of it at every question.
    """
    try:
        expanded = Path(path).expanduser()
    except RuntimeError:
        expanded = Path(path)
    try:
        expanded.lstat()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise UserError(f"{expanded} is longer than a path may be; check it") from error
    except ValueError:  # a NUL, which Python takes for a path that leads nowhere
        pass
    return expanded


def escaped(text: object) -> str:
    r"""A text that can be written as UTF-8.

    File names are bytes. Those that are no UTF-8 become `\udcNN`, as Python calls them.
    """
    return str(text).encode("utf-8", ESCAPE).decode()


def distinct_names(paths: Sequence[PurePath], suffix: str) -> list[Path]:
    """Names an output for each of the inputs, so that no two are one file on any file system.

    An output is called as its input but for the suffix. Where two would be called the same, or the
    same but for case or Unicode form, or as a folder of them, the suffix of the input is kept
    before the new one (`a.jpg.png`), and numbered where that is taken as well (`a.jpg~2.png`).

    Args:
        paths: the paths of the inputs, relative to a common folder.
        suffix: the suffix of the outputs, such as ".png".

    Returns:
        Paths that can be written, relative to any folder, in the order of the inputs.
    """
    inner = [PurePath(*map(_writable, path.parts)) for path in paths]
    plain = [path.with_name(_writable(path.stem + suffix)) for path in inner]
    counts = Counter(map(_identity, plain))
    taken = {_identity(folder) for path in inner for folder in path.parents}
    is_free = [counts[_identity(name)] == 1 and _identity(name) not in taken for name in plain]
    taken.update(_identity(name) for name, free in zip(plain, is_free, strict=True) if free)
    names = []
    for path, name, free in zip(inner, plain, is_free, strict=True):
        if not free:
            name = _free_name(path, suffix, taken)
        taken.add(_identity(name))
        names.append(Path(name))
    return names


class GrowingNames:
    """Names outputs for inputs that come one after the other, so that what comes changes no name.

    An output keeps the suffix of its input before its own (`a.jpg.png`), numbered where that is
    taken on some file system, as for `A.jpg` behind `a.jpg`.
    """

    def __init__(self, suffix: str, taken: Iterable[PurePath] = ()):
        self._suffix = suffix
        self._taken = set(map(_identity, taken))

    def name(self, path: PurePath) -> Path:
        """Names the output of one more input, whose path is relative to a common folder."""
        # No folder is called as an output may be.
        folders = [
            f"{part}~" if part.casefold().endswith(self._suffix) else part
            for part in path.parts[:-1]
        ]
        inner = PurePath(*map(_writable, folders), path.name)
        name = _free_name(inner, self._suffix, self._taken)
        self._taken.add(_identity(name))
        return Path(name)


def _free_name(path: PurePath, suffix: str, taken: Collection[str]) -> PurePath:
    """The first of a.jpg.png, a.jpg~2.png and so on that is not taken."""
    for number in itertools.count(1):
        middle = "" if number == 1 else f"~{number}"
        name = path.with_name(_writable(f"{path.name}{middle}{suffix}"))
        if _identity(name) not in taken:
            return name
    raise AssertionError("there are names enough")


def _identity(path: PurePath) -> str:
    """Equal for names that are one on a file system which ignores case or Unicode form."""
    folded = unicodedata.normalize("NFD", path.as_posix()).casefold()
    return unicodedata.normalize("NFD", folded)


def _writable(name: str) -> str:
    """A part of a path that any file system takes; what is too long is cut short, with a digest."""
    name = escaped(name)
    content = name.encode()
    if len(content) <= _LONGEST_NAME:
        return name
    stem = content[:_KEPT_OF_NAME].decode("utf-8", "ignore")
    digest = hashlib.sha256(content).hexdigest()[:8]
    return f"{stem}~{digest}{PurePath(name).suffix[:8]}"


def _csv_row(values: Sequence[object]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerow(values)
    return text.getvalue().encode("utf-8", ESCAPE)


def _cannot_write(path: Path, error: OSError) -> CannotWriteError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    remedy = "make room on the disk" if full else "choose a folder that you may write to"
    message = f"cannot write {path}: {error.strerror or error}; {remedy}"
    return CannotWriteError(message, is_full=full)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
