"""What a run would take on some device: memory, operations and time, before anything is compiled.

All of it is counted from the run's own code and config; of pictures nothing is read but names, and
sizes where these matter, and nothing is written.
"""

import functools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from draem_jax.config import (
    check_config,
    data_set,
    fitting,
    image_size,
    loss_weights,
    region_of_interest,
    resolve_steps,
    with_absolute_paths,
)
from draem_jax.data.dataset import DataSet
from draem_jax.data.fitting import Fitting
from draem_jax.data.texture_sources import TextureSource, open_textures, parse_texture_sources
from draem_jax.networks import DraemNetwork, forward
from draem_jax.training.accelerators import Accelerator
from draem_jax.training.forecast import work_of
from draem_jax.training.memory import Memory, count_memory
from draem_jax.training.optimizer import create_optimizer
from draem_jax.training.pictures import largest_canvas
from draem_jax.training.programs import Program, trace
from draem_jax.training.samples import Samples
from draem_jax.training.state import AveragedState, TrainState, create_network, create_state
from draem_jax.training.step import train_step

_GIB = 2**30

# XLA's compilers may take more than is counted: for an H100 up to a twentieth, and for CPUs, whose
# kernels want copies in other layouts and where nothing is computed again, up to a little over
# twice as much.
_ACCELERATOR_MARGIN = 1.1
_CPU_MARGIN = 2.1

# Of pictures that are not here; about what cameras in data sets of inspection have.
_ASSUMED = (1024, 1024)

_LARGEST_OF_DTD = (640, 640)

# Of a GPU's memory JAX takes three quarters, unless XLA_PYTHON_CLIENT_MEM_FRACTION says otherwise.
_GPU_SHARE = 0.75


@dataclass(frozen=True)
class Data:
    """The pictures of a run, counted.

    Attributes:
        normal: how many normal pictures it trains on.
        textures: how many pictures are among its anomaly source.
        assumed: why so many normal pictures are expected; "" where they were counted.
        nbytes: that all of them take on a device.
        streams: whether they are too many to stay there.
        normal_size: (height, width) that holds each normal picture as it lies there.
        texture_size: the same of the textures.
        assumed_size: what size is assumed of the normal pictures; "" where that was seen, or does
            not matter.
    """

    normal: int
    textures: int
    assumed: str
    nbytes: int
    streams: bool
    normal_size: tuple[int, int]
    texture_size: tuple[int, int]
    assumed_size: str = ""


@dataclass(frozen=True)
class StepMemory:
    """What a device needs besides the state, and besides the pictures that stay on it.

    Attributes:
        train: of the train step, by the samples of the device.
        validation: bytes to validate with, whatever the batch.
        margin: by which more is taken than was counted.
    """

    train: Memory
    validation: int
    margin: float

    def nbytes(self, samples: int) -> int:
        """Bytes to make steps with, at most about.

        Args:
            samples: of a batch that the device takes.
        """
        return int(self.margin * max(self.train.peak(samples), self.validation))


@dataclass(frozen=True)
class Plan:
    """What a run would take.

    Attributes:
        config: its config, with the number of steps worked out.
        parameters: how many each network has.
        state: bytes of parameters, of the optimizer's moments, of running statistics, and of the
            average of the networks where one is taken; on each device.
        data: the pictures.
        step_flops: operations of the convolutions of one step, forward and backward, of the whole
            batch.
        memory: what a step needs besides, by whether `model.remat` is set. XLA's compiler for CPUs
            undoes remat, so that there they are the same.
    """

    config: ConfigDict
    parameters: Mapping[str, int]
    state: Mapping[str, int]
    data: Data
    step_flops: float
    memory: Mapping[bool, StepMemory]

    def nbytes(self, samples: int, *, remat: bool) -> int:
        """Bytes that a device needs in all, at most about.

        Args:
            samples: of a batch that the device takes.
            remat: whether `model.remat` is set.
        """
        resident = 0 if self.data.streams else self.data.nbytes
        return sum(self.state.values()) + resident + self.memory[remat].nbytes(samples)

    def most_samples(self, room: int, *, remat: bool) -> int:
        """The most samples of a batch that a device with some bytes of memory can take."""
        most = 0
        for step in (2**power for power in reversed(range(20))):
            if self.nbytes(most + step, remat=remat) <= room:
                most += step
        return most

    def seconds_per_step(
        self, accelerator: Accelerator, *, devices: int, utilisation: float
    ) -> float:
        """How long a step takes where convolutions run at a share of the maker's peak.

        Args:
            accelerator: what each device is.
            devices: that share the batch.
            utilisation: the share, above 0 and up to 1.
        """
        peak = accelerator.peak(create_network(self.config).dtype)
        return self.step_flops / (devices * utilisation * peak)


def make_plan(config: ConfigDict, *, pictures: int | None = None, cpu: bool) -> Plan:
    """Counts what a run would take.

    Args:
        config: the config of the run.
        pictures: how many normal pictures there are, those held out among them; where None, they
            are counted.
        cpu: whether it would run on CPUs, and not on accelerators.

    Raises:
        UserError: no run can be made with the config, or its pictures can be neither counted nor
            expected.
    """
    config = with_absolute_paths(config)
    check_config(config)
    if config.model.dtype == "auto":
        config.model.dtype = "float32" if cpu else "bfloat16"
    data = count_pictures(config, pictures)
    config = resolve_steps(config, normal_pictures=data.normal)
    state = jax.eval_shape(lambda: create_state(config))
    height, width = image_size(config)
    network = create_network(config)
    return Plan(
        config=config,
        parameters={name: _size(part) for name, part in state.params.items()},
        state=_state_bytes(state),
        data=data,
        step_flops=work_of(network, (config.train.batch_size, height, width, 3)).flops,
        memory=_memory(config, network, state, cpu),
    )


