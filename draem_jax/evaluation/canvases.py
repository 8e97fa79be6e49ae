"""Normal pictures that are seen in tiles, as they are and with a simulated anomaly, one at a time.

An anomaly is simulated on a tile, as in training, and laid back into its picture, so that what is
said of it is said of a whole picture.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from draem_jax.anomalies import AnomalyParams
from draem_jax.detector import Draem
from draem_jax.scores import ScoreOfRows
from draem_jax.training.feed import read_pictures, sample_places, samples_of
from draem_jax.training.pictures import TrainingPictures
from draem_jax.training.samples import Draw

_PIXELS_OF_EACH = 2**18


class Shown(NamedTuple):
    """A canvas, see `draem_jax.data.fitting`, and the truth about it.

    Attributes:
        image: RGB.
        mask: true where an anomaly was simulated.
        plane: true where to look; None for everywhere.
    """

    image: UInt8[np.ndarray, "H W 3"]
    mask: Bool[np.ndarray, "H W"]
    plane: Bool[np.ndarray, "H W"] | None


class _Patch(NamedTuple):
    """A tile with a simulated anomaly, and where it belongs."""

    normal: int
    window: tuple[slice, slice]
    image: UInt8[np.ndarray, "h w 3"]
    mask: Bool[np.ndarray, "h w"]


@dataclass(frozen=True)
class Canvases:
    """All normal pictures, and then some of them with an anomaly.

    Attributes:
        pictures: the normal pictures.
        patches: the anomalies.
        with_normal: whether the normal pictures are among them as they are.
    """

    pictures: TrainingPictures
    patches: Sequence[_Patch]
    with_normal: bool = True

    def __len__(self) -> int:
        return self._normal_ones + len(self.patches)

    @property
    def _normal_ones(self) -> int:
        return len(self.pictures.normal) if self.with_normal else 0

    @property
    def defective(self) -> Bool[np.ndarray, " N"]:
        """Which of them have an anomaly."""
        return np.arange(len(self)) >= self._normal_ones

    def own_size(self, index: int) -> tuple[int, int]:
        """The (height, width) of a picture as it was taken."""
        return self.pictures.own_size(self._normal(index))

    def __getitem__(self, index: int) -> Shown:
        normal = self._normal(index)
        image, plane = _canvas(self.pictures, normal)
        mask = np.zeros(image.shape[:2], bool)
        if index >= self._normal_ones:
            patch = self.patches[index - self._normal_ones]
            image = image.copy()
            image[patch.window] = patch.image
            mask[patch.window] = patch.mask
        return Shown(image, mask, plane)

    def _normal(self, index: int) -> int:
        count = self._normal_ones
        return index if index < count else self.patches[index - count].normal


def simulate_on_canvases(
    pictures: TrainingPictures, draw: Draw, params: AnomalyParams, *, count: int
) -> Canvases:
    """Simulates anomalies as training does, each on a crop of a picture.

    Args:
        pictures: the normal pictures.
        draw: which samples to make, more than are wanted: some come out without an anomaly.
        params: what the anomaly generator does; it must not turn pictures.
        count: how many anomalies are wanted at most.

    Returns:
        The pictures; without anomalies if the recipe makes none.
    """
    places = sample_places(pictures, draw)
    samples = samples_of(read_pictures(pictures, draw), draw, params)
    masks = np.asarray(samples.mask)[..., 0] > 0
    augmented = np.rint(np.asarray(samples.augmented) * 255).astype(np.uint8)
    patches = [
        _Patch(normal, window, augmented[i], masks[i])
        for i, (normal, window) in enumerate(places)
        if masks[i].any()
    ]
    return Canvases(pictures, patches[:count])


def _canvas(
    pictures: TrainingPictures, index: int
) -> tuple[UInt8[np.ndarray, "H W 3"], Bool[np.ndarray, "H W"] | None]:
    plane = None if pictures.planes is None else pictures.planes[index]
    return pictures.normal[index], plane


@dataclass(frozen=True)
class GivenCanvases:
    """Pictures that a user gave, of which the canvases are cut out of arrays that hold all.

    Attributes:
        images: the canvases, RGB; behind those that are smaller than the largest stands nothing.
        masks: true on defects.
        planes: true where to look; None for everywhere.
        sizes: (height, width) of each.
    """

    images: UInt8[np.ndarray, "N H W 3"]
    masks: Bool[np.ndarray, "N H W"]
    planes: Bool[np.ndarray, "N H W"] | None
    sizes: Int[np.ndarray, "N 2"]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Shown:
        content = tuple(map(slice, self.sizes[index]))
        plane = None if self.planes is None else self.planes[index][content]
        return Shown(self.images[index][content], self.masks[index][content], plane)


class JudgedCanvases(NamedTuple):
    """What a detector makes of pictures that it sees in tiles.

    Attributes:
        scores: by its name each score of all pictures.
        largest_margins: the largest margin where the detector looks in each picture.
        margins: of some pixels of each picture that are looked at, drawn evenly.
        truth: true where these are of an anomaly.
    """

    scores: Mapping[str, Float[np.ndarray, " N"]]
    largest_margins: Float[np.ndarray, " N"]
    margins: Float[np.ndarray, " pixels"]
    truth: Bool[np.ndarray, " pixels"]


def judge_canvases(
    detector: Draem, canvases: Canvases | GivenCanvases, names: Sequence[str]
) -> JudgedCanvases:
    """Runs a detector on whole pictures, one after the other, and keeps what thresholds need.

    Args:
        detector: the trained detector.
        canvases: the pictures, one at least.
        names: the names of image scores, see `draem_jax.scores.score_by_name`.
    """
    scores: dict[str, list[float]] = {name: [] for name in names}
    largest, margins, truth = [], [], []
    masks: list[Bool[np.ndarray, "H W"]] = []
    planes: list[Bool[np.ndarray, "H W"] | None] = []

    def shown() -> Iterator[tuple[UInt8[np.ndarray, "_ _ 3"], Bool[np.ndarray, "_ _"] | None]]:
        for index in range(len(canvases)):
            image, mask, plane = canvases[index]
            masks.append(mask)
            planes.append(plane)
            yield image, plane

    for number, seen in enumerate(detector.see(shown(), with_reconstruction=False)):
        mask, plane = masks.pop(0), planes.pop(0)
        for name in names:
            looked_at = mask.size if plane is None else int(plane.sum())
            score = ScoreOfRows(name, looked_at=looked_at)
            score.add(seen.anomaly_map, plane)
            scores[name].append(score.value())
        pixels, marked = seen.margin.ravel(), mask.ravel()
        if plane is not None:
            pixels, marked = seen.margin[plane], mask[plane]
        largest.append(pixels.max(initial=-np.inf))
        if len(pixels) > _PIXELS_OF_EACH:
            some = np.random.default_rng(number).integers(len(pixels), size=_PIXELS_OF_EACH)
            pixels, marked = pixels[some], marked[some]
        margins.append(pixels)
        truth.append(marked)
    return JudgedCanvases(
        {name: np.array(values, np.float32) for name, values in scores.items()},
        np.array(largest, np.float32),
        np.concatenate(margins),
        np.concatenate(truth),
    )
