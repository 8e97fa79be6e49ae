"""Checkpoints: all that touches Orbax."""

import contextlib
import errno
import functools
import hashlib
import logging
import os
import re
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
import tensorstore
from ml_collections import ConfigDict
from orbax.checkpoint.checkpoint_managers import PreservationContext, PreservationPolicy
from orbax.checkpoint.options import MultiprocessingOptions

from draem_jax import files
from draem_jax.errors import CannotWriteError, UserError
from draem_jax.hosts.joining import count, index, is_first
from draem_jax.hosts.talking import from_first
from draem_jax.training.full_disk import stopped
from draem_jax.training.parallel import chosen_devices, local_devices
from draem_jax.training.state import (
    AveragedState,
    TrainState,
    begin_with,
    check_params,
    create_state,
)

_LOG = logging.getLogger("draem_jax")
_LOSS, _DIGEST, _NETWORKS = "validation_loss", "sha256", "networks"
_ALTERED = "its data are not those that were saved"

# What is raised where a file holds other things than were written to it.
_DAMAGED = (ValueError, KeyError, TypeError, OverflowError)
# What Orbax adds to the names of checkpoints that are not whole yet.
_UNFINISHED = ".orbax-checkpoint-tmp"
# To delete what is still written to: how often to try, seconds between two tries, and how often it
# must have been gone, since what comes too late makes the folder anew.
_TRIES, _BETWEEN, _GONE = 100, 0.1, 5

# What Orbax takes for a pattern, and what TensorStore would read otherwise in an address.
_PLAIN_PATH = re.compile(r"[A-Za-z0-9_./ +,=@~-]*")

# What is said of a full disk, as `draem_jax.files` knows it by numbers.
_FULL = tuple(map(os.strerror, (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)))

# Orbax numbers the saves of a process: two at a time would wait for each other's signals.
_SAVING = threading.Lock()


