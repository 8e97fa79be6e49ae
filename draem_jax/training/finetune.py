"""Fine-tuning of a trained detector on what a user shows it, from top to bottom.

What is normal stays what the reconstructive network learned; only the discriminative network, which
decides which differences matter, goes on learning.
"""

import functools
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import jax
import numpy as np
import optax
from jaxtyping import Array, ArrayLike, Int, Key
from ml_collections import ConfigDict

from draem_jax.anomalies import AnomalyParams
from draem_jax.config import (
    anomaly_params,
    check_config,
    differences,
    fitting,
    image_size,
    is_tiled,
    loss_weights,
    region_of_interest,
    with_absolute_paths,
)
from draem_jax.data.examples import Examples, read_examples
from draem_jax.errors import UserError
from draem_jax.hosts.joining import count
from draem_jax.hosts.stopping import AgreedStop
from draem_jax.hosts.talking import agree, together
from draem_jax.losses import Losses, LossWeights
from draem_jax.networks import DraemNetwork
from draem_jax.training import parallel
from draem_jax.training.agreement import agree_on_run, agree_on_state
from draem_jax.training.checkpoints import open_checkpoints
from draem_jax.training.feed import read_pictures
from draem_jax.training.forecast import size_text
from draem_jax.training.learning import Schedule, learn
from draem_jax.training.log import open_log
from draem_jax.training.optimizer import create_tuning_optimizer
from draem_jax.training.pictures import (
    Chosen,
    Pictures,
    TrainingPictures,
    note_data,
    open_pictures,
)
from draem_jax.training.rollbacks import Course, learn_past_nan
from draem_jax.training.samples import Draw, ReservedStep, Samples, take_pictures
from draem_jax.training.signals import refuse_if_stopped, stop_signals
from draem_jax.training.state import TrainState, create_network, run_keys
from draem_jax.training.step import repeat_steps, tuning_step
from draem_jax.training.trained_on import TrainedOn, hold_to_data
from draem_jax.training.tuned_from import TunedFrom
from draem_jax.training.tuning_samples import (
    TuningParams,
    TuningPictures,
    make_tuning_samples,
    tuning_params,
    tuning_pictures,
)
from draem_jax.training.validation import make_validate, validation_pictures
from draem_jax.training.workdir import advice_to_go_on, claimed_workdir, load_run

_ROWS = 12
_GIB = 2**30


def finetune(
    workdir: str | Path,
    out_workdir: str | Path,
    *,
    accept: str | Path | None = None,
    defects: str | Path | None = None,
    checkpoint: str = "latest",
    config: ConfigDict | None = None,
    quiet: bool = False,
) -> TrainState:
    """Fine-tunes the discriminative network of a run, or goes on with it, in another directory.

    The reconstructive network's parameters and statistics stay bit for bit what they are, and so
    does the directory of the run that is tuned. Steps are counted on from its own.

    Args:
        workdir: the work directory of the run to start from.
        out_workdir: where the tuned detector is kept, as `draem_jax.training.loop.train` keeps one.
            If it holds checkpoints of the same fine-tuning, that goes on from the last one.
        accept: the folder of pictures on which nothing is a defect.
        defects: the folder of defects with masks.
        checkpoint: to start from: "latest", "best" or a step.
        config: the run's config with other values in `finetune`; as the run has them if None.
        quiet: print nothing.

    Returns:
        The state after the last step.

    Raises:
        UserError: there is no such run or checkpoint, `config` differs from the run's elsewhere, or
            config, pictures or `out_workdir` cannot be used.
        DivergedError: a loss is not finite.
        StoppedError: SIGTERM or Ctrl-C asked to stop; the run has saved itself.
    """
    with together(advice=lambda: advice_to_go_on(Path(out_workdir))):
        return _finetune(
            Path(workdir),
            Path(out_workdir),
            accept=accept,
            defects=defects,
            checkpoint=checkpoint,
            config=config,
            quiet=quiet,
        )


