"""Training and prediction beside a PyTorch rival's, in turns, with all cores of a CPU for both.

    python -m tools.benchmark_step [--rounds=7] [--calls=7] [16/16:128:8 32/16:128:4]

Each setting is widths, size and batch. Each side runs in a process of its own, which waits while
the others measure. Of its calls in a round the median counts: the first ones after a while may
wait for the memory that a host has lent out meanwhile. Ratios are of times within a round, the
rival's over ours: above 1 we are faster. The last line is JSON. Ours has large memory pages, as the
command line has; with GLIBC_TUNABLES=glibc.malloc.hugetlb=1 before the command, all have. PyTorch
is no dependency of the project: pip install torch.
"""

import argparse
import contextlib
import importlib.util
import json
import multiprocessing
import os
import signal
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from tools.setting import DEFAULT, Setting, noise

LARGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
STEP, FORWARD, WHOLE = "train step", "forward", "train step with the generator"

Call = Callable[[], Any]


def ours(setting: Setting) -> dict[str, Call]:
    """This project's calls, over one device a core."""
    import jax

    from draem_jax.training import parallel
    from tools import train_call

    parallel.use_cpu_devices(dividing=setting.batch)
    calls = {
        STEP: train_call.learn_call(setting),
        FORWARD: train_call.forward_call(setting),
        WHOLE: train_call.train_call(setting),
    }
    return {
        what: lambda call=call: jax.block_until_ready(call())  # type: ignore[misc]
        for what, call in calls.items()
    }


def pytorch(setting: Setting) -> dict[str, Call]:
    """The rival's calls, in PyTorch's own order of axes, as the authors wrote it."""
    import torch

    return _pytorch(setting, torch.contiguous_format)


def pytorch_channels_last(setting: Setting) -> dict[str, Call]:
    """The rival's calls with the channels last in memory, which its kernels for CPUs like best."""
    import torch

    return _pytorch(setting, torch.channels_last)


def _pytorch(setting: Setting, memory_format: Any) -> dict[str, Call]:
    import torch

    from tools import pytorch_rival

    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.manual_seed(0)
    widths = setting.reconstructive_width, setting.discriminative_width
    learning, predicting = (
        pytorch_rival.Draem(*widths).to(memory_format=memory_format) for _ in range(2)
    )
    predicting.eval()
    optimizer = pytorch_rival.make_adam(learning)
    normal, augmented, mask = (
        torch.from_numpy(array).permute(0, 3, 1, 2).contiguous(memory_format=memory_format)
        for array in noise(setting)
    )

    def forward() -> Any:
        with torch.inference_mode():
            return predicting(augmented)

    return {
        STEP: lambda: pytorch_rival.train_step(learning, optimizer, normal, augmented, mask),
        FORWARD: forward,
    }


SIDES: Mapping[str, Callable[[Setting], dict[str, Call]]] = {
    "ours": ours,
    "PyTorch": pytorch,
    "PyTorch, channels last": pytorch_channels_last,
}


class Pair(NamedTuple):
    """What is compared.

    Attributes:
        ours: what of ours.
        rival: whose.
        what: what of the rival's.
    """

    ours: str
    rival: str
    what: str


PAIRS = tuple(
    Pair(mine, rival, what)
    for mine, what in ((STEP, STEP), (WHOLE, STEP), (FORWARD, FORWARD))
    for rival in list(SIDES)[1:]
)


def _serve(side: str, setting: Setting, pipe: Connection) -> None:
    """In a process of its own: measures what is asked for, until nothing is."""
    calls = SIDES[side](setting)
    for call in calls.values():
        call()  # compiles
    pipe.send(sorted(calls))
    while asked := pipe.recv():
        what, count = asked
        calls[what]()  # brings back what the others have driven out of the caches
        pipe.send(statistics.median(_seconds(calls[what]) for _ in range(count)))


def _seconds(call: Call) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


@contextlib.contextmanager
def _environment(changes: Mapping[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(changes)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _signal(process: Any, number: int) -> None:
    os.kill(process.pid, number)


def measure(setting: Setting, *, rounds: int, calls: int) -> dict[tuple[str, str], list[float]]:
    """Seconds of the median call, by side and what is called, one for each round."""
    context = multiprocessing.get_context("spawn")
    seconds: dict[tuple[str, str], list[float]] = {}
    pipes, processes = {}, {}
    for side in SIDES:  # one after the other, so that they do not compile at once
        pipes[side], theirs = context.Pipe()
        process = context.Process(target=_serve, args=(side, setting, theirs), daemon=True)
        # As the command line starts itself. Who wants it for all sets it before.
        with _environment(LARGE_PAGES if side == "ours" else {}):
            process.start()
        theirs.close()
        processes[side] = process
        for what in pipes[side].recv():
            seconds[side, what] = []
        _signal(process, signal.SIGSTOP)
    for _ in range(rounds):
        for (side, what), found in seconds.items():
            # Threads that wait for work may spin, and take the time of who has some.
            _signal(processes[side], signal.SIGCONT)
            pipes[side].send((what, calls))
            found.append(pipes[side].recv())
            _signal(processes[side], signal.SIGSTOP)
    for side, process in processes.items():
        _signal(process, signal.SIGCONT)
        pipes[side].send(None)
        process.join()
    return seconds


def ratios(seconds: Mapping[tuple[str, str], list[float]], pair: Pair) -> list[float]:
    """The rival's time over ours, one for each round."""
    mine, theirs = seconds["ours", pair.ours], seconds[pair.rival, pair.what]
    return [b / a for a, b in zip(mine, theirs, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("settings", nargs="*", type=Setting.parse, metavar="WIDTHS:SIZE:BATCH")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--calls", type=int, default=7, help="calls of each in a round, of which the median counts"
    )
    options = parser.parse_args()
    if importlib.util.find_spec("torch") is None:
        sys.exit("PyTorch, which is compared with, is missing: pip install torch")
    results = {}
    for setting in options.settings or DEFAULT:
        seconds = measure(setting, rounds=options.rounds, calls=options.calls)
        print(f"\n{setting}, medians of {options.rounds} rounds of {options.calls} calls")
        for (side, what), found in seconds.items():
            an_image = 1000 * statistics.median(found) / setting.batch
            print(f"  {side:<24}{what:<32}{an_image:9.2f} ms an image")
        for pair in PAIRS:
            found = ratios(seconds, pair)
            print(
                f"  {pair.rival}, {pair.what} / ours, {pair.ours}: "
                f"{statistics.median(found):.2f} ({min(found):.2f} to {max(found):.2f})",
                flush=True,
            )
        results[str(setting)] = [
            {"side": side, "what": what, "seconds": found}
            for (side, what), found in seconds.items()
        ]
    print(json.dumps({"cores": len(os.sched_getaffinity(0)), "settings": results}))


if __name__ == "__main__":
    main()