class Checkpoints:
    """The checkpoints of one work directory: the latest few and the best.

    A checkpoint appears under its name only once it is whole, so one that a kill interrupted is
    never taken for a checkpoint. Each holds its validation loss, and digests that are compared when
    it is restored. Made by `open_checkpoints`.

    The networks take a third of a checkpoint (a half by Muon), the optimizer the rest. Where only
    the networks are wanted, only they are read; `opt_state` is () then. Those of a checkpoint from
    before each of their arrays had a digest come with the rest. A run that begins with networks
    from elsewhere has a checkpoint of these alone, of step 0.

    Of processes that train together the first one saves, and the others restore what it does.
    """

    def __init__(
        self,
        workdir: Path,
        open_manager: Callable[[], ocp.CheckpointManager],
        losses: dict[int, float],
        keep: int | None,
    ):
        self._workdir = workdir
        self._folder = workdir / "checkpoints"
        self._open_manager = open_manager
        self._manager = open_manager()
        self._losses = losses
        self._keep = keep
        self._saving: int | None = None

    def steps(self) -> list[int]:
        """The steps that checkpoints exist for, ascending."""
        return sorted(self._manager.all_steps())

    def latest_step(self) -> int | None:
        """The step of the newest checkpoint, None if there is none."""
        return max(self.steps(), default=None)

    def best_step(self) -> int | None:
        """The step of the checkpoint with the least validation loss, None if none is known."""
        return _best(self.steps(), self._losses)

    def save(self, state: TrainState, *, validation_loss: float) -> None:
        """Saves a state under its step: in the background, unless other runs share the process.

        The state is copied to the host first, so it may be donated at once. It must be finite.

        Raises:
            CannotWriteError: there is no room for it.
            UserError: it, or the save before this one, has failed.
        """
        if not is_first():
            return
        self.finish()
        host = jax.tree.map(lambda array: np.array(array, copy=True), state)
        _check_room(self._folder, sum(a.nbytes for a in jax.tree.leaves(host)))
        step = self._saving = int(host.step)
        digests = _digests(host)
        self._losses[step] = float(validation_loss)
        shares_process = chosen_devices() is not None
        with _SAVING if shares_process else nullcontext(), self._mended():
            self._manager.save(
                step,
                args=ocp.args.StandardSave(host),
                custom_metadata={
                    _LOSS: float(validation_loss),
                    _DIGEST: _digest_of_all(digests),
                    _NETWORKS: _of_networks(digests),
                },
            )
            if shares_process:
                self._manager.wait_until_finished()

    def finish(self) -> None:
        """Waits for the save under way.

        Raises:
            CannotWriteError: it has failed, since the disk is full. Nothing is left of it, so that
                another one can be begun.
            UserError: it has failed otherwise.
        """
        with self._mended():
            self._manager.wait_until_finished()

    @contextmanager
    def _mended(self) -> Iterator[None]:
        """Takes away what a save that fails has left, on the disk and in memory."""
        try:
            with _told(self._folder):
                yield
        except UserError:
            self.abandon()
            self._manager = self._open_manager()
            raise

    def abandon(self) -> None:
        """Ends without another word what is under way, and takes away what it has left."""
        try:
            self._manager.close()
        except Exception:  # closing raises anew what is being raised
            _settle(self._manager)
        if self._keep is None:  # it saves nothing
            return
        for path in self._folder.iterdir():
            # Where its facts could not be written, Orbax goes on without them.
            if _UNFINISHED in path.name or (path.name == str(self._saving) and not _facts(path)):
                _take_away(path)

    def close(self) -> None:
        """Waits for the save under way; of the checkpoints, leaves those that are to be kept.

        Raises:
            UserError: the save has failed.
        """
        try:
            with _told(self._folder):
                self._manager.wait_until_finished()
                steps = self._manager.all_steps()
                if self._keep is not None:
                    for step in set(steps) - _kept(steps, self._keep, self._losses):
                        self._manager.delete(step)
                self._manager.close()
        except UserError as error:
            self.abandon()
            raise (stopped(error) if isinstance(error, CannotWriteError) else error) from error

    def save_networks(self, state: TrainState) -> None:
        """Saves the networks that a run begins with; nothing is copied, and nothing left undone.

        Args:
            state: with networks alone, as `TrainState.networks` gives them, on the host.

        Raises:
            UserError: there is no room for them, or they cannot be saved.
        """
        saved = _of_networks(state)
        _check_room(self._folder, sum(a.nbytes for a in jax.tree.leaves(saved)))
        with _SAVING, _told(self._folder):
            self._manager.save(
                int(state.step),
                args=ocp.args.StandardSave(saved),
                custom_metadata={_NETWORKS: _of_networks(_digests(state))},
            )
            self._manager.wait_until_finished()

    def restore(self, config: ConfigDict, step: int, *, networks_only: bool = False) -> TrainState:
        """Restores the state of a step.

        Args:
            config: that the run was made with; it determines the state's shapes.
            step: one of `steps()`.
            networks_only: leave out what only training needs.

        Raises:
            UserError: the checkpoint is damaged.
        """
        try:
            return self._restore(config, step, networks_only)
        except Exception as error:
            raise UserError(
                f"checkpoint {self._folder / str(step)} cannot be read ({_reason(error)}); choose "
                "another with --checkpoint"
            ) from error

    def restore_newest(
        self, config: ConfigDict, *, networks_only: bool = False, set_aside: bool = False
    ) -> TrainState | None:
        """Restores the newest checkpoint that is whole, and logs a warning for each that is not.

        Args:
            config: see `restore`.
            networks_only: the same; the rest need not be whole then.
            set_aside: move damaged checkpoints to `WORKDIR/damaged_checkpoints/`, so that the run
                can go on from the one that is returned. They are moved only if there is such a one.
                Processes that train together do this together.

        Returns:
            The state; None if there is no checkpoint at all.

        Raises:
            UserError: all of them are damaged, or this user may not read one.
        """
        if set_aside and not is_first():
            step = from_first(None)
            self._manager.reload()  # the first one may have saved it meanwhile
            return None if step is None else self.restore(config, step)
        state = self._restore_newest(config, networks_only=networks_only, set_aside=set_aside)
        if set_aside:
            from_first(None if state is None else int(state.step))
        return state

    def _restore_newest(
        self, config: ConfigDict, *, networks_only: bool, set_aside: bool
    ) -> TrainState | None:
        damaged: dict[int, Exception] = {}
        for step in reversed(self.steps()):
            try:
                state = self._restore(config, step, networks_only)
            except Exception as error:
                if forbidden := _forbidden(self._folder / str(step)):
                    raise UserError(
                        f"{forbidden} may not be read by this user, so that the run cannot go on "
                        "from it; change its owner or mode"
                    ) from error
                damaged[step] = error
                continue
            for other, why in damaged.items():
                moved = f"; it was moved to {self._set_aside(other)}" if set_aside else ""
                _LOG.warning(
                    f"checkpoint {self._folder / str(other)} is damaged ({_reason(why)}){moved}; "
                    f"step {step} is taken in its place"
                )
            return state
        if not damaged:
            return None
        newest = max(damaged)
        raise UserError(
            f"none of the checkpoints in {self._folder} can be read (of step {newest}: "
            f"{_reason(damaged[newest])}); train anew in another --workdir"
        ) from damaged[newest]

    def _restore(self, config: ConfigDict, step: int, networks_only: bool) -> TrainState:
        arrays = Path(self._manager.directory) / str(step) / "default"
        if not arrays.is_dir():  # by such a one Orbax would judge all others
            raise ValueError("it has no arrays")
        _finish_merging(arrays)
        facts = _facts(self._folder / str(step))
        if networks_only and _NETWORKS in facts:
            return self._restore_networks(config, step, facts[_NETWORKS])
        abstract = jax.eval_shape(lambda: create_state(config))
        if _NETWORKS in facts and _DIGEST not in facts:
            state = _state_of(self._restore_as(_of_networks(abstract.networks()), step))
            if _of_networks(_digests(state)) != facts[_NETWORKS]:
                raise ValueError(_ALTERED)
            return begin_with(config, state.variables)
        state = self._restore_as(abstract, step)
        expected = facts.get(_DIGEST)
        if expected is not None and _digest_of_all(_digests(state)) != expected:
            raise ValueError(_ALTERED)
        return state.networks() if networks_only else state

    def _restore_as(self, abstract: Any, step: int) -> Any:
        """Restores a tree of which the shapes are known, onto the first device."""
        device = jax.sharding.SingleDeviceSharding(local_devices()[0])
        placed = jax.tree.map(
            lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=device), abstract
        )
        return self._manager.restore(step, args=ocp.args.StandardRestore(placed))

    def _restore_networks(self, config: ConfigDict, step: int, digests: Any) -> TrainState:
        """Restores what has digests, to the host.

        The digests say what there is: to work that out of the config takes longer than reading it.
        """
        as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), digests)
        found = self._manager.restore(
            step,
            args=ocp.args.PyTreeRestore(digests, restore_args=as_numpy, partial_restore=True),
        )
        state = _state_of(found)
        if _of_networks(_digests(state)) != digests:
            raise ValueError(_ALTERED)
        state = state.networks()
        check_params(config, state.params)
        return state

    def _set_aside(self, step: int) -> Path:
        aside = self._workdir / "damaged_checkpoints" / str(step)
        shutil.rmtree(aside, ignore_errors=True)
        aside.parent.mkdir(exist_ok=True)
        (self._folder / str(step)).rename(aside)
        self._losses.pop(step, None)
        self._manager.reload()
        return aside


