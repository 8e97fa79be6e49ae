"""Running what is missing of a study, on all devices at once, by one process or several.

Processes share a study without knowing of each other: each claims a run before it makes it, by a
lock that the operating system takes from a process that is killed.
"""

import errno
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import jax

from draem_jax.config import data_set, resolve_steps
from draem_jax.errors import InUseError, StoppedError, UserError
from draem_jax.studies.execution import Result, execute, read_result
from draem_jax.studies.study import Run, Study, claim_study
from draem_jax.training.parallel import local_devices, on_devices
from draem_jax.training.pictures import open_pictures
from draem_jax.training.signals import stop_signals
from draem_jax.training.workdir import locked

_PATIENCE = 10.0  # seconds that another process may take to look at the work directory


@dataclass(frozen=True)
class Progress:
    """How far a study is.

    Attributes:
        runs_done: finished, diverged ones and those of earlier calls included.
        runs: how many the study has.
        steps_done: training steps made by this call.
        steps: training steps that this call has to make.
        seconds_left: at the rate so far; None before there is one.
        finished: the run that has just come to its end, if one has.
    """

    runs_done: int
    runs: int
    steps_done: int
    steps: int
    seconds_left: float | None
    finished: Result | None


def run_study(
    study: Study,
    workdir: str | Path,
    *,
    tell: Callable[[Progress], None] = lambda progress: None,
) -> list[Result]:
    """Trains and measures what is missing; each run takes one device, as many at a time.

    A run gives what the same config gives when it is trained alone on one device, bit for bit.
    Killed at any moment, the same call goes on. A run that diverges is a result like others.
    Several processes may call it with the same directory: each makes runs that no other has begun,
    and returns when there are none left.

    Args:
        study: to run.
        workdir: where `study.json` and the runs are kept.
        tell: is called after each call to a device and at the end of each run, by one thread at a
            time.

    Returns:
        The results of all runs but those that other processes are still making.

    Raises:
        UserError: the directory is another study's, a data set cannot be had, or the disk is full.
        StoppedError: SIGTERM or Ctrl-C asked to stop; the runs have saved themselves. See
            `finished_results` for what there is.
    """
    workdir = Path(workdir)
    _check_products(study)
    with stop_signals() as stop_asked:
        with locked(workdir, wait=_PATIENCE):
            claim_study(study, workdir)
        done = {result.run.folder for result in finished_results(study, workdir)}
        missing = [run for run in study.runs() if run.folder not in done]
        board = _Board(runs=len(study.runs()), missing=missing, tell=tell)

        def work(device: jax.Device, share: Sequence[Run]) -> None:
            left = list(share)
            last: Run | None = None
            while left and not (stop_asked() or board.is_stopping):
                run = next_run(left, last, workdir)
                left.remove(run)

                def watch(step: int, run: Run = run) -> bool:
                    board.step(run, step)
                    return stop_asked() > 0 or board.is_stopping

                with _claimed(run, workdir) as is_ours, on_devices([device]):
                    if not is_ours:
                        board.leave(run, is_done=read_result(run, workdir) is not None)
                    elif result := execute(run, workdir, watch=watch):
                        board.finish(run, result)
                        last = run

        devices = local_devices()
        with ThreadPoolExecutor(len(devices), thread_name_prefix="study") as pool:
            working = [
                pool.submit(board.guard(work), device, share)
                for device, share in zip(devices, shares(missing, len(devices)), strict=False)
            ]
        for worker in working:
            worker.result()
        results, total = finished_results(study, workdir), len(study.runs())
    if len(results) < total and (number := stop_asked()):
        raise StoppedError(
            f"stopped after {len(results)} of {total} runs, so it is not done; the same command "
            "goes on",
            number,
        )
    return results


@contextmanager
def _claimed(run: Run, workdir: Path) -> Iterator[bool]:
    """Keeps other processes from making a run; yields whether it is left to this one."""
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(workdir / run.folder, name=".study"))
        except InUseError:
            yield False
        else:
            yield read_result(run, workdir) is None


