"""Checkpoints: all that touches Orbax, and the config beside them."""

import logging
import math
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from ml_collections import ConfigDict
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

from draem_jax import files
from draem_jax.config import differences, from_json, to_json
from draem_jax.errors import UserError
from draem_jax.training.parallel import chosen_devices, local_devices
from draem_jax.training.state import TrainState, create_state

_METRIC = "validation_loss"

# Orbax numbers the saves of a process: two at a time would wait for each other's signals.
_SAVING = threading.Lock()


class Checkpoints:
    """The checkpoints of one work directory: the latest few and the best one.

    A checkpoint appears under its name only once it is whole, so one that a kill interrupted is
    never taken for a checkpoint.
    """

    def __init__(self, manager: ocp.CheckpointManager):
        self._manager = manager

    def steps(self) -> list[int]:
        """The steps that checkpoints exist for, ascending."""
        return sorted(self._manager.all_steps())

    def latest_step(self) -> int | None:
        """The step of the newest checkpoint, None if there is none."""
        return self._manager.latest_step()

    def best_step(self) -> int | None:
        """The step of the checkpoint with the least validation loss, None if there is none."""
        losses = {s: (self._manager.metrics(s) or {}).get(_METRIC, math.inf) for s in self.steps()}
        return min(losses, key=lambda step: losses[step]) if losses else None

    def save(self, state: TrainState, *, validation_loss: float) -> None:
        """Saves a state under its step: in the background, unless other runs share the process.

        The state is copied to the host first, so it may be donated at once. It must be finite.

        Raises:
            UserError: there is no room for it.
        """
        host = jax.tree.map(lambda array: np.array(array, copy=True), state)
        _check_room(Path(self._manager.directory), sum(a.nbytes for a in jax.tree.leaves(host)))
        shares_process = chosen_devices() is not None
        with _SAVING if shares_process else nullcontext():
            self._manager.save(
                int(host.step),
                args=ocp.args.StandardSave(host),
                metrics={_METRIC: float(validation_loss)},
            )
            if shares_process:
                self._manager.wait_until_finished()

    def restore(self, config: ConfigDict, step: int) -> TrainState:
        """Restores the state of a step, which must exist.

        Args:
            config: that the run was made with; it determines the state's shapes.
            step: one of `steps()`.
        """
        abstract = jax.eval_shape(lambda: create_state(config))
        device = jax.sharding.SingleDeviceSharding(local_devices()[0])
        abstract = jax.tree.map(
            lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=device), abstract
        )
        try:
            return self._manager.restore(step, args=ocp.args.StandardRestore(abstract))
        except Exception as error:
            raise UserError(
                f"checkpoint {self._manager.directory / str(step)} cannot be read "
                f"({type(error).__name__}); move it away to go on from the one before it"
            ) from error


def _check_room(folder: Path, needed: int) -> None:
    """A disk that fills in the middle of a save says so late, and in many words."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(
            f"the disk is full: a checkpoint in {folder} takes {needed / 2**20:.1f} MiB, and "
            f"{free / 2**20:.1f} MiB are free; what was saved is safe: make room, and the same "
            "command goes on"
        )


@contextmanager
def open_checkpoints(workdir: Path, *, keep: int | None = None) -> Iterator[Checkpoints]:
    """Opens a work directory's checkpoints, and waits for unfinished saves at the end.

    Args:
        workdir: of the run.
        keep: how many of the latest checkpoints to keep besides the best; None to only read.
    """
    logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax narrates every file
    best: dict[str, Any] = {"get_metric_fn": lambda m: m[_METRIC], "reverse": True, "n": 1}
    options = ocp.CheckpointManagerOptions(
        create=keep is not None,
        read_only=keep is None,
        cleanup_tmp_directories=keep is not None,
        preservation_policy=keep and AnyPreservationPolicy([LatestN(keep), BestN(**best)]),
    )
    with ocp.CheckpointManager(workdir.absolute() / "checkpoints", options=options) as manager:
        yield Checkpoints(manager)


def claim_workdir(workdir: Path, config: ConfigDict, *, resume: bool) -> None:
    """Makes a work directory for a run, or makes sure that an existing one is of the same run.

    A directory that holds no checkpoint yet takes any config.

    Args:
        workdir: of the run.
        config: of the run, which is kept as `config.json`.
        resume: whether going on with what is there is wanted.

    Raises:
        UserError: the directory cannot be written, belongs to a run with another config, or holds
            checkpoints and `resume` is false.
    """
    path = workdir / "config.json"
    started = any(workdir.glob("checkpoints/[0-9]*"))
    if path.exists() and started:
        changed = differences(from_json(path), config)
        if changed:
            raise UserError(
                f"{workdir} was made with another config ({'; '.join(changed)}); "
                "use the same one to go on with it, or choose another --workdir"
            )
        if not resume:
            raise UserError(
                f"{workdir} holds a run already; leave out --noresume to go on with it, or choose "
                "another --workdir"
            )
    elif workdir.exists() and not workdir.is_dir():
        raise UserError(f"--workdir={workdir} is a file; give a directory")
    elif started:
        raise UserError(
            f"{workdir} holds checkpoints but no config.json to tell what they are; "
            "choose another --workdir"
        )
    else:
        files.write_text(path, to_json(config))


def load_run(workdir: Path, *, checkpoint: str = "latest") -> tuple[ConfigDict, TrainState]:
    """Loads a run's config and one of its checkpoints.

    Args:
        workdir: of the run.
        checkpoint: "latest", "best" or a step.

    Raises:
        UserError: there is no run, or no such checkpoint.
    """
    if not (workdir / "config.json").is_file():
        raise UserError(
            f"{workdir} is not a work directory (it has no config.json); "
            "give the --workdir that `draem-jax train` was run with"
        )
    config = from_json(workdir / "config.json")
    if not (workdir / "checkpoints").is_dir():
        raise UserError(f"{workdir} holds no checkpoint yet; run `draem-jax train` first")
    with open_checkpoints(workdir) as checkpoints:
        steps = checkpoints.steps()
        if not steps:
            raise UserError(f"{workdir} holds no checkpoint yet; run `draem-jax train` first")
        if checkpoint == "latest":
            step = steps[-1]
        elif checkpoint == "best":
            step = checkpoints.best_step() or steps[-1]
        elif checkpoint.isdecimal() and int(checkpoint) in steps:
            step = int(checkpoint)
        else:
            raise UserError(
                f"{workdir} has no checkpoint {checkpoint!r}; choose latest, best, or one of "
                f"{', '.join(map(str, steps))}"
            )
        return config, checkpoints.restore(config, step)
