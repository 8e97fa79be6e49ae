"""How long a run will take on the machine at hand, estimated in seconds before it starts.

A step's time is taken for a·(multiplications of its convolutions) + b·(values that they write).
Narrow layers at full resolution are bound by the second, wide ones deep down by the first, so a
measurement of two layers of either kind gives a and b for this machine.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from ml_collections import ConfigDict

from draem_jax.config import image_size, is_tiled
from draem_jax.networks import SIZE_MULTIPLE, DraemNetwork, trace_initialisation
from draem_jax.networks.layers import Stage
from draem_jax.networks.pooling import max_pool
from draem_jax.networks.upsampling import upsample
from draem_jax.training import parallel
from draem_jax.training.programs import read_program
from draem_jax.training.state import create_network

_LEVELS = 8  # The deep layer has so many times the channels, at an eighth of height and width.
_MEASURED = 0.15  # seconds, for each layer, once it is compiled
_CPU_FLOPS = 2e10  # A CPU measures on fewer pictures where a layer would take more than this.
_LONG = 24 * 3600


class Work(NamedTuple):
    """What one train step has to do, counted.

    Attributes:
        flops: operations of the convolutions, forward and backward; a multiplication and an
            addition are two.
        values: that the convolutions write on the way forward.
    """

    flops: float
    values: float


def forecast(config: ConfigDict, *, steps: int) -> str:
    """Says how long training will take, after half a second of measuring and some of compiling.

    Args:
        config: the config of the run, checked.
        steps: that are to be made.

    Returns:
        A line, which says what to choose instead where it takes more than a day.
    """
    seconds = steps * seconds_per_step(config)
    text = f"estimate, from a short measurement: {about(seconds)} for {steps} steps"
    if seconds < _LONG:
        return text
    seen = "tile" if is_tiled(config) else "image_size"
    return (
        f"{text}; for less, choose a smaller size (:small or :medium behind the recipe's name, for "
        f"those that come along), fewer --config.train.steps, half the --config.data.{seen}, or "
        "half of both --config.model.reconstructive_width and --config.model.discriminative_width"
    )


def seconds_per_step(config: ConfigDict) -> float:
    """How long a train step takes on the devices at hand, estimated from a few of its layers."""
    network, (height, width) = create_network(config), image_size(config)
    samples = parallel.samples_per_device(config.train.batch_size)
    work = work_of(network, (samples, height, width, 3))
    channels = (
        network.reconstructive_width if network.reconstructs else network.discriminative_width
    )
    layers = [
        (samples, height, width, channels),
        (samples, height // _LEVELS, width // _LEVELS, channels * _LEVELS),
    ]
    works, seconds = zip(*(_measure(shape, network.dtype) for shape in layers), strict=True)
    return float(np.dot(work, costs_of(np.array(works, float), np.array(seconds))))


def work_of(network: DraemNetwork, shape: tuple[int, int, int, int]) -> Work:
    """What a train step of a network has to do for images of a shape, by the network's own code."""
    # Whoever initialises it has traced this already; convolutions do as much for every pixel.
    traced, _ = trace_initialisation(network)
    works = [
        _convolution_work(operation.inputs[1].shape, operation.outputs[0].shape)
        for operation in read_program(traced).operations
        if operation.name == "conv_general_dilated"
    ]
    images, height, width, _ = shape
    times = images * height * width / SIZE_MULTIPLE**2
    return Work(*(times * sum(part) for part in zip(*works, strict=True)))


def costs_of(
    works: Float[np.ndarray, "2 2"], seconds: Float[np.ndarray, " 2"]
) -> Float[np.ndarray, " 2"]:
    """What an operation and a value cost: the seconds, neither below 0, that fit best.

    It is non-negative least squares for two unknowns; importing what solves it for more takes as
    long as measuring.

    Args:
        works: operations and values of either measurement, above 0.
        seconds: that it took.
    """
    exact = np.linalg.solve(works, seconds)
    if exact.min() >= 0:
        return exact
    # The best lies on the border, where one of the two costs nothing.
    alone = np.diag(seconds @ works / np.square(works).sum(0))
    misses = np.square(alone @ works.T - seconds).sum(1)
    return alone[np.argmin(misses)]


def about(seconds: float) -> str:
    """A duration as people say it, such as "about 7 minutes"."""
    units = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}
    unit = [unit for unit, size in units.items() if unit == "second" or seconds >= 1.5 * size][-1]
    number = max(1, round(seconds / units[unit]))
    return f"about {number} {unit}{'s' if number > 1 else ''}"


def _convolution_work(kernel: tuple[int, ...], result: tuple[int, ...]) -> Work:
    # Forward, and backward to the images and to the kernel, it multiplies equally often.
    values = float(np.prod(result))
    return Work(3 * 2 * values * float(np.prod(kernel[:-1])), values)


def size_text(nbytes: int) -> str:
    """A number of bytes as people say it, such as "58 MiB"."""
    units = {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
    unit = [unit for unit, size in units.items() if unit == "KiB" or nbytes >= size][-1]
    return f"{nbytes / units[unit]:.{1 if unit == 'GiB' else 0}f} {unit}"


class _Layer(nn.Module):
    """Two convolutions in a row, and what comes between the stages of the networks."""

    features: int
    dtype: Any

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        x = Stage((self.features,) * 2, dtype=self.dtype)(x, train=True)
        return upsample(max_pool(x))


def _measure(shape: tuple[int, int, int, int], dtype: Any) -> tuple[Work, float]:
    """The work of two layers on every device at once, and the seconds that they take."""
    samples, height, width, channels = shape
    kernel = (3, 3, channels, channels)
    each = 2 * _convolution_work(kernel, (height, width, channels)).flops
    if jax.default_backend() == "cpu":
        samples = max(1, min(samples, int(_CPU_FLOPS / each)))
    # Deep down a side may be odd, which cannot be halved.
    shape = (samples, height + height % 2, width + width % 2, channels)
    layer = _Layer(channels, dtype)

    def start(value: Array) -> tuple[Any, Array]:
        x = jnp.full(shape, value, dtype)
        variables = jax.eval_shape(layer.init, jax.random.key(0), x)
        return jax.tree.map(lambda a: jnp.full(a.shape, value, a.dtype), variables), x

    def gradients(variables: Any, x: Array) -> Any:
        def loss(variables: Any, x: Array) -> Array:
            y, _ = layer.apply(variables, x, mutable=["batch_stats"])
            return jnp.mean(jnp.square(y.astype(jnp.float32)))

        return jax.grad(loss, argnums=(0, 1))(variables, x)

    devices = parallel.local_devices()
    begin = jax.pmap(parallel.traced_here(start), devices=devices)
    given = begin(np.ones(len(devices), np.float32))
    run = jax.pmap(parallel.traced_here(gradients), devices=devices)
    one = _convolution_work(kernel, shape)
    return Work(2 * one.flops, 2 * one.values), _median_seconds(lambda: run(*given))


def _median_seconds(call: Callable[[], Any]) -> float:
    """The median time of a call, that of the first one, which compiles, left out."""
    jax.block_until_ready(call())
    times: list[float] = []
    while not times or sum(times) < _MEASURED:
        start = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - start)
    return statistics.median(times)
