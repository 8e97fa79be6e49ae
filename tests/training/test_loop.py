"""A run survives being killed, refuses what is not its own, and stops on nonsense."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from draem_jax.cli import main
from draem_jax.config import to_json
from draem_jax.errors import StoppedError, UserError
from draem_jax.losses import Losses
from draem_jax.training.checkpoints import Checkpoints, open_checkpoints
from draem_jax.training.log import RunLog, open_log
from draem_jax.training.loop import train
from draem_jax.training.workdir import claimed_workdir, load_run

# Trains the config in argv[1] into argv[2]; its own process, so that it can be killed.
_PROGRAM = """
import pathlib, sys
from draem_jax.config import from_json
from draem_jax.training.log import RunLog, open_log
from draem_jax.training.loop import train
from draem_jax.training.workdir import claimed_workdir, load_run
from draem_jax.training.parallel import use_cpu_devices
use_cpu_devices(4)
train(from_json(pathlib.Path(sys.argv[1])), sys.argv[2])
"""


STREAMING = {"data.resident_gib": 0.0, "data.workers": 1, "train.steps_per_call": 3}


def _start(config_path, workdir):
    return subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, str(config_path), str(workdir)],
        stderr=subprocess.PIPE,
        text=True,
    )


def _children(pid):
    return [
        child
        for path in Path(f"/proc/{pid}/task").glob("*/children")
        for child in path.read_text().split()
    ]


def _wait_until(happened, seconds=20):
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.05)


def _steps_saved(workdir):
    folder = workdir / "checkpoints"
    return [int(p.name) for p in folder.glob("*") if p.name.isdecimal()] if folder.exists() else []


@pytest.mark.long
@pytest.mark.tiny_programs
@pytest.mark.parametrize("feed", ["resident", "streaming"])
def test_a_killed_run_goes_on_bit_for_bit(feed, tmp_path, tiny_config, capsys):
    changes = {"train.steps": 40, "train.checkpoint_every": 5}
    straight, workdir = tmp_path / "straight", tmp_path / "run"
    config = tiny_config(**changes, **(STREAMING if feed == "streaming" else {}))
    expected = train(config, straight, quiet=True)
    assert expected.step == 40
    config_path = tmp_path / "config.json"
    config_path.write_text(to_json(config))

    # Killed without warning soon after the first checkpoint stands: somewhere in the next steps or
    # in a save.
    run = _start(config_path, workdir)
    while not _steps_saved(workdir):
        assert run.poll() is None, run.communicate()
        time.sleep(0.01)
    time.sleep(0.1)
    workers = _children(run.pid)
    run.kill()
    assert run.wait() == -signal.SIGKILL
    assert workers or feed == "resident" or not Path("/proc").is_dir()
    _wait_until(lambda: not any(Path(f"/proc/{w}").exists() for w in workers))
    killed_at = max(_steps_saved(workdir))
    assert killed_at < 40

    capsys.readouterr()
    state = train(config, workdir)
    said = capsys.readouterr().err
    assert f"going on from step {killed_at} " in said
    assert ("worker process;" in said) == (feed == "streaming")
    jax.tree.map(np.testing.assert_array_equal, state, expected)
    logs = [[m for m in _metrics(d) if "total" in m] for d in (straight, workdir)]
    assert [m["step"] for m in logs[1]] == list(range(1, 41))
    assert [m["total"] for m in logs[0]] == [m["total"] for m in logs[1]]


@pytest.mark.long
def test_streaming_many_steps_a_call_is_the_same_training(tmp_path, tiny_config, trained):
    # Three steps a call, so that the second call stops short.
    changes = STREAMING | {"train.checkpoint_every": 4}
    assert train(tiny_config(**changes), tmp_path / "run", quiet=True).step == 4
    losses = [
        [m["total"] for m in _metrics(d) if "total" in m] for d in (trained, tmp_path / "run")
    ]
    assert len(losses[1]) == 4
    # It is another program, which XLA may round otherwise, and Adam's first steps go by the signs
    # of gradients, however small. So only the first losses are the same: those of the same samples
    # and parameters, and after one step.
    np.testing.assert_allclose(losses[1][:2], losses[0][:2], rtol=1e-5)


@pytest.mark.slow
def test_asked_to_stop_it_saves_itself_and_goes_on(tmp_path, tiny_config, trained, monkeypatch):
    workdir = tmp_path / "run"
    signals = [signal.SIGTERM]

    def say(self, text):  # the greeting is said before the first step
        while signals:
            signal.raise_signal(signals.pop())

    monkeypatch.setattr(RunLog, "say", say)
    with pytest.raises(StoppedError, match=r"stopped at step 1 of 4, so it is not done") as stopped:
        train(tiny_config(), workdir)
    assert stopped.value.exit_code == 128 + signal.SIGTERM
    monkeypatch.undo()
    train(tiny_config(), workdir, quiet=True)
    jax.tree.map(np.testing.assert_array_equal, load_run(workdir)[1], load_run(trained)[1])


@pytest.mark.long
@pytest.mark.parametrize(
    ("number", "flags", "status"),
    [(signal.SIGTERM, [], 143), (signal.SIGINT, [], 130), (signal.SIGTERM, ["0"], 0)],
)
def test_a_stopped_command_does_not_pass_for_done(
    number, flags, status, tmp_path, tiny_config, monkeypatch, capsys
):
    (tmp_path / "config.json").write_text(to_json(tiny_config()))
    recipe = tmp_path / "recipe.py"
    recipe.write_text(
        "from pathlib import Path\nfrom draem_jax.config import from_json\n"
        "def get_config():\n    return from_json(Path(__file__).with_name('config.json'))\n"
    )
    signals = [number]
    monkeypatch.setattr(
        RunLog, "say", lambda self, text: signals and signal.raise_signal(signals.pop())
    )
    arguments = [f"--config={recipe}", f"--workdir={tmp_path / 'run'}"]
    arguments += [f"--stopped_status={flag}" for flag in flags]
    assert main(["train", *arguments]) == status
    said = capsys.readouterr()
    assert "next:" not in said.out
    assert said.err.splitlines()[-1] == (
        "draem-jax: stopped at step 1 of 4, so it is not done; the same command goes on there"
    )
    assert _steps_saved(tmp_path / "run") == [1]


def test_a_full_disk_is_said_before_a_save(tmp_path, tiny_config, trained, monkeypatch):
    state = load_run(trained)[1]
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=2**20))
    with (
        open_checkpoints(tmp_path, keep=1) as checkpoints,
        pytest.raises(UserError, match=r"the disk is full: .* and 1.0 MiB are free"),
    ):
        checkpoints.save(state, validation_loss=1.0)
    assert not _steps_saved(tmp_path)


def test_the_rate_is_that_since_the_last_line_without_compiling_sheets_and_saves(
    tmp_path, tiny_config, monkeypatch
):
    now = 0.0

    def at(seconds):
        nonlocal now
        now = seconds

    monkeypatch.setattr(time, "perf_counter", lambda: now)
    one = Losses(*(np.ones(1) for _ in Losses._fields))
    config = tiny_config()
    config.train.batch_size, config.train.log_every = 8, 1
    with open_log(tmp_path, config, steps=range(9), remedy="", quiet=True) as log:
        at(60.0)  # compiles
        log.steps(one)
        at(61.0)
        log.steps(one)
        at(61.0)
        with log.aside():
            at(100.0)  # draws and saves
        at(101.0)
        log.steps(one)
        at(103.0)
        log.steps(one)
        at(103.5)
        log.steps(Losses(*(np.ones(4) for _ in Losses._fields)))
    rates = [m.get("images_per_second") for m in _metrics(tmp_path)]
    assert rates == [None, 8.0, 8.0, 4.0, 64.0, 64.0, 64.0, 64.0]


def test_a_work_directory_takes_one_run_at_a_time(tmp_path, tiny_config):
    workdir = tmp_path / "run"
    program = """
