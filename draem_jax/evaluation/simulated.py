"""A test set without defects: normal pictures held out from training, and anomalies simulated."""

from dataclasses import dataclass

from ml_collections import ConfigDict

from draem_jax.data.loading import LabelledPicture
from draem_jax.data.roi import Roi
from draem_jax.errors import UserError
from draem_jax.evaluation.calibration import (
    PictureSet,
    read_all,
    simulate_in_tiles,
    simulate_on,
)
from draem_jax.evaluation.canvases import Canvases
from draem_jax.evaluation.truth import GOOD
from draem_jax.training.pictures import open_pictures
from draem_jax.training.trained_on import TrainedOn

SIMULATED = "simulated"
"""The defect type of pictures with a simulated anomaly."""


@dataclass(frozen=True)
class SimulatedPictures:
    """Test pictures in memory; see `simulated_pictures`.

    Attributes:
        pictures: the pictures; masks are true where an anomaly was simulated.
        names: "good/<number>" and "simulated/<number>".
    """

    pictures: PictureSet
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> LabelledPicture:
        name, (images, masks, planes) = self.names[index], self.pictures
        plane = None if planes is None else planes[index]
        kind = name.partition("/")[0]
        return LabelledPicture(images[index], masks[index], True, kind, name, plane)

    @property
    def normal(self) -> tuple[bool, ...]:
        """Which of them have no simulated anomaly."""
        return tuple(name.startswith(f"{GOOD}/") for name in self.names)


@dataclass(frozen=True)
class SimulatedInTiles:
    """The same of pictures that are seen in tiles, made one at a time; see `simulated_pictures`.

    Attributes:
        canvases: the pictures.
    """

    canvases: Canvases

    def __len__(self) -> int:
        return len(self.canvases)

    def __getitem__(self, index: int) -> LabelledPicture:
        image, mask, plane = self.canvases[index]
        fitting = self.canvases.pictures.fitting
        own, name = self.canvases.own_size(index), self.names[index]
        return LabelledPicture(
            image,
            fitting.restore_mask(mask, own),
            True,
            name.partition("/")[0],
            name,
            None if plane is None else fitting.restore_mask(plane, own),
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Of the pictures, "good/<number>" and "simulated/<number>"."""
        normal = len(self.canvases.pictures.normal)
        return tuple(
            f"{GOOD}/{i:03d}" if i < normal else f"{SIMULATED}/{i - normal:03d}"
            for i in range(len(self))
        )

    @property
    def normal(self) -> tuple[bool, ...]:
        """Which of them have no simulated anomaly."""
        return tuple((~self.canvases.defective).tolist())


def simulated_pictures(
    config: ConfigDict, *, trained_on: TrainedOn | None = None, roi: Roi | None = None
) -> SimulatedPictures | SimulatedInTiles:
    """Makes test pictures of the normal ones that training never saw.

    Each held-out picture is there once as it is, and one or more times with a simulated anomaly by
    the config's recipe; none is rotated. The same config gives the same pictures. What is measured
    on them tells how well the networks learned their task; how well real defects are found, it
    cannot tell.

    Args:
        config: the config of a run with `data.holdout` above 0.
        trained_on: see `draem_jax.training.pictures.open_pictures`.
        roi: the same.

    Raises:
        UserError: no pictures were held out, or they cannot be read.
    """
    if not config.data.holdout:
        raise UserError(
            f"{config.data.root or config.data.name} has no test pictures, and none of its normal "
            "ones were held out; train with --config.data.holdout=0.2 in another --workdir, or add "
            "test pictures"
        )
    pictures = open_pictures(config, part="held_out", trained_on=trained_on, roi=roi)
    if pictures.fitting.is_tiled:
        return SimulatedInTiles(simulate_in_tiles(config, pictures))
    normal, anomalous = read_all(pictures), simulate_on(config, pictures)
    return SimulatedPictures(
        normal.followed_by(anomalous),
        tuple(f"{GOOD}/{i:03d}" for i in range(len(normal.images)))
        + tuple(f"{SIMULATED}/{i:03d}" for i in range(len(anomalous.images))),
    )
