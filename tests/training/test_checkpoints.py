"""The latest and the best checkpoints are kept, damaged ones are noticed, any path will do."""

import contextlib
import json
import logging
import os
import shutil
import threading
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from draem_jax.config import to_json
from draem_jax.errors import UserError
from draem_jax.training.checkpoints import _take_away, open_checkpoints
from draem_jax.training.state import AveragedState, TrainState, create_state
from draem_jax.training.workdir import load_run

pytestmark = [
    pytest.mark.tiny_programs,
    # Of reading damaged arrays; on the command line they are left out.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def state(tiny_config):
    state = create_state(tiny_config())
    # Numbers that are all different, so that none is mistaken for another.
    leaves, tree = jax.tree.flatten(state)
    rng = np.random.default_rng(0)
    return jax.tree.unflatten(tree, [rng.normal(size=a.shape).astype(a.dtype) for a in leaves])


@pytest.fixture
def save(state, tiny_config):
    """Saves the state under some steps, in a process of its own as far as Orbax knows."""

    def save(workdir, losses, *, keep=2):
        workdir.mkdir(exist_ok=True, parents=True)
        (workdir / "config.json").write_text(to_json(tiny_config()))
        with open_checkpoints(workdir, keep=keep) as checkpoints:
            for step, loss in losses.items():
                checkpoints.save(state.replace(step=np.int32(step)), validation_loss=loss)
        return _steps(workdir)

    return save


def _steps(workdir):
    return sorted(int(path.name) for path in (workdir / "checkpoints").iterdir())


def _assert_is(loaded, state, step):
    jax.tree.map(np.testing.assert_array_equal, loaded, state.replace(step=np.int32(step)))


def _file_with_most(folder):
    return max(
        (path for path in folder.rglob("*") if path.is_file()), key=lambda p: p.stat().st_size
    )


def test_the_best_is_neither_the_oldest_nor_the_latest(tmp_path, save):
    assert save(tmp_path, {1: 3.0, 2: 2.5, 3: 2.0, 4: 1.0, 5: 2.2}, keep=3) == [3, 4, 5]
    assert int(load_run(tmp_path, checkpoint="best")[1].step) == 4
    assert int(load_run(tmp_path)[1].step) == 5


def test_no_more_are_kept_than_configured_over_resumes(tmp_path, save):
    rng = np.random.default_rng(1)
    losses = {step: float(rng.uniform()) for step in range(1, 13)}
    for first in range(1, 13, 3):
        some = {step: losses[step] for step in range(first, first + 3)}
        last = first + 2
        best = min(range(1, last + 1), key=losses.get)
        assert save(tmp_path, some) == sorted({best, last - 1, last})
        with open_checkpoints(tmp_path) as checkpoints:
            assert checkpoints.best_step() == best


def test_the_best_of_a_run_without_stored_losses_comes_from_its_log(tmp_path, save):
    save(tmp_path, {1: 3.0, 2: 1.0, 3: 2.0}, keep=3)
    for path in tmp_path.glob("checkpoints/*/_CHECKPOINT_METADATA"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"custom_metadata": {}}))
    with pytest.raises(UserError, match="does not tell which checkpoint is the best"):
        load_run(tmp_path, checkpoint="best")
    lines = [{"step": s, "validation_loss": v} for s, v in ((1, 3.0), (2, 1.0), (3, 2.0))]
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)) + '\n{"step": 4, "va')
    assert int(load_run(tmp_path, checkpoint="best")[1].step) == 2
    assert save(tmp_path, {4: 4.0}, keep=1) == [2, 4]


def test_a_flipped_bit_is_noticed_and_the_one_before_taken(
    tmp_path, save, state, tiny_config, caplog
):
    save(tmp_path, {1: 1.0, 2: 2.0, 3: 3.0})
    path = _file_with_most(tmp_path / "checkpoints" / "3")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        _assert_is(load_run(tmp_path)[1], state, 2)
    (record,) = caplog.records
    assert "checkpoints/3 is damaged (" in record.message
    assert "step 2 is taken in its place" in record.message
    with pytest.raises(UserError, match=r"checkpoints/3 cannot be read \(.*choose another"):
        load_run(tmp_path, checkpoint="3")

    # A run that goes on moves it away and saves that step anew.
    with open_checkpoints(tmp_path, keep=2) as checkpoints:
        _assert_is(checkpoints.restore_newest(tiny_config(), set_aside=True), state, 2)
        assert checkpoints.steps() == [1, 2]
        checkpoints.save(state.replace(step=np.int32(3)), validation_loss=3.0)
    assert (tmp_path / "damaged_checkpoints" / "3").is_dir()
    _assert_is(load_run(tmp_path)[1], state, 3)


