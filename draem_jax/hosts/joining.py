"""Becoming one of several processes that work together, and ceasing to be."""

import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from draem_jax.errors import UserError
from draem_jax.hosts.clusters import cluster_here
from draem_jax.hosts.relay import Relay

TIMEOUT = 300.0
"""Seconds that a process waits for the others to start."""

_MORE = 60  # seconds that JAX waits longer, since it ends the process when it gives up
_SHUTDOWN = 60  # seconds that a process waits for others that leave as well

_lost = threading.Event()


class _Place(NamedTuple):
    coordinator: str
    processes: int
    process: int
    device_ids: Sequence[int] | None = None


def count() -> int:
    """How many processes work together; 1 where none has joined another."""
    state = _state()
    return state.num_processes if state else 1


def index() -> int:
    """Which of them this one is."""
    state = _state()
    return state.process_id if state else 0


def is_first() -> bool:
    """Whether this is the process that writes what all work on."""
    return index() == 0


def is_first_lost() -> bool:
    """Whether the connection to the first process is broken."""
    return _lost.is_set()


def await_loss() -> None:
    """Returns once that connection is broken."""
    _lost.wait()


def store() -> Any:
    """What the processes keep texts in for each other, by keys.

    It is JAX's own, which Orbax uses as well; JAX has no public name for it.
    """
    state = _state()
    assert state is not None
    return state.client


def _state() -> Any:
    if "jax" not in sys.modules:  # then nobody can have joined
        return None
    from jax._src import distributed

    return distributed.global_state if distributed.global_state.client is not None else None


def join(
    *,
    coordinator: str | None = None,
    processes: int | None = None,
    process: int | None = None,
    timeout: float = TIMEOUT,
) -> None:
    """Joins the processes that were started together, before JAX is used.

    Without arguments the cluster is asked, see `cluster_here`; where there is none, or a program of
    one's own has called `jax.distributed.initialize`, nothing is done.

    Args:
        coordinator: "host:port" of process 0, where it waits for the others.
        processes: how many there are; 1 alone for a process that is to work by itself.
        process: which one this is, from 0.
        timeout: seconds to wait for the others.

    Raises:
        UserError: only some arguments are given, they make no sense, or the others do not come.
    """
    import jax

    if jax.distributed.is_initialized() or (processes == 1 and not (coordinator or process)):
        return
    given = {"coordinator": coordinator, "processes": processes, "process": process}
    missing = [f"--{name}" for name, value in given.items() if value in (None, "")]
    if len(missing) == len(given):
        cluster = cluster_here()
        place = _ask(cluster, timeout) if cluster else None
    elif coordinator is None or processes is None or process is None or missing:
        raise UserError(
            "--coordinator, --processes and --process belong together; "
            f"{' and '.join(missing)} {'are' if len(missing) > 1 else 'is'} missing"
        )
    else:
        place = _Place(coordinator, processes, process)
    if place is not None and (place.processes > 1 or not missing):
        _join(place, timeout)


def share(*, processes: int | None = None, process: int | None = None) -> tuple[int, int]:
    """Which of how many processes this one is, where they need not join to share their work.

    Args:
        processes: how many there are; 1 alone for a process that is to work by itself.
        process: which one this is, from 0.

    Returns:
        Its index, and how many there are; where neither was given, as the cluster has it.

    Raises:
        UserError: one is given without the other, or they make no sense.
    """
    if processes is None and process is None:
        cluster = cluster_here()
        if cluster is None:
            return 0, 1
        place = _ask(cluster, TIMEOUT)
        return place.process, place.processes
    if processes == 1 and not process:
        return 0, 1
    if processes is None or process is None:
        missing = "--process" if process is None else "--processes"
        raise UserError(f"--processes and --process belong together; {missing} is missing")
    if process >= processes:
        raise UserError(f"--process={process} must be less than --processes={processes}")
    return process, processes


