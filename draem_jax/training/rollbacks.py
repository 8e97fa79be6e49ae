"""Going back to the last checkpoint where a loss is not finite, and on with other samples.

All samples behind the step that a run went back to are drawn with another key, which depends on
how often that has happened before that step, and on nothing else. So what is passed is noted in
full by the steps that the run went back to, and a run that is killed afterwards ends as one that
was not.
"""

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Int, Key
from ml_collections import ConfigDict

from draem_jax import files
from draem_jax.errors import DivergedError, UserError
from draem_jax.hosts.joining import is_first
from draem_jax.training import parallel
from draem_jax.training.checkpoints import Checkpoints
from draem_jax.training.feed import make_feed
from draem_jax.training.learning import Schedule
from draem_jax.training.log import RunLog
from draem_jax.training.pictures import TrainingPictures
from draem_jax.training.samples import ReservedStep
from draem_jax.training.state import TrainState, run_keys

_LOG = logging.getLogger("draem_jax")
_FILE = "rollbacks.json"


class Rollback(NamedTuple):
    """One time that a run went back.

    Attributes:
        step: that it went back to.
        diverged_at: the step whose loss was not finite.
    """

    step: int
    diverged_at: int


@dataclass(frozen=True)
class Rollbacks:
    """All times that a run went back, in their order.

    Attributes:
        made: each of them.
    """

    made: tuple[Rollback, ...] = ()

    @classmethod
    def load(cls, workdir: Path, *, started: bool) -> "Rollbacks":
        """What a run has noted in its work directory.

        Args:
            workdir: the work directory of the run.
            started: whether the run goes on; what another one has left is deleted otherwise.

        Raises:
            UserError: the file is damaged.
        """
        path = workdir / _FILE
        if not started and jax.process_index() == 0:
            path.unlink(missing_ok=True)
        if not started or not path.is_file():
            return cls()
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
            return cls(tuple(Rollback(int(r["step"]), int(r["diverged_at"])) for r in stored))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{path} is damaged, so that it cannot be told which samples the run passes; "
                "restore it, or train anew in another --workdir"
            ) from error

    def save(self, workdir: Path) -> None:
        """Writes `WORKDIR/rollbacks.json`, so that it is there before anything depends on it."""
        if not is_first():
            return
        content = json.dumps([rollback._asdict() for rollback in self.made], indent=1) + "\n"
        files.write_text(workdir / _FILE, content)
        files.make_durable([workdir / _FILE])

    def key(self, key: Key[Array, ""], step: int) -> Key[Array, ""]:
        """The key of the samples after `step` steps.

        Args:
            key: the run's key for samples.
            step: steps made.
        """
        number = sum(rollback.step <= step for rollback in self.made)
        if not number:
            return key
        return jax.random.fold_in(jax.random.fold_in(key, ReservedStep.ROLLBACK), number)

    def ends(self) -> Sequence[int]:
        """The steps behind which the key is another one, so that calls must end there."""
        return sorted({rollback.step for rollback in self.made})


class Course:
    """What a run draws the samples of its next steps with and from; see `Rollbacks`.

    Attributes:
        feed: that gives the pictures.
    """

    def __init__(
        self,
        config: ConfigDict,
        pictures: TrainingPictures,
        workdir: Path,
        *,
        sample_indices: Int[np.ndarray, "L B"],
        steps: range,
        max_steps: int,
        is_begun: bool,
    ):
        """Begins at a step.

        Args:
            config: the config of the run.
            pictures: the pictures of the run.
            workdir: the work directory of the run.
            sample_indices: this host's share of the batch, by local device.
            steps: that are still to be made, of the whole run.
            max_steps: the most steps of one call.
            is_begun: whether the run goes on.

        Raises:
            UserError: what the run noted of earlier rollbacks is damaged.
        """
        self._workdir = workdir
        self._rollbacks = Rollbacks.load(workdir, started=is_begun)
        self._run_key = run_keys(config)[1]
        self._steps = steps
        self._key = parallel.replicate(self._rollbacks.key(self._run_key, steps.start))
        self.feed = make_feed(
            config,
            pictures,
            self._key,
            sample_indices=sample_indices,
            steps=steps,
            max_steps=max_steps,
        )

    def schedule(self, schedule: Schedule) -> Schedule:
        """The schedule with calls that end where the key changes."""
        return replace(schedule, ends=(*schedule.ends, *self._rollbacks.ends()))

    def take(self, count: int) -> tuple[Key[Array, ""], Any]:
        """The key and the pictures for the next steps, as many as the schedule says."""
        if self._steps.start in self._rollbacks.ends():
            self._begin(self._steps.start)
        self._steps = self._steps[count:]
        return self._key, self.feed.take(count)

    def tell_lost(self, step: int, log: RunLog) -> None:
        """Tells how many pictures all hosts went on without, if any; all must call it."""
        lost = self.feed.lost
        lost.gather()
        if lost and is_first():
            counts = {"lost_pictures": float(len(lost)), "samples_of_others": float(lost.samples)}
            log.metrics(step, counts)
            _LOG.warning(lost.told())

    def go_back(
        self, error: DivergedError, *, config: ConfigDict, checkpoints: Checkpoints, log: RunLog
    ) -> TrainState:
        """Goes back to the last checkpoint, if that is wanted and can be done.

        Args:
            error: that the run has ended in.
            config: the config of the run.
            checkpoints: of the run.
            log: that forgets the steps behind the checkpoint.

        Returns:
            The state of the checkpoint, on the devices.

        Raises:
            DivergedError: `error`, or that with the reason why it stays at that.
        """
        if config.train.on_nan != "rollback":
            raise error
        made = self._rollbacks.made
        if len(made) >= config.train.max_rollbacks:
            raise DivergedError(
                f"{error} (it went back {len(made)} times before, as often as "
                "config.train.max_rollbacks allows)"
            ) from error
        checkpoints.finish()
        state = checkpoints.restore_newest(config, set_aside=True)
        if state is None:
            raise DivergedError(f"{error} (there is no checkpoint to go back to)") from error
        step = int(state.step)
        self._rollbacks = Rollbacks((*made, Rollback(step, error.step)))
        self._rollbacks.save(self._workdir)
        self._begin(step)
        log.go_back(step)
        log.metrics(step, {"rollback": len(made) + 1.0, "diverged_at": float(error.step)})
        _LOG.warning(
            f"{error.what}; the run goes back to step {step}, and on with other samples "
            f"(rollback {len(made) + 1} of {config.train.max_rollbacks} at most)"
        )
        return parallel.replicate(state)

    def _begin(self, step: int) -> None:
        self._steps = range(step, self._steps.stop)
        self._key = parallel.replicate(self._rollbacks.key(self._run_key, step))
        self.feed = self.feed.begun_at(self._key, self._steps)


def learn_past_nan(
    state: TrainState,
    learn_from: Callable[[TrainState], TrainState],
    go_back: Callable[[DivergedError], TrainState],
) -> TrainState:
    """Learns to the end, going back where a loss is not finite.

    Args:
        state: to begin with.
        learn_from: from a state to the last one.
        go_back: gives the state to go on from, or raises what it was given.

    Raises:
        DivergedError: see `Course.go_back`.
    """
    while True:
        try:
            return learn_from(state)
        except DivergedError as error:
            state = go_back(error)