def _cut(checkpoint):
    os.truncate(_file_with_most(checkpoint), 1000)


def _lose(*names):
    def lose(checkpoint):
        for path in map(checkpoint.joinpath, names):
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    return lose


def _garble(checkpoint):
    for name in ("_CHECKPOINT_METADATA", "default/_METADATA"):
        (checkpoint / name).write_text("{")


def _empty(checkpoint):
    shutil.rmtree(checkpoint)
    checkpoint.mkdir()


def test_whatever_is_wrong_with_the_last_one_is_one_line(tmp_path, save, state, caplog, capfd):
    save(tmp_path / "whole", {1: 1.0, 2: 2.0})
    capfd.readouterr()
    for i, harm in enumerate(
        (_cut, _garble, _empty, _lose("default"), _lose("default/d"),
         _lose("_CHECKPOINT_METADATA", "default/_METADATA"))
    ):  # fmt: skip
        workdir = tmp_path / str(i)
        shutil.copytree(tmp_path / "whole", workdir)
        harm(workdir / "checkpoints" / "2")
        caplog.clear()
        _assert_is(load_run(workdir)[1], state, 1)
        (message,) = caplog.messages
        assert "checkpoints/2 is damaged (" in message
        assert "step 1 is taken in its place" in message
    # Nothing but the warning, which the command line prints where it has run in this process.
    assert all("is damaged (" in line for line in capfd.readouterr().err.splitlines())


def test_what_may_not_be_read_is_not_taken_for_damaged(
    tmp_path, save, state, tiny_config, monkeypatch
):
    save(tmp_path, {1: 1.0, 2: 2.0})
    path = _file_with_most(tmp_path / "checkpoints" / "2")
    kept = path.read_bytes()
    path.write_bytes(b"")  # nothing is read of it; root, who runs some tests, may read all
    access = os.access
    monkeypatch.setattr(os, "access", lambda p, mode: Path(p) != path and access(p, mode))
    with (
        open_checkpoints(tmp_path, keep=2) as checkpoints,
        pytest.raises(UserError, match=rf"{path.name} may not be read by this user"),
    ):
        checkpoints.restore_newest(tiny_config(), set_aside=True)
    path.write_bytes(kept)
    monkeypatch.undo()
    _assert_is(load_run(tmp_path)[1], state, 2)


def test_the_networks_are_read_alone(tmp_path, save, state):
    def read(name="run"):
        return load_run(tmp_path / name, networks_only=True)[1]

    def edit(name, change):
        path = tmp_path / name / "checkpoints" / "1" / "_CHECKPOINT_METADATA"
        content = json.loads(path.read_text())
        change(content["custom_metadata"])
        path.write_text(json.dumps(content))

    save(tmp_path / "run", {1: 1.0})
    networks = state.replace(opt_state=())
    _assert_is(read(), networks, 1)
    # Those of a checkpoint whose arrays have no digests come with the rest.
    shutil.copytree(tmp_path / "run", tmp_path / "earlier")
    edit("earlier", lambda facts: facts.pop("networks"))
    _assert_is(read("earlier"), networks, 1)

    # What differs in one number is noticed; in the optimizer it does not matter.
    for name, matters in (("batch_stats", True), ("opt_state", False)):
        other = jax.tree.map(np.copy, state)
        jax.tree.leaves(getattr(other, name))[-2][-1] += 1
        with open_checkpoints(tmp_path / name, keep=1) as checkpoints:
            checkpoints.save(other.replace(step=np.int32(1)), validation_loss=1.0)
        data = tmp_path / "run" / "checkpoints" / "1" / "default"
        shutil.rmtree(data)
        (tmp_path / name / "checkpoints" / "1" / "default").rename(data)
        with pytest.raises(UserError, match="are not those that were saved"):
            load_run(tmp_path / "run")
        if matters:
            with pytest.raises(UserError, match="are not those that were saved"):
                read()
    _assert_is(read(), networks, 1)


