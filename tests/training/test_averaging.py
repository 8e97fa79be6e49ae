"""A run that predicts with an average of its networks: what that is, and that it survives."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from draem_jax.data.surfaces import export_samples
from draem_jax.detector import Draem
from draem_jax.training.finetune import finetune
from draem_jax.training.loop import train
from draem_jax.training.state import AveragedState, TrainState
from draem_jax.training.workdir import load_run


def test_the_average_is_that_of_the_networks_after_each_step():
    values = np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32)
    start = {"params": jnp.float32(100), "batch_stats": jnp.float32(-100)}
    state = AveragedState(step=jnp.int32(0), **start, opt_state=(), average=start, decay=0.8)
    for params, batch_stats in values:
        state = state.after_step(params=params, batch_stats=batch_stats, opt_state=())
    # The weight of each step, worked out from the last one back.
    kept = np.minimum(0.8, (1 + np.arange(1, 61)) / (10 + np.arange(1, 61)))
    weights = (1 - kept) * np.append(np.cumprod(kept[::-1])[::-1][1:], 1)
    assert weights[0] < 1e-3
    assert np.prod(kept) < 1e-3  # that of the start
    params, batch_stats = weights @ values + np.prod(kept) * np.array([100, -100])
    assert state.variables["params"] == pytest.approx(params, rel=1e-4)
    assert state.variables["batch_stats"] == pytest.approx(batch_stats, rel=1e-4)
    assert state.step == 60
    assert (state.params, state.batch_stats) == tuple(values[-1])


@pytest.mark.long
def test_it_goes_on_bit_for_bit_and_is_what_predicts(tmp_path, tiny_config, trained):
    config = tiny_config(**{"optimizer.average": 0.9})
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    expected = train(config, straight, quiet=True)
    shutil.copytree(straight, stopped)
    shutil.rmtree(stopped / "checkpoints" / "4")
    jax.tree.map(np.testing.assert_array_equal, train(config, stopped, quiet=True), expected)

    # What learns is what it is without an average.
    plain = load_run(trained)[1]
    assert type(plain) is TrainState
    for part in ("params", "batch_stats", "opt_state"):
        jax.tree.map(np.testing.assert_allclose, getattr(expected, part), getattr(plain, part))
    detector = Draem.load(straight)
    jax.tree.map(np.testing.assert_array_equal, detector._variables, expected.average)

    # A fine-tuning goes on with the average, whose other half stays what it is.
    export_samples(
        tmp_path / "stains", category="brick", split="train", defect_type="stain", indices=range(4)
    )
    config = tiny_config(**{"optimizer.average": 0.9, "finetune.steps": 1})
    tuned = finetune(
        straight, tmp_path / "tuned", accept=tmp_path / "stains", config=config, quiet=True
    )
    average = expected.average["params"]
    jax.tree.map(
        np.testing.assert_array_equal, tuned.params["reconstructive"], average["reconstructive"]
    )
    for now, before in zip(
        *map(jax.tree.leaves, (tuned.params["discriminative"], average["discriminative"])),
        strict=True,
    ):
        np.testing.assert_allclose(now, before, atol=3e-4)  # as far as one step goes
    assert Draem.load(tmp_path / "tuned").step == 5
