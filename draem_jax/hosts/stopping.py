"""Stopping of processes that train together: all after the same call to the devices."""

import threading
from collections.abc import Callable

from draem_jax.hosts.talking import Watch, current

_LOOK = 0.2  # seconds between two looks at whether all have answered


class AgreedStop:
    """Decides after which call to the devices a run stops.

    A process that stopped by itself would leave the others waiting for it. So one that is asked to
    stop tells the others; each says how many calls it has made, and all stop after the first one
    that none of them can have passed. Until then nothing is exchanged. Alone, a process stops at
    once.

    It must be made, and asked, by all processes in the same order, within
    `draem_jax.hosts.talking.together` where there are several.
    """

    def __init__(self, asked: Callable[[], int], *, watch: Watch | None = None):
        """Begins with no call made.

        Args:
            asked: gives the number of the signal that has come to this process, 0 for none.
            watch: through which processes talk; that of the block that this one is in where None.
        """
        self._asked = asked
        self._watch = watch or current()
        self._changed = threading.Condition()
        self._calls = 0
        self._last: int | None = None
        self._wished = self._answered = False
        self._number = 0
        self._key = ""
        if self._watch is not None:
            self._key = f"stop{next(self._watch.numbers)}"
            self._watch.tick = self._look

    @property
    def number(self) -> int:
        """The number of the signal that stopped the run; 0 if none did."""
        return self._number if self._watch is not None else self._asked()

    def after_call(self, *, wished: bool = False) -> bool:
        """Whether the run stops here; to be asked after each call to the devices.

        Args:
            wished: whether there is another reason than a signal to stop.

        Raises:
            UserError: another process failed or is gone.
        """
        wished = wished or self._asked() > 0
        if self._watch is None:
            return wished
        with self._changed:
            if wished and not self._wished:
                self._wished = True
                self._watch.say(f"{self._key}/wish", str(self._asked()))
            while (self._wished or self._answered) and self._last is None:
                self._changed.wait(_LOOK)
                self._watch.refuse()
            self._calls += 1
            return self._last is not None and self._calls >= self._last

    def _look(self) -> None:
        """Answers where another process wishes to stop; called by the watch now and then."""
        assert self._watch is not None
        wishes = self._watch.told(f"{self._key}/wish")
        if not wishes or self._last is not None:
            return
        with self._changed:
            if not self._answered:
                number = max(map(int, wishes.values()))
                self._watch.say(f"{self._key}/calls", f"{self._calls} {number}")
                self._answered = True  # from here on, none is made until all have answered
            answers = [text.split() for text in self._watch.told(f"{self._key}/calls").values()]
            if len(answers) == self._watch.count:
                self._last = 1 + max(int(calls) for calls, _ in answers)
                self._number = max(int(number) for _, number in answers)
                self._changed.notify_all()