@contextmanager
def open_checkpoints(workdir: Path, *, keep: int | None = None) -> Iterator[Checkpoints]:
    """Opens a work directory's checkpoints, and waits for unfinished saves at the end.

    Args:
        workdir: the work directory of the run.
        keep: how many of the latest checkpoints to keep besides the best; None to only read.
            Others, which killed processes may have left, are deleted.

    Raises:
        UserError: at the end, if the last save has failed.
    """
    folder = workdir.absolute() / "checkpoints"
    if not is_first():
        keep = None
    if keep is not None:
        folder.mkdir(parents=True, exist_ok=True)
    losses = _read_losses(workdir)
    _silence_orbax()
    with _plainly_named(folder) as named:

        def open_manager() -> ocp.CheckpointManager:
            return ocp.CheckpointManager(
                named,
                options=ocp.CheckpointManagerOptions(
                    create=False,
                    read_only=keep is None,
                    cleanup_tmp_directories=keep is not None,
                    preservation_policy=keep and _Kept(keep, losses),
                    **_alone(),
                ),
            )

        checkpoints = Checkpoints(workdir, open_manager, losses, keep)
        try:
            yield checkpoints
        except BaseException:
            checkpoints.abandon()
            raise
        checkpoints.close()


def _alone() -> dict[str, Any]:
    """Options by which Orbax does not wait for other processes."""
    if count() == 1:
        return {}
    return {
        "multiprocessing_options": MultiprocessingOptions(
            primary_host=index(),
            active_processes={index()},
            barrier_sync_key_prefix=f"process{index()}",
        )
    }


