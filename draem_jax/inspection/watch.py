"""Looking at the pictures of a folder as they arrive, each once, whatever happens on the way.

The journal is the truth: a picture's map, overlay and mask are written first, then its line there,
then its lines in the tables, which are made anew from the journal at every start. So whatever is
cut short is done again, under the same names, and nothing is there twice.
"""

import contextlib
import dataclasses
import functools
import threading
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import NamedTuple, TypeVar

from draem_jax import files
from draem_jax.data.folders import pictures_of_folder
from draem_jax.detector import Draem
from draem_jax.errors import CannotWriteError, UserError
from draem_jax.inspection.journal import Journal, depends_on, stamp_of
from draem_jax.inspection.outputs import JOURNAL, KINDS, Task, Writer, check_apart, check_out
from draem_jax.inspection.predict import PredictOptions, PredictSummary, look_at, summarise
from draem_jax.inspection.record import COCO_FILES, TABLES, Record, Tables, write_coco
from draem_jax.inspection.settling import Ready, Settling, Stamp
from draem_jax.inspection.types import TypeModel
from draem_jax.training.signals import stop_signals
from draem_jax.training.workdir import locked

Result = TypeVar("Result")

_SLICE = 0.1  # seconds: how soon a signal is seen


@dataclass(frozen=True)
class WatchOptions:
    """How a folder is watched.

    Attributes:
        poll_seconds: from one look at the folder to the next.
        patience_seconds: how long a file that cannot be read may stay as it is until that is noted.
    """

    poll_seconds: float = 1.0
    patience_seconds: float = 10.0


class Telling(NamedTuple):
    """Who is told what happens.

    Attributes:
        done: takes what was said of a picture.
        warn: takes what went wrong, a line each time.
    """

    done: Callable[[Record], None] = lambda record: None
    warn: Callable[[str], None] = lambda line: None


_OPTIONS, _WATCHING, _NOBODY = PredictOptions(), WatchOptions(), Telling()


def watch_folder(
    detector: Draem,
    images: str | Path,
    out: str | Path,
    *,
    types: TypeModel | None = None,
    options: PredictOptions = _OPTIONS,
    watching: WatchOptions = _WATCHING,
    telling: Telling = _NOBODY,
) -> PredictSummary:
    """Predicts for the pictures of a folder, and for those that come, until a signal stops it.

    `out` gets what `predict_files` writes there, and `journal.jsonl`. Outputs keep the suffix of
    their picture (`maps/a.jpg.png`), so that what comes later changes no name.

    A picture is looked at once its size and time of change have been the same in two looks. One
    that cannot be read then is tried again when it changes; if it stays as it is, that is noted. A
    file that is written again is a new picture, whose outputs and lines take the place of those
    before. What is taken away before it was read is forgotten, what was read is kept. Where the
    disk is full, or the folder is away, it waits.

    Args:
        detector: the trained detector.
        images: the folder; pictures in folders within are looked at, too.
        out: the folder to write to. What was done there before is not done again.
        types: see `draem_jax.inspection.predict.predict_files`.
        options: the same; a picture that the table of widths leaves out is not looked at.
        watching: how the folder is watched.
        telling: who is told what happens.

    Returns:
        How much there is in `out`, and the signal.

    Raises:
        UserError: `images` is no folder; `out` cannot be written, was begun with another detector
            or rule, or holds what was not written here.
        InUseError: another process watches with the same `out`.
    """
    images, out = Path(images), Path(out)
    if not images.is_dir():
        raise UserError(f"there is no folder {images} to watch; check the path")
    check_apart([images / "any"], out)
    rule = options.rule or detector.region_rule()
    with locked(out, name=f".{JOURNAL}.lock", flag="--out"), stop_signals() as stop_asked:
        check_out(out, watched=True)
        room = _Room(stop_asked, telling.warn, watching.poll_seconds)
        watch = None
        with contextlib.suppress(_StopAskedError):
            journal = room.wait_for(
                lambda: Journal(out / JOURNAL, depends_on(detector, images, rule, options.alpha))
            )
            writer = Writer(detector, out, rule, types)
            watch = _Watch(images, journal, writer, options, watching, telling, room)
            watch.run()
        if watch is not None:
            watch.finish()
        return summarise(
            tuple if watch is None else journal.records,
            detector,
            threshold=rule.threshold,
            given=0 if watch is None else len(journal.entries),
            stopped_by=stop_asked(),
        )


class _StopAskedError(Exception):
    """A signal came while there was something to wait for."""


@dataclass
class _Room:
    """Waits for room on a full disk; may be asked from several threads."""

    stop_asked: Callable[[], int]
    warn: Callable[[str], None]
    pause: float
    was_told: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def wait_for(self, action: Callable[[], Result]) -> Result:
        """Tries until there is room.

        Raises:
            CannotWriteError: it is not for want of room.
            _StopAskedError: a signal came first.
        """
        while True:
            try:
                return action()
            except CannotWriteError as error:
                if not error.is_full:
                    raise
                with self._lock:
                    is_news, self.was_told = not self.was_told, True
                if is_news:
                    self.warn(f"{error}; waiting for it")
                _sleep(self.pause, self.stop_asked)
                if self.stop_asked():
                    raise _StopAskedError from error


