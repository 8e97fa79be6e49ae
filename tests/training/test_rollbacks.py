"""A run whose loss is not finite goes back and past it, and does so again where it is killed."""

import json
import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from draem_jax.config import to_json
from draem_jax.errors import DivergedError, UserError
from draem_jax.training import loop
from draem_jax.training.loop import train
from draem_jax.training.rollbacks import Rollback, Rollbacks
from draem_jax.training.state import run_keys
from draem_jax.training.workdir import load_run

pytestmark = pytest.mark.tiny_programs

ROLLBACK = {"train.on_nan": "rollback", "train.max_rollbacks": 2}


class Killed(BaseException):
    """What no run can catch."""


@pytest.fixture
def diverge(monkeypatch, tiny_config):
    """Makes the samples of some steps lead to NaN, the run's own or those after a rollback."""
    make = loop._mapped_train_steps

    def diverge(*bad):
        keys = [
            jax.random.key_data(Rollbacks((Rollback(0, 0),) * n).key(_key(), 0)) for _, n in bad
        ]

        def mapped(*arguments):
            train_steps = make(*arguments)

            def ruined(state, indices, key, *rest):
                step = int(state.step) + 1
                drawn = [np.array_equal(jax.random.key_data(key), k) for k in keys]
                is_bad = any(step == s and is_it for (s, _), is_it in zip(bad, drawn, strict=True))
                state, losses = train_steps(state, indices, key, *rest)
                if is_bad:
                    state, losses = jax.tree.map(
                        lambda a: a * jnp.nan if a.dtype == jnp.float32 else a, (state, losses)
                    )
                return state, losses

            return ruined

        monkeypatch.setattr(loop, "_mapped_train_steps", mapped)

    def _key():
        return run_keys(tiny_config())[1]

    return diverge


def _lines(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def _same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize(
    ("feed", "killed_at"), [({}, 5), ({"data.resident_gib": 0.0, "data.workers": 0}, 7)]
)
@pytest.mark.long
def test_a_run_goes_back_and_past_what_led_to_nan(
    feed, killed_at, tmp_path, tiny_config, diverge, caplog
):
    config = tiny_config(**ROLLBACK, **{"train.steps": 8}, **feed)
    diverge((4, 0), (7, 1))
    straight = tmp_path / "straight"
    with caplog.at_level(logging.WARNING):
        expected = train(config, straight, quiet=True)
    assert int(expected.step) == 8
    assert [line.partition(" (")[0] for line in caplog.messages] == [
        "the loss of step 4 is not finite",
        "the loss of step 7 is not finite",
    ]
    assert caplog.messages[0].endswith(
        "; the run goes back to step 2, and on with other samples (rollback 1 of 2 at most)"
    )
    lines = _lines(straight)
    assert [line["step"] for line in lines if "total" in line] == list(range(1, 9))
    assert [line for line in lines if "rollback" in line] == [
        {"step": 2, "rollback": 1, "diverged_at": 4},
        {"step": 6, "rollback": 2, "diverged_at": 7},
    ]

    # Killed after a rollback, it comes to the same end.
    workdir = tmp_path / "killed"

    def watch(step):
        if step == killed_at and (workdir / "rollbacks.json").is_file():
            raise Killed
        return False

    with pytest.raises(Killed):
        train(config, workdir, quiet=True, watch=watch)
    _same(train(config, workdir, quiet=True), expected)
    assert (workdir / "rollbacks.json").read_text() == (straight / "rollbacks.json").read_text()
    kept = [line for line in _lines(workdir) if "rollback" in line]
    assert kept == [line for line in lines if "rollback" in line]

    # From an earlier checkpoint as well, since the one behind it is damaged.
    (workdir / "checkpoints" / "8" / "_CHECKPOINT_METADATA").write_text("{")
    (workdir / "checkpoints" / "8" / "default" / "_METADATA").write_text("{")
    _same(train(config, workdir, quiet=True), expected)


@pytest.mark.long
def test_a_run_goes_back_no_more_often_than_it_may(tmp_path, tiny_config, diverge):
    workdir = tmp_path / "run"
    diverge((3, 0), (3, 1), (4, 2))
    with pytest.raises(DivergedError, match=r"step 3 is not finite .* stays\. Try a lower"):
        train(tiny_config(), workdir, quiet=True)
    stored = (workdir / "config.json").read_bytes()
    with pytest.raises(
        DivergedError, match=r"step 4 is .* \(it went back 2 times before, as often"
    ):
        train(tiny_config(**ROLLBACK), workdir, quiet=True)  # the same run
    assert int(load_run(workdir)[1].step) == 2
    assert (workdir / "config.json").read_bytes() == stored
    assert len(json.loads((workdir / "rollbacks.json").read_text())) == 2
    train(tiny_config(**ROLLBACK | {"train.max_rollbacks": 3}), workdir, quiet=True)

    diverge((1, 0))
    with pytest.raises(DivergedError, match=r"\(there is no checkpoint to go back to\)"):
        train(tiny_config(**ROLLBACK), tmp_path / "other", quiet=True)


def test_a_run_that_begins_passes_nothing(tmp_path):
    noted = Rollbacks((Rollback(2, 4),))
    noted.save(tmp_path)
    assert Rollbacks.load(tmp_path, started=True) == noted
    assert Rollbacks.load(tmp_path, started=False) == Rollbacks()
    assert Rollbacks.load(tmp_path, started=True) == Rollbacks()
    (tmp_path / "rollbacks.json").write_text("[{")
    with pytest.raises(UserError, match=r"rollbacks\.json is damaged"):
        Rollbacks.load(tmp_path, started=True)


def test_a_config_of_an_earlier_version_has_the_defaults(tmp_path, tiny_config):
    from draem_jax.config import FAULTS, differences, from_json

    stored = json.loads(to_json(tiny_config()))
    for name in (*FAULTS, "train.max_rollbacks"):
        group, field = name.split(".")
        del stored[group][field]
    path = tmp_path / "config.json"
    path.write_text(json.dumps(stored))
    assert from_json(path) == tiny_config()
    assert differences(from_json(path), tiny_config(**ROLLBACK)) == []