class _Kept(PreservationPolicy):
    """Keeps the latest few and the best.

    Orbax's own policies know the losses of those checkpoints only that this process has saved.
    """

    def __init__(self, keep: int, losses: Mapping[int, float]):
        self._keep = keep
        self._losses = losses

    def should_preserve(
        self, checkpoints: Sequence[Any], *, context: PreservationContext
    ) -> Sequence[bool]:
        del context
        steps = [checkpoint.step for checkpoint in checkpoints]
        kept = _kept(steps, self._keep, self._losses)
        return [step in kept for step in steps]


def _kept(steps: Iterable[int], keep: int, losses: Mapping[int, float]) -> set[int]:
    ascending = sorted(steps)
    best = _best(ascending, losses)
    return {*ascending[-keep:], *(() if best is None else (best,))}


def _best(steps: Iterable[int], losses: Mapping[int, float]) -> int | None:
    """The step with the least loss among those whose loss is known, the earliest of equal ones."""
    known = sorted(step for step in steps if step in losses)
    return min(known, key=lambda step: losses[step], default=None)


def _read_losses(workdir: Path) -> dict[int, float]:
    """The validation losses of checkpoints, by step.

    Those saved before checkpoints held them are looked up in the run's log.
    """
    folder = workdir / "checkpoints"
    steps = [int(p.name) for p in folder.iterdir() if p.name.isdecimal()] if folder.is_dir() else []
    facts = {step: _facts(folder / str(step)) for step in steps}
    losses = {}
    for step, known in facts.items():
        with contextlib.suppress(*_DAMAGED):  # of one that is damaged, or has none
            losses[step] = float(known[_LOSS])
    logged = logged_losses(workdir) if len(losses) < len(steps) else {}
    return {step: logged[step] for step in steps if step in logged} | losses


def logged_losses(workdir: Path) -> dict[int, float]:
    """The validation losses in a run's `metrics.jsonl`, by step."""
    path, losses = workdir / "metrics.jsonl", {}
    for line in path.read_bytes().splitlines() if path.is_file() else ():
        with contextlib.suppress(*_DAMAGED):  # a killed run may cut a line
            entry = files.parse_json(line)
            losses[int(entry["step"])] = float(entry[_LOSS])
    return losses


def _settle(manager: ocp.CheckpointManager) -> None:
    """Waits for what Orbax still writes after an error; it raises the first without waiting."""
    for end in ("wait_until_finished", "close"):
        with contextlib.suppress(Exception):
            getattr(manager._checkpointer, end)()


def _take_away(folder: Path) -> None:
    """Deletes a folder that threads may write to, or make anew, for a while after an error."""
    gone = 0
    for _ in range(_TRIES):
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(_BETWEEN)
        gone = 0 if folder.exists() else gone + 1
        if gone == _GONE:
            return


def _forbidden(checkpoint: Path) -> Path | None:
    """What this user may not read of a checkpoint, which says nothing of its being damaged."""
    parts = [checkpoint, *sorted(checkpoint.rglob("*"))]
    return next((part for part in parts if not os.access(part, os.R_OK)), None)


def _facts(checkpoint: Path) -> dict[str, Any]:
    """What was saved with a checkpoint; nothing for one from before there was anything."""
    try:
        text = (checkpoint / "_CHECKPOINT_METADATA").read_text(encoding="utf-8")
        facts = files.parse_json(text)["custom_metadata"]
    except (OSError, *_DAMAGED):
        return {}
    return facts if isinstance(facts, dict) else {}


def digest_of(state: TrainState) -> str:
    """A digest of all that a state holds, which is the same for the same bits only."""
    return _digest_of_all(_digests(state))


def _digests(state: TrainState) -> TrainState:
    """SHA-256 of each array with its place in the tree, its type and its shape."""

    def one(leaf: tuple[Any, Any]) -> str:
        array = np.asarray(leaf[1])
        digest = hashlib.sha256(
            f"{jax.tree_util.keystr(leaf[0])} {array.dtype} {array.shape}\0".encode()
        )
        digest.update(np.ascontiguousarray(array).data.cast("B"))
        return digest.hexdigest()

    leaves, tree = jax.tree_util.tree_flatten_with_path(state)
    with ThreadPoolExecutor() as pool:
        return jax.tree.unflatten(tree, list(pool.map(one, leaves)))


