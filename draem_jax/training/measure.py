"""How long a train step takes on the devices at hand: the true step, on made-up pictures."""

import statistics
import time
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from draem_jax.config import anomaly_params, image_size, is_tiled, loss_weights
from draem_jax.data.crops import corner_range
from draem_jax.data.texture_sources import parse_texture_sources
from draem_jax.training import parallel
from draem_jax.training.optimizer import create_optimizer
from draem_jax.training.pictures import Crops, Pictures, make_mix
from draem_jax.training.plan import Data
from draem_jax.training.state import create_network, create_state, run_keys
from draem_jax.training.step import make_train_steps

_DRAWN = 8  # pictures that are made up; others repeat them
_SECONDS = 3.0
_MOST = 10


@dataclass(frozen=True)
class Measured:
    """What came of measuring.

    Attributes:
        steps: that were measured; one more was made before, to warm up.
        seconds_per_step: their median.
        compiling: seconds that went before them.
        nbytes: that the compiled step takes on a device besides its arguments.
    """

    steps: int
    seconds_per_step: float
    compiling: float
    nbytes: int


def measure_steps(config: ConfigDict, data: Data) -> Measured:
    """Compiles the train step and makes a few steps, of which nothing is kept.

    Pictures lie on the devices, so reading those that stream is not measured. The program is that
    of a run whose pictures stay there.

    Args:
        config: the config of a run, checked and with its number of steps.
        data: its pictures; of those that stream, one is made up.

    Raises:
        UserError: the devices do not divide the batch.
    """
    indices = parallel.sample_indices(config.train.batch_size)
    state = parallel.replicate(create_state(config))
    others = (
        parallel.replicate(run_keys(config)[1]),
        parallel.replicate(_make_up(config, data)),
        parallel.replicate(anomaly_params(config)),
        parallel.replicate(loss_weights(config)),
        np.int32(1),
    )
    train_steps: Any = parallel.map_over_devices(
        make_train_steps(
            create_network(config, axis_name=parallel.AXIS_NAME),
            create_optimizer(config),
            max_steps=1,
        ),
        devices=parallel.chosen_devices(),
    )
    start = time.perf_counter()
    compiled = train_steps.lower(state, indices, *others).compile()
    compiling = time.perf_counter() - start
    seconds: list[float] = []
    # The first call warms up.
    while len(seconds) < 2 or (sum(seconds[1:]) < _SECONDS and len(seconds) <= _MOST):
        start = time.perf_counter()
        state, losses = compiled(state, indices, *others)
        jax.block_until_ready((state, losses))
        seconds.append(time.perf_counter() - start)
    return Measured(
        steps=len(seconds) - 1,
        seconds_per_step=statistics.median(seconds[1:]),
        compiling=compiling,
        nbytes=compiled.memory_analysis().temp_size_in_bytes,
    )


def _make_up(config: ConfigDict, data: Data) -> Pictures:
    size = image_size(config)
    drawn = np.random.default_rng(0).integers(0, 256, (_DRAWN, *size, 3), np.uint8)
    sources = parse_texture_sources(config.data.texture_source)
    # Every part draws from one picture, which is as much work as any other.
    mix = make_mix(sources, [1] * len(sources))
    normal, textures = (1, 1) if data.streams else (data.normal, max(1, data.textures))
    some = jnp.asarray(np.resize(drawn, (normal, *data.normal_size, 3)))
    others = jnp.asarray(np.resize(drawn, (textures, *data.texture_size, 3)))
    if not is_tiled(config):
        return Pictures(some, others, mix)
    of_normal, of_textures = (
        jnp.asarray(np.tile(corner_range(canvas, size), (count, 1)))
        for canvas, count in ((data.normal_size, normal), (data.texture_size, textures))
    )
    return Pictures(some, others, mix, crops=Crops(of_normal, of_textures, size))
