"""Running what is missing of a study, on all devices at once."""

import errno
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import jax

from draem_jax.config import data_set, resolve_steps
from draem_jax.errors import StoppedError, UserError
from draem_jax.studies.execution import Result, execute, read_result
from draem_jax.studies.study import Run, Study, claim_study
from draem_jax.training.parallel import local_devices, on_devices
from draem_jax.training.pictures import open_pictures
from draem_jax.training.signals import stop_signals
from draem_jax.training.workdir import locked


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

    Args:
        study: to run.
        workdir: where `study.json` and the runs are kept.
        tell: is called after each call to a device and at the end of each run, by one thread at a
            time.

    Returns:
        The results of all runs.

    Raises:
        UserError: the directory is another study's or in use, its data set cannot be had, or the
            disk is full.
        StoppedError: SIGTERM or Ctrl-C asked to stop; the runs have saved themselves. See
            `finished_results` for what there is.
    """
    workdir = Path(workdir)
    _check_categories(study)
    with locked(workdir), stop_signals() as stop_asked:
        claim_study(study, workdir)
        done = {result.run.folder for result in finished_results(study, workdir)}
        missing = [run for run in study.runs() if run.folder not in done]
        board = _Board(runs=len(study.runs()), missing=missing, tell=tell)

        def work(device: jax.Device, share: Sequence[Run]) -> None:
            for run in share:

                def watch(step: int, run: Run = run) -> bool:
                    board.step(run, step)
                    return stop_asked() > 0 or board.is_stopping

                if stop_asked() or board.is_stopping:
                    return
                with on_devices([device]):
                    result = execute(run, workdir, watch=watch)
                if result is not None:
                    board.finish(run, result)

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


def _check_categories(study: Study) -> None:
    """Before hours of training, not after: every category has pictures to compare on."""
    data = study.base.data
    for run in {run.category: run for run in study.runs()}.values():
        test = replace(data_set(run.config), skip_bad=True).test_pictures(size=(32, 32))
        if not len(test):
            raise UserError(
                f"{data.name} {run.category} has no test pictures, without which variants cannot "
                "be compared"
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
