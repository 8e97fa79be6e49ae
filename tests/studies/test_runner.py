"""Studies run what is missing, on all devices, and give what each run gives alone."""

import dataclasses
import errno
import json
import shutil
import subprocess
import sys
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from draem_jax import files
from draem_jax.errors import DivergedError, UserError
from draem_jax.losses import Losses
from draem_jax.studies import Variant, execution, parse_study, study_config
from draem_jax.studies.execution import MAX_SHOWN, execute, read_result, shown_pictures
from draem_jax.studies.report import write_results
from draem_jax.studies.runner import next_run, run_study
from draem_jax.studies.study import claim_study
from draem_jax.training import loop
from draem_jax.training.loop import train
from draem_jax.training.parallel import local_devices, on_devices
from draem_jax.training.samples import Samples
from draem_jax.training.validation import Validation
from draem_jax.training.workdir import load_run

# The cheapest program that trains: what a study does with it is the same for all.
CHEAP = {"model.variant": "discriminative"}
NUMERIC = (
    Variant("full"),
    Variant("no opacity", {"anomalies.opacity": (1.0, 1.0)}),
    Variant("no operations", {"anomalies.texture.operations": 0}),
    Variant("low threshold", {"anomalies.threshold": (0.2, 0.2)}),
)


@pytest.fixture
def make(tiny_config):
    def make(variants, **options):
        base = tiny_config(**CHEAP, **{"train.steps": 2})
        return parse_study(study_config(base, variants, **options))

    return make


def parameters(workdir):
    return jax.tree.leaves(load_run(workdir)[1])


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def never(step):
    return False