def next_run(left: Sequence[Run], last: Run | None, workdir: Path) -> Run:
    """Chooses what to make next such that few programs are compiled, by other processes too.

    Args:
        left: the runs that may be made.
        last: the run that was made before; None at the start.
        workdir: the work directory of the study.

    Returns:
        The first run of the last one's program; where there is none, of the program of which other
        processes have begun the fewest runs, preferably of the last one's variant.
    """
    programs = {run.folder: run.program for run in left}
    begun = Counter(programs[run.folder] for run in left if (workdir / run.folder).is_dir())

    def preference(run: Run) -> tuple[bool, int, bool]:
        program = programs[run.folder]
        return (
            last is not None and program != last.program,
            begun[program],
            last is not None and run.variant != last.variant,
        )

    return min(left, key=preference)


def finished_results(study: Study, workdir: str | Path) -> list[Result]:
    """The results of those runs of a study that are done, in the study's order."""
    found = (read_result(run, Path(workdir)) for run in study.runs())
    return [result for result in found if result is not None]


def shares(runs: Sequence[Run], devices: int) -> list[list[Run]]:
    """Divides runs among devices: equally many each, and of each program on as few as can be.

    Runs that share a program stand together, so that a device compiles few of them. The programs
    keep the order of their first run.
    """
    by_program: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        by_program[run.program].append(run)
    ordered = [run for group in by_program.values() for run in group]
    ends = [round(len(ordered) * n / devices) for n in range(devices + 1)]
    return [ordered[a:b] for a, b in pairwise(ends) if b > a]


class _Board:
    """What the threads share: how far they are, and whether one of them failed."""

    def __init__(self, *, runs: int, missing: Sequence[Run], tell: Callable[[Progress], None]):
        self.is_stopping = False
        self._runs, self._missing, self._tell = runs, len(missing), tell
        self._finished = 0
        self._total = {run.folder: _steps(run) for run in missing}
        self._first: dict[Path, int] = {}
        self._steps: dict[Path, int] = {}
        self._lock = threading.Lock()
        self._start = time.perf_counter()

    def step(self, run: Run, step: int) -> None:
        with self._lock:
            self._first.setdefault(run.folder, step - 1)
            self._steps[run.folder] = step
            self._report(None)

    def finish(self, run: Run, result: Result) -> None:
        with self._lock:
            self._finished += 1
            self._steps[run.folder] = self._total[run.folder]
            self._report(result)

    def leave(self, run: Run, *, is_done: bool) -> None:
        """Leaves a run to another process, which may have finished it."""
        with self._lock:
            self._finished += is_done
            del self._total[run.folder]
            self._report(None)

    def guard(self, work: Callable[..., None]) -> Callable[..., None]:
        """Lets the others stop when one fails, and says what a full disk looks like."""

        def guarded(*arguments) -> None:
            try:
                work(*arguments)
            except BaseException as error:
                self.is_stopping = True
                if _disk_is_full(error):
                    raise UserError(
                        "the disk is full; finished runs are safe: make room, and the same "
                        "command goes on"
                    ) from error
                raise

        return guarded

    def _report(self, finished: Result | None) -> None:
        before = sum(self._first.values())  # steps that an earlier call made
        done, steps = sum(self._steps.values()) - before, sum(self._total.values()) - before
        seconds = time.perf_counter() - self._start
        left = seconds * (steps - done) / done if done else None
        runs_done = self._runs - self._missing + self._finished
        self._tell(Progress(runs_done, self._runs, done, steps, left, finished))


def _check_products(study: Study) -> None:
    """Before hours of training, not after: every product has pictures to compare on."""
    for run in study.first_runs():
        data = replace(data_set(run.config), skip_bad=True)
        if not len(data.test_pictures(size=(32, 32))):
            raise UserError(
                f"the product {run.product} (of {data.name}) has no test pictures, without which "
                "variants cannot be compared"
            )


def _steps(run: Run) -> int:
    normal = 0 if run.config.train.steps else len(open_pictures(run.config).normal)
    return resolve_steps(run.config, normal_pictures=normal).train.steps


def _disk_is_full(error: BaseException | None) -> bool:
    while error is not None:
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        if full or "No space left on device" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False
