"""Where the time of a train step on CPUs goes, by kind of operation.

    python -m tools.profile_step [--steps=5] [--largest=0] [16/16:128:8 32/16:128:4]

Each setting is widths, size and batch. The step is the whole call of `draem-jax train`, over one
device a core, as XLA's profiler saw it. An operation's time is the clock's, without that of
operations within it, and the mean over the devices; waiting is what they wait for each other.
"""

import argparse
import collections
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax

from draem_jax.training import parallel
from tools.roofline.hlo import Instruction, Module, parse_module
from tools.roofline.parts import OTHER, part_of
from tools.setting import DEFAULT, Setting
from tools.train_call import train_call

WAITING = "waiting for the other devices"
BETWEEN = "between operations"


def read_parts(module: Module) -> dict[str, str]:
    """The part of a train step that each operation of a compiled program belongs to, by name."""
    return {
        instruction.name: _part_of(instruction, module)
        for computation in module.computations.values()
        for instruction in computation.instructions.values()
    }


def _part_of(instruction: Instruction, module: Module) -> str:
    if instruction.opcode.startswith("all-reduce"):
        return WAITING
    called = module.computations.get(instruction.attribute(r"calls=%([\w.-]+)") or "")
    inner = list(called.instructions.values()) if called else []
    convolution = next((one for one in (instruction, *inner) if one.opcode == "convolution"), None)
    if convolution is not None:
        library = "YNNPACK" if "ynn" in instruction.attributes else "Eigen"
        return f"convolutions, {_made_by(convolution)} ({library})"
    # Of a fusion that says nothing of itself, what it computes last says it.
    speaking = [one for one in inner if one.op_name and one.stack]
    known = instruction if instruction.stack or not speaking else speaking[-1]
    return part_of(known, is_convolution=False)


def _made_by(convolution: Instruction) -> str:
    if "transpose(" not in convolution.op_name:
        return "forward"
    # The gradient to the kernel is a convolution by a window as large as the pictures.
    is_small = convolution.attribute(r"window=\{size=(3x3) ")
    return f"gradient to {'input' if is_small else 'kernel'}"


class Span(NamedTuple):
    """An operation at work.

    Attributes:
        thread: number of the thread that began it.
        start: of the operation; this and the others in nanoseconds.
        left: when the thread that began it turned to something else.
        end: of the operation, at `left` or later.
        name: of the operation.
    """

    thread: int
    start: float
    left: float
    end: float
    name: str


def read_spans(path: Path) -> list[Span]:
    """The operations at work in a trace that `jax.profiler` wrote to a folder."""
    (file,) = path.glob("**/*.xplane.pb")
    planes = jax.profiler.ProfileData.from_file(str(file)).planes
    begun, ends = [], {}
    for thread, line in enumerate(line for plane in planes for line in plane.lines):
        for event in line.events:
            stats = dict(event.stats)
            if "hlo_op" in stats:
                left = event.start_ns + event.duration_ns
                name = str(stats["hlo_op"])
                begun.append(
                    ((stats.get("_p"), name), Span(thread, event.start_ns, left, left, name))
                )
            elif event.name.startswith("end: "):
                ends[stats.get("_c"), event.name.removeprefix("end: ")] = event.start_ns
    return [span._replace(end=max(span.left, ends.get(key, 0))) for key, span in begun]


def thread_times(spans: Sequence[Span]) -> dict[str, float]:
    """Nanoseconds of the threads' time that each operation took; under "" what none did.

    A large operation is divided among threads, of which the profiler sees only the one that began
    it. So the time of a thread that is seen to do nothing is divided among the operations that are
    under way then.
    """
    times: dict[str, float] = collections.defaultdict(float)
    changes: list[tuple[float, int, str]] = []  # when, threads that fall idle, operation
    threads = collections.Counter(span.thread for span in spans)
    for thread in (thread for thread, count in threads.items() if count > len(spans) / 50):
        changes += _idle(sorted(span for span in spans if span.thread == thread), times)
    under_way: dict[str, int] = collections.Counter()
    changes += [(span.left, 0, f"+{span.name}") for span in spans if span.end > span.left]
    changes += [(span.end, 0, f"-{span.name}") for span in spans if span.end > span.left]
    idle, before = 0, 0.0
    for now, more, operation in sorted(changes):
        if idle and now > before:
            count = sum(under_way.values())
            for name, times_under_way in under_way.items() if count else [("", 1)]:
                times[name] += idle * (now - before) * times_under_way / max(1, count)
        idle, before = idle + more, now
        if operation:
            under_way[operation[1:]] += 1 if operation[0] == "+" else -1
            if not under_way[operation[1:]]:
                del under_way[operation[1:]]
    return times


