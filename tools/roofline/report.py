"""The figures as people read them."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tools.roofline.devices import Device
from tools.roofline.kernels import Kernel

_CANNOT_KNOW = """\
What this cannot know: {device} was not asked. Nothing was timed: each kernel takes here as long as
its bytes or its products take at {bandwidth:.2f} TB/s and {flops:.0f} TFLOP/s ({source}), and a
real one takes longer, by a share that differs from kernel to kernel. It knows nothing of which
algorithm the device chooses for a convolution and what room that takes, of what starting a kernel
costs, of kernels that run side by side, nor of what a cache saves between two of them. Arithmetic
outside of convolutions and matrix products counts as free. A kernel that is of several parts counts
for the one whose name the compiler gave it, that of its result. Loops of unknown length count
{passes} passes, and of branches the longest counts."""


@dataclass(frozen=True)
class Total:
    """What several kernels do together.

    Attributes:
        kernels: how often one is started.
        nbytes: main memory that they read and write, in bytes.
        flop: floating point operations of convolutions and matrix products.
        seconds: the least time that they take.
    """

    kernels: int
    nbytes: int
    flop: int
    seconds: float


def total(kernels: Iterable[Kernel], device: Device) -> Total:
    """Adds up kernels over all their runs."""
    made = list(kernels)
    return Total(
        sum(kernel.runs for kernel in made),
        sum(kernel.runs * kernel.nbytes for kernel in made),
        sum(kernel.runs * kernel.flop for kernel in made),
        sum(kernel.seconds(device) for kernel in made),
    )


def totals_by_part(kernels: Sequence[Kernel], device: Device) -> dict[str, Total]:
    """The totals of the parts that there are, the longest first."""
    parts = dict.fromkeys(kernel.part for kernel in kernels)
    totals = {part: total((k for k in kernels if k.part == part), device) for part in parts}
    return dict(sorted(totals.items(), key=lambda item: -item[1].seconds))


def parts_table(kernels: Sequence[Kernel], device: Device) -> str:
    """A line for each part, and their sum."""
    whole = total(kernels, device)
    lines = [f"{'part':40}{'kernels':>8}{'GB':>9}{'TFLOP':>9}{'ms':>9}{'share':>8}"]
    for part, its in (*totals_by_part(kernels, device).items(), ("all", whole)):
        share = its.seconds / whole.seconds if whole.seconds else 0.0
        lines.append(
            f"{part:40}{its.kernels:8}{its.nbytes / 1e9:9.3f}{its.flop / 1e12:9.3f}"
            f"{its.seconds * 1e3:9.3f}{share:8.1%}"
        )
    return "\n".join(lines)


def picture_line(kernels: Sequence[Kernel], device: Device, *, batch: int) -> str:
    """The least time for one picture of the batch."""
    milliseconds = total(kernels, device).seconds * 1e3 / batch
    return f"{milliseconds:.3f} ms a picture, {1e3 / milliseconds:.0f} pictures a second at most"


def memory_line(stats: Any) -> str:
    """What the program takes of the device's memory, by XLA's own account."""
    named = {
        "arguments": stats.argument_size_in_bytes,
        "results beside them": stats.output_size_in_bytes - stats.alias_size_in_bytes,
        "temporaries": stats.temp_size_in_bytes,
        "peak": stats.peak_memory_in_bytes,
    }
    return "GiB of memory: " + ", ".join(f"{k} {v / 2**30:.2f}" for k, v in named.items())


def largest_arrays(kernels: Sequence[Kernel], *, count: int) -> str:
    """The arrays that take most memory, those alike in one line."""
    found = Counter(
        (kernel.part, array) for kernel in kernels for array in kernel.results if not array.memory
    )
    ranked = sorted(found.items(), key=lambda item: (-item[0][1].size, -item[1]))
    lines = [f"{'MB each':>8}{'number':>8}  array made, and by what"]
    for (part, array), number in ranked[:count]:
        lines.append(f"{array.size / 1e6:8.1f}{number:8}  {array} {part}")
    return "\n".join(lines)


def largest_kernels(kernels: Sequence[Kernel], device: Device, *, part: str, count: int) -> str:
    """The kernels of a part, or of all whose name begins so, that take longest."""
    chosen = [kernel for kernel in kernels if kernel.part.startswith(part)]
    chosen.sort(key=lambda kernel: -kernel.seconds(device))
    lines = [f"{'ms':>7}{'runs':>6}{'MB':>9}{'GFLOP':>8}  kernel, what it makes, where"]
    for kernel in chosen[:count]:
        results = ", ".join(map(str, kernel.results))
        lines.append(
            f"{kernel.seconds(device) * 1e3:7.3f}{kernel.runs:6}{kernel.nbytes / 1e6:9.1f}"
            f"{kernel.flop / 1e9:8.1f}  {kernel.opcode} {results} {kernel.op_name or kernel.name}"
        )
    return "\n".join(lines)


def cannot_know(device: Device, *, passes: int) -> str:
    """What stands behind no figure here."""
    return _CANNOT_KNOW.format(
        device=device.title,
        bandwidth=device.bandwidth / 1e12,
        flops=device.bfloat16 / 1e12,
        source=device.source,
        passes=passes,
    )
