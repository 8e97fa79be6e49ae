"""The programs that are compiled: those of training and prediction, as they are called there.

Importing this imports JAX, which reads the environment that `compilers` prepares.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from ml_collections import ConfigDict

from draem_jax.config import anomaly_params, image_size, loss_weights
from draem_jax.data.texture_sources import parse_texture_sources
from draem_jax.networks import forward
from draem_jax.training.optimizer import create_optimizer
from draem_jax.training.parallel import AXIS_NAME
from draem_jax.training.pictures import Pictures, make_mix
from draem_jax.training.samples import Draw, draw_samples
from draem_jax.training.state import create_network, create_state, run_keys
from draem_jax.training.step import make_train_steps
from tools.roofline.devices import Device

# How many there are changes the memory they take alone, by 0.2 MB a picture at 256 × 256.
NORMAL_PICTURES = 200
TEXTURES = 300

_DESCRIPTION = Path(__file__).with_name("h100.txtpb")


def compile_part(part: str, config: ConfigDict, device: Device) -> jax.stages.Compiled:
    """Compiles a part of a run for one device of a kind that need not be there.

    Args:
        part: a name in `PARTS`.
        config: the config of the run, whose `model.dtype` is not "auto".
        device: what to compile for.
    """
    mesh = Mesh(np.array(_topology(device).devices[:1]), (AXIS_NAME,))
    traced = PARTS[part](config, mesh)
    return traced.lower(lowering_platforms=(device.platform,)).compile()


def _topology(device: Device) -> Any:
    if device.platform == "tpu":
        return topologies.get_topology_desc(platform="tpu", topology_name=device.topology)
    return topologies.get_topology_desc(
        platform=device.platform,
        topology_name=device.topology,
        topology=device.topology,
        target_config=_DESCRIPTION.read_text(encoding="utf-8"),
    )


def _step(config: ConfigDict, mesh: Mesh) -> jax.stages.Traced:
    """The train step with its generator and optimizer, as one call of a run makes it."""
    steps = make_train_steps(
        create_network(config, axis_name=AXIS_NAME), create_optimizer(config), max_steps=1
    )
    state, key = jax.eval_shape(lambda: (create_state(config), run_keys(config)[1]))
    indices = jax.ShapeDtypeStruct((config.train.batch_size,), jnp.int32)
    count = jax.ShapeDtypeStruct((), jnp.int32)
    params, weights = jax.eval_shape(lambda: (anomaly_params(config), loss_weights(config)))
    arguments = (state, indices, key, _pictures(config), params, weights, count)
    return _traced(steps, arguments, mesh, sharded=(1,), donated=(0,))


def _generator(config: ConfigDict, mesh: Mesh) -> jax.stages.Traced:
    """The generator alone: the samples of a batch from pictures on the device."""

    def samples(key, step, indices, pictures, params):
        return draw_samples(Draw(key, step, indices), pictures, params)

    step = jax.ShapeDtypeStruct((), jnp.int32)
    indices = jax.ShapeDtypeStruct((config.train.batch_size,), jnp.int32)
    key, params = jax.eval_shape(lambda: (run_keys(config)[1], anomaly_params(config)))
    arguments = (key, step, indices, _pictures(config), params)
    return _traced(samples, arguments, mesh, sharded=(2,))


def _forward(config: ConfigDict, mesh: Mesh) -> jax.stages.Traced:
    """The networks as they evaluate and predict."""
    network = create_network(config)

    def outputs(variables, images):
        return forward(network, variables, images.astype(jnp.float32) / 255)

    variables = jax.eval_shape(lambda: create_state(config).variables)
    images = _uint8(config.train.batch_size, config)
    return _traced(outputs, (variables, images), mesh, sharded=(1,))


PARTS: Mapping[str, Callable[[ConfigDict, Mesh], jax.stages.Traced]] = {
    "step": _step,
    "generator": _generator,
    "forward": _forward,
}
"""What can be compiled: from config and devices to the traced program."""


def _pictures(config: ConfigDict) -> Pictures:
    sources = parse_texture_sources(config.data.texture_source)
    mix = make_mix(sources, [TEXTURES] * len(sources))
    return Pictures(_uint8(NORMAL_PICTURES, config), _uint8(TEXTURES, config), mix)


def _uint8(count: int, config: ConfigDict) -> Any:
    return jax.ShapeDtypeStruct((count, *image_size(config), 3), jnp.uint8)


def _traced(
    function: Callable,
    arguments: tuple[Any, ...],
    mesh: Mesh,
    *,
    sharded: tuple[int, ...],
    donated: tuple[int, ...] = (),
) -> jax.stages.Traced:
    specs = tuple(P(AXIS_NAME) if i in sharded else P() for i in range(len(arguments)))
    mapped = jax.shard_map(function, mesh=mesh, in_specs=specs, out_specs=P(), check_vma=False)
    return jax.jit(
        mapped,
        donate_argnums=donated,
        in_shardings=tuple(NamedSharding(mesh, spec) for spec in specs),
        out_shardings=NamedSharding(mesh, P()),
    ).trace(*arguments)