def _finetune(
    workdir: Path,
    out: Path,
    *,
    accept: str | Path | None,
    defects: str | Path | None,
    checkpoint: str,
    config: ConfigDict | None,
    quiet: bool,
) -> TrainState:
    stored, state = load_run(workdir, checkpoint=checkpoint, networks_only=True)
    config = _tuning_config(workdir, stored, config)
    agree_on_run(config)
    parallel.connect_devices()
    if out.resolve() == workdir.resolve():
        raise UserError(
            f"{out} is the run that is tuned, and stays as it is; give another --out-workdir"
        )
    network = create_network(config, axis_name=parallel.AXIS_NAME)
    if not network.discriminates:
        raise UserError(
            f"{workdir} has no discriminative network to tune (config.model.variant is "
            f"{config.model.variant})"
        )
    indices = parallel.sample_indices(config.train.batch_size)
    base_data = TrainedOn.load(workdir)
    pictures = open_pictures(config, trained_on=base_data)
    tuned_from = TunedFrom.note(workdir, int(state.step), accept=accept, defects=defects)
    examples = read_examples(
        tuned_from.accept,
        tuned_from.defects,
        size=image_size(config),
        full_scale=pictures.full_scale,
        depth=config.data.depth,
        roi=region_of_interest(config),
        fitting=fitting(config),
    )
    if count() > 1:
        agree(asdict(tuned_from) | {"the digest of the given pictures": examples.digest()})
    _check_memory(examples, config)
    learned, held_out = examples.divide(config.finetune.holdout)

    params = parallel.replicate((anomaly_params(config), tuning_params(config, learned)))
    weights = parallel.replicate(loss_weights(config))
    crop = image_size(config) if is_tiled(config) else None
    given = parallel.replicate(tuning_pictures(learned, crop=crop))
    key = parallel.replicate(run_keys(config)[1])
    optimizer = create_tuning_optimizer(config)
    schedule = Schedule(
        total=tuned_from.step + config.finetune.steps,
        sample_every=config.train.checkpoint_every,
        checkpoint_every=config.train.checkpoint_every,
        steps_per_call=1,
    )
    with (
        claimed_workdir(out, config),
        open_checkpoints(out, keep=config.train.keep_checkpoints) as checkpoints,
        stop_signals() as stop_asked,
    ):
        stop = AgreedStop(stop_asked)
        started = bool(checkpoints.steps())
        tuned_from.hold_to(out, started=started)
        noted = base_data or note_data(config, pictures)
        noted = replace(noted, roi=region_of_interest(config).digest(noted.paths))
        hold_to_data(out, noted, started=started)
        saved = checkpoints.restore_newest(config, set_aside=True)
        if saved is None:
            saved = state.replace(opt_state=optimizer.init(state.params))
        agree_on_state(saved)
        state = parallel.replicate(saved)
        steps = range(int(state.step), schedule.total)
        course = Course(
            config,
            pictures,
            out,
            sample_indices=indices,
            steps=steps,
            max_steps=1,
            is_begun=started,
        )
        tuning_steps = _mapped_tuning_steps(
            network, optimizer, course.feed.pictures_axes, parallel.chosen_devices()
        )
        samples = _validation_samples(
            config, validation_pictures(config, pictures, base_data), key, given, params
        )
        with open_log(
            out,
            config,
            steps=steps,
            remedy="Try a lower --config.finetune.relative_rate in another --out-workdir",
            quiet=quiet,
        ) as log:
            log.say(_greeting(config, tuned_from, out, steps.start, learned, held_out))
            for note in examples.notes:
                log.say(note)
            validate = make_validate(create_network(config), samples, weights, rows=_ROWS)

            def make_steps(state: TrainState, count: int) -> tuple[TrainState, Losses]:
                drawn_by, chosen = course.take(count)
                return tuning_steps(
                    state, indices, drawn_by, (chosen, given), params, weights, np.int32(count)
                )

            def learn_from(state: TrainState) -> TrainState:
                return learn(
                    state,
                    make_steps,
                    schedule=course.schedule(schedule),
                    validate=validate,
                    checkpoints=checkpoints,
                    log=log,
                    is_stopping=lambda step: stop.after_call(),
                )

            go_back = functools.partial(
                course.go_back, config=config, checkpoints=checkpoints, log=log
            )
            state = learn_past_nan(state, learn_from, go_back)
            course.tell_lost(int(state.step), log)
    refuse_if_stopped(int(state.step), schedule.total, stop.number)
    return state


