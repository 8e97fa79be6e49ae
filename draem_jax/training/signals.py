"""Stopping at a signal without losing what was done."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from draem_jax.errors import StoppedError


def refuse_if_stopped(step: int, total: int, number: int) -> None:
    """Raises StoppedError where a signal ended a run before its last step.

    Args:
        step: that it has come to.
        total: steps of the whole run.
        number: the number of the signal; 0 if none has come.
    """
    if step < total and number:
        raise StoppedError(
            f"stopped at step {step} of {total}, so it is not done; the same command goes on there",
            number,
        )


@contextmanager
def stop_signals() -> Iterator[Callable[[], int]]:
    """Turns the first SIGTERM or Ctrl-C into a wish to stop, so that a run can save itself.

    Yields:
        What gives the number of the one that has come, 0 as long as none has. In a thread other
        than the main one, none ever does.
    """
    asked = 0
    previous: dict[int, Any] = {}

    def ask(number, frame):
        nonlocal asked
        asked = number
        signal.signal(number, previous[number])  # a second one stops at once

    try:
        for wanted in (signal.SIGTERM, signal.SIGINT):
            previous[wanted] = signal.signal(wanted, ask)
    except ValueError:
        pass  # only the main thread may set handlers
    try:
        yield lambda: asked
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
