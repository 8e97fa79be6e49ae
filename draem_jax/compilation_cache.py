"""Keeping compiled programs, so that the next start loads them instead of compiling again.

JAX does the keeping. What stands here says where, for which machine and how much. A kept program
is machine code, so the folder must be the user's own: whoever may write there decides what runs.
"""

import glob
import hashlib
import logging
import os
import platform
import re
import stat
import subprocess
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jaxlib.version

OFF = "off"
"""Instead of a folder: keep nothing, and load nothing that was kept."""

AUTO = "auto"
"""Instead of a folder: the user's, unless JAX has been told of one already."""

_MOST = 2 * 2**30  # bytes, of all machines that share the folder
# Earlier ones say of each program that they load, on many CPUs, that it might not run there.
_LOWEST_JAXLIB = (0, 10, 2)
_TROUBLE = re.compile(
    r"Error (?P<doing>read|writ)ing persistent compilation cache entry for '(?P<program>[^']*)': "
    r"(?P<why>.*)",
    re.DOTALL,
)
# What /proc/cpuinfo says of a CPU that decides which instructions it runs: of x86, then of ARM.
_CPU_FACTS = re.compile(
    r"(?:vendor_id|cpu family|model|model name|stepping|flags"
    r"|CPU (?:implementer|architecture|variant|part|revision)|Features)\s*:"
)

_logger = logging.getLogger(__name__)


def keep_compiled_programs(folder: str | Path = AUTO) -> Path | None:
    """Lets JAX keep the programs that this process compiles, and load those that are kept.

    The command line calls it; a program of one's own may, before it computes. A program that was
    loaded computes what it computed when it was compiled, bit for bit. What is in the way, as a
    damaged file or a full disk, costs one line of warning at most.

    Args:
        folder: to keep them in, below it a folder of each machine and version of JAX, and at most
            2 GiB, of which the programs go first that were used least recently. `AUTO` is
            `draem_jax/compiled` in $XDG_CACHE_HOME or ~/.cache; with it nothing is done where
            JAX_COMPILATION_CACHE_DIR or JAX's own configuration names a folder. `OFF` keeps
            nothing.

    Returns:
        The folder of this machine; None where nothing is kept, or where JAX was told to already.
    """
    if str(folder) == OFF:
        jax.config.update("jax_enable_compilation_cache", False)
        return None
    if str(folder) == AUTO:
        if jax.config.values["jax_compilation_cache_dir"] is not None:
            return None
        if jaxlib.version.__version_info__[:3] < _LOWEST_JAXLIB:
            return None
    if not jax.config.values["jax_enable_compilation_cache"]:
        return None
    try:
        root = _user_folder() if str(folder) == AUTO else Path(folder)
        kept = root.absolute() / machine_name()
        for made in (root, kept):
            made.mkdir(mode=stat.S_IRWXU, parents=True, exist_ok=True)
            _refuse_if_open(made)
        _make_room(root)
    except (OSError, RuntimeError) as error:  # the latter where the user has no home
        _logger.warning("compiled programs are not kept: %s", error)
        return None
    jax.config.update("jax_compilation_cache_dir", str(kept))
    # Starting takes many small programs, and each is kept in less time than it is compiled in.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    _mend_what_is_damaged(kept)
    return kept


def machine_name() -> str:
    """A name that two machines share only where programs compiled on one run on the other.

    The number of cores is part of it, since compiled programs split their work by it.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    facts = [
        platform.system(),
        platform.machine(),
        platform.python_version(),
        *_cpu_facts(),
        str(len(affinity(0)) if affinity else os.cpu_count()),
        os.environ.get("NPROC", ""),  # with it XLA takes another number of threads
    ]
    digest = hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]
    return f"jax-{jax.__version__}-jaxlib-{jaxlib.version.__version__}-{digest}"


def _cpu_facts() -> Iterator[str]:
    """What tells CPUs apart that run other instructions, as the system calls it."""
    try:
        first = Path("/proc/cpuinfo").read_text(errors="replace").strip().split("\n\n")[0]
        yield from filter(_CPU_FACTS.match, first.splitlines())
        return
    except OSError:
        yield platform.processor()
    if platform.system() == "Darwin":
        asked = ["sysctl", "machdep.cpu", "hw.optional"]
        yield subprocess.run(asked, capture_output=True, check=False, text=True).stdout


def _user_folder() -> Path:
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(caches) / "draem_jax" / "compiled"


def _refuse_if_open(folder: Path) -> None:
    """Raises OSError unless the user, and nobody else, may write to a folder."""
    found = folder.stat()
    if not hasattr(os, "geteuid"):  # Windows: a user's folder is the user's own
        return
    if found.st_uid != os.geteuid():
        raise OSError(f"{folder} belongs to another user")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise OSError(f"others may write to {folder}, so `chmod go-w` it")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OSError(f"you may not write to {folder}")


def _make_room(root: Path) -> None:
    """Removes the programs that were used least recently, until there is room for more."""
    programs = [(path, path.stat()) for path in root.glob("jax-*/*-cache")]
    # Reading a file notes the time about once a day; where the system never does, age decides.
    programs.sort(key=lambda item: max(item[1].st_atime, item[1].st_mtime))
    size = sum(found.st_size for _, found in programs)
    for path, found in programs:
        if size <= _MOST:
            return
        path.unlink(missing_ok=True)
        size -= found.st_size


def _mend_what_is_damaged(kept: Path) -> None:
    """Puts one line in the place of JAX's warnings, and removes the programs that they are about.

    JAX compiles such a program anew, but would leave the file as it is.
    """
    before: Callable[..., Any] = warnings.showwarning
    told = False

    def show(message: Warning | str, *rest: Any, **named: Any) -> None:
        nonlocal told
        found = _TROUBLE.match(str(message))
        if not found:
            before(message, *rest, **named)
            return
        for path in kept.glob(f"{glob.escape(found['program'])}-*-cache"):
            try:
                path.unlink(missing_ok=True)
            except OSError:
                continue  # it is compiled each time then
        if not told:
            told = True
            _logger.warning(
                "a compiled program in %s cannot be %s: %s; it is compiled anew",
                kept,
                "read" if found["doing"] == "read" else "written",
                found["why"],
            )

    warnings.showwarning = show
    # Two programs may have the same trouble and the same name.
    warnings.filterwarnings("always", message=r"Error \w+ persistent compilation cache entry")
