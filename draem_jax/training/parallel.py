"""Devices: how many the CPU shows, where arrays live, and the mapping of a step over them."""

import contextlib
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.extend import backend
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from draem_jax.errors import UserError
from draem_jax.hosts.joining import count
from draem_jax.hosts.talking import gathered
from draem_jax.platforms import platform_of, traced_for

AXIS_NAME = "batch"

_chosen: ContextVar[tuple[jax.Device, ...] | None] = ContextVar("devices", default=None)


def use_cpu_devices(devices: int = 0, *, dividing: int = 0) -> None:
    """Lets the CPU show itself as several devices, if it is what JAX will run on.

    XLA runs a narrow convolution on one core; one device a core puts every core to work. It must
    be called before JAX is first used in the process, and does nothing afterwards.

    Args:
        devices: how many; 0 for one a core.
        dividing: with `devices` 0, take no more than divide this batch size evenly.

    Raises:
        UserError: there is none of the devices that JAX_PLATFORMS asks for.
    """
    if not devices:
        affinity = getattr(os, "sched_getaffinity", None)
        cores = len(affinity(0)) if affinity else os.cpu_count() or 1
        devices = max(n for n in range(1, cores + 1) if dividing % n == 0)
    with contextlib.suppress(RuntimeError):  # JAX runs already, with the devices that it has
        jax.config.update("jax_num_cpu_devices", devices)
    _start()


def platform() -> str:
    """What JAX runs on: "cpu", "gpu" or "tpu".

    `use_cpu_devices` may be called afterwards as if this had not been.

    Raises:
        UserError: there is none of the devices that JAX_PLATFORMS asks for.
    """
    devices = jax.config.values["jax_num_cpu_devices"]
    try:
        jax.config.update("jax_num_cpu_devices", devices + 2)  # never refused if it is the same
    except RuntimeError:
        return jax.default_backend()  # JAX runs already
    jax.config.update("jax_num_cpu_devices", devices)
    _start()
    found = jax.default_backend()
    if found == "cpu":
        backend.clear_backends()
    return found


def _start() -> None:
    """Starts JAX; raises UserError where the devices that were asked for are not there."""
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # the latter where JAX only warned before
        asked, why = os.environ.get("JAX_PLATFORMS", ""), str(error) or "there are no such devices"
        raise UserError(
            f"JAX cannot run with JAX_PLATFORMS={asked!r}: {why}; unset it, or set it to cpu"
        ) from error


@contextlib.contextmanager
def on_devices(devices: Sequence[jax.Device]) -> Iterator[None]:
    """Lets the calling thread train and evaluate on some of this host's devices alone."""
    token = _chosen.set(tuple(devices))
    try:
        with jax.default_device(devices[0]):
            yield
    finally:
        _chosen.reset(token)


def chosen_devices() -> tuple[jax.Device, ...] | None:
    """Those of `on_devices`; None outside of it, which stands for all devices of all hosts."""
    return _chosen.get()


def local_devices() -> Sequence[jax.Device]:
    """This host's devices that the calling thread works on."""
    return _chosen.get() or jax.local_devices()


def device_count() -> int:
    """How many devices share a batch, those of other hosts among them."""
    return len(_chosen.get() or jax.devices())


def samples_per_device(batch_size: int, *, devices: int | None = None) -> int:
    """How many samples of a batch each device takes.

    Args:
        batch_size: of the whole batch.
        devices: that share it; where None, those of `device_count`.

    Raises:
        UserError: the devices do not divide the batch.
    """
    devices = devices or device_count()
    if batch_size % devices:
        nearest = max(devices, round(batch_size / devices) * devices)
        raise UserError(
            f"config.train.batch_size={batch_size} is not divided by the {devices} devices; "
            f"take {nearest}, or another multiple of {devices}"
        )
    return batch_size // devices


def sample_indices(batch_size: int) -> np.ndarray:
    """This host's share of the batch's sample indices, int32 (local devices, samples of each)."""
    each = samples_per_device(batch_size)
    local = len(local_devices())
    first = jax.process_index() * local * each
    return np.arange(first, first + local * each, dtype=np.int32).reshape(local, each)


def replicate(tree: Any) -> Any:
    """Places a tree of arrays on the local devices, without a device axis."""
    return jax.device_put(tree, NamedSharding(_mesh(), PartitionSpec()))


def shard_batch(array: np.ndarray) -> jax.Array:
    """Spreads an array over the local devices along its first axis, which they must divide."""
    return jax.device_put(array, NamedSharding(_mesh(), PartitionSpec(AXIS_NAME)))


def shard_if_divided(array: np.ndarray) -> Any:
    """`shard_batch` where the devices divide the first axis, else the array as it is."""
    return array if len(array) % len(local_devices()) else shard_batch(array)


def traced_here(
    function: Callable[..., Any], devices: Sequence[jax.Device] | None = None
) -> Callable[..., Any]:
    """Lets a function be traced for the platform of the devices that it runs on alone.

    Args:
        function: of arrays, to be compiled; see `draem_jax.platforms.by_platform`.
        devices: that it runs on; `local_devices` where None.
    """

    @functools.wraps(function)
    def traced(*arguments: Any) -> Any:
        with traced_for(platform_of((devices or local_devices())[0])):
            return function(*arguments)

    return traced


def jit_here(function: Callable[..., Any]) -> Callable[..., Any]:
    """`jax.jit` of what runs on `local_devices` alone."""
    return jax.jit(traced_here(function))


def map_over_devices(
    train_steps: Callable,
    *,
    pictures_axes: Any = None,
    devices: Sequence[jax.Device] | None = None,
) -> Callable:
    """Maps `train_steps` over devices along `AXIS_NAME`; over all where `devices` is None.

    The state is donated: the one that was passed in must not be used again. Of the arguments
    only the sample indices have a device axis, and the pictures where `pictures_axes` says so; all
    others, and all results, are replicated. The mapping does not check that the devices agree on
    the results: the step averages what it must.
    """
    return jax.pmap(
        traced_here(train_steps, devices),
        axis_name=AXIS_NAME,
        in_axes=(None, 0, None, pictures_axes, None, None, None),
        out_axes=None,
        donate_argnums=0,
        devices=devices,
    )


def connect_devices() -> None:
    """Connects the devices of all processes, which all call it; alone it does nothing.

    They connect as they first compute together, and wait half a minute for each other and no
    longer: less than compiling may take one process more than another.
    """
    if count() > 1:
        gathered(None)
        total = jax.pmap(lambda one: lax.psum(one, AXIS_NAME), axis_name=AXIS_NAME)
        jax.block_until_ready(total(np.ones(jax.local_device_count())))


def _mesh() -> Mesh:
    return Mesh(np.array(local_devices()), (AXIS_NAME,))
