"""The disk is full in the middle of a run: nothing saved is harmed, and one line says so."""

import json
import logging
import os
import shutil
import subprocess
import time

import jax
import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.record_writer import RecordWriter

from draem_jax.errors import CannotWriteError
from draem_jax.training import checkpoints
from draem_jax.training.log import RunLog, open_log
from draem_jax.training.loop import train
from draem_jax.training.workdir import load_run

pytestmark = pytest.mark.tiny_programs


@pytest.fixture(scope="module")
def disk(tmp_path_factory):
    """A file system of its own, with room for a few checkpoints."""
    folder = tmp_path_factory.mktemp("disk")
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a file system can be mounted by root alone")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def fill(disk):
    """Takes all room that there is but some KiB, or gives it back."""
    filler = disk / "filler"

    def fill(on, *, but_kib=0):
        filler.unlink(missing_ok=True)
        if on:
            with filler.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(disk).free - but_kib * 1024)

    yield fill
    shutil.rmtree(disk / "run", ignore_errors=True)
    filler.unlink(missing_ok=True)


def _steps(workdir):
    return sorted(path.name for path in (workdir / "checkpoints").iterdir())


def _events(path, again):
    """The events in a file, which must be as tensorboardX would have written them."""
    content, writer, events = path.read_bytes(), RecordWriter(str(again)), []
    while content:
        length = int.from_bytes(content[:8], "little")
        writer.write(content[12 : 12 + length])
        events.append(Event.FromString(content[12 : 12 + length]))
        content = content[16 + length :]
    writer.close()
    assert again.read_bytes() == path.read_bytes()
    return events


def _assert_nothing_else_is_said(capfd):
    """No traceback of a library; our own warnings are printed where the command line has run."""
    lines = capfd.readouterr().err.splitlines()
    assert all(line.startswith("draem-jax: warning: ") for line in lines), lines


def _wait_for(checkpoint):
    end = time.monotonic() + 20
    while not checkpoint.exists():
        assert time.monotonic() < end
        time.sleep(0.01)


def _assert_same_end(workdir, trained):
    jax.tree.map(np.testing.assert_array_equal, load_run(workdir)[1], load_run(trained)[1])


def _metrics(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.long
def test_a_full_disk_stops_the_run_and_the_same_command_goes_on(
    disk, fill, tiny_config, trained, monkeypatch, capfd
):
    # Without a look at the room before, what Orbax finds in the background is what counts.
    monkeypatch.setattr(checkpoints, "_check_room", lambda folder, needed: None)
    # Room for metrics, not for a checkpoint.

    def watch(step):
        if step == 3:
            _wait_for(disk / "run" / "checkpoints" / "2")
            fill(True, but_kib=256)
        return False

    with pytest.raises(
        CannotWriteError,
        match=r"the disk is full: a checkpoint in .* could not be saved; what was saved before is "
        r"safe: make room, and the same command goes on$",
    ):
        train(tiny_config(), disk / "run", quiet=True, watch=watch)
    _assert_nothing_else_is_said(capfd)
    assert _steps(disk / "run") == ["2"]
    assert int(load_run(disk / "run")[1].step) == 2
    fill(False)
    train(tiny_config(), disk / "run", quiet=True)
    _assert_same_end(disk / "run", trained)


@pytest.mark.long
def test_a_run_goes_on_without_a_checkpoint_and_a_sheet(
    disk, fill, tiny_config, trained, monkeypatch, caplog, capfd
):
    config = tiny_config(
        **{
            "train.on_full_disk": "go_on",
            "train.checkpoint_every": 1,
            "train.keep_checkpoints": 4,
            "train.sample_every": 2,
        }
    )
    monkeypatch.setattr(checkpoints, "_check_room", lambda folder, needed: None)

    # There is no room at all from the end of step 1 on to the end of step 3.
    def watch(step):
        if step in (2, 4):
            _wait_for(disk / "run" / "checkpoints" / "1")
            fill(step == 2)
        return False

    with caplog.at_level(logging.WARNING):
        train(config, disk / "run", quiet=True, watch=watch)
    lost = [line.rpartition("; ")[2] for line in caplog.messages]
    assert lost == ["the run goes on without this sheet"] + 2 * [
        "the run goes on without that checkpoint"
    ]
    _assert_nothing_else_is_said(capfd)
    # What is found to have failed at step 4 may be whole in the end, since there is room then.
    assert set(_steps(disk / "run")) - {"3"} == {"1", "4"}
    _assert_same_end(disk / "run", trained)
    assert [m["step"] for m in _metrics(disk / "run") if "total" in m] == [1, 2, 3, 4]


def test_metrics_are_written_once_there_is_room(disk, fill, tiny_config, caplog):
    workdir = disk / "run"
    config = tiny_config(**{"train.on_full_disk": "go_on"})
    with open_log(workdir, config, steps=range(9999), remedy="", quiet=True) as log:
        fill(True)
        for step in range(1000):
            log.metrics(step, {"total": step / 7})
        assert len(_metrics(workdir)) < 1000  # and all that are there are whole
        assert len(caplog.messages) == 1
        assert caplog.messages[0].endswith("the run goes on, and writes its metrics later")
        fill(False)
        log.metrics(1000, {"total": 1000 / 7})
    assert _metrics(workdir) == [{"step": n, "total": n / 7} for n in range(1001)]
    (events,) = (workdir / "tensorboard").iterdir()
    shown = [event.step for event in _events(events, workdir / "again") if event.summary.value]
    assert shown[-1] == 1000
    assert len(shown) < 1000

    def log_much():
        steps = range(1000, 9999)
        with open_log(workdir, tiny_config(), steps=steps, remedy="", quiet=True) as log:
            fill(True)
            for step in steps:
                log.metrics(step, {"total": 1.0})

    with pytest.raises(CannotWriteError, match=r"cannot write .*; make room on the disk, and the"):
        log_much()
    assert len(_metrics(workdir)) < 9999


@pytest.mark.long
def test_a_run_whose_last_checkpoint_cannot_be_saved_fails(
    disk, fill, tiny_config, trained, monkeypatch, capfd
):
    shutil.copytree(trained, disk / "run")
    shutil.rmtree(disk / "run" / "checkpoints" / "4")
    monkeypatch.setattr(RunLog, "say", lambda self, text: fill(True, but_kib=256))
    config = tiny_config(**{"train.on_full_disk": "go_on"})
    with pytest.raises(CannotWriteError, match="are free; what was saved is safe: make room, and"):
        train(config, disk / "run")
    _assert_nothing_else_is_said(capfd)
    assert _steps(disk / "run") == ["2"]
    assert int(load_run(disk / "run")[1].step) == 2
