"""The work of preparing: archives unpacked aside, and results put in place in one step."""

import contextlib
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from tqdm import tqdm

from draem_jax.data.archives import unpack
from draem_jax.data.prepared import DATA_DIR_VARIABLE
from draem_jax.data.sources import Source
from draem_jax.errors import UserError


@contextlib.contextmanager
def opened(
    source: Source, target: Path, *, without: Collection[str], progress: bool | None
) -> Iterator[Path]:
    """The folder with a source's files; an archive is unpacked into one that goes at the end.

    Args:
        source: the folder or archive.
        target: the folder to unpack an archive in.
        without: names of folders in an archive that are not needed.
        progress: whether to draw a progress bar; where None, if stderr is a terminal.
    """
    if not source.is_archive:
        yield source.root
        return
    with temporary(target, "unpacking") as beside:
        with bar(f"unpacking {source.root.name}", "file", progress) as report:
            unpack(source.root, beside, without=without, progress=lambda n: report(n, None))
        yield beside


@contextlib.contextmanager
def temporary(target: Path, purpose: str) -> Iterator[Path]:
    """A folder that goes at the end; its name tells whose it is, in case its process is killed."""
    prefix = f".{purpose}.{platform.node()}.{os.getpid()}."
    with tempfile.TemporaryDirectory(prefix=prefix, dir=target) as name:
        yield Path(name)


def clear_leftovers(target: Path) -> None:
    """Removes what killed processes of this machine have left."""
    for folder in target.glob(f".*ing.{platform.node()}.*"):
        pid = folder.name.split(".")[-2]
        if pid.isdecimal() and not _runs(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)


def put_in_place(made: Path, final: Path, aside: Path) -> None:
    """Moves what was made to where it is looked for.

    Args:
        made: the folder that was made.
        final: where it shall stand; what stands there is replaced.
        aside: a folder to move that to.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    if final.exists():
        final.rename(aside / "replaced")
    try:
        made.rename(final)
    except OSError:
        if not final.exists():  # else another process has put its own in place just now
            raise


def make_folder(target: Path) -> None:
    """Makes the folder for prepared data sets.

    Raises:
        UserError: it cannot be written.
    """
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(target, error) from error


def cannot_write(target: Path, error: OSError) -> UserError:
    """Says that the folder for prepared data sets cannot be written."""
    return UserError(
        f"cannot write data sets to {target}: {error.strerror or error}; choose another folder, "
        f"or set {DATA_DIR_VARIABLE}"
    )


@contextlib.contextmanager
def bar(text: str, unit: str, wanted: bool | None) -> Iterator[Callable[[int, int | None], None]]:
    """A progress bar on stderr; yields what to call with the numbers done and in all."""
    shown = sys.stderr.isatty() if wanted is None else wanted
    with tqdm(desc=text, unit=unit, disable=not shown, file=sys.stderr) as drawn:

        def report(done: int, total: int | None) -> None:
            drawn.total = total
            drawn.update(done - drawn.n)

        yield report


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
