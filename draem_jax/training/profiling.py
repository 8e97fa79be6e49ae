"""Writing a trace of some of a run's steps: what host and devices did, and for how long."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import jax

from draem_jax.hosts.joining import is_first
from draem_jax.losses import Losses
from draem_jax.training.log import RunLog
from draem_jax.training.state import TrainState

_FOLDER = "profile"

MakeSteps = Callable[[TrainState, int], tuple[TrainState, Losses]]


def steps_to_profile(first: int, last: int) -> range:
    """The steps that are made before each step from `first` to `last`, of which 1 is a run's first.

    It is empty for `first` 0.
    """
    return range(first - 1, last) if first else range(0)


@contextmanager
def profiled(
    make_steps: MakeSteps, *, steps: range, made: int, workdir: Path, log: RunLog
) -> Iterator[MakeSteps]:
    """Gives a `make_steps` that makes the same steps and writes a trace of some of them.

    The trace is written to `profile/` in the work directory, for xprof and TensorBoard, and beside
    that as `perfetto_trace.json.gz` for https://ui.perfetto.dev. It holds whole steps: before the
    first and after the last of them the host waits for the devices, in between it does not. Of
    processes that train together the first one writes. Where it cannot, the run goes on without.

    Args:
        make_steps: see `draem_jax.training.learning.learn`; no call may go beyond the first or the
            last of `steps`.
        steps: to write a trace of, by the steps that are made before each; those made already are
            left out.
        made: steps that are made already.
        workdir: the work directory of the run.
        log: whose rate leaves out what the writing takes.
    """
    folder = workdir / _FOLDER
    is_due, is_running = is_first(), False

    def switch(on: bool) -> None:
        nonlocal is_running
        with log.aside():
            try:
                if on:
                    # JAX would find out at the end, and then refuse to trace until it ends itself.
                    folder.mkdir(parents=True, exist_ok=True)
                    options = jax.profiler.ProfileOptions()
                    options.python_tracer_level = 0  # it would slow the host down
                    jax.profiler.start_trace(
                        folder, create_perfetto_trace=True, profiler_options=options
                    )
                else:
                    jax.profiler.stop_trace()
                    log.say(f"profile: {folder}")
                is_running = on
            except (OSError, RuntimeError, ValueError) as error:
                is_running = False
                log.say(f"no profile is written to {folder}: {error}")

    def make_steps_and_trace(state: TrainState, count: int) -> tuple[TrainState, Losses]:
        nonlocal made, is_due
        if is_due and made in steps:
            is_due = False
            jax.block_until_ready(state)
            switch(True)
        with (
            jax.profiler.StepTraceAnnotation("train", step_num=made + 1)
            if is_running
            else nullcontext()
        ):
            state, losses = make_steps(state, count)
        made += count
        if is_running and made >= steps.stop:
            jax.block_until_ready(state)
            switch(False)
        return state, losses

    try:
        yield make_steps_and_trace if steps else make_steps
    finally:
        if is_running:
            switch(False)
