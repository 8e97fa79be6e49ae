"""A whole training run, from top to bottom."""

import functools
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import optax
from ml_collections import ConfigDict

from draem_jax.config import (
    anomaly_params,
    check_config,
    is_tiled,
    loss_weights,
    resolve_steps,
    with_absolute_paths,
)
from draem_jax.hosts.joining import count
from draem_jax.hosts.stopping import AgreedStop
from draem_jax.hosts.talking import together
from draem_jax.losses import Losses
from draem_jax.networks import DraemNetwork
from draem_jax.training import parallel
from draem_jax.training.agreement import agree_on_run, agree_on_state
from draem_jax.training.checkpoints import open_checkpoints
from draem_jax.training.feed import Feed, read_samples
from draem_jax.training.forecast import forecast
from draem_jax.training.learning import Schedule, learn
from draem_jax.training.log import open_log
from draem_jax.training.optimizer import create_optimizer
from draem_jax.training.pictures import TrainingPictures, note_data, open_pictures
from draem_jax.training.profiling import profiled, steps_to_profile
from draem_jax.training.rollbacks import Course, learn_past_nan
from draem_jax.training.samples import Draw, ReservedStep
from draem_jax.training.signals import refuse_if_stopped, stop_signals
from draem_jax.training.speed import computation_of
from draem_jax.training.state import TrainState, create_network, create_state, run_keys
from draem_jax.training.step import make_train_steps
from draem_jax.training.trained_on import hold_to_data
from draem_jax.training.validation import make_validate, validation_pictures
from draem_jax.training.workdir import advice_to_go_on, claimed_workdir

_ROWS = 6
# Kept in a process: as many as a study of many variants needs.
_PROGRAMS = 32


def train(
    config: ConfigDict,
    workdir: str | Path,
    *,
    resume: bool = True,
    quiet: bool = False,
    watch: Callable[[int], bool] = lambda step: False,
) -> TrainState:
    """Trains the networks, or goes on with training them, until the config's steps are made.

    A run that was killed at any moment and is started again ends with the parameters of a run that
    was not, bit for bit on the same machine. Processes that have joined (see
    `draem_jax.hosts.joining`) call it with the same arguments, and share each batch.

    Args:
        config: see `draem_jax.config.default_config`.
        workdir: where `config.json`, `checkpoints/`, `metrics.jsonl`, `tensorboard/` and `samples/`
            are kept. If it holds checkpoints, the run goes on from the last one that is whole.
        resume: refuse such a directory if false.
        quiet: print nothing.
        watch: is told the steps made so far after each call to the devices; where it returns true,
            the run saves itself and returns.

    Returns:
        The state after the last step made: of the whole run, unless `watch` asked to stop.

    Raises:
        UserError: config, data or work directory cannot be used, or another process has it; or,
            in all processes that train together, one of them has another or is gone.
        DivergedError: a loss is not finite.
        StoppedError: SIGTERM or Ctrl-C asked to stop; the run has saved itself.
    """
    workdir, config = Path(workdir), with_absolute_paths(config)
    with together(advice=lambda: advice_to_go_on(workdir)):
        return _train(config, workdir, resume=resume, quiet=quiet, watch=watch)


