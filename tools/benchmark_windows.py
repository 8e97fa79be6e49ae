"""How fast a large picture is read by windows, and what memory that takes.

    python tools/benchmark_windows.py /tmp/large.tif [--window=512] [--overlap=64] [--cache_mib=256]

Square windows are read one row after the other; for Linux, which keeps count of a process's memory.
`tools/make_large_tiff.py` writes such a picture.
"""

import argparse
import dataclasses
import re
import time
from pathlib import Path

from draem_jax.data.windows import open_windows, read_overview


@dataclasses.dataclass(frozen=True)
class Measurement:
    """What it took to read a picture by windows.

    Attributes:
        windows: how many were read.
        pixels: of the picture.
        seconds: that reading took.
        idle: memory of the process before, in bytes.
        peak: the most that it took while reading, in bytes.
    """

    windows: int
    pixels: int
    seconds: float
    idle: int
    peak: int

    def __str__(self) -> str:
        return (
            f"{self.windows} windows in {self.seconds:.1f} s, "
            f"{self.pixels / 1e6 / self.seconds:.0f} million pixels of the picture a second; "
            f"{(self.peak - self.idle) / 2**20:.0f} MiB above {self.idle / 2**20:.0f} MiB"
        )


def measure_windows(path: Path, *, window: int, overlap: int, cache_bytes: int) -> Measurement:
    """Reads a picture in square windows, row by row.

    Args:
        path: the picture.
        window: height and width of the windows; those at the lower and right border are smaller.
        overlap: how many rows or columns a window has in common with the one before.
        cache_bytes: see `draem_jax.data.windows.open_windows`.
    """
    idle = _begin()
    start, count = time.perf_counter(), 0
    with open_windows(path, cache_bytes=cache_bytes) as opened:
        height, width = opened.size
        for top in range(0, height, window - overlap):
            for left in range(0, width, window - overlap):
                opened.read(top, left, window, window)
                count += 1
    seconds = time.perf_counter() - start
    return Measurement(count, height * width, seconds, idle, _memory("VmHWM"))


def measure_overview(path: Path, *, cache_bytes: int) -> Measurement:
    """Reads a picture's overview."""
    idle = _begin()
    start = time.perf_counter()
    with open_windows(path, cache_bytes=cache_bytes) as opened:
        height, width = opened.size
        read_overview(opened)
    seconds = time.perf_counter() - start
    return Measurement(1, height * width, seconds, idle, _memory("VmHWM"))


def _begin() -> int:
    """The memory in use, in bytes, from which on the most that is used is counted anew."""
    Path("/proc/self/clear_refs").write_text("5")
    return _memory("VmRSS")


def _memory(name: str) -> int:
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"{name}:\s+(\d+) kB", status)[1]) << 10  # type: ignore[index]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("path", type=Path)
    parser.add_argument("--window", type=int, default=512, help="height and width, in pixels")
    parser.add_argument("--overlap", type=int, default=64, help="of neighbouring windows")
    parser.add_argument("--cache_mib", type=int, default=256)
    options = parser.parse_args()
    cache_bytes = options.cache_mib << 20
    print(
        measure_windows(
            options.path,
            window=options.window,
            overlap=options.overlap,
            cache_bytes=cache_bytes,
        ),
        flush=True,
    )
    print("overview:", measure_overview(options.path, cache_bytes=cache_bytes))


if __name__ == "__main__":
    main()
