"""A journal of pictures: what has been dealt with, and what was said of it.

A file of lines of JSON, each of which is on the disk before anything else happens. The first says
what the others depend on; each other one tells of a picture, and a later one of the same picture
takes the place of an earlier one. Tables and COCO files follow from it alone. What a line says was
written before the line.
"""

import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from draem_jax import files
from draem_jax.detector import Draem
from draem_jax.errors import UserError
from draem_jax.inspection.record import Record
from draem_jax.inspection.settling import Stamp
from draem_jax.regions.rule import RegionRule

FORMAT = "predict --watch 1"

_LOG = logging.getLogger(__name__)


class Entry(NamedTuple):
    """What is remembered of a picture that was dealt with.

    Attributes:
        stamp: of the file.
        output: see `draem_jax.inspection.outputs.Task`.
        place: where its line begins in the journal.
    """

    stamp: Stamp
    output: PurePath
    place: int


def depends_on(detector: Draem, images: Path, rule: RegionRule, alpha: float) -> dict[str, Any]:
    """What results depend on, so that one folder does not mix them: the header of a journal."""
    return {
        "images": files.escaped(files.absolute_path(images)),
        "workdir": files.escaped(files.absolute_path(detector.workdir)),
        "step": detector.step,
        "alpha": alpha,
        "threshold": list(rule.threshold),
        "join_gap": rule.join_gap,
        "min_area": rule.min_area,
        "roi": files.escaped(detector.roi.source),
        "ignore_border": detector.roi.ignore_border,
    }


def stamp_of(path: Path) -> Stamp | None:
    """Of a file; None if it is away."""
    try:
        status = path.stat()
    except OSError:
        return None
    return Stamp(status.st_size, status.st_mtime_ns)


def has_header(path: Path, header: Mapping[str, Any]) -> bool:
    """Whether a journal is there that depends on the same."""
    try:
        with path.open("rb") as file:
            return file.readline() == _line({"format": FORMAT, **header})
    except OSError:
        return False


class Journal:
    """A journal, opened to be gone on with.

    Attributes:
        entries: those of the pictures by their names: paths within the folder, not escaped.
    """

    def __init__(self, path: Path, header: Mapping[str, Any]):
        """Opens a journal, or begins one; a last line that was cut off is removed.

        Args:
            path: the file.
            header: what results depend on, as JSON has it.

        Raises:
            UserError: it is another file, its header is another, or it cannot be read or written.
        """
        self.path = path
        self.entries: dict[str, Entry] = {}
        header = {"format": FORMAT, **header}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            end = self._read(header)
            if end < path.stat().st_size:
                with path.open("r+b") as file:
                    file.truncate(end)
        except OSError as error:
            raise UserError(
                f"cannot open {path}: {error.strerror}; choose another folder for the outputs"
            ) from error
        if end == 0:
            files.append(path, _line(header), durable=True)

    def add(self, name: str, stamp: Stamp, output: PurePath, record: Record) -> None:
        """Notes that a picture was dealt with, and waits until the disk has it.

        Raises:
            CannotWriteError: it cannot be written, as on a full disk; nothing of it is then.
        """
        line = {
            "file": name,
            "bytes": stamp.size,
            "mtime_ns": stamp.mtime_ns,
            "output": output.as_posix(),
            "record": record.to_json(),
        }
        place = files.append(self.path, _line(line), durable=True)
        self.entries[name] = Entry(stamp, output, place)

    def records(self) -> Iterator[Record]:
        """The records of all pictures, in the order in which they were done."""
        with self.path.open("rb") as file:
            for entry in sorted(self.entries.values(), key=lambda entry: entry.place):
                file.seek(entry.place)
                yield Record.from_json(json.loads(file.readline())["record"])

    def record(self, name: str) -> Record:
        """What was said of a picture; it must have been dealt with."""
        with self.path.open("rb") as file:
            file.seek(self.entries[name].place)
            return Record.from_json(json.loads(file.readline())["record"])

    def _read(self, header: Mapping[str, Any]) -> int:
        """Reads what is there, and gives the end of the last whole line."""
        end = 0
        with self.path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                is_cut = not line.endswith(b"\n")
                if number == 1 and not (is_cut and _line(header).startswith(line)):
                    _check_header(self.path, line, header)
                if is_cut:
                    break
                if number > 1:
                    self._take(number, line, end)
                end += len(line)
        return end

    def _take(self, number: int, line: bytes, place: int) -> None:
        try:
            content = files.parse_json(line)
            Record.from_json(content["record"])
            stamp = Stamp(int(content["bytes"]), int(content["mtime_ns"]))
            output = _output(content["output"])
            self.entries[str(content["file"])] = Entry(stamp, output, place)
        except (ValueError, KeyError, TypeError, OverflowError):
            _LOG.warning(
                "%s, line %d is damaged; its picture is looked at again", self.path, number
            )


def _check_header(path: Path, line: bytes, header: Mapping[str, Any]) -> None:
    try:
        before = files.parse_json(line)
        is_own = before["format"] == FORMAT
    except (ValueError, KeyError, TypeError):
        is_own = False
    if not is_own:
        raise UserError(
            f"{path} was not written by predict --watch and would be written to; choose another "
            "folder for the outputs"
        )
    if changed := [name for name in header if before.get(name) != json.loads(_line(header))[name]]:
        raise UserError(
            f"{path.parent} was begun with another {changed[0]} ({before.get(changed[0])}, not "
            f"{header[changed[0]]}); choose another folder for the outputs"
        )


def _output(text: Any) -> PurePath:
    """The path of an output, which lies within the folder of outputs whoever wrote the journal."""
    path = PurePath(text)
    if path.is_absolute() or ".." in path.parts or not path.name or "\0" in text:
        raise ValueError("it leads out of the folder")
    return path


def _line(content: Mapping[str, Any]) -> bytes:
    # ASCII, so that names that are no text come back as they were.
    return json.dumps(content).encode("ascii") + b"\n"