def _idle(spans: Sequence[Span], times: dict[str, float]) -> Iterator[tuple[float, int, str]]:
    """When a thread falls idle and is so no longer; adds what it is seen to do to `times`.

    Operations within others are taken out of those.
    """
    open_spans: list[Span] = []
    busy_until = spans[0].start
    for span in spans:
        while open_spans and open_spans[-1].left <= span.start:
            open_spans.pop()
        if open_spans:
            times[open_spans[-1].name] -= span.left - span.start
        times[span.name] += span.left - span.start
        open_spans.append(span)
        if span.start > busy_until:
            yield busy_until, 1, ""
            yield span.start, -1, ""
        busy_until = max(busy_until, span.left)


class Profile(NamedTuple):
    """The time of a step.

    Attributes:
        step: milliseconds on the clock while the profiler watched.
        unwatched: milliseconds on the clock while it did not.
        operations: of `step`, milliseconds of each operation by name; of "" what none did.
        module: the program.
    """

    step: float
    unwatched: float
    operations: Mapping[str, float]
    module: Module


def profile(setting: Setting, steps: int) -> Profile:
    """Compiles a train call, makes some steps, and then as many under the profiler."""
    call = train_call(setting)
    module = parse_module(call.compiled_text())
    jax.block_until_ready(call())

    def milliseconds() -> float:
        start = time.perf_counter()
        for _ in range(steps):
            jax.block_until_ready(call())
        return 1000 * (time.perf_counter() - start) / steps

    unwatched = milliseconds()
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder, profiler_options=options):
            step = milliseconds()
        times = thread_times(read_spans(Path(folder)))
    whole = sum(times.values())
    operations = {name: step * time / whole for name, time in times.items()}
    return Profile(step, unwatched, operations, module)


def table(found: Profile, largest: int) -> Iterator[str]:
    """Lines of a table of the parts, and of the operations that take longest."""
    parts = read_parts(found.module) | {"": BETWEEN}
    times: dict[str, float] = collections.defaultdict(float)
    counts: dict[str, int] = collections.Counter()
    for name, milliseconds in found.operations.items():
        times[parts.get(name, OTHER)] += milliseconds
        counts[parts.get(name, OTHER)] += 1
    yield f"{'':<46}{'ms a step':>10}{'share':>8}{'operations':>12}"
    for part in sorted(times, key=lambda part: -times[part]):
        share = times[part] / found.step
        yield f"{part:<46}{times[part]:10.1f}{share:8.1%}{counts[part]:12d}"
    yield f"{'in all':<46}{found.step:10.1f} (without the profiler {found.unwatched:.1f})"
    instructions = {
        name: instruction
        for computation in found.module.computations.values()
        for name, instruction in computation.instructions.items()
    }
    longest = sorted(found.operations, key=lambda name: -found.operations[name])
    for name in [name for name in longest if name in instructions][:largest]:
        results = " ".join(map(str, instructions[name].results[:3]))
        yield (
            f"{found.operations[name]:8.2f} ms  {parts[name]:<46} {name} {results} "
            f"{instructions[name].op_name.split('/', 2)[-1]}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("settings", nargs="*", type=Setting.parse, metavar="WIDTHS:SIZE:BATCH")
    parser.add_argument("--steps", type=int, default=5, help="steps that are watched")
    parser.add_argument("--largest", type=int, default=0, help="list so many operations as well")
    options = parser.parse_args()
    parallel.use_cpu_devices()
    for setting in options.settings or DEFAULT:
        found = profile(setting, options.steps)
        print(f"\n{setting}, {parallel.device_count()} {jax.default_backend()} devices")
        print("\n".join(table(found, options.largest)), flush=True)


if __name__ == "__main__":
    main()
