"""Looking at the networks while they learn: on samples that are never trained on."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Float, UInt8
from ml_collections import ConfigDict

from draem_jax.losses import LossWeights
from draem_jax.networks import DraemNetwork, forward
from draem_jax.reports.pictures import sheet
from draem_jax.scores import anomaly_map
from draem_jax.training.pictures import TrainingPictures, open_pictures
from draem_jax.training.samples import Samples
from draem_jax.training.state import TrainState
from draem_jax.training.step import sample_losses
from draem_jax.training.trained_on import TrainedOn

# Kept in a process: as many as a study of many variants needs.
_PROGRAMS = 32


class Look(NamedTuple):
    """What the networks make of samples in evaluation mode, on the host.

    Attributes:
        loss: the total, weighted.
        reconstruction: of the samples.
        anomaly_map: of the samples, in [0, 1].
    """

    loss: float
    reconstruction: Float[np.ndarray, "N H W 3"]
    anomaly_map: Float[np.ndarray, "N H W"]


def validation_pictures(
    config: ConfigDict, pictures: TrainingPictures, trained_on: TrainedOn | None = None
) -> TrainingPictures:
    """Held-out pictures where there are some, else those of training.

    Args:
        config: of the run.
        pictures: of training.
        trained_on: see `draem_jax.training.pictures.open_pictures`.
    """
    if not config.data.holdout:
        return pictures
    held_out = open_pictures(config, part="selection", trained_on=trained_on)
    return held_out if len(held_out.normal) else pictures


def make_look(
    network: DraemNetwork, samples: Samples, weights: LossWeights
) -> Callable[[TrainState], Look]:
    """Makes the function that looks at samples with the networks of a state.

    Args:
        network: the networks, without an `axis_name`.
        samples: to look at.
        weights: of the loss's terms.
    """
    inspect = _make_inspect(network)

    def look(state: TrainState) -> Look:
        loss, reconstruction, maps = inspect(state, samples, weights)
        return Look(float(loss), np.asarray(reconstruction), np.asarray(maps))

    return look


@functools.lru_cache(maxsize=_PROGRAMS)
def _make_inspect(network: DraemNetwork) -> Callable[..., tuple[Array, Array, Array]]:
    @jax.jit
    def inspect(state, samples, weights):
        output = forward(network, state.variables, samples.augmented)
        losses = sample_losses(network, output, samples, weights)
        return losses.total, output.reconstruction, anomaly_map(output.logits)

    return inspect


def grid(samples: Samples, look: Look, *, rows: int) -> UInt8[np.ndarray, "H W 3"]:
    """A sheet of the first samples, a row each."""
    normal, augmented, mask = (np.asarray(part[:rows]) for part in samples)
    return sheet(
        {
            "normal": normal,
            "augmented": augmented,
            "mask": mask,
            "reconstruction": np.clip(look.reconstruction[:rows], 0, 1),
            "anomaly map": look.anomaly_map[:rows, ..., None],
        }
    )
