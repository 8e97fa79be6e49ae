"""Writing files so that a reader never sees half of one."""

import csv
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from draem_jax.errors import UserError

OUTPUT_MARKER = ".draem_jax_output"
"""Name of the empty file by which a folder of outputs is told from one of pictures to read."""


def absolute_path(path: str | Path) -> str:
    """A path as it is found from anywhere: ~ expanded, no ".." or "/" too many; links stay."""
    return os.path.abspath(Path(path).expanduser())  # noqa: PTH100 (resolve would follow links)


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
        UserError: the folder cannot be made or written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            prefix=f".{path.stem}.", suffix=path.suffix, dir=path.parent
        )
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror}; choose a folder that you may write to"
        ) from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Writes `text` to `path` as UTF-8, atomically (see `atomic_path`)."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_bytes(path: str | Path, content: bytes) -> None:
    """Writes `content` to `path`, atomically (see `atomic_path`)."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


OUTPUT_MARKER = ".draem_jax_output"
"""A file of this name says that a folder holds what this package wrote, not what it may read."""


def mark_output(folder: Path) -> None:
    """Makes a folder where needed, and says in it that pictures there are output, not input."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / OUTPUT_MARKER).touch()


def write_csv(path: str | Path, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Writes a table as CSV in UTF-8, atomically (see `atomic_path`).

    Args:
        path: the file.
        columns: their names, the first line.
        rows: of values, written as text.
    """
    with (
        atomic_path(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)


def mark_output(folder: Path) -> None:
    """Makes a folder that holds outputs, and marks it as such by a file `OUTPUT_MARKER`.

    Raises:
        UserError: it cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / OUTPUT_MARKER).touch()
    except OSError as error:
        raise UserError(
            f"cannot write {folder}: {error.strerror}; choose a folder that you may write to"
        ) from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
