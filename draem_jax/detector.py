"""A trained detector, and what it says of pictures."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8
from ml_collections import ConfigDict

from draem_jax.config import image_size
from draem_jax.data.pictures import resize, resize_channels, resize_plane
from draem_jax.networks import DraemNetwork, forward, forward_with_features
from draem_jax.scores import DEFAULT_SCORE, anomaly_map, margin, score_by_name
from draem_jax.thresholds import Thresholds
from draem_jax.training.parallel import local_devices, replicate, shard_batch
from draem_jax.training.state import create_network
from draem_jax.training.trained_on import TrainedOn
from draem_jax.training.workdir import load_run


class Prediction(NamedTuple):
    """What a detector says of a batch of pictures, on the host.

    Attributes:
        anomaly_map: how likely each pixel is anomalous, float32 in [0, 1].
        score: of each picture, float32 in [0, 1], higher for more anomalous ones.
        reconstruction: the pictures as they would be without defects, float32 in [0, 1].
    """

    anomaly_map: Float[np.ndarray, "B H W"]
    score: Float[np.ndarray, " B"]
    reconstruction: Float[np.ndarray, "B H W 3"]


class Inspection(NamedTuple):
    """What the networks say of one batch at the size they were trained at, on the devices.

    Attributes:
        margin: logit₁ − logit₀ of each pixel, float32: it orders pixels as the map does, without
            the map's ties at 1.
        anomaly_map: its sigmoid, in [0, 1].
        score: of each picture, in [0, 1].
        reconstruction: in [0, 1].
        features: what the discriminative network computes on its way to the margin, at a lower
            resolution; None where it was not asked for, or there is no such network.
    """

    margin: Float[jax.Array, "B H W"]
    anomaly_map: Float[jax.Array, "B H W"]
    score: Float[jax.Array, " B"]
    reconstruction: Float[jax.Array, "B H W 3"]
    features: Float[jax.Array, "B h w C"] | None = None


@dataclass(frozen=True)
class Draem:
    """A trained detector.

    Attributes:
        config: that it was trained with.
        step: training steps made.
        batch_size: pictures that one call to the devices takes at most; what is given is cut and
            padded to it. See `fitted_to` for fewer.
        score_name: of the image score, see `draem_jax.scores.score_by_name`.
        trained_on: the pictures that the run was begun with; None where they were not noted.
    """

    config: ConfigDict
    step: int
    batch_size: int
    score_name: str
    _variables: Any = field(repr=False)
    trained_on: TrainedOn | None = field(default=None, repr=False)

    @classmethod
    def load(
        cls, workdir: str | Path, *, checkpoint: str = "latest", batch_size: int | None = None
    ) -> Draem:
        """Loads what a training run saved.

        Args:
            workdir: of the run.
            checkpoint: "latest", "best" (by validation loss) or a step.
            batch_size: pictures a call; `config.evaluation.batch_size` if None. It is raised to a
                multiple of the number of devices.

        Raises:
            UserError: there is no run in `workdir`, or no such checkpoint.
        """
        config, state = load_run(Path(workdir), checkpoint=checkpoint)
        devices = len(local_devices())
        wanted = batch_size or config.evaluation.batch_size
        return cls(
            config=config,
            step=int(state.step),
            batch_size=-(-wanted // devices) * devices,
            score_name=_score_name(config, Path(workdir), int(state.step)),
            _variables=replicate(state.variables),
            trained_on=TrainedOn.load(Path(workdir)),
        )

    @property
    def image_size(self) -> tuple[int, int]:
        """The (height, width) that the networks see pictures at."""
        return image_size(self.config)

    @property
    def full_scale(self) -> int | None:
        """The value that `read_picture` takes for white in pictures of more than 8 bits."""
        return None if self.trained_on is None else self.trained_on.full_scale

    @property
    def feature_channels(self) -> int:
        """How many features `inspect` returns of each place; 0 if the detector has none."""
        return create_network(self.config).feature_channels

    def predict(self, images: np.ndarray | jax.Array) -> Prediction:
        """Looks for anomalies.

        Pictures of another size than the networks were trained at are brought to it, and maps and
        reconstructions back to theirs; scores are computed at the trained size. What is said of a
        picture does not depend on the others, but for rounding.

        Args:
            images: (B, H, W, 3), RGB, uint8 or float in [0, 1].

        Returns:
            The prediction, at the pictures' own size.

        Raises:
            ValueError: the array is of another shape or kind, or floats lie outside [0, 1].
        """
        pictures = _checked(images)
        size = pictures.shape[1:3]
        pictures = _as_float(pictures, self.image_size)
        parts = [
            self._predict_batch(pictures[i : i + self.batch_size])
            for i in range(0, len(pictures), self.batch_size)
        ]
        if not parts:
            return Prediction(
                np.zeros((0, *size), np.float32),
                np.zeros(0, np.float32),
                np.zeros((0, *size, 3), np.float32),
            )
        maps, scores, reconstructions = (np.concatenate(p) for p in zip(*parts, strict=True))
        if size != self.image_size:
            maps = np.stack([resize_plane(plane, size) for plane in maps])
            reconstructions = np.stack([resize_channels(r, size) for r in reconstructions])
        return Prediction(maps, scores, reconstructions)

    def inspect(
        self,
        pictures: UInt8[np.ndarray, "B H W 3"] | Float[np.ndarray, "B H W 3"],
        *,
        with_features: bool = False,
    ) -> Inspection:
        """Inspects at most `batch_size` pictures of the trained size, without waiting for it.

        Args:
            pictures: RGB, uint8 or float in [0, 1].
            with_features: whether to return the discriminative network's features as well.

        Returns:
            What the networks say of `batch_size` pictures: those behind the ones given are padding.
        """
        padding = [(0, self.batch_size - len(pictures))] + [(0, 0)] * 3
        inspect = _make_inspect(create_network(self.config), self.score_name, with_features)
        return inspect(self._variables, shard_batch(np.pad(pictures, padding)))

    def fitted_to(self, pictures: int) -> Draem:
        """The same detector with a smaller batch, so that few pictures do not take all its time.

        Batches hold 1, 2, 4 … pictures of each device: each size is a program to compile, so there
        shall be few.

        Args:
            pictures: that the batch must hold, as far as `batch_size` allows.
        """
        devices = len(local_devices())
        of_each = -(-pictures // devices)
        size = devices * (1 << max(0, of_each - 1).bit_length())
        return replace(self, batch_size=min(size, self.batch_size))

    def _predict_batch(self, pictures: np.ndarray) -> Prediction:
        inspection = self.fitted_to(len(pictures)).inspect(pictures)
        return Prediction(
            *(np.asarray(getattr(inspection, part))[: len(pictures)] for part in Prediction._fields)
        )


# Detectors of one architecture share a program.
@functools.lru_cache(maxsize=8)
def _make_inspect(
    network: DraemNetwork, score_name: str, with_features: bool
) -> Callable[..., Inspection]:
    score = score_by_name(score_name)

    @jax.jit
    def inspect(variables, images):
        if images.dtype == jnp.uint8:
            images = images.astype(jnp.float32) / 255
        features = None
        if with_features:
            output, features = forward_with_features(network, variables, images)
        else:
            output = forward(network, variables, images)
        maps = anomaly_map(output.logits)
        reconstruction = jnp.clip(output.reconstruction, 0, 1)
        return Inspection(margin(output.logits), maps, score(maps), reconstruction, features)

    return inspect


def thresholds_path(workdir: Path, step: int) -> Path:
    """Where the thresholds of a run's checkpoint are kept."""
    return workdir / "thresholds" / f"step_{step:07d}.json"