@pytest.mark.long
def test_a_study_from_end_to_end_on_one_device(make, tmp_path):
    study = make(NUMERIC[:2], seeds=(0,))
    told = []
    with on_devices(jax.devices()[:1]):
        results = run_study(study, tmp_path, tell=told.append)
        assert loop._mapped_train_steps.cache_info().misses >= 1
        programs = loop._mapped_train_steps.cache_info().misses

        # The same config, trained alone on one device, by the program that is there.
        run = study.runs()[1]
        train(run.config, tmp_path / "alone", quiet=True)
        assert same(parameters(tmp_path / "alone"), parameters(tmp_path / run.folder))
        assert not same(
            parameters(tmp_path / study.runs()[0].folder), parameters(tmp_path / run.folder)
        )
        assert loop._mapped_train_steps.cache_info().misses == programs

        # What is done is not done again; what is missing is.
        shutil.rmtree(tmp_path / study.runs()[0].folder)
        kept = (tmp_path / run.folder / "result.json").stat().st_mtime_ns
        again = run_study(study, tmp_path)
    assert [result.protocols for result in again] == [result.protocols for result in results]
    assert (tmp_path / run.folder / "result.json").stat().st_mtime_ns == kept
    assert told[-1].runs_done == told[-1].runs == 2
    assert told[-1].steps_done == told[-1].steps == 4
    assert sum(progress.finished is not None for progress in told) == 2

    write_results(study, results, tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/") > 2 * MAX_SHOWN
    assert len((tmp_path / "results.csv").read_text().splitlines()) == 3
    for metric, value in results[0].metrics("default").items():
        assert value is None or 0 <= value <= 1, metric


@pytest.fixture
def traces(monkeypatch):
    """Training by a step that compiles in a moment; counts how often it is traced.

    It draws on all that a run may differ in, so that runs mixed up would not go unseen.
    """
    traced = []

    def make_train_steps(network, optimizer, *, max_steps):
        def train_steps(state, indices, key, pictures, params, weights, steps):
            traced.append(network.variant)
            noise = jax.random.normal(jax.random.fold_in(key, state.step))
            numbers = params.opacity[0] + params.threshold[0] + params.texture.operations
            picture = pictures.normal[state.step].mean() / 255
            change = noise * (picture + numbers) * weights.focal * (1 + indices[0])
            moved = jax.tree.map(lambda p: p + change, state.params)
            losses = Losses(*jnp.full((len(Losses._fields), max_steps), change))
            return state.replace(step=state.step + 1, params=moved), losses

        return train_steps

    lock, states, create_state = threading.Lock(), {}, loop.create_state

    def create_state_once(config):
        with lock:  # each device would compile the initialisation
            if config.seed not in states:
                states[config.seed] = jax.device_get(create_state(config))
            return states[config.seed]

    monkeypatch.setattr(loop, "make_train_steps", make_train_steps)
    monkeypatch.setattr(loop, "create_state", create_state_once)
    blank = np.zeros((1, 32, 32, 3), np.float32)
    samples = Samples(blank, blank, blank[..., :1])
    validation = Validation(0.0, samples, blank, blank[..., 0])
    monkeypatch.setattr(loop, "make_validate", lambda *a, rows: lambda state: validation)
    monkeypatch.setattr(loop, "read_samples", lambda *a: samples)
    monkeypatch.setattr(execution, "measure", lambda detector, test, options: {})
    monkeypatch.setattr(execution, "_keep_maps", lambda folder, detector, test: None)
    monkeypatch.setattr(execution, "_keep_strip", lambda run, folder: None)
    loop._mapped_train_steps.cache_clear()
    yield traced
    loop._mapped_train_steps.cache_clear()


@pytest.mark.long
def test_programs_are_traced_as_often_as_something_static_differs(make, tmp_path, traces):
    words = [Variant("rectangles", {"anomalies.mask": "rectangles"})]
    words += [Variant("two words", {"anomalies.mask": "union", "anomalies.blend": "poisson"})]
    study = make([*NUMERIC[:2], *words], seeds=(0, 1))
    with on_devices(jax.devices()[:1]):
        assert len(run_study(study, tmp_path)) == 8
    assert len(traces) == len({run.program for run in study.runs()}) == 3


@pytest.mark.long
def test_four_devices_take_two_runs_each_and_give_the_same(make, tmp_path, monkeypatch, traces):
    taken = []

    def noting(run, workdir, *, watch):
        taken.append(local_devices())
        return execute(run, workdir, watch=watch)

    monkeypatch.setattr("draem_jax.studies.runner.execute", noting)
    study = make(NUMERIC, seeds=(0, 1))
    assert len(run_study(study, tmp_path / "four")) == 8
    assert sorted(device.id for (device,) in taken) == sorted([0, 1, 2, 3] * 2)
    assert len(traces) == 4  # a device compiles its own
    with on_devices(jax.devices()[:1]):
        run_study(study, tmp_path / "one")
        run = study.runs()[-1]
        train(run.config, tmp_path / "alone", quiet=True)
    assert same(parameters(tmp_path / "alone"), parameters(tmp_path / "four" / run.folder))
    states = {}
    for run in study.runs():
        states[run.title] = parameters(tmp_path / "four" / run.folder)
        assert same(states[run.title], parameters(tmp_path / "one" / run.folder)), run.title
    assert len({float(leaves[1].ravel()[0]) for leaves in states.values()}) == 8


def fake_runs(monkeypatch, behaviour):
    """Replaces training and measuring; `behaviour` is told the run."""

    def instead(run, workdir, *, watch):
        behaviour(run)
        result = execution.Result(run, {"default": {"pixel_ap": 0.5}})
        text = json.dumps({"protocols": result.protocols, "diverged": ""})
        files.write_text(workdir / run.folder / "result.json", text)
        return result

    monkeypatch.setattr("draem_jax.studies.runner.execute", instead)


def test_a_full_disk_ends_the_study_and_harms_nothing(make, tmp_path, monkeypatch):
    study, made = make(NUMERIC, seeds=(0, 1)), []

    def fill(run):
        if len(made) >= 3:
            raise OSError(errno.ENOSPC, "No space left on device", "somewhere")
        made.append(run)

    fake_runs(monkeypatch, fill)
    with pytest.raises(UserError, match="the disk is full; finished runs are safe") as caught:
        run_study(study, tmp_path)
    assert "\n" not in str(caught.value)
    fake_runs(monkeypatch, made.append)
    assert len(run_study(study, tmp_path)) == 8
    assert sorted(run.folder for run in made) == sorted(run.folder for run in study.runs())


_OTHER = """
import sys
from pathlib import Path
from draem_jax.training.workdir import locked
with locked(Path(sys.argv[1]), name=".study"):
    print("claimed", flush=True)
    sys.stdin.read()
"""


def test_processes_share_a_study(make, tmp_path, monkeypatch):
    study, made = make(NUMERIC, seeds=(0, 1)), []
    claim_study(study, tmp_path)
    theirs = study.runs()[5]
    other = subprocess.Popen(
        [sys.executable, "-c", _OTHER, str(tmp_path / theirs.folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert other.stdout.readline() == "claimed\n"
    fake_runs(monkeypatch, made.append)
    told = []
    with on_devices(jax.devices()[:1]):
        assert len(run_study(study, tmp_path, tell=told.append)) == 7
        assert theirs.folder not in {run.folder for run in made}
        assert (told[-1].runs_done, told[-1].runs) == (7, 8)
        other.kill()
        other.communicate()
        assert len(run_study(study, tmp_path)) == 8
    assert made[-1].folder == theirs.folder


def test_processes_begin_with_programs_that_no_other_has_begun(make, tmp_path):
    words = Variant("rectangles", {"anomalies.mask": "rectangles"})
    runs = make([NUMERIC[0], words], seeds=(0, 1), categories=("brick", "grass")).runs()
    taken, left = [], list(runs)
    while left:
        taken.append(next_run(left, taken[-1] if taken else None, tmp_path))
        left.remove(taken[-1])
    cells = [(run.variant, run.product) for run in taken]
    in_turn = [(name, on) for name in ("full", "rectangles") for on in ("brick", "grass")]
    assert cells[::2] == cells[1::2] == in_turn
    (tmp_path / runs[0].folder).mkdir(parents=True)  # by another process
    assert (first := next_run(runs, None, tmp_path)).program != runs[0].program
    assert next_run(runs, runs[0], tmp_path) is runs[0] is not first


def test_a_diverged_run_is_a_result(make, tmp_path, monkeypatch):
    def diverge(*arguments, **options):
        raise DivergedError("the loss of step 3 is not finite (total nan)")

    monkeypatch.setattr(execution, "train", diverge)
    monkeypatch.setattr(execution, "_keep_strip", lambda run, folder: None)
    run = make(NUMERIC[:1]).runs()[0]
    result = execute(run, tmp_path, watch=never)
    assert result.diverged == "the loss of step 3 is not finite (total nan)"
    assert read_result(run, tmp_path) == result
    study = dataclasses.replace(make(NUMERIC[:1]), seeds=(0,))
    assert [one.diverged for one in run_study(study, tmp_path / "new")] == [result.diverged]


def test_a_data_set_without_test_pictures_is_refused_at_once(make, tmp_path, monkeypatch):
    monkeypatch.setattr("draem_jax.data.dataset.DataSet.test_pictures", lambda *a, **k: [])
    with pytest.raises(UserError, match=r"the product brick \(of surfaces\) has no test pictures"):
        run_study(make(NUMERIC), tmp_path)
    assert not (tmp_path / "study.json").exists()


def test_each_type_is_shown():
    names = ["crack/0", "crack/1", "crack/2", "good/0", "hole/0", "hole/1"]
    assert shown_pictures(names) == [0, 1, 2, 3, 4, 5]
    many = [f"{kind}/{i}" for kind in ("crack", "good", "hole") for i in range(40)]
    assert shown_pictures(many) == [0, 1, 2, 40, 41, 42, 80, 81]
    assert shown_pictures([]) == []
