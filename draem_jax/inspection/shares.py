"""Processes that share the pictures of a prediction, and need not know of each other.

Each looks at every so many-th picture, and notes in a journal of its own what it has done. The last
one to end puts the journals together to the tables that one process would have written. One that
was killed goes on where its journal ends.
"""

import contextlib
import hashlib
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from draem_jax import files
from draem_jax.detector import Draem
from draem_jax.errors import UserError
from draem_jax.inspection.journal import Journal, depends_on, has_header, stamp_of
from draem_jax.inspection.outputs import KINDS, Task, Writer
from draem_jax.inspection.predict import (
    PredictOptions,
    PredictSummary,
    look_at,
    summarise,
    tasks_of,
)
from draem_jax.inspection.record import Record, Tables, write_coco
from draem_jax.inspection.settling import Stamp
from draem_jax.inspection.types import TypeModel
from draem_jax.training.signals import stop_signals
from draem_jax.training.workdir import locked

_FOLDER = ".shares"
_PATIENCE = 600.0  # seconds that another process may take to put the journals together
_AWAY = Stamp(-1, -1)


@dataclass(frozen=True)
class Share:
    """What one of several processes does.

    Attributes:
        index: which process it is, from 0.
        count: how many there are.
    """

    index: int
    count: int


class SharedSummary(NamedTuple):
    """What came of a share.

    Attributes:
        found: how much was found: in all pictures, or in those of the share if others are not done.
        waits_for: how many shares are not done yet.
    """

    found: PredictSummary
    waits_for: int


_OPTIONS = PredictOptions()


def predict_share(
    detector: Draem,
    images: str | Path,
    out: str | Path,
    *,
    share: Share,
    types: TypeModel | None = None,
    options: PredictOptions = _OPTIONS,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> SharedSummary:
    """Predicts for a share of the pictures, see `draem_jax.inspection.predict.predict_files`.

    All processes must be given the same, but for their index. What a share has done is not done
    again, as long as the picture's file is the same. Tables and JSON files are written once all
    shares are done, and hold the same as if one process had written them.

    Args:
        detector: the trained detector.
        images: a folder of pictures, the same for all processes.
        out: the folder to write to, which all processes share.
        share: which pictures to look at.
        types: see `predict_files`.
        options: the same.
        progress: called with the pictures done of this share, and all of it.

    Raises:
        UserError: see `predict_files`.
        InUseError: another process has the same share.
    """
    images, out = Path(images), Path(out)
    tasks = tasks_of(images, out, options)
    rule = options.rule or detector.region_rule()
    names = hashlib.sha256("\0".join(task.name for task in tasks).encode()).hexdigest()
    about = {"pictures": names, "shares": share.count}
    parts = _Parts(
        out / _FOLDER, depends_on(detector, images, rule, options.alpha) | about, share.count
    )
    for kind in KINDS:
        files.mark_output(out / kind)
    own = tasks[share.index :: share.count]
    with (
        locked(parts.folder, name=f"{share.index}.lock", flag="--out"),
        stop_signals() as stop_asked,
    ):
        with locked(parts.folder, wait=_PATIENCE):
            journal = parts.reopen(share.index)
        stamps = {task.name: stamp_of(task.path) or _AWAY for task in own}
        left = [task for task in own if not _is_done(journal, task, stamps[task.name])]
        done = len(own) - len(left)
        writer = Writer(detector, out, rule, types)
        looking: Generator[Record, None, None] = look_at(
            left, writer, options=options, attempt=lambda task, look: _durable(out, task, look)
        )
        with contextlib.closing(looking):
            for task, record in zip(left, looking, strict=True):
                if record.error and options.strict:
                    raise UserError(record.error)
                journal.add(task.name, stamps[task.name], task.output, record)
                done += 1
                progress(done, len(own))
                if done < len(own) and stop_asked():
                    break
        stopped_by = stop_asked() if done < len(own) else 0

        def summary(records: Callable[[], Iterable[Record]], given: int) -> PredictSummary:
            return summarise(
                records, detector, threshold=rule.threshold, given=given, stopped_by=stopped_by
            )

        if stopped_by:
            return SharedSummary(summary(journal.records, len(own)), share.count)
        # Of several that end at a time, one sees that all are done.
        with locked(parts.folder, wait=_PATIENCE):
            parts.close(share.index)
            if missing := parts.missing():
                return SharedSummary(summary(parts.open(share.index).records, len(own)), missing)
            journals = [parts.open(index) for index in range(share.count)]

            def records() -> Iterator[Record]:
                for i, task in enumerate(tasks):
                    yield journals[i % share.count].record(task.name)

            Tables(out).begin(records)
            write_coco(out, records)
            found = summary(records, len(tasks))
            parts.remove()
    return SharedSummary(found, 0)


@dataclass(frozen=True)
class _Parts:
    """The journals of the shares: under one name while they grow, under another when they are done.

    Attributes:
        folder: where they are.
        header: of all.
        count: how many there are.
    """

    folder: Path
    header: Mapping[str, Any]
    count: int

    def reopen(self, index: int) -> Journal:
        """Goes on with a journal; one that depends on something else gives way to a new one."""
        growing = self._growing(index)
        if has_header(self._done(index), self.header):
            self._done(index).replace(growing)
        if growing.exists() and not has_header(growing, self.header):
            growing.unlink()
        return Journal(growing, self.header)

    def open(self, index: int) -> Journal:
        """The journal of a share that is done."""
        return Journal(self._done(index), self.header)

    def close(self, index: int) -> None:
        """Notes that a share is done."""
        self._growing(index).replace(self._done(index))

    def missing(self) -> int:
        """How many shares are not done."""
        return sum(not has_header(self._done(index), self.header) for index in range(self.count))

    def remove(self) -> None:
        """Removes the journals of all shares."""
        for index in range(self.count):
            self._done(index).unlink()

    def _growing(self, index: int) -> Path:
        return self.folder / f"{index}_of_{self.count}.jsonl"

    def _done(self, index: int) -> Path:
        return self.folder / f"{index}_of_{self.count}_done.jsonl"


def _is_done(journal: Journal, task: Task, stamp: Stamp) -> bool:
    entry = journal.entries.get(task.name)
    return entry is not None and entry.stamp == stamp != _AWAY and entry.output == task.output


def _durable(out: Path, task: Task, look: Callable[[], Record]) -> Record:
    """Looks at a picture, and waits until the disk has what was written of it."""
    record = look()
    if not record.error:
        files.make_durable([out / kind / task.output for kind in KINDS])
    return record