def _score_name(config: ConfigDict, workdir: Path, step: int) -> str:
    """The config's score, or the one that calibration chose."""
    if config.evaluation.score != "auto":
        return config.evaluation.score
    path = thresholds_path(workdir, step)
    return Thresholds.load(path).score if path.is_file() else DEFAULT_SCORE


def _checked(images: np.ndarray | jax.Array) -> np.ndarray:
    array = np.asarray(images)
    if array.ndim != 4 or array.shape[-1] != 3 or 0 in array.shape[1:3]:
        raise ValueError(
            f"images must be of shape (B, H, W, 3), RGB, not {array.shape}; "
            "give one picture as image[None]"
        )
    if array.dtype == np.uint8:
        return array
    if not np.issubdtype(array.dtype, np.floating):
        raise ValueError(f"images must be uint8 or float in [0, 1], not {array.dtype}")
    if array.size and not (array.min() >= 0 and array.max() <= 1):
        raise ValueError(
            f"images of type {array.dtype} must lie in [0, 1], not in "
            f"[{array.min():g}, {array.max():g}]; divide 8-bit values by 255"
        )
    return array.astype(np.float32)


def _as_float(images: np.ndarray, size: tuple[int, int]) -> Float[np.ndarray, "B H W 3"]:
    resized = resize if images.dtype == np.uint8 else resize_channels
    if images.shape[1:3] != size and len(images):
        images = np.stack([resized(image, size) for image in images])
    return images.astype(np.float32) / (255 if images.dtype == np.uint8 else 1)
