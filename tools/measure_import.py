"""What it takes to import and export the authors' networks: seconds, and memory above the start's.

    python -m tools.measure_import --widths=128,64

Makes files of random networks, imports them, exports what came out, and compares the files bit for
bit. Memory is the most that the process holds at a time, less what it holds once all is imported
that computing needs.
"""

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from draem_jax.config import default_config
from draem_jax.networks import trace_initialisation
from draem_jax.pytorch.exporting import export_torch
from draem_jax.pytorch.importing import Source, import_torch
from draem_jax.pytorch.names import NETWORKS, entries
from draem_jax.pytorch.reading import open_torch_file
from draem_jax.pytorch.writing import ArrayToWrite, write_state_dict
from draem_jax.training.parallel import use_cpu_devices
from draem_jax.training.state import create_network

_MIB = 2**20


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--widths", default="128,64", help="of the two networks")
    options = parser.parse_args()
    widths = tuple(map(int, options.widths.split(",")))

    use_cpu_devices()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_pair(folder, (widths[0], widths[1]))
        given = [folder / "random.pckl", folder / "random_seg.pckl"]
        size = sum(path.stat().st_size for path in given)
        print(f"widths {options.widths}: {size / _MIB:.0f} MiB in two files")
        with measured("import", size):
            import_torch(Source.authors(*given), folder / "run", default_config())
        with measured("export", size):
            written = export_torch(folder / "run", folder / "out", name="random")
        same = all(map(are_equal, given, written))
        print(f"bit for bit as it was: {'yes' if same else 'NO'}")
        sys.exit(not same)


def make_pair(folder: Path, widths: tuple[int, int]) -> None:
    """Writes files of two random networks."""
    config = default_config()
    config.model.reconstructive_width, config.model.discriminative_width = widths
    shapes = trace_initialisation(create_network(config))[1]
    rng = np.random.default_rng(0)

    def arrays(network: str) -> Iterator[ArrayToWrite]:
        for entry in entries(network):
            shape = entry.to_torch(np.empty(entry.of(shapes, network).shape, bool)).shape
            array = rng.random(shape, np.float32)
            yield ArrayToWrite(entry.name, array)
            if entry.name.endswith("running_var"):
                name = entry.name.replace("running_var", "num_batches_tracked")
                yield ArrayToWrite(name, rng.integers(1 << 40, size=()))

    for network, suffix in zip(NETWORKS, ("", "_seg"), strict=True):
        write_state_dict(folder / f"random{suffix}.pckl", arrays(network), name="random")


class measured:  # noqa: N801
    """Prints the seconds that a block takes, and the most memory above that at its start."""

    def __init__(self, what: str, size: int):
        self._what, self._size = what, size

    def __enter__(self) -> None:
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        self._before, self._start = _memory("VmRSS"), time.perf_counter()

    def __exit__(self, *_: object) -> None:
        seconds = time.perf_counter() - self._start
        more = _memory("VmHWM") - self._before
        print(
            f"{self._what}: {seconds:.1f} s, {more / _MIB:.0f} MiB more than before, "
            f"{more / self._size:.2f} times the files"
        )


def _memory(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def are_equal(a: Path, b: Path) -> bool:
    """Whether two files hold the same tensors, bit for bit."""
    with open_torch_file(a) as one, open_torch_file(b) as other:
        return list(one.content) == list(other.content) and all(
            one.read(one.content[name]).tobytes() == other.read(other.content[name]).tobytes()
            for name in one.content
        )


if __name__ == "__main__":
    main()
