"""The time that is told before a run starts: what is counted, and what is made of it."""

import functools

import jax
import numpy as np
import pytest
from scipy.optimize import nnls

from draem_jax.training import forecast
from draem_jax.training.forecast import Work, about, costs_of, seconds_per_step, work_of
from draem_jax.training.optimizer import create_optimizer
from draem_jax.training.samples import Samples
from draem_jax.training.state import create_network, create_state
from draem_jax.training.step import train_step


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["full", "discriminative", "reconstruction_ssim"])
def test_the_count_is_that_of_xla(variant, tiny_config):
    config = tiny_config(**{"model.variant": variant, "data.image_size": (128,)})
    config.model.update(reconstructive_width=64, discriminative_width=32)
    network = create_network(config)
    step = functools.partial(train_step, network=network, optimizer=create_optimizer(config))
    pictures = jax.ShapeDtypeStruct((2, 128, 128, 3), float)
    samples = Samples(pictures, pictures, jax.ShapeDtypeStruct((2, 128, 128, 1), float))
    lowered = jax.jit(step).lower(jax.eval_shape(lambda: create_state(config)), samples)
    flops = lowered.cost_analysis()["flops"]
    assert work_of(network, (2, 128, 128, 3)).flops == pytest.approx(flops, rel=0.1)


def test_a_machine_of_known_speed_is_told_exactly(tiny_config, monkeypatch):
    config = tiny_config(**{"data.image_size": (64, 96)})
    cost = Work(2e-12, 3e-9)

    def measure(shape, dtype):
        samples, height, width, channels = shape
        values = samples * height * width * channels
        work = Work(3 * 2 * 9 * channels * values, values)
        return work, cost.flops * work.flops + cost.values * work.values

    monkeypatch.setattr(forecast, "_measure", measure)
    work = work_of(create_network(config), (1, 64, 96, 3))  # a sample on each of four devices
    assert seconds_per_step(config) == pytest.approx(
        cost.flops * work.flops + cost.values * work.values
    )


def test_costs_are_those_of_non_negative_least_squares():
    random = np.random.default_rng(0)
    at_border = 0
    for _ in range(99):
        works, seconds = random.uniform(0.1, 9, (2, 2)), random.uniform(1, 9, 2)
        costs, _ = nnls(works, seconds)
        np.testing.assert_allclose(costs_of(works, seconds), costs, atol=1e-8)
        at_border += costs.min() == 0
    assert 20 < at_border < 80


def test_it_is_measured_on_this_machine(tiny_config):
    assert 1e-5 < seconds_per_step(tiny_config()) < 60


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.2, "about 1 second"),
        (89.0, "about 89 seconds"),
        (425.0, "about 7 minutes"),
        (6000.0, "about 2 hours"),
        (3e5, "about 3 days"),
    ],
)
def test_durations_are_said_as_people_say_them(seconds, said):
    assert about(seconds) == said


def test_a_run_of_days_is_told_what_to_choose(tiny_config, monkeypatch):
    monkeypatch.setattr(forecast, "seconds_per_step", lambda config: 10.0)
    assert forecast.forecast(tiny_config(), steps=60).endswith("about 10 minutes for 60 steps")
    line = forecast.forecast(tiny_config(), steps=100_000)
    assert "about 12 days for 100000 steps; for less, choose a smaller size" in line
    assert "\n" not in line
