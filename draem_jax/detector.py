"""A trained detector, and what it says of pictures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float
from ml_collections import ConfigDict

from draem_jax.config import image_size
from draem_jax.data.pictures import resize, resize_plane
from draem_jax.networks import forward
from draem_jax.scores import anomaly_map, image_score
from draem_jax.training.checkpoints import load_run
from draem_jax.training.parallel import replicate, shard_batch
from draem_jax.training.state import create_network


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


@dataclass(frozen=True)
class Draem:
    """A trained detector.

    Attributes:
        config: that it was trained with.
        step: training steps made.
        batch_size: pictures that one call to the devices takes; what is given is cut and padded
            to it, so that one program is compiled.
    """

    config: ConfigDict
    step: int
    batch_size: int
    _forward: Callable[[jax.Array], tuple[jax.Array, jax.Array, jax.Array]]

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
        devices = jax.local_device_count()
        wanted = batch_size or config.evaluation.batch_size
        return cls(
            config=config,
            step=int(state.step),
            batch_size=-(-wanted // devices) * devices,
            _forward=_make_forward(config, state.variables),
        )

    @property
    def image_size(self) -> tuple[int, int]:
        """The (height, width) that the networks see pictures at."""
        return image_size(self.config)

    def predict(self, images: np.ndarray | jax.Array) -> Prediction:
        """Looks for anomalies.

        Pictures of another size than the networks were trained at are brought to it, and maps and
        reconstructions back to theirs; scores are computed at the trained size.

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
            reconstructions = np.stack([_resize_channels(r, size) for r in reconstructions])
        return Prediction(maps, scores, reconstructions)

    def _predict_batch(self, pictures: np.ndarray) -> Prediction:
        count = len(pictures)
        padding = [(0, self.batch_size - count)] + [(0, 0)] * 3
        output = self._forward(shard_batch(np.pad(pictures, padding)))
        return Prediction(*(np.asarray(part)[:count] for part in output))


def _make_forward(config: ConfigDict, variables: Any) -> Callable:
    network = create_network(config)
    variables = replicate(variables)

    @jax.jit
    def inspect(variables, images):
        output = forward(network, variables, images)
        maps = anomaly_map(output.logits)
        scores = image_score(maps, window=config.evaluation.score_window)
        return maps, scores, jnp.clip(output.reconstruction, 0, 1)

    return lambda images: inspect(variables, images)


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
    resized = resize if images.dtype == np.uint8 else _resize_channels
    if images.shape[1:3] != size and len(images):
        images = np.stack([resized(image, size) for image in images])
    return images.astype(np.float32) / (255 if images.dtype == np.uint8 else 1)


def _resize_channels(
    image: Float[np.ndarray, "h w 3"], size: tuple[int, int]
) -> Float[np.ndarray, "H W 3"]:
    return np.stack([resize_plane(image[..., c], size) for c in range(3)], axis=-1)
