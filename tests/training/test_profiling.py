"""A trace of some steps: it is there, holds those steps, and changes nothing."""

import gzip
import json

import pytest

from draem_jax.cli import main
from draem_jax.config import check_config
from draem_jax.errors import UserError
from draem_jax.training.loop import train


def _losses(workdir):
    rows = map(json.loads, (workdir / "metrics.jsonl").read_text().splitlines())
    return [{k: v for k, v in row.items() if "images" not in k} for row in rows]


def _traced(workdir):
    """Of each trace the steps that it names and the devices that operations ran on, in order."""
    for path in sorted((workdir / "profile").glob("**/perfetto_trace.json.gz")):
        with gzip.open(path) as file:
            events = json.load(file)["traceEvents"]
        steps = {int(e["args"]["step_num"]) for e in events if e.get("name") == "train"}
        devices = {e["args"]["device_ordinal"] for e in events if "hlo_op" in e.get("args", {})}
        yield steps, len(devices)


def test_a_trace_of_steps_changes_nothing_else(tmp_path, tiny_config, trained):
    workdir = tmp_path / "run"
    train(tiny_config(**{"train.profile": (2, 3)}), workdir, quiet=True)
    assert _losses(workdir) == _losses(trained)
    assert list(_traced(workdir)) == [({2, 3}, 4)]
    assert list((workdir / "profile").glob("**/*.xplane.pb"))  # what xprof reads


@pytest.mark.long
def test_a_run_that_stops_and_goes_on_traces_what_it_makes(tmp_path, tiny_config):
    workdir = tmp_path / "run"
    config = tiny_config(**{"train.profile": (1, 4)})
    train(config, workdir, quiet=True, watch=lambda step: step == 2)
    # As an earlier version left it, which did not know the field.
    stored = json.loads((workdir / "config.json").read_text())
    del stored["train"]["profile"]
    (workdir / "config.json").write_text(json.dumps(stored))
    train(tiny_config(**{"train.profile": (1, 3)}), workdir, quiet=True)
    assert list(_traced(workdir)) == [({1, 2}, 4), ({3}, 4)]


@pytest.mark.long
def test_a_trace_that_cannot_be_written_ends_no_run(tmp_path, tiny_config, trained, capsys):
    workdir = tmp_path / "run"
    workdir.mkdir()
    (workdir / "profile").write_text("a file")
    train(tiny_config(**{"train.profile": (2, 2)}), workdir)
    assert capsys.readouterr().err.count("no profile is written to") == 1
    assert _losses(workdir) == _losses(trained)
    other = tmp_path / "other"
    train(tiny_config(**{"train.profile": (2, 2)}), other, quiet=True)
    assert list(_traced(other)) == [({2}, 4)]


@pytest.mark.parametrize(
    ("profile", "said"),
    [
        ((3,), "must be FROM,TO, two steps"),
        ((3, 2), "1 <= FROM <= TO"),
        ((0, 2), "1 <= FROM <= TO"),
        ((2, 5), "goes beyond the run's 4 steps"),
    ],
)
def test_other_steps_are_refused(profile, said, tiny_config):
    with pytest.raises(UserError, match=said) as refused:
        check_config(tiny_config(**{"train.profile": profile}))
    assert "\n" not in str(refused.value)


def test_the_field_is_a_flag(tmp_path, capsys):
    flags = ["--config=configs/quickstart.py", "--config.train.profile=9,3"]
    assert main(["train", *flags, f"--workdir={tmp_path / 'run'}"]) == 1
    assert "config.train.profile must be FROM,TO with 1 <= FROM <= TO" in capsys.readouterr().err
