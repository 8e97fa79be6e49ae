"""What processes that work together tell each other: values, failures, and that they are alive."""

from __future__ import annotations

import contextlib
import itertools
import json
import platform
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from draem_jax.errors import StoppedError, UserError
from draem_jax.hosts import joining
from draem_jax.hosts.joining import count, index, store

_EVERY = 0.5  # seconds between two looks at what the others say
_GONE = 25.0  # seconds without a sign of life after which a process is taken for dead
_LATE = 90.0  # the same, before the first sign
_GRACE = 5.0  # seconds that the main thread has to end by itself
_SLOWEST = 0.2  # seconds between two looks while waiting

_numbers = itertools.count()
_current: Watch | None = None


@contextmanager
def together(*, advice: Callable[[], str] = lambda: "") -> Iterator[None]:
    """What processes do within, they do together: none goes on, or waits, without the others.

    Where one fails, or is killed, or its machine goes, the others end within a minute with an error
    that names it; those that wait for it in JAX, which nothing interrupts, with status 1 on the
    spot. At the end all wait for each other. Within another one, or alone, it does nothing.

    Args:
        advice: what to do when a process is gone, in a sentence.

    Raises:
        UserError: another process failed or is gone.
    """
    global _current
    if count() == 1:
        yield
        return
    if _current is not None:
        _current.advice = advice
        yield
        return
    _current = watch = Watch(f"draem_jax/{next(_numbers)}", advice)
    watch.start()
    try:
        yield
        gathered(None)
    except StoppedError:
        gathered(None)
        raise
    except BaseException as error:
        reason = watch.reason_of(error)
        watch.tell_failure(reason)
        if reason is error:
            raise
        raise reason from error
    finally:
        watch.stop()
        _current = None


def gathered(value: Any) -> list[Any]:
    """What each process gives, by their order; all must call it.

    It waits for all, as long as it takes.

    Args:
        value: of this process; anything that JSON can hold.

    Raises:
        UserError: another process failed or is gone.
    """
    if count() == 1:
        return [value]
    folder = f"draem_jax/gathered/{next(_numbers)}/"
    store().key_value_set(f"{folder}{index()}", json.dumps(value))
    wait = 0.01
    while True:
        found = dict(store().key_value_dir_get(folder))
        if len(found) == count():
            return [json.loads(found[f"{folder}{i}"]) for i in range(count())]
        if _current is not None:
            _current.refuse()
        time.sleep(wait)
        wait = min(2 * wait, _SLOWEST)


def from_first(value: Any) -> Any:
    """What the first process gives; all must call it. See `gathered`."""
    return gathered(value if joining.is_first() else None)[0]


def agree(facts: Mapping[str, Any]) -> None:
    """Makes sure that all processes have the same; all must call it.

    Args:
        facts: what must be the same, by names for people.

    Raises:
        UserError: in all processes; it says which one differs from the first, and in what.
    """
    if count() == 1:
        return
    first, *others = gathered([who(), dict(facts)])
    for name, other in others:
        if wrong := [
            f"{what} is {other.get(what)!r}, and {first[1].get(what)!r} there"
            for what in {**first[1], **other}
            if other.get(what) != first[1].get(what)
        ]:
            more = f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""
            raise UserError(
                f"{name} differs from {first[0]}: {'; '.join(wrong[:3])}{more}; make them the same "
                "on all hosts, or give --processes=1 to each to let them work alone"
            )


def who() -> str:
    """This process, for people."""
    return f"process {index()} on {platform.node()}"


def current() -> Watch | None:
    """The watch of the block of `together` that this process is in."""
    return _current