def _tuning_config(workdir: Path, stored: ConfigDict, config: ConfigDict | None) -> ConfigDict:
    """The config of a fine-tuning: the run's, but for what is said of fine-tuning."""
    stored = with_absolute_paths(stored)
    config = stored if config is None else with_absolute_paths(config)
    stored.finetune = config.finetune
    if changed := differences(stored, config):
        raise UserError(
            f"{workdir} was made with another config ({'; '.join(changed)}); only "
            "config.finetune can be changed"
        )
    check_config(config)
    # What is tuned is the average itself, if the run took one, and by Adam.
    config.optimizer.update(average=0.0, name="adam")
    return config


def _check_memory(examples: Examples, config: ConfigDict) -> None:
    """Raises UserError where tiled pictures are too many to stay on the device at their scale."""
    if is_tiled(config) and examples.nbytes > config.data.resident_gib * _GIB:
        raise UserError(
            f"the given pictures take {size_text(examples.nbytes)} at config.data.scale="
            f"{config.data.scale:g}, more than config.data.resident_gib="
            f"{config.data.resident_gib:g} allows; give fewer, or parts of them"
        )


@functools.lru_cache(maxsize=8)
def _mapped_tuning_steps(
    network: DraemNetwork,
    optimizer: optax.GradientTransformation,
    pictures_axes: int | None,
    devices: tuple[jax.Device, ...] | None,
) -> Callable[..., tuple[TrainState, Losses]]:
    def one(
        i: Int[ArrayLike, ""],
        state: TrainState,
        sample_indices: Int[Array, " B"],
        key: Key[Array, ""],
        pictures: tuple[Pictures | Chosen, TuningPictures],
        params: tuple[AnomalyParams, TuningParams],
        weights: LossWeights,
    ) -> tuple[TrainState, Losses]:
        draw = Draw(key, state.step, sample_indices)
        chosen = take_pictures(i, draw, pictures[0])
        samples = make_tuning_samples(draw, chosen, pictures[1], *params)
        return tuning_step(state, samples, weights, network=network, optimizer=optimizer)

    return parallel.map_over_devices(
        repeat_steps(one, max_steps=1), pictures_axes=(pictures_axes, None), devices=devices
    )


def _validation_samples(
    config: ConfigDict,
    pictures: TrainingPictures,
    key: jax.Array,
    given: TuningPictures,
    params: tuple[AnomalyParams, TuningParams],
) -> Samples:
    """Samples that are never trained on, though the given pictures in them are."""
    indices = np.arange(config.train.validation_pictures, dtype=np.int32)
    draw = Draw(key, np.int32(ReservedStep.TUNING_VALIDATION), indices)
    chosen = read_pictures(pictures, draw)
    return parallel.jit_here(make_tuning_samples)(draw, chosen, given, *params)


def _greeting(
    config: ConfigDict,
    tuned_from: TunedFrom,
    workdir: Path,
    step: int,
    learned: Examples,
    held_out: Examples,
) -> str:
    counted = [
        f"{len(getattr(learned, kind))} {text} to learn from and "
        f"{len(getattr(held_out, kind))} to measure with"
        for kind, text in (("accepted", "accepted pictures"), ("defects", "labelled defects"))
        if len(getattr(learned, kind))
    ]
    return f"{'; '.join(counted)}; {config.finetune.steps} steps of {config.train.batch_size}; " + (
        f"going on from step {step} in {workdir}"
        if step > tuned_from.step
        else f"from {tuned_from.workdir}, step {step}, into {workdir}"
    )
