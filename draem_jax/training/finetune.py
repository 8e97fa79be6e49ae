"""Fine-tuning of a trained detector on what a user shows it, from top to bottom.

What is normal stays what the reconstructive network learned; only the discriminative network, which
decides which differences matter, goes on learning.
"""

import functools
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import optax
from jaxtyping import Array, ArrayLike, Int, Key
from ml_collections import ConfigDict

from draem_jax import files
from draem_jax.anomalies import AnomalyParams
from draem_jax.config import (
    anomaly_params,
    check_config,
    differences,
    image_size,
    loss_weights,
    with_absolute_paths,
)
from draem_jax.data.examples import Examples, read_examples
from draem_jax.errors import StoppedError, UserError
from draem_jax.losses import Losses, LossWeights
from draem_jax.networks import DraemNetwork
from draem_jax.training import parallel
from draem_jax.training.checkpoints import open_checkpoints
from draem_jax.training.feed import make_feed, read_pictures
from draem_jax.training.log import open_log
from draem_jax.training.look import grid, make_look, validation_pictures
from draem_jax.training.pictures import (
    Chosen,
    Pictures,
    TrainingPictures,
    note_data,
    open_pictures,
)
from draem_jax.training.samples import Draw, ReservedStep, Samples, take_pictures
from draem_jax.training.signals import stop_signals, stopped_at
from draem_jax.training.state import (
    TrainState,
    create_network,
    create_tuning_optimizer,
    run_keys,
)
from draem_jax.training.step import repeat_steps, tuning_step
from draem_jax.training.trained_on import TrainedOn, hold_to_data
from draem_jax.training.tuning_samples import (
    TuningParams,
    TuningPictures,
    make_tuning_samples,
    tuning_params,
    tuning_pictures,
)
from draem_jax.training.workdir import claimed_workdir, load_run

_GRID_ROWS = 12


def tuning_config(
    workdir: str | Path,
    *,
    accept: str | Path | None = None,
    defects: str | Path | None = None,
    checkpoint: str = "latest",
    config: ConfigDict | None = None,
) -> ConfigDict:
    """The config of a fine-tuning run: that of the run it starts from, which it notes.

    Args:
        workdir: of the run to start from; nothing in it is changed.
        accept: the folder of pictures on which nothing is a defect.
        defects: the folder of defects with masks.
        checkpoint: to start from: "latest", "best" or a step.
        config: the run's config with other values in `finetune`; as the run has them if None.

    Raises:
        UserError: there is no such run or checkpoint, or `config` differs from it elsewhere.
    """
    stored, state = load_run(Path(workdir), checkpoint=checkpoint)
    stored = with_absolute_paths(stored)
    config = stored if config is None else with_absolute_paths(config)
    config = config.copy_and_resolve_references()
    stored.finetune, stored.tuned_from = config.finetune, config.tuned_from
    if changed := differences(stored, config):
        raise UserError(
            f"{workdir} was made with another config ({'; '.join(changed)}); only "
            "config.finetune can be changed"
        )
    config.tuned_from.workdir = _noted(workdir)
    config.tuned_from.step = int(state.step)
    config.tuned_from.accept = _noted(accept)
    config.tuned_from.defects = _noted(defects)
    return config


def _noted(path: str | Path | None) -> str:
    """A path that holds wherever the command is given again."""
    return files.absolute_path(path) if path else ""