def _train(
    config: ConfigDict,
    workdir: Path,
    *,
    resume: bool,
    quiet: bool,
    watch: Callable[[int], bool],
) -> TrainState:
    check_config(config)
    agree_on_run(config)
    parallel.connect_devices()
    indices = parallel.sample_indices(config.train.batch_size)
    pictures = open_pictures(config)
    config = resolve_steps(config, normal_pictures=len(pictures.normal))

    params = parallel.replicate(anomaly_params(config))
    weights = parallel.replicate(loss_weights(config))
    key = parallel.replicate(run_keys(config)[1])
    traced = steps_to_profile(*config.train.profile)
    schedule = Schedule(
        total=config.train.steps,
        sample_every=config.train.sample_every,
        checkpoint_every=config.train.checkpoint_every,
        steps_per_call=config.train.steps_per_call or _steps_per_call(),
        ends=(traced.start, traced.stop),
    )
    with (
        claimed_workdir(workdir, config, resume=resume),
        open_checkpoints(workdir, keep=config.train.keep_checkpoints) as checkpoints,
        stop_signals() as stop_asked,
    ):
        stop = AgreedStop(stop_asked)
        hold_to_data(workdir, note_data(config, pictures), started=bool(checkpoints.steps()))
        state = checkpoints.restore_newest(config, set_aside=True)
        is_begun = state is not None
        state = create_state(config) if state is None else state
        agree_on_state(state)
        state = parallel.replicate(state)
        steps = range(int(state.step), schedule.total)
        most = schedule.steps_per_call
        course = Course(
            config,
            pictures,
            workdir,
            sample_indices=indices,
            steps=steps,
            max_steps=most,
            is_begun=is_begun,
        )
        train_steps = _mapped_train_steps(
            create_network(config, axis_name=parallel.AXIS_NAME),
            create_optimizer(config),
            most,
            course.feed.pictures_axes,
            parallel.chosen_devices(),
        )
        validated = np.arange(config.train.validation_pictures, dtype=np.int32)
        samples = read_samples(
            validation_pictures(config, pictures),
            Draw(key, ReservedStep.VALIDATION, validated),
            params,
        )
        with open_log(
            workdir,
            config,
            steps=steps,
            remedy="Try a lower --config.optimizer.learning_rate in another --workdir",
            computation=computation_of(config),
            quiet=quiet,
        ) as log:
            log.say(
                _greeting(config, workdir, steps.start if is_begun else None, pictures, course.feed)
            )
            if steps and not quiet:
                log.say(forecast(config, steps=len(steps)))
            validate = make_validate(create_network(config), samples, weights, rows=_ROWS)

            def learn_from(state: TrainState) -> TrainState:
                with profiled(
                    lambda state, count: train_steps(
                        state, indices, *course.take(count), params, weights, np.int32(count)
                    ),
                    steps=traced,
                    made=int(state.step),
                    workdir=workdir,
                    log=log,
                ) as make_steps:
                    return learn(
                        state,
                        make_steps,
                        schedule=course.schedule(schedule),
                        validate=validate,
                        checkpoints=checkpoints,
                        log=log,
                        is_stopping=lambda step: stop.after_call(wished=watch(step)),
                    )

            go_back = functools.partial(
                course.go_back, config=config, checkpoints=checkpoints, log=log
            )
            state = learn_past_nan(state, learn_from, go_back)
            course.tell_lost(int(state.step), log)
    refuse_if_stopped(int(state.step), schedule.total, stop.number)
    return state


# Runs in one process that differ in numbers only share a program.
@functools.lru_cache(maxsize=_PROGRAMS)
def _mapped_train_steps(
    network: DraemNetwork,
    optimizer: optax.GradientTransformation,
    max_steps: int,
    pictures_axes: int | None,
    devices: tuple[jax.Device, ...] | None,
) -> Callable[..., tuple[TrainState, Losses]]:
    return parallel.map_over_devices(
        make_train_steps(network, optimizer, max_steps=max_steps),
        pictures_axes=pictures_axes,
        devices=devices,
    )


def _steps_per_call() -> int:
    # A TPU pays for each call; a GPU is driven by the host in any case; and on a CPU a step
    # outlasts the call by far.
    return 10 if jax.default_backend() == "tpu" else 1


def _greeting(
    config: ConfigDict, workdir: Path, step: int | None, pictures: TrainingPictures, feed: Feed
) -> str:
    """What a run is; `step` is that of the checkpoint that it goes on from, None for none."""
    devices = parallel.device_count()
    height, width = pictures.size
    seen = f"at {height} x {width}"
    if is_tiled(config):
        seen = f"in tiles of {height} x {width} at scale {config.data.scale:g}"
    data = config.data.name + (f":{config.data.category}" if config.data.category else "")
    return (
        f"{data}: {len(pictures.normal)} normal pictures {seen}, "
        f"{len(pictures.textures)} textures; {feed.description}; {config.train.steps} steps of "
        f"{config.train.batch_size} on {devices} {jax.default_backend()} "
        f"device{'s' if devices > 1 else ''}{f' of {count()} processes' if count() > 1 else ''}; "
        + (
            f"into {workdir}"
            if step is None
            else f"going on from step {step} in {workdir}"
            if step
            else f"from the imported networks in {workdir}"
        )
    )
