"""A test set without defects: normal pictures held out from training, and anomalies simulated."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, UInt8
from ml_collections import ConfigDict

from draem_jax.data.loading import LabelledPicture
from draem_jax.errors import UserError
from draem_jax.evaluation.calibration import read_all, simulate_on
from draem_jax.training.pictures import open_pictures
from draem_jax.training.trained_on import TrainedOn

SIMULATED = "simulated"
"""The defect type of pictures with a simulated anomaly."""


@dataclass(frozen=True)
class SimulatedPictures:
    """Test pictures in memory; see `simulated_pictures`.

    Attributes:
        images: the pictures, RGB.
        masks: true where an anomaly was simulated.
        names: "good/<number>" and "simulated/<number>".
    """

    images: UInt8[np.ndarray, "N H W 3"]
    masks: Bool[np.ndarray, "N H W"]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> LabelledPicture:
        name = self.names[index]
        return LabelledPicture(
            self.images[index], self.masks[index], True, name.partition("/")[0], name
        )


def simulated_pictures(
    config: ConfigDict, *, trained_on: TrainedOn | None = None
) -> SimulatedPictures:
    """Makes test pictures of the normal ones that training never saw.

    Each held-out picture is there once as it is, and one or more times with a simulated anomaly by
    the config's recipe; none is rotated. The same config gives the same pictures. What is measured
    on them tells how well the networks learned their task; how well real defects are found, it
    cannot tell.

    Args:
        config: the config of a run with `data.holdout` above 0.
        trained_on: see `draem_jax.training.pictures.open_pictures`.

    Raises:
        UserError: no pictures were held out, or they cannot be read.
    """
    if not config.data.holdout:
        raise UserError(
            f"{config.data.root or config.data.name} has no test pictures, and none of its normal "
            "ones were held out; train with --config.data.holdout=0.2 in another --workdir, or add "
            "test pictures"
        )
    pictures = open_pictures(config, part="held_out", trained_on=trained_on)
    normal = read_all(pictures)
    anomalous, masks = simulate_on(config, pictures)
    return SimulatedPictures(
        images=np.concatenate([normal, anomalous]),
        masks=np.concatenate([np.zeros(normal.shape[:3], bool), masks]),
        names=tuple(f"good/{i:03d}" for i in range(len(normal)))
        + tuple(f"{SIMULATED}/{i:03d}" for i in range(len(anomalous))),
    )
