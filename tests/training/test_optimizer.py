"""The rate by its definition, Adam's moments by its own formula, Muon's steps by SVD."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from draem_jax.config import check_config
from draem_jax.data.surfaces import export_samples
from draem_jax.errors import UserError
from draem_jax.training.finetune import finetune
from draem_jax.training.loop import train
from draem_jax.training.optimizer import create_optimizer


def _changes(config, gradients):
    """How much a parameter changes in each step."""
    optimizer = create_optimizer(config)
    state = optimizer.init(jnp.zeros(()))

    def step(state, gradient):
        change, state = optimizer.update(gradient, state)
        return state, change

    return np.asarray(jax.lax.scan(step, state, jnp.asarray(gradients, jnp.float32))[1])


def _rates(tiny_config, **changes):
    """The rate of each of 20 steps: Adam's change where the gradient is 1 all the time."""
    config = tiny_config(**{"train.steps": 20, "optimizer.learning_rate": 0.1, **changes})
    return -_changes(config, np.ones(20))


def test_the_rate_falls_at_milestones_or_by_a_cosine(tiny_config):
    by_milestones = _rates(tiny_config, **{"optimizer.milestones": (0.5, 0.9)})
    np.testing.assert_allclose(by_milestones, [0.1] * 10 + [0.02] * 8 + [0.004] * 2, rtol=1e-4)
    by_cosine = _rates(tiny_config, **{"optimizer.schedule": "cosine"})
    expected = 0.05 * (1 + np.cos(np.pi * np.arange(20) / 20))
    np.testing.assert_allclose(by_cosine, expected, rtol=1e-4)


@pytest.mark.parametrize("schedule", ["milestones", "cosine"])
def test_before_it_the_rate_rises(schedule, tiny_config):
    changes = {"optimizer.schedule": schedule, "optimizer.milestones": (0.5,)}
    plain = _rates(tiny_config, **changes)
    rising = _rates(tiny_config, **changes, **{"optimizer.warmup": 0.2})
    shares = np.minimum((np.arange(20) + 1) / 5, 1)
    np.testing.assert_allclose(rising, plain * shares, rtol=1e-4)


def test_moments_are_those_of_the_config(tiny_config):
    gradients = np.random.default_rng(0).normal(size=6)
    config = tiny_config(**{"optimizer.b1": 0.5, "optimizer.b2": 0.9})
    mean = square = 0.0
    expected = []
    for step, gradient in enumerate(gradients, start=1):
        mean = 0.5 * mean + 0.5 * gradient
        square = 0.9 * square + 0.1 * gradient**2
        deviation = np.sqrt(square / (1 - 0.9**step)) + 1e-8
        expected.append(-1e-3 * mean / (1 - 0.5**step) / deviation)
    np.testing.assert_allclose(_changes(config, gradients), expected, rtol=1e-4)


def test_muon_goes_as_far_in_all_directions_of_a_kernel(tiny_config):
    shapes = {
        "unit1": {"conv": {"kernel": (3, 3, 4, 8), "bias": (8,)}, "norm": {"scale": (8,)}},
        "unit2": {"conv": {"kernel": (3, 3, 2, 32)}},
        "output": {"kernel": (3, 3, 8, 2)},
    }
    rng = np.random.default_rng(0)
    gradients = jax.tree.map(
        lambda shape: jnp.asarray(rng.normal(size=shape), jnp.float32),
        shapes,
        is_leaf=lambda node: isinstance(node, tuple),
    )

    def first_step(optimizer):
        return optimizer.update(gradients, optimizer.init(gradients), gradients)[0]

    steps = first_step(create_optimizer(tiny_config(**{"optimizer.name": "muon"})))
    adams = first_step(optax.adam(1e-3))
    for unit in ("unit1", "unit2"):
        kernel = gradients[unit]["conv"]["kernel"]
        features = kernel.shape[-1]
        left, _, right = np.linalg.svd(kernel.reshape(-1, features), full_matrices=False)
        step = steps[unit]["conv"].pop("kernel").reshape(-1, features)
        # In the gradient's own directions, and downhill in each of them about as far.
        along = left.T @ step @ right.T
        lengths = -np.diag(along)
        np.testing.assert_allclose(along, -np.diag(lengths), atol=1e-3 * lengths.max())
        assert lengths.max() < 2 * lengths.min()
        assert np.sqrt(np.mean(np.square(step))) == pytest.approx(0.5e-3, rel=0.2)
        del adams[unit]["conv"]["kernel"]
    # Of all else the steps are Adam's.
    jax.tree.map(np.testing.assert_array_equal, steps, adams)


@pytest.mark.parametrize(
    "change", [{"name": "sgd"}, {"schedule": "linear"}, {"warmup": 1.0}, {"b1": 1.0}, {"b2": -0.1}]
)
def test_what_cannot_be_is_refused(change, tiny_config):
    ((name, value),) = change.items()
    with pytest.raises(UserError, match=rf"config\.optimizer\.{name} must"):
        check_config(tiny_config(**{f"optimizer.{name}": value}))


@pytest.mark.long
def test_a_run_by_muon_goes_on_bit_for_bit_and_is_tuned_by_adam(tmp_path, tiny_config):
    config = tiny_config(
        **{"optimizer.name": "muon", "finetune.steps": 2, "train.checkpoint_every": 1}
    )
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    expected = train(config, straight, quiet=True)
    shutil.copytree(straight, stopped)
    shutil.rmtree(stopped / "checkpoints" / "4")
    resumed = train(config, stopped, quiet=True)
    jax.tree.map(np.testing.assert_array_equal, resumed, expected)

    stains, tuned = tmp_path / "stains", tmp_path / "tuned"
    export_samples(stains, category="brick", split="train", defect_type="stain", indices=range(4))
    finetuned = [finetune(straight, tuned, accept=stains, config=config, quiet=True)]
    shutil.rmtree(tuned / "checkpoints" / "6")
    finetuned += [finetune(straight, tuned, accept=stains, config=config, quiet=True)]
    jax.tree.map(np.testing.assert_array_equal, *finetuned)