def test_an_average_is_kept_beside_the_state_and_read_alone(tmp_path, save, state, tiny_config):
    config = tiny_config(**{"optimizer.average": 0.9})
    rest = {part: getattr(state, part) for part in ("step", "params", "batch_stats", "opt_state")}
    average = jax.tree.map(lambda array: array + 1, state.variables)
    averaged = AveragedState(**rest, average=average, decay=0.9).replace(step=np.int32(1))
    save(tmp_path, {})
    (tmp_path / "config.json").write_text(to_json(config))
    with open_checkpoints(tmp_path, keep=2) as checkpoints:
        checkpoints.save(averaged, validation_loss=1.0)
    whole = load_run(tmp_path)[1]
    jax.tree.map(np.testing.assert_array_equal, whole, averaged)
    jax.tree.map(np.testing.assert_array_equal, whole.variables, average)
    networks = load_run(tmp_path, networks_only=True)[1]
    _assert_is(networks, TrainState(step=1, **average, opt_state=()), 1)

    # An average that differs from what was saved is noticed.
    first = jax.tree.leaves(average["params"])[0]
    other = averaged.replace(average=jax.tree.map(lambda a: a + (a is first), average))
    with open_checkpoints(tmp_path / "other", keep=1) as checkpoints:
        checkpoints.save(other, validation_loss=1.0)
    data = tmp_path / "checkpoints" / "1" / "default"
    shutil.rmtree(data)
    (tmp_path / "other" / "checkpoints" / "1" / "default").rename(data)
    for networks_only in (False, True):
        with pytest.raises(UserError, match="are not those that were saved"):
            load_run(tmp_path, networks_only=networks_only)


@pytest.mark.parametrize(
    "change",
    [
        {"model.discriminative_width": 8},
        {"model.variant": "discriminative"},
        {"model.difference": True},
        {"model.deep_supervision": 2},
    ],
)
def test_networks_of_another_config_are_refused(change, tmp_path, save, tiny_config):
    save(tmp_path, {1: 1.0})
    (tmp_path / "config.json").write_text(to_json(tiny_config(**change)))
    for networks_only in (False, True):
        with pytest.raises(UserError, match=r"none of the checkpoints in .* can be read"):
            load_run(tmp_path, networks_only=networks_only)


def test_where_all_are_damaged_none_is_taken_and_none_moved(tmp_path, save, tiny_config):
    save(tmp_path, {1: 1.0, 2: 2.0})
    for step in (1, 2):
        _file_with_most(tmp_path / "checkpoints" / str(step)).write_bytes(b"")
    with (
        pytest.raises(UserError, match=r"none of the checkpoints in .* can be read \(of step 2: "),
        open_checkpoints(tmp_path, keep=2) as checkpoints,
    ):
        checkpoints.restore_newest(tiny_config(), set_aside=True)
    assert _steps(tmp_path) == [1, 2]


@pytest.mark.parametrize(
    "name", [r"run[1] a*b? back\slash {x,y} %20#:@", os.fsdecode(b"two\nlines \xe4")]
)
def test_any_path_will_do(name, tmp_path, save, state):
    save(tmp_path / name, {1: 1.0, 2: 2.0})
    _assert_is(load_run(tmp_path / name, checkpoint="best")[1], state, 1)
    _assert_is(load_run((tmp_path / name).rename(tmp_path / "renamed"))[1], state, 2)


def test_what_was_saved_under_a_pattern_is_rescued(tmp_path, save, state):
    # Orbax looked for what its process had written by a pattern, found nothing and left out the
    # step that brings it together.
    save(tmp_path, {1: 1.0})
    folder = tmp_path / "checkpoints" / "1" / "default"
    shutil.rmtree(folder / "d")
    (folder / "manifest.ocdbt").unlink()
    _assert_is(load_run(tmp_path)[1], state, 1)


def test_a_save_that_fails_in_the_background_is_one_line(tmp_path, save, state, monkeypatch, capfd):
    def write(self, *arguments, **options):
        raise OSError(28, "No space left on device")

    save(tmp_path, {1: 1.0})
    monkeypatch.setattr("etils.epath.abstract_path.Path.write_text", write)
    with pytest.raises(UserError, match=r"the disk is full: .* what was saved before is safe"):
        save(tmp_path, {2: 2.0})
    monkeypatch.undo()
    assert capfd.readouterr().err == ""
    _assert_is(load_run(tmp_path)[1], state, 1)


def test_a_folder_that_is_still_written_to_is_taken_away(tmp_path):
    folder = tmp_path / "4.orbax-checkpoint-tmp"
    folder.mkdir()

    def write():
        for pause in (0.02, 0.02, 0.3, 0.02, 0.3):  # longer than from one try to the next
            time.sleep(pause)
            folder.mkdir(exist_ok=True)
            with contextlib.suppress(FileNotFoundError):  # it was taken away in between
                (folder / str(pause)).touch()

    thread = threading.Thread(target=write)
    thread.start()
    _take_away(folder)
    assert not thread.is_alive()
    assert not folder.exists()
