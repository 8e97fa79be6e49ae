"""A watched folder: each picture once, none lost, whatever happens on the way."""

import collections
import contextlib
import dataclasses
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from draem_jax import files
from draem_jax.errors import CannotWriteError, InUseError, UserError
from draem_jax.files import write_text
from draem_jax.inspection import watch
from draem_jax.inspection.journal import Journal
from draem_jax.inspection.outputs import KINDS, Writer
from draem_jax.inspection.predict import PredictOptions, predict_files
from draem_jax.inspection.record import COLUMNS, Record
from draem_jax.inspection.settling import Settling, Stamp
from draem_jax.inspection.watch import Telling, WatchOptions, watch_folder
from draem_jax.regions.rule import RegionRule
from tests.inspection.test_predict import bright, draw, read  # noqa: F401
from tests.test_files import a_disk_with_room_for

QUICK = WatchOptions(poll_seconds=0.01, patience_seconds=0.0)


# What is left to chance: files that come, grow, are renamed and deleted; a disk that is full; and
# a process that is killed at any of its writes. Networks and clock are stand-ins.


class KilledError(BaseException):
    pass


@dataclasses.dataclass
class Fuse:
    """Ends the process at the n-th write from here, or lets that one find the disk full."""

    left: int = -1
    kind: str = "kill"

    def burns(self):
        self.left -= 1
        return self.left == 0


@dataclasses.dataclass
class StandIn:
    """Takes files that begin with "whole" for pictures, and the rest for their score."""

    out: Path
    changes: list = dataclasses.field(default_factory=list)

    def look_at(self, tasks, writer, *, options, attempt):
        for task in tasks:
            yield attempt(task, lambda task=task: self.look(task))

    def look(self, task):
        if self.changes:
            self.changes.pop()(task.path)
        try:
            content = task.path.read_text()
        except OSError:
            content = ""
        if not content.startswith("whole"):
            return task.left_out(UserError(f"{task.path} is damaged"))
        for kind in KINDS:
            write_text(self.out / kind / task.output, content)
        row = [str(task.path), content[5:], *[""] * (len(COLUMNS) - 2)]
        return Record(task.name, tuple(row), size=(1, 1))


