"""Large memory pages for the command line, where Linux and glibc leave them to the program.

XLA takes the room for a program's intermediate arrays anew for each call on a CPU, and gives it
back. In pages of 4 KiB that takes a quarter of a train step; in large ones next to nothing.
"""

import os
import platform
import sys
from pathlib import Path

_TUNABLES = "GLIBC_TUNABLES"
_LARGE_PAGES = "glibc.malloc.hugetlb"
_SINCE = (2, 35)
_KERNEL = Path("/sys/kernel/mm/transparent_hugepage/enabled")
_PROGRAMS = ("draem-jax", "__main__.py")


def use_large_pages() -> None:
    """Starts the process's program again with large pages, if they are not decided on yet.

    glibc reads once, at the start, whether to ask for them. The process stays the same one. A value
    of `glibc.malloc.hugetlb` in GLIBC_TUNABLES, 0 for none, is respected.
    """
    environment = {**os.environ, _TUNABLES: _with_large_pages(os.environ.get(_TUNABLES, ""))}
    if environment[_TUNABLES] == os.environ.get(_TUNABLES) or not _serves():
        return
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def _with_large_pages(tunables: str) -> str:
    if _LARGE_PAGES in tunables:
        return tunables
    return ":".join(filter(None, [tunables, f"{_LARGE_PAGES}=1"]))


def _serves() -> bool:
    """Whether this is the command line itself, and the system asks programs whether they want."""
    if sys.platform != "linux" or Path(sys.argv[0]).name not in _PROGRAMS:
        return False
    library, version = platform.libc_ver()
    if library != "glibc" or tuple(map(int, version.split(".")[:2])) < _SINCE:
        return False
    try:
        return "[madvise]" in _KERNEL.read_text(encoding="ascii")
    except OSError:
        return False
