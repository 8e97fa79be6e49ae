"""When a file that arrives in a folder is whole: nothing here reads files or clocks."""

from collections.abc import Callable, Mapping
from typing import NamedTuple


class Stamp(NamedTuple):
    """What tells one content of a file from another.

    Attributes:
        size: in bytes.
        mtime_ns: when it was last written, in nanoseconds.
    """

    size: int
    mtime_ns: int


class Ready(NamedTuple):
    """A file to be read.

    Attributes:
        name: of the file.
        stamp: that it had in two looks.
        is_last_try: whether it is to be noted as unreadable if it cannot be read now.
    """

    name: str
    stamp: Stamp
    is_last_try: bool


class _Waiting(NamedTuple):
    stamp: Stamp
    since: float
    was_tried: bool = False


class Settling:
    """Watches files until they are whole.

    A file is ready once it has the same stamp in two looks. One that cannot be read then is ready
    again when its stamp has changed, or, for the last time, when it has been the same for long.

    Args:
        patience: for how long, in seconds.
    """

    def __init__(self, patience: float):
        self._patience = patience
        self._waiting: dict[str, _Waiting] = {}

    def look(
        self,
        found: Mapping[str, Stamp],
        *,
        known: Callable[[str], Stamp | None],
        now: float,
    ) -> list[Ready]:
        """Takes what there is in the folder, and gives what is ready, in the same order.

        Args:
            found: the files' stamps by their names; what is no more there is forgotten.
            known: the stamp by which a file was dealt with; None if it never was.
            now: the time in seconds, which never goes back.
        """
        waiting, ready = {}, []
        for name, stamp in found.items():
            if known(name) == stamp:
                continue
            before = self._waiting.get(name)
            if before is None or before.stamp != stamp:
                waiting[name] = _Waiting(stamp, now)
                continue
            waiting[name] = before
            is_last_try = now - before.since >= self._patience
            if is_last_try or not before.was_tried:
                ready.append(Ready(name, stamp, is_last_try))
        self._waiting = waiting
        return ready

    def note_failure(self, name: str) -> None:
        """Notes that a file could not be read."""
        self._waiting[name] = self._waiting[name]._replace(was_tried=True)

    def forget(self, name: str) -> None:
        """Begins anew with a file, as one that was dealt with or has changed meanwhile."""
        self._waiting.pop(name, None)