@contextlib.contextmanager
def burning(fuse):
    """Lets the fuse burn with every write of the watch."""
    append, atomic_path = files.append, files.atomic_path

    def burning_append(path, content, **options):
        if fuse.burns():
            if fuse.kind == "kill":
                with path.open("ab") as file:
                    file.write(content[: len(content) // 2])
                raise KilledError
            raise CannotWriteError("full", is_full=True)
        return append(path, content, **options)

    @contextlib.contextmanager
    def burning_path(path):
        if is_burnt := fuse.burns():
            if fuse.kind == "full":
                raise CannotWriteError("full", is_full=True)
            if path.name.startswith("a"):
                raise KilledError
        with atomic_path(path) as temporary:
            yield temporary
        if is_burnt:
            raise KilledError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "append", burning_append)
        patch.setattr(files, "atomic_path", burning_path)
        patch.setattr("draem_jax.inspection.coco.files.atomic_path", burning_path)
        yield


NAMES = ("a.png", "A.png", "a.jpg", "a.jpg.png/a.png", "b.png")
NAME = st.sampled_from(NAMES)
EVENT = st.one_of(
    st.tuples(st.just("write"), NAME, st.booleans()),
    st.tuples(st.just("write"), NAME, st.just(True)),
    st.tuples(st.just("rename"), NAME, NAME),
    st.tuples(st.just("delete"), NAME),
    st.tuples(st.just("strike"), NAME, st.sampled_from(["kill", "full"]), st.integers(1, 6)),
    st.tuples(st.just("change"), NAME, st.booleans()),
    st.tuples(st.just("restart")),
)
STEP = st.tuples(EVENT, st.lists(st.sampled_from([1, 20]), max_size=3))
"""What happens, and the seconds to each of the looks that follow."""


class World:
    """A folder, its watch, and what must hold of them."""

    def __init__(self, root, detector):
        self.images, self.out = root / "in", root / "out"
        self.images.mkdir()
        self.out.mkdir()
        self.now, self.written = 0.0, 0
        self.fuse, self.stand_in = Fuse(), StandIn(self.out)
        self.before = {}
        self.writer = Writer(detector, self.out, RegionRule(), None)
        self.start()

    def start(self):
        """As a new process does, which may be killed while it starts."""
        self.before = {}
        room = watch._Room(lambda: 0, lambda line: None, 0.0)
        try:
            journal = room.wait_for(lambda: Journal(self.out / "journal.jsonl", {"a": 1}))
            parts = self.writer, PredictOptions(), WatchOptions(), Telling(), room
            self.watch = watch._Watch(self.images, journal, *parts)
            self.watch.begin()
        except KilledError:
            self.start()

    def put(self, name, content):
        path = self.images / name
        with contextlib.suppress(FileExistsError):
            path.parent.mkdir(exist_ok=True)
            path.write_text(content)
            self.written += 1
            os.utime(path, ns=(self.written, self.written))  # each content has a time of its own

    def files(self):
        paths = [self.images / name for name in NAMES if (self.images / name).is_file()]
        return {
            str(path.relative_to(self.images)): (watch.stamp_of(path), path.read_text())
            for path in paths
        }

    def step(self, kind, *values):
        if kind == "write":
            name, is_whole = values
            self.put(name, f"{'whole' if is_whole else 'half'}{self.written}")
        elif kind == "rename" and (self.images / values[0]).is_file():
            target = self.images / values[1]
            target.parent.mkdir(exist_ok=True)
            (self.images / values[0]).replace(target)
        elif kind == "delete":
            (self.images / values[0]).unlink(missing_ok=True)
        elif kind == "strike":  # at one of the six writes for a new picture
            self.put(values[0], f"whole{self.written}")
            self.look(1)
            self.fuse.kind, self.fuse.left = values[1:]
            self.look(1)
        elif kind == "change":  # while it is looked at
            self.put(values[0], f"whole{self.written}")
            self.look(1)
            self.stand_in.changes = [self.delete if values[1] else self.replace]
            self.look(1)
        elif kind == "restart":
            self.start()

    def delete(self, path):
        path.unlink(missing_ok=True)

    def replace(self, path):
        self.put(path.relative_to(self.images), f"whole{self.written}")

    def look(self, seconds):
        self.now += seconds
        found = self.files()
        try:
            self.watch.look(self.now)
        except KilledError:
            self.start()
            return
        entries = self.watch.journal.entries
        for name, (stamp, content) in found.items():
            stood_still = self.before.get(name) == stamp and self.files().get(name, [0])[0] == stamp
            if stood_still and content.startswith("whole"):
                assert entries[name].stamp == stamp  # not lost
        self.before = {name: stamp for name, (stamp, _) in found.items()}
        self.check()

    def check(self):
        """The tables say what the journal says, and nothing twice."""
        lines = [json.loads(line) for line in (self.out / "journal.jsonl").open()][1:]
        for by in (lambda one: one["mtime_ns"], lambda one: one["record"]["row"][1] or object()):
            told = collections.Counter((one["file"], by(one)) for one in lines)
            assert not told or max(told.values()) == 1  # each once
        last = {one["file"]: one["record"]["row"] for one in lines}
        rows = [list(row.values()) for row in read(self.out / "predictions.csv")]
        assert sorted(rows) == sorted(last.values())
        for name, entry in self.watch.journal.entries.items():
            score = last[name][1]
            for kind in KINDS if score and not self.is_being_replaced(name) else ():
                assert (self.out / kind / entry.output).read_text() == f"whole{score}"

    def is_being_replaced(self, name):
        """Whether what is there may be newer than the journal, which comes last."""
        return self.files().get(name, [None])[0] != self.watch.journal.entries[name].stamp


@given(steps=st.lists(STEP, max_size=12))
@settings(deadline=None, max_examples=30, suppress_health_check=list(HealthCheck))
def test_each_file_is_dealt_with_once_and_none_is_lost(bright, steps):  # noqa: F811
    with tempfile.TemporaryDirectory() as root, pytest.MonkeyPatch.context() as patch:
        world = World(Path(root), bright)
        patch.setattr(watch, "look_at", world.stand_in.look_at)
        patch.setattr(os, "fsync", lambda file: None)  # takes most of the time
        with burning(world.fuse):
            for event, looks in steps:
                world.step(*event)
                for seconds in looks:
                    world.look(seconds)
            world.fuse.left, world.stand_in.changes = -1, []
            for _ in range(3):  # the last one finds all at rest
                world.look(20)
        found, entries = world.files(), world.watch.journal.entries
        assert all(entries[name].stamp == stamp for name, (stamp, _) in found.items())


# All of it, with a detector that takes what is white for anomalous.


class Steps(list):
    """Does one thing after the other as pictures are done, and then stops the watch."""

    def __init__(self, *steps):
        super().__init__()
        self.todo = list(steps)
        self.warnings = []
        self.telling = Telling(self.done, self.warnings.append)

    def done(self, record):
        self.append(record.name)
        if self.todo:
            self.todo.pop(0)()
        else:
            signal.raise_signal(signal.SIGTERM)


def watch_steps(detector, folder, out, *steps, watching=QUICK, **options):
    seen = Steps(*steps)
    summary = watch_folder(
        detector, folder, out, watching=watching, telling=seen.telling, **options
    )
    return seen, summary


def broken(path):
    path.write_bytes(b"\x89PNG no more")


@pytest.fixture
def folders(tmp_path):
    (tmp_path / "in").mkdir()
    return tmp_path / "in", tmp_path / "out"


def test_a_watched_folder_gets_what_prediction_gives(bright, folders, tmp_path):  # noqa: F811
    folder, out = folders
    draw(folder / "a.png", (10, 10, 20, 20))
    seen, summary = watch_steps(
        bright,
        folder,
        out,
        lambda: broken(folder / "broken.png"),
        lambda: draw(folder / "within" / "a.png", (0, 0, 9, 30), (30, 30, 40, 40)),
        lambda: draw(folder / "a.jpg"),
    )
    assert seen == ["a.png", "broken.png", "within/a.png", "a.jpg"]
    assert (summary.pictures, summary.regions, summary.given) == (3, 3, 4)
    assert (summary.stopped_by, len(summary.errors)) == (signal.SIGTERM, 1)
    expected = predict_files(bright, folder, tmp_path / "predicted")
    assert expected._replace(stopped_by=summary.stopped_by) == summary
    plain = {row["picture"]: row for row in read(tmp_path / "predicted/predictions.csv")}
    rows = read(out / "predictions.csv")
    assert {row["picture"] for row in rows} == set(plain)
    for row in rows:
        before = plain[row["picture"]]
        for kind in ("map", "mask", "overlay") if not row["error"] else ():
            assert (out / row[kind]).read_bytes() == (
                tmp_path / "predicted" / before[kind]
            ).read_bytes()
        assert {k: v for k, v in row.items() if k not in ("map", "mask", "overlay")} == {
            k: v for k, v in before.items() if k not in ("map", "mask", "overlay")
        }
    coco_file = json.loads((out / "regions.json").read_text())
    assert len(coco_file["images"]) == len(coco_file["annotations"]) == 3
    # What is done is not done again, and nothing is changed by it.
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    (folder / "a.jpg").unlink()
    draw(folder / "new.png")
    seen, summary = watch_steps(bright, folder, out)
    assert seen == ["new.png"]
    assert (summary.pictures, summary.given) == (4, 5)
    assert all(
        path.read_bytes().startswith(content) for path, content in before.items()
        if path.suffix not in (".json", ".lock")
    )  # fmt: skip


def test_a_file_that_is_written_again_is_a_new_picture(bright, folders):  # noqa: F811
    folder, out = folders
    draw(folder / "a.png", (10, 10, 20, 20))
    seen, _ = watch_steps(
        bright,
        folder,
        out,
        lambda: draw(folder / "b.png"),
        lambda: draw(folder / "a.png", (0, 0, 20, 20), (30, 30, 60, 60)),
        lambda: broken(folder / "b.png"),
    )
    assert seen == ["a.png", "b.png", "a.png", "b.png"]
    a, b = read(out / "predictions.csv")
    assert (a["regions"], a["map"], bool(b["error"])) == ("2", "maps/a.png.png", True)
    assert [row["area_px"] for row in read(out / "regions.csv")] == ["900", "400"]
    assert not (out / "maps" / "b.png.png").exists()


def test_a_full_disk_is_told_once_and_waited_for(bright, folders):  # noqa: F811
    folder, out = folders
    for name in "abc":
        draw(folder / f"{name}.png", (10, 10, 20, 20))
    told, limited = [], contextlib.ExitStack()
    halves = []

    def warn(line):
        told.append(line)
        halves.extend(path for kind in KINDS for path in (out / kind).glob("[!.]*.png"))
        limited.close()  # somebody makes room

    def done(record):
        if record.name == "c.png":
            signal.raise_signal(signal.SIGTERM)

    with limited:
        limited.enter_context(a_disk_with_room_for(400))
        summary = watch_folder(bright, folder, out, watching=QUICK, telling=Telling(done, warn))
    (line,) = told
    assert "make room on the disk" in line
    for path in halves:
        Image.open(path).load()  # whole
    assert (summary.pictures, summary.errors) == (3, ())
    assert len(read(out / "predictions.csv")) == len(read(out / "regions.csv")) == 3
    assert not [path for kind in KINDS for path in (out / kind).glob(".*.*.png")]


def test_a_full_disk_does_not_hinder_the_end(bright, folders):  # noqa: F811
    folder, out = folders
    draw(folder / "a.png")
    warned = []

    def warn(line):
        warned.append(line)
        if len(warned) == 1:
            signal.raise_signal(signal.SIGTERM)

    with a_disk_with_room_for(300):
        summary = watch_folder(bright, folder, out, watching=QUICK, telling=Telling(warn=warn))
    assert (summary.pictures, summary.stopped_by) == (0, signal.SIGTERM)
    seen, summary = watch_steps(bright, folder, out)
    assert (seen, summary.pictures) == (["a.png"], 1)


def test_only_one_watches(bright, folders):  # noqa: F811
    folder, out = folders
    draw(folder / "a.png")
    refused = []

    def second():
        with pytest.raises(InUseError, match=r"is in use by another run.*another --out"):
            watch_folder(bright, folder, out)
        with pytest.raises(UserError, match="belongs to a watched folder"):
            predict_files(bright, folder, out)
        refused.append(True)
        draw(folder / "b.png")

    seen, _ = watch_steps(bright, folder, out, second)
    assert (seen, refused) == (["a.png", "b.png"], [True])


def test_a_folder_that_is_away_is_told_once_and_waited_for(bright, folders):  # noqa: F811
    folder, out = folders
    draw(folder / "a.png")
    away = folder.with_name("away")
    watched = Steps(lambda: folder.rename(away))

    def warn(line):
        watched.warnings.append(line)
        draw(away / "b.png")
        away.rename(folder)

    telling = Telling(watched.done, warn)
    summary = watch_folder(bright, folder, out, watching=QUICK, telling=telling)
    assert watched == ["a.png", "b.png"]  # and a.png only once
    (line,) = watched.warnings
    assert "cannot be read" in line
    assert summary.pictures == 2


def test_what_results_depend_on_must_be_the_same(bright, folders, tmp_path):  # noqa: F811
    folder, out = folders
    draw(folder / "a.png")
    watch_steps(bright, folder, out)
    with pytest.raises(UserError, match=r"was begun with another alpha \(0.05, not 0.1\)"):
        watch_folder(bright, folder, out, options=PredictOptions(alpha=0.1))
    (tmp_path / "other").mkdir()
    with pytest.raises(UserError, match="was begun with another images"):
        watch_folder(bright, tmp_path / "other", out)
    with pytest.raises(UserError, match="there is no folder"):
        watch_folder(bright, tmp_path / "missing", out)
    with pytest.raises(UserError, match="which is written to"):
        watch_folder(bright, out / "maps", out)


# The parts.


RECORD = Record("a.png", ("a.png", "1", *[""] * (len(COLUMNS) - 2)), size=(1, 1))


def test_a_journal_is_gone_on_with_wherever_it_was_cut(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda file: None)
    path, name = tmp_path / "journal.jsonl", os.fsdecode(b"\xe4.png")
    journal = Journal(path, {"alpha": 0.05})
    journal.add(name, Stamp(1, 2), Path("x.png"), RECORD)
    first = path.read_bytes()
    journal.add("b.png", Stamp(3, 4), Path("b/c.png"), RECORD)
    whole = path.read_bytes()
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        journal = Journal(path, {"alpha": 0.05})
        assert len(journal.entries) == max(0, whole[:length].count(b"\n") - 1)
        if length >= len(first):
            assert journal.entries[name].stamp == Stamp(1, 2)
            assert next(journal.records()) == RECORD
        journal.add("c.png", Stamp(5, 6), Path("c.png"), RECORD)
        again = Journal(path, {"alpha": 0.05})
        assert again.entries == journal.entries
        assert list(again.records())[-1] == RECORD


def test_a_journal_of_others_is_left_alone_and_a_damaged_line_passed_over(tmp_path, caplog):
    path = tmp_path / "journal.jsonl"
    for content in (b"mine", b"mine\n", b'{"format": "else"}\n', b"[]\n"):
        path.write_bytes(content)
        with pytest.raises(UserError, match="was not written by predict --watch"):
            Journal(path, {})
        assert path.read_bytes() == content
    path.unlink()
    for name in "abc":
        Journal(path, {}).add(name, Stamp(1, 2), Path(name), RECORD)
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([*lines[:2], lines[2][:9], *lines[3:]]))
    assert list(Journal(path, {}).entries) == ["a", "c"]
    assert "line 3 is damaged" in caplog.text