def _digest_of_all(digests: TrainState) -> str:
    return hashlib.sha256(b"".join(map(bytes.fromhex, jax.tree.leaves(digests)))).hexdigest()


def _of_networks(state: TrainState) -> dict[str, Any]:
    """The part of a state, or of its digests, that the networks are used with."""
    if isinstance(state, AveragedState):
        return {"step": state.step, "average": state.average}
    return {"step": state.step, "params": state.params, "batch_stats": state.batch_stats}


def _state_of(found: Mapping[str, Any]) -> TrainState:
    """The state that `_of_networks` took a part of, without the rest."""
    if "average" in found:
        return AveragedState(**found, params=(), batch_stats=(), opt_state=(), decay=0.0)
    return TrainState(**found, opt_state=())


def _check_room(folder: Path, needed: int) -> None:
    """A disk that fills in the middle of a save says so late, and in many words."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise _no_room(folder, needed, free)


def _no_room(folder: Path, needed: int, free: int) -> CannotWriteError:
    return CannotWriteError(
        f"the disk is full: a checkpoint in {folder} takes {needed / 2**20:.1f} MiB, and "
        f"{free / 2**20:.1f} MiB are free; what was saved is safe: make room",
        is_full=True,
    )


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    """Turns what goes wrong with a save, in the background as well, into one line."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if any(words in str(error) for words in _FULL):
            raise CannotWriteError(
                f"the disk is full: a checkpoint in {folder} could not be saved; what was saved "
                "before is safe: make room",
                is_full=True,
            ) from error
        raise UserError(
            f"a checkpoint in {folder} could not be saved ({_reason(error)}); what was saved "
            "before is safe, and the same command goes on"
        ) from error


def _reason(error: Exception) -> str:
    """The first sentence of an error, which may have thousands of words."""
    text = " ".join(str(error).split()).split(". ")[0]
    return text[:120] or type(error).__name__


@contextmanager
def _plainly_named(folder: Path) -> Iterator[Path]:
    """The folder under a name that Orbax and TensorStore take as it is.

    They read brackets and asterisks as patterns and other signs as parts of an address, and save
    checkpoints there that cannot be read. A link of a plain name leads around that.
    """
    if _PLAIN_PATH.fullmatch(str(folder)):
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="draem_jax_") as name:
        link = Path(name) / "checkpoints"
        link.symlink_to(folder, target_is_directory=True)
        yield link


def _finish_merging(folder: Path) -> None:
    """Completes a checkpoint that Orbax saved under a name that it took for a pattern.

    The arrays are whole then, but in the file of the process that wrote them alone.
    """
    if (folder / "manifest.ocdbt").exists() or not (folder / "ocdbt.process_0").is_dir():
        return
    whole, part = (
        tensorstore.KvStore.open(
            {"driver": "ocdbt", "base": {"driver": "file", "path": f"{path}/"}}
        ).result()
        for path in (folder, folder / "ocdbt.process_0")
    )
    with tensorstore.Transaction(atomic=True) as transaction:
        for key in part.list().result():
            whole.with_transaction(transaction)[key] = part[key]


class _WithoutOrbax(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        said = record.pathname + record.getMessage()
        return not any(word in said for word in (f"{os.sep}orbax{os.sep}", _UNFINISHED, "OCDBT"))


@functools.cache
def _silence_orbax() -> None:
    """Leaves errors to those who raise them.

    Orbax narrates every file, and of each error it says what it raises as well. Where many arrays
    cannot be written, it raises one of these errors and forgets the others; where one cannot be
    read, it forgets those that are being read and closes the event loop they report to.
    """
    for name in ("absl", "asyncio"):
        logging.getLogger(name).addFilter(_WithoutOrbax())
    previous = sys.unraisablehook

    def without_closed_loops(unraisable: Any) -> None:
        if str(unraisable.exc_value) != "Event loop is closed" or unraisable.object is not None:
            previous(unraisable)

    sys.unraisablehook = without_closed_loops
