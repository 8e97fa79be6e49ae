"""Work directories: whose they are, and what of a run can be loaded."""

import json
import os
import platform
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

import filelock
from ml_collections import ConfigDict

from draem_jax import files
from draem_jax.config import check_config, differences, from_json, to_json, with_absolute_paths
from draem_jax.data.folders import look
from draem_jax.errors import CannotWriteError, InUseError, UserError
from draem_jax.hosts.joining import count, is_first
from draem_jax.hosts.talking import from_first, gathered, who
from draem_jax.training.checkpoints import open_checkpoints
from draem_jax.training.state import TrainState


@contextmanager
def claimed_workdir(workdir: Path, config: ConfigDict, *, resume: bool = True) -> Iterator[None]:
    """Makes a work directory for a run, or makes sure that an existing one is of the same run.

    Until the block ends no other process can claim it. The operating system takes the claim from a
    process that is killed. Of several processes that train together the first one claims; the
    others make sure that they see the same directory, and all leave it together.

    A directory that holds no checkpoint yet takes any config.

    Args:
        workdir: the work directory of the run.
        config: the config of the run, which is kept as `config.json`.
        resume: whether going on with what is there is wanted.

    Raises:
        UserError: the directory cannot be written, is in use, belongs to a run with another config,
            is none yet and holds pictures (see `refuse_pictures`), or holds checkpoints and
            `resume` is false; or another process does not see it, has failed or is gone.
    """
    with _claimed(workdir, config, resume=resume) if is_first() else nullcontext():
        _refuse_if_not_shared(workdir)
        yield
        gathered(None)


@contextmanager
def _claimed(workdir: Path, config: ConfigDict, *, resume: bool) -> Iterator[None]:
    if workdir.exists() and not workdir.is_dir():
        raise UserError(f"--workdir={workdir} is a file; give a directory")
    _check_config(workdir, config, resume=resume)
    if not _is_run(workdir):
        refuse_pictures(workdir)
        _refuse_other_config(workdir / "config.json")
    with locked(workdir):
        # Anew, since another run may have ended in the meantime.
        if not _check_config(workdir, config, resume=resume):
            files.mark_output(workdir)
            files.write_text(workdir / "config.json", to_json(config))
        yield


def _refuse_if_not_shared(workdir: Path) -> None:
    """Raises UserError where processes that work together do not see the same directory."""
    if count() == 1:
        return
    name = from_first(f".shared_{secrets.token_hex(8)}")  # new, so that nobody remembers it missing
    if is_first():
        files.write_text(workdir / name, "")
    from_first(None)
    seen = gathered([who(), (workdir / name).is_file()])
    if is_first():
        (workdir / name).unlink()
    if blind := [process for process, sees in seen if not sees]:
        raise UserError(
            f"{blind[0]} does not see the --workdir={workdir} of {seen[0][0]}; give a folder that "
            "all hosts share, by the same path"
        )


def advice_to_go_on(workdir: Path) -> str:
    """What to do where a run was ended from outside."""
    folder = workdir / "checkpoints"
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    step = max((int(name) for name in names if name.isdecimal()), default=None)
    goes_on = "begins anew" if step is None else f"goes on from step {step}"
    return f"started again on all hosts, the same command {goes_on}"


@contextmanager
def locked(
    folder: Path, *, name: str = ".lock", wait: float = 0.0, flag: str = "--workdir"
) -> Iterator[None]:
    """Keeps other processes from writing to a folder, which is made where needed.

    Args:
        folder: to write to.
        name: of the file that is locked; those who lock files of other names do not hinder each
            other.
        wait: seconds to wait for another process at most.
        flag: that names the folder, for the message.

    Raises:
        InUseError: another process does.
        UserError: the folder cannot be written.
    """
    owned_by = folder / f"{name}_owner.json"
    if not is_first():
        yield
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(folder / name, timeout=wait)
        lock.acquire()
    except filelock.Timeout as error:
        raise InUseError(
            f"{folder} is in use by another run{_owner(owned_by)}; wait for it to end, or choose "
            f"another {flag}"
        ) from error
    except NotImplementedError:  # a file system without locks
        yield
        return
    except OSError as error:
        raise UserError(
            f"cannot write {folder}: {error.strerror}; choose a folder that you may write to"
        ) from error
    try:
        owner = {"process": os.getpid(), "host": platform.node()}
        with suppress(CannotWriteError):  # it is for the message alone
            files.write_text(owned_by, json.dumps(owner) + "\n")
        yield
    finally:
        owned_by.unlink(missing_ok=True)
        lock.release()