def test_files_settle():
    settling = Settling(patience=10.0)
    known = {}

    def look(now, **found):
        ready = settling.look(found, known=known.get, now=float(now))
        return [(one.name, one.is_last_try) for one in ready]

    assert look(0, a=Stamp(1, 1)) == []
    assert look(1, a=Stamp(2, 1), b=Stamp(1, 1)) == []  # grows
    assert look(2, a=Stamp(2, 1), b=Stamp(1, 1)) == [("a", False), ("b", False)]
    known["b"] = Stamp(1, 1)
    settling.forget("b")
    settling.note_failure("a")
    assert look(3, a=Stamp(2, 1), b=Stamp(1, 1)) == []
    assert look(11, a=Stamp(2, 1), b=Stamp(1, 2)) == [("a", True)]
    assert look(12, a=Stamp(2, 2)) == []  # changed, so that it is not noted
    assert look(13, a=Stamp(2, 2)) == [("a", False)]
    assert look(14) == look(15, a=Stamp(2, 2)) == []  # taken away, and new


# The command, in a process of its own, which is killed.


def start_watching(trained, folder, out, *more):
    command = [sys.executable, "-m", "draem_jax", "predict", "--watch", f"--workdir={trained}"]
    command += [f"--images={folder}", f"--out={out}", "--poll_seconds=0.2", *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_until(process, condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end
        time.sleep(0.02)


def content_of(number):
    """A picture's file, a different one for each number."""
    image = np.random.default_rng(number).integers(0, 256, (32, 32, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.long
@pytest.mark.tiny_programs
def test_a_killed_watch_goes_on_and_ends_cleanly(trained, folders):
    folder, out = folders
    journal = out / "journal.jsonl"

    def lines():
        return journal.read_bytes().count(b"\n") if journal.exists() else 0

    for i in range(30):
        (folder / f"{i}.png").write_bytes(content_of(i))
    with start_watching(trained, folder, out) as first:
        wait_until(first, lambda: lines() > 4)
        first.kill()
        assert first.wait() == -signal.SIGKILL
    (folder / "3.png").unlink()  # was done, or is away before it was read
    with start_watching(trained, folder, out, "--patience_seconds=1") as second:
        slow = content_of(100)
        with (folder / "slow.png").open("wb") as file:
            for start in range(0, len(slow), 400):
                file.write(slow[start : start + 400])
                file.flush()
                time.sleep(0.1)
        (folder.parent / "part").write_bytes(content_of(101))
        (folder.parent / "part").rename(folder / "renamed.png")
        (folder / "broken.png").write_bytes(slow[:500])
        (folder / "gone.png").write_bytes(content_of(102))
        (folder / "gone.png").unlink()
        expected = {f"{i}.png" for i in range(30)} | {"slow.png", "renamed.png", "broken.png"}
        seen = lambda: {Path(row["picture"]).name for row in read(out / "predictions.csv")}  # noqa: E731
        wait_until(second, lambda: lines() and seen() >= expected - {"3.png"})
        second.terminate()
        output, errors = second.communicate()
    assert second.returncode == 128 + signal.SIGTERM, errors
    assert "broken.png is not a picture" in output
    assert "stopped" in errors.splitlines()[-1]
    rows = read(out / "predictions.csv")
    names = [Path(row["picture"]).name for row in rows]
    assert len(names) == len(set(names)) == lines() - 1
    assert set(names) - {"3.png"} == expected - {"3.png"}
    assert [Path(row["picture"]).name for row in rows if row["error"]] == ["broken.png"]
    for row in rows:
        for kind in ("map", "mask", "overlay") if not row["error"] else ():
            Image.open(out / row[kind]).load()
    listed = [
        image["file_name"] for image in json.loads((out / "regions.json").read_text())["images"]
    ]
    assert sorted(listed) == sorted(set(names) - {"broken.png"})
    assert not [path for kind in KINDS for path in (out / kind).glob(".*.*.png")]