class Watch(threading.Thread):
    """Tells the others that this process is alive, and ends it where one of them is not.

    Attributes:
        advice: what to do when a process is gone, in a sentence.
        tick: called now and then.
        count: how many processes there are.
        numbers: for those who need names of their own for what they tell.
    """

    def __init__(self, key: str, advice: Callable[[], str]):
        super().__init__(daemon=True, name="watch of other hosts")
        self.advice = advice
        self.tick: Callable[[], None] = lambda: None
        self.count = count()
        self.numbers = itertools.count()
        self._key = key
        self._seen: dict[int, tuple[str, float]] = {}
        self._names: dict[int, str] = {}
        self._verdict: str | None = None
        self._judged = threading.Event()
        self._is_ending = False
        self._over = threading.Event()

    def run(self) -> None:
        """Looks at the others now and then, until it is stopped."""
        self._seen = {i: ("", time.monotonic()) for i in range(count()) if i != index()}
        threading.Thread(target=self._await_loss, daemon=True).start()
        for beat in itertools.count():
            # What is asked of the first process has no end where that is gone.
            if self._over.wait(_EVERY) or joining.is_first_lost():
                return
            with contextlib.suppress(Exception):
                self.say("alive", f"{beat} {platform.node()}")
                self._look()
                self.tick()

    def _await_loss(self) -> None:
        joining.await_loss()
        self._judge(self._gone(0))

    def stop(self) -> None:
        """Ends the watch."""
        self._over.set()
        self.join(_GRACE)

    def refuse(self) -> None:
        """Raises UserError where another process failed or is gone."""
        if self._verdict is not None:
            raise UserError(self._verdict)

    def reason_of(self, error: BaseException) -> BaseException:
        """Why a process ends with an error: often because another has ended before it."""
        import jax

        if isinstance(error, jax.errors.JaxRuntimeError):
            self._judged.wait(_GONE + _GRACE)
            if self._verdict is not None:
                return UserError(self._verdict)
        return error

    def tell_failure(self, error: BaseException) -> None:
        """Tells the others why this process ends, and waits a moment for them to hear of it."""
        self._is_ending = True
        if joining.is_first_lost():
            return
        line = " ".join(str(error).split())
        if not isinstance(error, UserError):
            line = f"{type(error).__name__}: {line}" if line else type(error).__name__
        until = time.monotonic() + _GRACE
        with contextlib.suppress(Exception):
            if self._verdict is None:
                self.say("failed", f"{who()} ended: {line[:500]}")
            self.say("heard", "")
            # The others learn of it from here.
            while joining.is_first() and time.monotonic() < until:
                if len(self.told("heard")) == count():
                    return
                time.sleep(_SLOWEST)

    def say(self, what: str, text: str) -> None:
        """Tells the others something that they may look for."""
        store().key_value_set(f"{self._key}/{what}/{index()}", text, True)

    def told(self, what: str) -> dict[int, str]:
        """What processes have said of it, by their numbers."""
        found = store().key_value_dir_get(f"{self._key}/{what}/")
        return {int(key.rpartition("/")[2]): text for key, text in found}

    def _look(self) -> None:
        now = time.monotonic()
        alive = self.told("alive")
        for i, (before, since) in self._seen.items():
            text = alive.get(i, "")
            self._names[i] = text.partition(" ")[2]
            if text != before:
                self._seen[i] = (text, now)
            elif now - since > (_GONE if before else _LATE):
                self._judge(self._gone(i))
                self.say("failed", self._verdict or "")
        failed = self.told("failed")
        failed.pop(index(), None)
        if failed:
            self._judge(failed[min(failed)])
            self.say("heard", "")

    def _gone(self, process: int) -> str:
        name = self._names.get(process)
        advice = self.advice()
        return (
            f"process {process}{f' on {name}' if name else ''} is gone: killed, or its machine or "
            f"network is down; the others cannot go on without it{advice and '; '}{advice}"
        )

    def _judge(self, verdict: str) -> None:
        if self._verdict is None and not self._over.is_set():
            self._verdict = verdict
            self._judged.set()
            timer = threading.Timer(_GRACE, self._end)
            timer.daemon = True
            timer.start()

    def _end(self) -> None:
        if not self._over.wait(_GRACE if self._is_ending else 0.0):
            print(f"draem-jax: {self._verdict}", file=sys.stderr, flush=True)
            joining.end(1)