def _owner(path: Path) -> str:
    try:
        owner = files.parse_json(path.read_text(encoding="utf-8"))
        return f" (process {owner['process']} on {owner['host']})"
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def refuse_pictures(folder: Path) -> None:
    """Raises UserError where a folder that is to become a work directory holds pictures.

    Work directories are left out as a whole where pictures are looked for, so that those would
    vanish from their data set.
    """
    if folder.is_dir() and (pictures := look(folder).pictures):
        raise UserError(
            f"--workdir={folder} is no work directory yet and holds pictures, such as "
            f"{pictures[0].relative_to(folder)}; choose a new or an empty directory"
        )


def _is_run(workdir: Path) -> bool:
    """Whether a run has begun there; earlier versions did not mark their work directories."""
    begun = files.is_marked(workdir) or (workdir / "checkpoints").is_dir()
    return begun and (workdir / "config.json").is_file()


def has_checkpoints(workdir: Path) -> bool:
    """Whether a run has saved anything there."""
    folder = workdir / "checkpoints"
    return folder.is_dir() and any(path.name.isdecimal() for path in folder.iterdir())


def _refuse_other_config(path: Path) -> None:
    """Raises UserError if a file of that name is something else's."""
    if path.exists():
        try:
            from_json(path)
        except UserError as error:
            raise UserError(
                f"{path} is there already, and is no config of draem_jax; choose another --workdir"
            ) from error


def _check_config(workdir: Path, config: ConfigDict, *, resume: bool) -> bool:
    """Whether the config is there already; raises UserError if what is there is another run's."""
    path = workdir / "config.json"
    started = has_checkpoints(workdir)
    if not started:
        return False
    if not path.exists():
        raise UserError(
            f"{workdir} holds checkpoints but no config.json to tell what they are; "
            "choose another --workdir"
        )
    stored = with_absolute_paths(from_json(path))
    if is_uncounted := not stored.train.steps:
        # Networks were put there before their pictures were counted, see `resolve_steps`.
        stored.train.steps = config.train.steps
    if changed := differences(stored, with_absolute_paths(config)):
        raise UserError(
            f"{workdir} was made with another config ({'; '.join(changed)}); "
            "use the same one to go on with it, or choose another --workdir"
        )
    if not resume:
        raise UserError(
            f"{workdir} holds a run already; leave out --noresume to go on with it, or choose "
            "another --workdir"
        )
    return not is_uncounted


def load_run(
    workdir: Path, *, checkpoint: str = "latest", networks_only: bool = False
) -> tuple[ConfigDict, TrainState]:
    """Loads a run's config and one of its checkpoints.

    Args:
        workdir: the work directory of the run.
        checkpoint: "latest", "best" or a step. In place of a latest one that is damaged the newest
            whole one is taken, and a warning logged.
        networks_only: leave out what only training needs, which is most; `opt_state` is () then.

    Raises:
        UserError: there is no run, or no such checkpoint, or it is damaged.
    """
    if not (workdir / "config.json").is_file():
        raise UserError(
            f"{workdir} is not a work directory (it has no config.json); "
            "give the --workdir that `draem-jax train` was run with"
        )
    config = from_json(workdir / "config.json")
    check_config(config)
    if not has_checkpoints(workdir):
        raise UserError(f"{workdir} holds no checkpoint yet; run `draem-jax train` first")
    with open_checkpoints(workdir) as checkpoints:
        steps = checkpoints.steps()
        if checkpoint == "latest":
            state = checkpoints.restore_newest(config, networks_only=networks_only)
            assert state is not None
            return config, state
        if checkpoint == "best":
            step = checkpoints.best_step()
            if step is None:
                raise UserError(
                    f"{workdir} does not tell which checkpoint is the best (there is no validation "
                    f"loss of any in metrics.jsonl); choose latest, or one of "
                    f"{', '.join(map(str, steps))}"
                )
        elif checkpoint.isdecimal() and int(checkpoint) in steps:
            step = int(checkpoint)
        else:
            raise UserError(
                f"{workdir} has no checkpoint {checkpoint!r}; choose latest, best, or one of "
                f"{', '.join(map(str, steps))}"
            )
        return config, checkpoints.restore(config, step, networks_only=networks_only)