@dataclass
class _Watch:
    """A folder that is watched."""

    images: Path
    journal: Journal
    writer: Writer
    options: PredictOptions
    watching: WatchOptions
    telling: Telling
    room: _Room

    def __post_init__(self):
        self.out = self.writer.out
        self.settling = Settling(self.watching.patience_seconds)
        self.tables = Tables(self.out)
        self.tables_are_stale = True
        self.failed_looks = 0
        self.outputs = {name: Path(entry.output) for name, entry in self.journal.entries.items()}
        self.names = files.GrowingNames(".png", self.outputs.values())

    def run(self) -> None:
        """Watches until a signal comes."""
        self.begin()
        while not self.room.stop_asked():
            self.look(time.monotonic())
            _sleep(self.watching.poll_seconds, self.room.stop_asked)

    def begin(self) -> None:
        """Removes what was cut short, and writes what follows from the journal."""
        files.remove_temporary(self.out, [*TABLES, *COCO_FILES])
        for folder in (self.out / kind for kind in KINDS):
            self.room.wait_for(functools.partial(files.mark_output, folder))
            files.remove_temporary(folder)
        self._mend_tables()  # first, since by them the rest is known to be written here
        self.room.wait_for(lambda: write_coco(self.out, self.journal.records))

    def look(self, now: float) -> None:
        """Looks at the folder once, and at the pictures that are ready.

        Args:
            now: the time in seconds.
        """
        found = self._list()
        if found is not None:
            self._take(self.settling.look(found, known=self._known, now=now))
        self._mend_tables()

    def finish(self) -> None:
        """Writes what follows from the journal; where that fails, the next start does it."""
        try:
            if self.tables_are_stale:
                self.tables.begin(self.journal.records)
            write_coco(self.out, self.journal.records)
        except CannotWriteError as error:
            self.telling.warn(f"{error}; the next start will write it from {self.journal.path}")

    def _list(self) -> dict[str, Stamp] | None:
        """The pictures that there are; None if the folder is away."""
        try:
            paths = pictures_of_folder(self.images).paths
        except UserError as error:
            self.failed_looks += 1
            if self.failed_looks == 2:  # not where a folder within was taken away just now
                self.telling.warn(f"{error}; waiting for it")
            return None
        self.failed_looks = 0
        stamps = {str(path.relative_to(self.images)): stamp_of(path) for path in paths}
        return {name: stamp for name, stamp in stamps.items() if stamp is not None}

    def _known(self, name: str) -> Stamp | None:
        entry = self.journal.entries.get(name)
        return None if entry is None else entry.stamp

    def _take(self, ready: Sequence[Ready]) -> None:
        """Looks at pictures that are ready."""
        if not ready:
            return
        tasks: list[Task] = []
        taken: dict[Path, Ready] = {}
        given = [self._task(one.name) for one in ready]
        for one, task, width in zip(ready, given, self._widths(given), strict=True):
            if isinstance(width, UserError):
                self._settle(one, task.left_out(width))
            else:
                tasks.append(dataclasses.replace(task, mm_per_pixel=width))
                taken[task.path] = one

        def attempt(task: Task, look: Callable[[], Record]) -> Record | None:
            return self._attempt(task, taken[task.path].stamp, look)

        looking: Generator[Record | None, None, None] = look_at(
            tasks, self.writer, options=self.options, attempt=attempt
        )
        with contextlib.closing(looking):
            for one, record in zip(taken.values(), looking, strict=True):
                self._settle(one, record)
                if self.room.stop_asked():
                    raise _StopAskedError

    def _task(self, name: str) -> Task:
        if name not in self.outputs:
            self.outputs[name] = self.names.name(PurePath(name))
        escaped = files.escaped(PurePath(name).as_posix())
        return Task(self.images / name, escaped, self.outputs[name])

    def _widths(self, tasks: Sequence[Task]) -> Sequence[float | UserError | None]:
        """How wide pixels are, or why nobody can tell; the table may have gained lines."""
        try:
            return self.options.pixel_widths.of([task.name for task in tasks])
        except UserError as error:
            if len(tasks) == 1:
                return [error]
            return [width for task in tasks for width in self._widths([task])]

    def _attempt(self, task: Task, stamp: Stamp, look: Callable[[], Record]) -> Record | None:
        """Looks at a picture and writes what is found, in a thread; None if it has changed."""
        if stamp_of(task.path) not in (stamp, None):
            return None
        record = self.room.wait_for(look)
        after = stamp_of(task.path)
        if after not in (stamp, None) or (after is None and record.error):
            return None
        if not record.error:
            written = [self.out / kind / task.output for kind in KINDS]
            self.room.wait_for(lambda: files.make_durable(written))
        return record

    def _settle(self, one: Ready, record: Record | None) -> None:
        """Keeps what was said of a picture, or tries it again later."""
        if record is not None and record.error and not one.is_last_try:
            self.settling.note_failure(one.name)
            return
        self.settling.forget(one.name)
        if record is None:
            return
        is_new = one.name not in self.journal.entries
        output = self.outputs[one.name]
        if record.error:
            # Of what the file held before. They go first: until the journal says so, the file is
            # still to be looked at, so that a kill in between leaves none behind.
            for kind in KINDS:
                (self.out / kind / output).unlink(missing_ok=True)
        self.room.wait_for(lambda: self.journal.add(one.name, one.stamp, output, record))
        self.room.was_told = False
        if is_new and not self.tables_are_stale:
            try:
                self.tables.add(record)
            except CannotWriteError:
                self.tables_are_stale = True
        else:
            self.tables_are_stale = True
        self.telling.done(record)

    def _mend_tables(self) -> None:
        """Makes tables anew that are not what the journal says, as after a file was replaced."""
        if self.tables_are_stale:
            self.room.wait_for(lambda: self.tables.begin(self.journal.records))
            self.tables_are_stale = False


def _sleep(seconds: float, stop_asked: Callable[[], int]) -> None:
    """Waits, but not longer than until a signal comes."""
    end = time.monotonic() + seconds
    while not stop_asked() and (left := end - time.monotonic()) > 0:
        time.sleep(min(left, _SLICE))