import sys
from pathlib import Path
from draem_jax.config import from_json
from draem_jax.training.workdir import claimed_workdir
with claimed_workdir(Path(sys.argv[2]), from_json(Path(sys.argv[1])), resume=True):
    print("claimed", flush=True)
    sys.stdin.read()
"""
    config_path = tmp_path / "config.json"
    config_path.write_text(to_json(tiny_config()))
    other = subprocess.Popen(
        [sys.executable, "-c", program, str(config_path), str(workdir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout.readline() == "claimed\n"
    stored = (workdir / "config.json").read_bytes()
    with pytest.raises(UserError, match=rf"in use by another run \(process {other.pid} on "):
        train(tiny_config(seed=7), workdir, quiet=True)
    assert (workdir / "config.json").read_bytes() == stored
    other.kill()
    other.communicate()
    with claimed_workdir(workdir, tiny_config(seed=7), resume=True):
        assert json.loads((workdir / "config.json").read_text())["seed"] == 7


def _metrics(workdir):
    path = workdir / "metrics.jsonl"
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]


def test_a_run_leaves_what_it_promises(trained):
    assert (trained / "config.json").is_file()
    assert [m["step"] for m in _metrics(trained) if "total" in m] == [1, 2, 3, 4]
    assert [m["step"] for m in _metrics(trained) if "validation_loss" in m] == [2, 4]
    assert list((trained / "tensorboard").glob("events*"))
    assert [p.name for p in (trained / "samples").iterdir()] == ["step_0000004.png"]


def test_another_config_is_refused_and_named(trained, tiny_config):
    before = {p: p.stat().st_mtime_ns for p in trained.rglob("*") if p.is_file()}
    changed = tiny_config(**{"optimizer.learning_rate": 5e-4, "seed": 3})
    with pytest.raises(UserError, match=r"optimizer.learning_rate: 0.001 → 0.0005; seed: 0 → 3"):
        train(changed, trained, quiet=True)
    with pytest.raises(UserError, match="holds a run already"):
        train(tiny_config(), trained, resume=False, quiet=True)
    assert before == {p: p.stat().st_mtime_ns for p in trained.rglob("*") if p.is_file()}


def test_the_config_of_something_else_is_not_replaced(tmp_path, tiny_config):
    path = tmp_path / "config.json"
    path.write_text('{"name": "another program"}')
    with (
        pytest.raises(UserError, match="is no config of draem_jax"),
        claimed_workdir(tmp_path, tiny_config(), resume=True),
    ):
        pass
    assert path.read_text() == '{"name": "another program"}'
    assert list(tmp_path.iterdir()) == [path]


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path, tiny_config, trained, monkeypatch):
    workdir = tmp_path / "run"
    shutil.copytree(trained, workdir)
    shutil.rmtree(workdir / "checkpoints" / "4")
    _, good = load_run(workdir)
    restore = Checkpoints.restore_newest

    def restore_ruined(self, config, **options):
        state = restore(self, config, **options)
        return state.replace(params=jax.tree.map(lambda a: a * 1e30, state.params))

    monkeypatch.setattr(Checkpoints, "restore_newest", restore_ruined)
    with pytest.raises(UserError, match=r"the loss of step 3 is not finite"):
        train(tiny_config(), workdir, quiet=True)
    monkeypatch.undo()
    assert _steps_saved(workdir) == [2]
    jax.tree.map(np.testing.assert_array_equal, load_run(workdir)[1], good)


def test_an_undivided_batch_is_refused(tmp_path, tiny_config):
    with pytest.raises(UserError, match=r"batch_size=6 is not divided by the 4 devices; take 8"):
        train(tiny_config(**{"train.batch_size": 6}), tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_place_is_refused(tmp_path, tiny_config):
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="cannot write"):
        train(tiny_config(), tmp_path / "run", quiet=True)


def test_a_new_work_directory_holds_no_pictures(tmp_path, tiny_config):
    picture = tmp_path / "more" / "a.png"
    picture.parent.mkdir()
    picture.touch()
    (tmp_path / "config.json").write_text("{}")  # somebody else's
    for folder in (tmp_path, tmp_path / "more"):
        with (
            pytest.raises(
                UserError, match=r"no work directory yet and holds pictures, such as .*a"
            ),
            claimed_workdir(folder, tiny_config(), resume=True),
        ):
            raise AssertionError
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a.png", "config.json", "more"]
    picture.unlink()
    for _ in range(2):
        with claimed_workdir(tmp_path / "more", tiny_config(), resume=True):
            picture.touch()  # such as what was predicted in the meantime
