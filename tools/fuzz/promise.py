"""The promise that holds for whatever a stranger hands in, and how it is watched.

A target may refuse what it is given by a `UserError` of one line. It raises nothing else, writes to
the folder that it is given alone, runs nothing, and takes time and memory within bounds.
"""

import contextlib
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from draem_jax.errors import UserError

LONGEST_MESSAGE = 4000
"""Characters; paths alone may have some hundreds each."""

MOST_SECONDS = 20.0
"""Of one processor, for an input of some thousand bytes; the slowest known takes one."""

MOST_BYTES = 1 << 30
"""That the process may grow by for one input."""

_RUNS = frozenset(
    (
        *("os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty"),
        *("subprocess.Popen", "pty.spawn", "pickle.find_class"),
        *("socket.connect", "socket.bind", "socket.getaddrinfo", "urllib.Request", "webbrowser"),
    )
)
_CHANGES = frozenset(
    (
        *("os.mkdir", "os.rmdir", "os.remove", "os.rename", "os.link", "os.symlink", "os.chmod"),
        *("os.chown", "os.truncate", "os.utime", "shutil.rmtree", "shutil.move"),
    )
)


class BrokenPromiseError(AssertionError):
    """A target did what the promise rules out; the message says what."""


@dataclass(frozen=True)
class Target:
    """One way in for a stranger.

    Attributes:
        name: on the command line.
        about: what is handed in, in a line.
        seeds: gives inputs to begin with, most of them such as are read without complaint.
        run: takes the input, and an empty folder to write to.
        longest: bytes of an input at most.
        prepare: done once, outside what is watched, such as heavy imports.
        is_json: whether inputs are mostly JSON, whole or by lines.
    """

    name: str
    about: str
    seeds: Callable[[], list[bytes]]
    run: Callable[[bytes, Path], None]
    longest: int = 1 << 14
    prepare: Callable[[], None] = field(default=lambda: None)
    is_json: bool = False


def hold(target: Target, content: bytes) -> str:
    """Runs a target once.

    Args:
        target: to run.
        content: what is handed in.

    Returns:
        The message by which it was refused; "" if it was not.

    Raises:
        BrokenPromiseError: the promise was not kept, as far as it can be seen in the process.
        Exception: whatever else a target raises, which breaks the promise as well.
    """
    with tempfile.TemporaryDirectory(prefix="draem_jax_fuzz_") as name:
        folder = Path(name).resolve()
        memory, began = _peak(), time.process_time()
        message = ""
        with _watched(folder) as seen:
            try:
                target.run(content, folder)
            except UserError as error:
                message = str(error)
                _check_message(message)
        if seen:
            raise BrokenPromiseError(f"{target.name}: {seen[0]}")
        if (seconds := time.process_time() - began) > MOST_SECONDS:
            raise BrokenPromiseError(f"{target.name}: it took {seconds:.1f} s")
        if (grown := _peak() - memory) > MOST_BYTES:
            raise BrokenPromiseError(f"{target.name}: it took {grown >> 20} MiB")
    return message


def _check_message(message: str) -> None:
    if not message.strip():
        raise BrokenPromiseError("it was refused without a word")
    if len(message) > LONGEST_MESSAGE:
        raise BrokenPromiseError(f"the message has {len(message)} characters")


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


_folder: Path | None = None  # that is written to now; None where nothing is watched
_seen: list[str] = []
_is_hooked = False


@contextlib.contextmanager
def _watched(folder: Path) -> Iterator[list[str]]:
    """Yields what was done meanwhile that is ruled out; one at a time."""
    global _folder, _is_hooked
    if not _is_hooked:  # hooks stay until the process ends
        sys.addaudithook(_hook)
        _is_hooked = True
    _seen.clear()
    _folder = folder
    try:
        yield _seen
    finally:
        _folder = None


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _folder is None:
        return
    if event in _RUNS:
        _seen.append(f"{event} {arguments!r:.200}")
    elif event == "open":
        path, mode, _ = arguments
        writes = isinstance(mode, str) and set(mode) & set("wax+")
        if writes and not isinstance(path, int):
            _check_inside(event, path)
    elif event in _CHANGES:
        _check_inside(event, arguments[0])


def _check_inside(event: str, path: Any) -> None:
    global _folder
    folder, _folder = _folder, None  # what is done here is not watched
    try:
        if isinstance(path, int) or folder is None:
            return
        text = path.decode(errors="replace") if isinstance(path, bytes) else str(path)
        if "__pycache__" in text or text == "/dev/null":
            return
        place = Path(text)
        with contextlib.suppress(OSError, ValueError):
            if not (place.parent.resolve() / place.name).is_relative_to(folder):
                _seen.append(f"{event} {text!r:.200}")
    finally:
        _folder = folder
