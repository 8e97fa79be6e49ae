"""The calls of training and evaluation that the tools measure, on pictures that are made up."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from draem_jax.anomalies import AnomalyParams
from draem_jax.config import default_config
from draem_jax.losses import LossWeights
from draem_jax.networks import forward
from draem_jax.training import parallel
from draem_jax.training.optimizer import create_optimizer
from draem_jax.training.pictures import Pictures, TextureMix
from draem_jax.training.samples import Samples
from draem_jax.training.state import create_network, create_state, run_keys
from draem_jax.training.step import make_train_steps, train_step
from tools.setting import Setting, noise

_PICTURES = 16


def config_of(setting: Setting) -> ConfigDict:
    """The config of a run with the setting's numbers, otherwise as the authors' code has it."""
    config = default_config()
    config.model.reconstructive_width = setting.reconstructive_width
    config.model.discriminative_width = setting.discriminative_width
    config.data.image_size = (setting.size,)
    config.train.batch_size = setting.batch
    config.model.dtype = setting.dtype
    config.model.remat = setting.remat
    return config


@dataclasses.dataclass
class Call:
    """A program with its arguments, of which the first may be what it returns first.

    Attributes:
        program: what is called.
        state: the first argument.
        others: the other arguments.
        keeps_state: whether the state that is returned is the next call's.
    """

    program: Callable[..., Any]
    state: Any
    others: tuple[Any, ...]
    keeps_state: bool = True

    def __call__(self) -> Any:
        """Calls once, without waiting for the devices; returns what to wait for."""
        result = self.program(self.state, *self.others)
        if self.keeps_state:
            self.state, result = result
        return result

    def compiled_text(self) -> str:
        """What XLA makes of the program, as text."""
        lowered = self.program.lower(self.state, *self.others)  # type: ignore[attr-defined]
        return str(lowered.compile().as_text())


def train_call(setting: Setting) -> Call:
    """The call that `draem-jax train` makes for each step: samples are drawn, and learned from."""
    config = config_of(setting)
    rng = np.random.default_rng(0)
    shape = (_PICTURES, setting.size, setting.size, 3)
    normal, textures = (jnp.asarray(rng.integers(0, 256, shape, np.uint8)) for _ in range(2))
    mix = TextureMix(
        np.ones(1, np.float32),
        np.zeros(1, np.int32),
        np.full(1, _PICTURES, np.int32),
        ("pictures",),
    )
    steps = make_train_steps(
        create_network(config, axis_name=parallel.AXIS_NAME), create_optimizer(config), max_steps=1
    )
    state, key, pictures, params, weights = parallel.replicate(
        (
            create_state(config),
            run_keys(config)[1],
            Pictures(normal, textures, mix),
            AnomalyParams.code(),
            LossWeights(),
        )
    )
    indices = parallel.sample_indices(setting.batch)
    others = (indices, key, pictures, params, weights, np.int32(1))
    return Call(parallel.map_over_devices(steps), state, others)


def learn_call(setting: Setting) -> Call:
    """A train step on samples that are there already."""
    config = config_of(setting)
    network = create_network(config, axis_name=parallel.AXIS_NAME)
    optimizer = create_optimizer(config)
    program = jax.pmap(
        lambda state, samples: train_step(state, samples, network=network, optimizer=optimizer),
        axis_name=parallel.AXIS_NAME,
        in_axes=(None, 0),
        out_axes=None,
        donate_argnums=0,
    )
    samples = jax.tree.map(parallel.shard_batch, Samples(*_by_device(noise(setting))))
    return Call(program, parallel.replicate(create_state(config)), (samples,))


def forward_call(setting: Setting) -> Call:
    """The forward pass of evaluation."""
    config = config_of(setting)
    network = create_network(config)
    program = jax.pmap(
        lambda variables, images: forward(network, variables, images), in_axes=(None, 0)
    )
    variables = parallel.replicate(create_state(config).variables)
    images = parallel.shard_batch(_by_device(noise(setting).augmented))
    return Call(program, variables, (images,), keeps_state=False)


def _by_device(tree: Any) -> Any:
    devices = parallel.device_count()
    return jax.tree.map(lambda a: a.reshape(devices, -1, *a.shape[1:]), tree)
