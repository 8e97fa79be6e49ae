"""The figures as people read them."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tools.roofline.devices import Device
from tools.roofline.kernels import Kernel
from tools.roofline.memory import Held
from tools.roofline.parts import OTHER

_CANNOT_KNOW = """\
What this cannot know: no {device} was asked, and nothing was timed. Each kernel takes here as long
as its bytes take at {bandwidth:.2f} TB/s or its products at {flops:.0f} TFLOP/s in bfloat16
({source}), whichever is longer; a real one takes longer still, and by how much differs from kernel
to kernel. Unknown are the algorithm that the device chooses for a convolution and the room that it
works in, what starting a kernel costs, what runs side by side (on TPUs most copies do), and what a
cache saves between two kernels. Arithmetic outside of convolutions and matrix products counts as
free. A kernel that is of several parts counts for the one that its result is of, as the compiler
names it. Loops of unknown length count {passes} passes, and of branches the one that moves most."""


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


def held_table(held: Sequence[Held], kernels: Sequence[Kernel], *, count: int) -> str:
    """What fills the memory when it is fullest, those alike in one line; see `fullest_moment`."""
    parts = {kernel.name: kernel.part for kernel in kernels}
    alike = Counter((one.array, parts.get(one.maker, OTHER)) for one in held)
    sizes = {key: key[0].size * number for key, number in alike.items()}
    whole = sum(sizes.values())
    lines = [
        f"Held besides the arguments when most is: {whole / 2**30:.2f} GiB, of it",
        f"{'GiB':>8}{'share':>8}{'number':>8}  of arrays made, and by what",
    ]
    for (array, part), size in sorted(sizes.items(), key=lambda item: -item[1])[:count]:
        number = alike[array, part]
        lines.append(f"{size / 2**30:8.3f}{size / whole:8.1%}{number:8}  {array} {part}")
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