def _ask(cluster: str, timeout: float) -> _Place:
    """Lets JAX find out which of how many processes this one is."""
    from jax._src import clusters

    try:
        coordinator, processes, process, device_ids = (
            clusters.ClusterEnv.auto_detect_unset_distributed_params(
                None, None, None, None, cluster, int(timeout)
            )
        )
        if coordinator is None or processes is None or process is None:
            raise RuntimeError("JAX does not know this form of it")
    except Exception as error:
        reason = " ".join(str(error).split()).split(". ")[0]
        raise UserError(
            f"this process seems to be one of several ({cluster}), but where the others are cannot "
            f"be told ({reason}); give --coordinator, --processes and --process, or --processes=1 "
            "to work alone"
        ) from error
    if "JAX_LOCAL_DEVICE_IDS" in os.environ:
        device_ids = None  # JAX reads them there
    return _Place(coordinator, processes, process, device_ids)


def _join(place: _Place, timeout: float) -> None:
    import jax

    host, port = _parse(place.coordinator)
    if place.processes < 1 or not 0 <= place.process < place.processes:
        raise UserError(
            f"--process={place.process} must lie between 0 and --processes={place.processes} less 1"
        )
    address, until = place.coordinator, time.monotonic() + timeout
    if place.process:
        _wait_for(host, port, until, timeout)
        address = Relay(host, port, on_lost=_lost.set).address
    # SIGTERM is seen to by `draem_jax.training.signals`.
    jax.config.update("jax_enable_preemption_service", False)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    failed = _within(
        until - time.monotonic(),
        lambda: jax.distributed.initialize(
            address,
            place.processes,
            place.process,
            local_device_ids=place.device_ids,
            cluster_detection_method="deactivate",
            initialization_timeout=int(timeout) + _MORE,
            shutdown_timeout_seconds=_SHUTDOWN,
        ),
    )
    if isinstance(failed, TimeoutError):
        raise UserError(
            f"not all of the {place.processes} processes came to {place.coordinator} within "
            f"{timeout:g} s; see whether the others run, or give a longer --join_timeout"
        )
    if failed is not None:
        reason = " ".join(str(failed).split())
        raise UserError(
            f"process {place.process} cannot join the others at {place.coordinator} "
            f"({reason[:200]}); choose another --coordinator=HOST:PORT"
        ) from failed


def _parse(coordinator: str) -> tuple[str, int]:
    host, _, port = coordinator.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise UserError(
            f"--coordinator={coordinator} is no HOST:PORT; give the name of process 0's host and a "
            "free port of it, such as node1:29500"
        )
    return host.strip("[]"), int(port)


def _wait_for(host: str, port: int, until: float, timeout: float) -> None:
    """Waits for process 0 to listen; JAX would end the process if it did not."""
    while True:
        try:
            socket.create_connection((host, port), timeout=5).close()
            return
        except OSError as error:
            if time.monotonic() > until:
                raise UserError(
                    f"process 0 does not answer at {host}:{port} within {timeout:g} s "
                    f"({error.strerror or error}); see whether it runs there and the port is open, "
                    "or give a longer --join_timeout"
                ) from error
        time.sleep(0.2)


def _within(seconds: float, function: Callable[[], None]) -> BaseException | None:
    """Calls a function in a thread; returns what it raised, or TimeoutError if it takes longer."""
    raised: list[BaseException | None] = []

    def call() -> None:
        try:
            function()
            raised.append(None)
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(max(0.0, seconds))
    return raised[0] if raised else TimeoutError()


def leave() -> None:
    """Parts from the others, which leave as well; waits for them."""
    if count() > 1:
        import jax

        jax.distributed.shutdown()


def end(status: int) -> None:
    """Ends the process on the spot where it has not left the others, who are gone or will be.

    JAX would wait for them on the way out.

    Args:
        status: of the process.
    """
    if count() > 1:
        import multiprocessing

        for child in multiprocessing.active_children():
            child.kill()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(status)