def finetune(
    config: ConfigDict, workdir: str | Path, *, resume: bool = True, quiet: bool = False
) -> TrainState:
    """Fine-tunes the discriminative network of a run, or goes on with it, in another directory.

    The reconstructive network's parameters and statistics stay bit for bit what they are, and so
    does the directory of the run that is tuned. Steps are counted on from its own.

    Args:
        config: from `tuning_config`.
        workdir: where the tuned detector is kept, as `draem_jax.training.loop.train` keeps one. If
            it holds checkpoints of the same config, the run goes on from the last one.
        resume: refuse such a directory if false.
        quiet: print nothing.

    Returns:
        The state after the last step.

    Raises:
        UserError: config, pictures or a work directory do not do.
        DivergedError: a loss is not finite.
        StoppedError: SIGTERM or Ctrl-C asked to stop; the run has saved itself.
    """
    workdir, base = Path(workdir), Path(config.tuned_from.workdir)
    check_config(config)
    if workdir.resolve() == base.resolve():
        raise UserError(
            f"{workdir} is the run that is tuned, and stays as it is; give another --out-workdir"
        )
    _, state = load_run(base, checkpoint=str(config.tuned_from.step))
    network = create_network(config, axis_name=parallel.AXIS_NAME)
    if not network.discriminates:
        raise UserError(
            f"{base} has no discriminative network to tune (config.model.variant is "
            f"{config.model.variant})"
        )
    indices = parallel.sample_indices(config.train.batch_size)
    base_data = TrainedOn.load(base)
    pictures = open_pictures(config, trained_on=base_data)
    examples = read_examples(
        config.tuned_from.accept,
        config.tuned_from.defects,
        size=image_size(config),
        full_scale=pictures.full_scale,
        depth=config.data.depth,
    )
    learned, held_out = examples.divide(config.finetune.holdout)

    params = parallel.replicate((anomaly_params(config), tuning_params(config, learned)))
    weights = parallel.replicate(loss_weights(config))
    given = parallel.replicate(tuning_pictures(learned))
    key = parallel.replicate(run_keys(config)[1])
    optimizer = create_tuning_optimizer(config)
    total = config.tuned_from.step + config.finetune.steps
    with (
        claimed_workdir(workdir, config, resume=resume),
        open_checkpoints(workdir, keep=config.train.keep_checkpoints) as checkpoints,
        stop_signals() as stop_asked,
    ):
        data = base_data or note_data(config, pictures)
        hold_to_data(workdir, data, started=bool(checkpoints.steps()))
        saved = checkpoints.restore_newest(config, set_aside=True)
        if saved is None:
            saved = state.replace(opt_state=optimizer.init(state.params))
        state = parallel.replicate(saved)
        step = int(state.step)
        feed = make_feed(
            config,
            pictures,
            key,
            sample_indices=indices,
            first_step=step,
            last_step=total,
            max_steps=1,
        )
        steps = _mapped_steps(network, optimizer, feed.pictures_axes, parallel.chosen_devices())
        samples = _validation_samples(
            config, validation_pictures(config, pictures, base_data), key, given, params
        )
        look = make_look(create_network(config), samples, weights)
        with open_log(
            workdir,
            start=step,
            total=total,
            every=config.train.log_every,
            batch_size=config.train.batch_size,
            remedy="Try a lower --config.finetune.relative_rate in another --out-workdir",
            quiet=quiet,
        ) as log:
            log.say(_greeting(config, workdir, step, learned, held_out))
            for note in examples.notes:
                log.say(note)
            pending: Losses | None = None
            while step < total:
                state, losses = steps(
                    state, indices, key, (feed.take(1), given), params, weights, np.int32(1)
                )
                step += 1
                # The losses of a step are looked at once the next one is under way.
                if pending is not None:
                    log.steps(pending)
                pending = losses
                stopping = stop_asked() > 0
                if step % config.train.checkpoint_every == 0 or step == total or stopping:
                    log.steps(pending)
                    pending = None
                    seen = look(state)
                    log.validation(step, seen.loss)
                    log.grid(step, grid(samples, seen, rows=_GRID_ROWS))
                    checkpoints.save(state, validation_loss=seen.loss)
                    log.resume()
                if stopping:
                    break
    if step < total and (number := stop_asked()):
        raise StoppedError(stopped_at(step, total), number)
    return state


@functools.lru_cache(maxsize=8)
def _mapped_steps(
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
    return jax.jit(make_tuning_samples)(draw, chosen, given, *params)


def _greeting(
    config: ConfigDict, workdir: Path, step: int, learned: Examples, held_out: Examples
) -> str:
    counted = [
        f"{len(getattr(learned, kind))} {text} to learn from and "
        f"{len(getattr(held_out, kind))} to measure with"
        for kind, text in (("accepted", "accepted pictures"), ("defects", "labelled defects"))
        if len(getattr(learned, kind))
    ]
    base = config.tuned_from.workdir
    return f"{'; '.join(counted)}; {config.finetune.steps} steps of {config.train.batch_size}; " + (
        f"going on from step {step} in {workdir}"
        if step > config.tuned_from.step
        else f"from {base}, step {step}, into {workdir}"
    )
