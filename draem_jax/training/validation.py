"""Validating the networks while they learn: on samples that are never trained on."""

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
from draem_jax.training import parallel
from draem_jax.training.pictures import TrainingPictures, open_pictures
from draem_jax.training.samples import Samples
from draem_jax.training.state import TrainState
from draem_jax.training.step import sample_losses
from draem_jax.training.trained_on import TrainedOn

# Kept in a process: as many as a study of many variants needs.
_PROGRAMS = 32


class Validation(NamedTuple):
    """What the networks make of samples in evaluation mode, on the host.

    Attributes:
        loss: the total over all samples, weighted.
        samples: those that are shown.
        reconstruction: what is made of these.
        anomaly_map: that of these, in [0, 1].
    """

    loss: float
    samples: Samples
    reconstruction: Float[np.ndarray, "N H W 3"]
    anomaly_map: Float[np.ndarray, "N H W"]

    def sheet(self) -> UInt8[np.ndarray, "H W 3"]:
        """The samples that are shown, a row each."""
        normal, augmented, mask = map(np.asarray, self.samples[:3])
        return sheet(
            {
                "normal": normal,
                "augmented": augmented,
                "mask": mask,
                "reconstruction": np.clip(self.reconstruction, 0, 1),
                "anomaly map": self.anomaly_map[..., None],
            }
        )


def validation_pictures(
    config: ConfigDict, pictures: TrainingPictures, trained_on: TrainedOn | None = None
) -> TrainingPictures:
    """Held-out pictures where there are some, else those of training.

    Args:
        config: the config of the run.
        pictures: the pictures of training.
        trained_on: see `draem_jax.training.pictures.open_pictures`.
    """
    if not config.data.holdout:
        return pictures
    held_out = open_pictures(config, part="selection", trained_on=trained_on)
    return held_out if len(held_out.normal) else pictures


def make_validate(
    network: DraemNetwork, samples: Samples, weights: LossWeights, *, rows: int
) -> Callable[[TrainState], Validation]:
    """Makes the function that validates the networks of a state.

    Args:
        network: the networks, without an `axis_name`.
        samples: to validate on.
        weights: the weights of the loss's terms.
        rows: how many of the samples are shown.
    """
    apply = _make_apply(network)
    shown = jax.tree.map(lambda part: part[:rows], samples)

    def validate(state: TrainState) -> Validation:
        loss, reconstruction, maps = apply(state, samples, weights)
        return Validation(
            float(loss), shown, np.asarray(reconstruction[:rows]), np.asarray(maps[:rows])
        )

    return validate


@functools.lru_cache(maxsize=_PROGRAMS)
def _make_apply(network: DraemNetwork) -> Callable[..., tuple[Array, Array, Array]]:
    @parallel.jit_here
    def apply(state, samples, weights):
        output = forward(network, state.variables, samples.augmented)
        losses = sample_losses(network, output, samples, weights)
        return losses.total, output.reconstruction, anomaly_map(output.logits)

    return apply
