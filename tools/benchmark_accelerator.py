"""Training and prediction on the accelerator at hand, beside the same networks in PyTorch.

    python -m tools.benchmark_accelerator [--json=FILE] [128/64:256:8 128/64:256:32:remat …]

Each setting is widths, size and batch, and may end with a dtype and remat. Each side runs in a
process of its own, one after the other, so that its peak of memory is its own and nothing disturbs
it: compilers choose what is fastest by trying. "each" is the median of calls that the host waits
for, "queued" a call's share of many that it does not wait for, as in training. Operations are those
of the networks' convolutions, whatever else is computed.
PyTorch has the channels last in memory and bfloat16 by autocast; "compiled" is the same with its
networks and losses compiled. Both are left out where it is not installed.
"""

import argparse
import dataclasses
import importlib.util
import itertools
import json
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tools.setting import Setting, noise

_CALLS = 10
_GIB = 2**30

Call = Callable[[], Any]


@dataclasses.dataclass(frozen=True)
class Measured:
    """What came of one side's call.

    Attributes:
        side: whose.
        setting: of what, as text.
        what: is called.
        compiling: seconds up to the end of the first call.
        each: milliseconds an image, median of calls that are waited for.
        queued: milliseconds an image of calls that are not.
        peak_gib: the most memory taken at once, GiB, by this and the calls before it.
        tflops: operations of the convolutions a second of queued calls, 10¹².
    """

    side: str
    setting: str
    what: str
    compiling: float
    each: float
    queued: float
    peak_gib: float
    tflops: float


def ours(setting: Setting) -> Iterator[tuple[str, Call, float]]:
    """This project's calls, with the operations that an image takes."""
    from draem_jax.training import speed
    from tools import train_call

    flops = speed.computation_of(train_call.config_of(setting)).flops
    # Forward is a third: backward, there are gradients to inputs and to kernels.
    yield "train step and generator", train_call.train_call(setting), flops
    yield "forward", train_call.forward_call(setting), flops / 3


def _wait_for_jax(result: Any) -> None:
    import jax

    jax.block_until_ready(result)


def _peak_of_jax() -> int:
    import jax

    return (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0)


def pytorch(setting: Setting, *, compiled: bool = False) -> Iterator[tuple[str, Call, float]]:
    """The rival's calls on samples that are there already."""
    import torch

    from draem_jax.training import speed
    from tools import pytorch_rival, train_call

    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    dtype = torch.float32 if setting.dtype == "float32" else torch.bfloat16
    flops = speed.computation_of(train_call.config_of(setting)).flops
    torch.manual_seed(0)
    draem = pytorch_rival.Draem(setting.reconstructive_width, setting.discriminative_width)
    draem = draem.to("cuda", memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(draem.parameters(), lr=1e-4, fused=True)
    normal, augmented, mask = (
        torch.from_numpy(array).permute(0, 3, 1, 2).to("cuda", memory_format=torch.channels_last)
        for array in noise(setting)
    )
    apply, losses = draem, pytorch_rival.losses
    if compiled:
        apply, losses = torch.compile(draem), torch.compile(losses)

    def autocast() -> Any:
        return torch.autocast("cuda", dtype, enabled=dtype != torch.float32)

    def step() -> Any:
        optimizer.zero_grad(set_to_none=True)
        with autocast():
            output = apply(augmented)
        floats = pytorch_rival.Output(*(part.float() for part in output))
        found = losses(floats, normal, mask)
        sum(found).backward()
        optimizer.step()
        return found

    def forward() -> Any:
        draem.eval()
        with torch.inference_mode(), autocast():
            return apply(augmented)

    yield "train step", step, flops
    yield "forward", forward, flops / 3


def _wait_for_torch(result: Any) -> None:
    import torch

    del result
    torch.cuda.synchronize()


def _peak_of_torch() -> int:
    import torch

    return torch.cuda.max_memory_allocated()


SIDES: Mapping[str, tuple[Callable[..., Any], Callable[[Any], None], Callable[[], int]]] = {
    "ours": (ours, _wait_for_jax, _peak_of_jax),
    "PyTorch": (pytorch, _wait_for_torch, _peak_of_torch),
    "compiled": (partial(pytorch, compiled=True), _wait_for_torch, _peak_of_torch),
}
"""Of each side its calls, what waits for a result, and the most memory that it took, in bytes."""


def measure(side: str, setting: Setting, pipe: Connection) -> None:
    """In a process of its own: sends what was measured, or what went wrong, and None at the end."""
    make_calls, wait, peak = SIDES[side]
    try:
        for what, call, flops in make_calls(setting):
            start = time.perf_counter()
            wait(call())
            compiling = time.perf_counter() - start
            each, queued = _seconds(call, wait)
            pipe.send(
                Measured(
                    side=side,
                    setting=str(setting),
                    what=what,
                    compiling=compiling,
                    each=1000 * each / setting.batch,
                    queued=1000 * queued / setting.batch,
                    peak_gib=peak() / _GIB,
                    tflops=flops * setting.batch / queued / 1e12,
                )
            )
    except Exception as error:  # such as no memory left: the others go on
        pipe.send(f"{side}, {setting}: {type(error).__name__}: {str(error).splitlines()[0]}")
    finally:
        pipe.send(None)


def _seconds(call: Call, wait: Callable[[Any], None]) -> tuple[float, float]:
    """A call's seconds, waited for and not."""
    waited = []
    for _ in range(_CALLS + 2):
        start = time.perf_counter()
        wait(call())
        waited.append(time.perf_counter() - start)
    start = time.perf_counter()
    results = [call() for _ in range(3 * _CALLS)]
    wait(results[-1])
    return statistics.median(waited[2:]), (time.perf_counter() - start) / len(results)


def run(side: str, setting: Setting) -> Iterator[Measured]:
    """Measures a side in a process of its own; what went wrong is printed."""
    context = multiprocessing.get_context("spawn")
    pipe, theirs = context.Pipe()
    process = context.Process(target=measure, args=(side, setting, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        while (found := pipe.recv()) is not None:
            if isinstance(found, Measured):
                yield found
            else:
                print(found, file=sys.stderr, flush=True)
    except EOFError:
        print(f"{side}, {setting}: the process ended by itself", file=sys.stderr, flush=True)
    process.join()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("settings", nargs="*", type=Setting.parse, metavar="WIDTHS:SIZE:BATCH")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES))
    parser.add_argument("--json", type=Path, help="file to write what was measured to")
    options = parser.parse_args()
    sides = [
        side
        for side in options.sides
        if side == "ours" or importlib.util.find_spec("torch") is not None
    ]
    settings = options.settings or [Setting(128, 64, 256, batch) for batch in (8, 16, 32, 64)]
    rows = []
    print(
        f"{'side':<9}{'setting':<26}{'what':<26}  ms/image: each queued  TFLOP/s  peak GiB  first s"
    )
    for setting, side in itertools.product(settings, sides):
        for row in run(side, setting):
            rows.append(dataclasses.asdict(row))
            print(
                f"{row.side:<9}{row.setting:<26}{row.what:<26}{row.each:16.3f}{row.queued:7.3f}"
                f"{row.tflops:9.1f}{row.peak_gib:10.2f}{row.compiling:9.1f}",
                flush=True,
            )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