def _state_bytes(state: TrainState) -> dict[str, int]:
    parts = {
        "parameters": state.params,
        "optimizer": state.opt_state,
        "statistics": state.batch_stats,
    }
    if isinstance(state, AveragedState):
        parts["average"] = state.average
    return {name: _nbytes(part) for name, part in parts.items()}


def count_pictures(config: ConfigDict, pictures: int | None = None) -> Data:
    """Counts the pictures that a config names, as far as can be said without preparing them.

    Args:
        config: the config of a run, checked.
        pictures: how many normal pictures there are, if that is known.

    Raises:
        UserError: they can be neither counted nor expected.
    """
    normal, assumed = (pictures, "as given") if pictures else data_set(config).count_normal()
    if config.data.holdout:
        normal -= max(1, round(config.data.holdout * normal))
    way = fitting(config)
    size, pads, assumed_size = _look_at_sizes(config)
    sources = parse_texture_sources(config.data.texture_source)
    counts, texture_sizes = zip(
        *(_look_at_textures(source, way) for source in sources), strict=True
    )
    textures, texture_size = sum(counts), _largest(texture_sizes)
    planes = normal if pads or region_of_interest(config).has_planes else 0
    nbytes = (3 * normal + planes) * math.prod(size)
    nbytes += 3 * max(1, textures) * math.prod(texture_size)
    streams = nbytes > config.data.resident_gib * _GIB
    return Data(normal, textures, assumed, nbytes, streams, size, texture_size, assumed_size)


def _look_at_sizes(config: ConfigDict) -> tuple[tuple[int, int], bool, str]:
    """Looks at the normal pictures' sizes, where these matter.

    Returns:
        The size that holds each on a device, whether some are padded, and `Data.assumed_size`.

    Raises:
        UserError: too little is left of one at the config's scale.
    """
    way = fitting(config)
    if way.way == "squeeze":
        return way.size, False, ""
    sizes = data_set(config).normal_sizes()
    if sizes is None:
        # Letterboxed ones are padded unless all have the shape of what the networks see.
        text = f"{_ASSUMED[0]} x {_ASSUMED[1]}" if way.is_tiled else ""
        return way.canvas_size(_ASSUMED), not way.is_tiled, text
    return _largest(map(way.canvas_size, sizes)), any(map(way.pads, sizes)), ""


def usable_memory(accelerator: Accelerator) -> int:
    """Bytes of an accelerator's memory that JAX takes by default."""
    is_gpu = accelerator.title.startswith("NVIDIA")
    return int(accelerator.memory * (_GPU_SHARE if is_gpu else 1))


def _look_at_textures(source: TextureSource, way: Fitting) -> tuple[int, tuple[int, int]]:
    """How many pictures there are, and the size that holds each on a device."""
    if source.kind != "pictures":
        return 0, way.size
    if source.name == "dtd":
        dtd = DataSet("dtd", "textures")
        sizes = (way.is_tiled and dtd.normal_sizes()) or [_LARGEST_OF_DTD]
        return dtd.count_normal()[0], _largest(map(way.of_textures.canvas_size, sizes))
    textures = open_textures(source, fitting=way.of_textures)
    return len(textures), largest_canvas(textures) if way.is_tiled else way.size


def _largest(sizes: Iterable[tuple[int, int]]) -> tuple[int, int]:
    heights, widths = zip(*sizes, strict=True)
    return max(heights), max(widths)


def _memory(
    config: ConfigDict, network: DraemNetwork, state: TrainState, cpu: bool
) -> dict[bool, StepMemory]:
    shape = image_size(config)
    optimizer, weights = create_optimizer(config), loss_weights(config)

    def trace_step(network: DraemNetwork, samples: int) -> Program:
        step = functools.partial(train_step, weights=weights, network=network, optimizer=optimizer)
        return trace(step, state, _samples(samples, shape), cpu=cpu)

    def trace_validation(samples: int) -> Program:
        images = _samples(samples, shape).augmented
        return trace(functools.partial(forward, network), state.variables, images, cpu=cpu)

    validation = count_memory(trace_validation).peak(config.train.validation_pictures)
    margin = _CPU_MARGIN if cpu else _ACCELERATOR_MARGIN

    def memory(remat: bool) -> StepMemory:
        kept = count_memory(functools.partial(trace_step, network.clone(remat=remat)))
        return StepMemory(kept, validation, margin)

    plain = memory(False)
    return {False: plain, True: plain if cpu else memory(True)}


def _samples(count: int, size: tuple[int, int]) -> Samples:
    picture: Any = jax.ShapeDtypeStruct((count, *size, 3), jnp.float32)
    mask: Any = jax.ShapeDtypeStruct((count, *size, 1), jnp.float32)
    return Samples(picture, picture, mask)


def _size(tree: Any) -> int:
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))


def _nbytes(tree: Any) -> int:
    return sum(int(np.prod(leaf.shape)) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
