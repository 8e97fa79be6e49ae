"""The loop that training and fine-tuning share: step, log, validate, save, stop."""

from collections.abc import Callable
from dataclasses import dataclass

import jax

from draem_jax.losses import Losses
from draem_jax.training.checkpoints import Checkpoints
from draem_jax.training.full_disk import FullDisk
from draem_jax.training.log import RunLog
from draem_jax.training.replicas import refuse_different
from draem_jax.training.state import TrainState
from draem_jax.training.validation import Validation


@dataclass(frozen=True)
class Schedule:
    """When a run does what, in steps.

    Attributes:
        total: after which it ends.
        sample_every: between sample sheets; there is one at the end.
        checkpoint_every: between checkpoints; there is one at the end.
        steps_per_call: the most that one call to the devices makes.
        ends: more steps after which a call ends.
    """

    total: int
    sample_every: int
    checkpoint_every: int
    steps_per_call: int
    ends: tuple[int, ...] = ()

    def steps_of_call(self, step: int) -> int:
        """How many steps the call after `step` makes: nothing else is due between them."""
        ends = [(step // n + 1) * n for n in (self.sample_every, self.checkpoint_every)]
        ends += [end for end in self.ends if end > step]
        return min(step + self.steps_per_call, self.total, *ends) - step

    def is_sample_due(self, step: int) -> bool:
        """Whether a sample sheet is due after `step`."""
        return step % self.sample_every == 0 or step == self.total

    def is_checkpoint_due(self, step: int) -> bool:
        """Whether a checkpoint is due after `step`."""
        return step % self.checkpoint_every == 0 or step == self.total


def learn(
    state: TrainState,
    make_steps: Callable[[TrainState, int], tuple[TrainState, Losses]],
    *,
    schedule: Schedule,
    validate: Callable[[TrainState], Validation],
    checkpoints: Checkpoints,
    log: RunLog,
    is_stopping: Callable[[int], bool],
) -> TrainState:
    """Makes steps until the schedule's end; the host never waits for the one under way.

    Args:
        state: to begin with, on the devices.
        make_steps: from a state and a number of steps to the state after them and their losses,
            whose entries behind that number mean nothing.
        schedule: when what is done.
        validate: is asked for what is logged beside sample sheets and checkpoints.
        checkpoints: to save to.
        log: to tell.
        is_stopping: is told the steps made so far after each call; where it returns true, the run
            saves itself and ends.

    Returns:
        The state after the last step made.

    Raises:
        DivergedError: a loss is not finite.
        CannotWriteError: the disk is full, and the run is to stop then; or the last checkpoint
            cannot be saved.
        UserError: a checkpoint cannot be saved for another reason, or the devices do not agree on
            what is to be saved.
    """
    step = int(state.step)
    # The losses of a call are looked at once the next one is under way.
    pending: Losses | None = None
    while step < schedule.total:
        count = schedule.steps_of_call(step)
        state, losses = make_steps(state, count)
        step += count
        if pending is not None:
            log.steps(pending)
        pending = jax.tree.map(lambda values, n=count: values[:n], losses)
        # Begun one by one, each when it is waited for, these copies hold the host of a GPU up.
        for part in pending:
            part.copy_to_host_async()

        stopping = is_stopping(step)
        sample_due = schedule.is_sample_due(step)
        checkpoint_due = schedule.is_checkpoint_due(step) or stopping
        if not (sample_due or checkpoint_due):
            continue
        log.steps(pending)
        pending = None
        with log.aside():
            validation = validate(state)
            log.validation(step, validation.loss)
            if sample_due:
                log.grid(step, validation.sheet())
            if checkpoint_due:
                refuse_different(state)
                is_last = stopping or step == schedule.total
                _save(checkpoints, state, validation.loss, log=log, is_last=is_last)
        if stopping:
            break
    return state


def _save(
    checkpoints: Checkpoints, state: TrainState, loss: float, *, log: RunLog, is_last: bool
) -> None:
    """Saves a state; where a full disk is borne, another one than the last may be missing."""
    with log.full_disk.borne("the run goes on without that checkpoint"):
        checkpoints.finish()
    with (FullDisk() if is_last else log.full_disk).borne(
        "the run goes on, and tries again at the next checkpoint"
    ):
        checkpoints.save(state, validation_loss=loss)
