"""The built-in data set `surfaces`: three photographed surfaces with drawn defects.

Its pictures are cut from photographs that scikit-image carries, so nothing is downloaded. Every
picture is a pure function of its name (`draw_sample`); `Surfaces` writes them as a data set of
TensorFlow Datasets, without TensorFlow.
"""

import dataclasses
from collections.abc import Iterator
from functools import cache
from typing import Any, Literal

import numpy as np
import tensorflow_datasets as tfds
from etils import epath
from jaxtyping import Bool, Float, UInt8
from skimage import data

from draem_jax.data.features import GOOD, anomaly_features
from draem_jax.data.pictures import encode_png
from draem_jax.data.surface_defects import DEFECTS

Category = Literal["brick", "grass", "gravel"]
Split = Literal["train", "test"]
CATEGORIES: tuple[Category, ...] = ("brick", "grass", "gravel")

PICTURE_SIZE = 96
"""Height and width of every picture, in pixels of the photograph: nothing is resampled."""

COUNTS: dict[Split, dict[str, int]] = {
    "train": {GOOD: 200},
    "test": {GOOD: 40} | dict.fromkeys(DEFECTS, 14),
}
"""Pictures of each type in each split."""

# Colours of shadows and of highlights, as factors on the grey value.
_TINTS: dict[Category, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "brick": ((1.22, 0.92, 0.80), (1.04, 1.00, 0.93)),
    "grass": ((0.86, 1.08, 0.62), (0.98, 1.06, 0.74)),
    "gravel": ((0.97, 0.98, 1.02), (1.04, 1.00, 0.94)),
}

_NOISE = 2.0

_DESCRIPTION = """
Three photographed surfaces (brick, grass, gravel) with drawn defects, in the layout of MVTec AD.

This is a demonstration. It shows that an installation works from training to report, quickly and
without a download. What it cannot tell: the defects are drawn, not real; each category is cut from
a single photograph, whose two halves give the training and the test pictures, so light, camera and
material never change. Its figures therefore say nothing of how well a method finds real defects,
and cannot rank methods.

Each category has 200 normal training pictures from the left half of its photograph, and from the
right half 40 normal test pictures and 14 with one defect of each type: corrosion, crack,
foreign_object, hole, paint and scratch. Pictures are 96 x 96 in colour; the photographs are
grey, and tinted. Masks are 255 exactly where the defect changed the picture.
"""


@dataclasses.dataclass(frozen=True)
class Sample:
    """One picture of the data set, and where it comes from.

    Attributes:
        image: the picture.
        mask: the pixels that the defect covers; empty for a good picture.
        undamaged: the same picture without its defect, light and noise alike.
        corner: (row, column) of its upper left corner in the photograph.
        mirrored: whether it was mirrored, left to right, after cutting.
    """

    image: UInt8[np.ndarray, "H W 3"]
    mask: Bool[np.ndarray, "H W"]
    undamaged: UInt8[np.ndarray, "H W 3"]
    corner: tuple[int, int]
    mirrored: bool


def draw_sample(*, category: Category, split: Split, defect_type: str, index: int) -> Sample:
    """Draws one picture; the same arguments give the same picture.

    Args:
        category: the surface.
        split: "train" cuts from the left half of the photograph, "test" from the right half.
        defect_type: "good", or a key of `surface_defects.DEFECTS`.
        index: number of the picture within its split and type.

    Returns:
        The picture with its mask.
    """
    rng = np.random.default_rng(list(f"{category}/{split}/{defect_type}/{index:03d}".encode()))
    photograph = _photograph(category)
    height, width = photograph.shape
    half = width // 2
    row = int(rng.integers(0, height - PICTURE_SIZE + 1))
    column = int(rng.integers(0, half - PICTURE_SIZE + 1)) + (half if split == "test" else 0)
    crop = photograph[row : row + PICTURE_SIZE, column : column + PICTURE_SIZE]
    # The lines of the brick photograph lean one way in its left half and the other way in its
    # right half; mirroring makes the two alike.
    mirrored = bool(rng.random() < 0.5)
    surface = _colour(rng, category, crop[:, ::-1] if mirrored else crop)
    noise = np.rint(rng.normal(0, _NOISE, surface.shape))
    if defect_type == GOOD:
        damaged, mask = surface, np.zeros(surface.shape[:2], bool)
    else:
        damaged, mask = DEFECTS[defect_type](rng, surface)
    return Sample(
        image=_add_noise(damaged, noise),
        mask=mask,
        undamaged=_add_noise(surface, noise),
        corner=(row, column),
        mirrored=mirrored,
    )


class Surfaces(tfds.core.GeneratorBasedBuilder):
    """TFDS builder of the data set; its configurations are the categories.

    Prepared data are kept by version: raise `VERSION` with every change to what is drawn.
    """

    VERSION = tfds.core.Version("1.1.0")
    RELEASE_NOTES = {  # noqa: RUF012 (so TFDS declares it)
        "1.1.0": "Says of each picture that its mask is known.",
        "1.0.0": "First version.",
    }
    BUILDER_CONFIGS = [  # noqa: RUF012
        tfds.core.BuilderConfig(name=category, description=f"A surface of {category}.")
        for category in CATEGORIES
    ]

    # TFDS would infer it by way of importlib_resources, which it does not declare.
    code_path = epath.Path(__file__)

    def __init__(self, **options: Any):
        super().__init__(**{"file_format": "array_record"} | options)

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            description=_DESCRIPTION,
            features=anomaly_features((PICTURE_SIZE, PICTURE_SIZE)),
            homepage="https://scikit-image.org/docs/stable/api/skimage.data.html",
            license="Photographs: CC0 (brick, grass, gravel); coins: no known restrictions.",
            disable_shuffling=True,
            metadata=tfds.core.MetadataDict(
                names={
                    split: [f"{t}/{i:03d}" for t in sorted(COUNTS[split]) for i in range(counts[t])]
                    for split, counts in COUNTS.items()
                },
                types=COUNTS["test"],
            ),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        del dl_manager  # nothing is downloaded
        return {split: self._generate_examples(split) for split in COUNTS}

    def _generate_examples(self, split: Split) -> Iterator[tuple[str, dict[str, Any]]]:
        for defect_type, count in sorted(COUNTS[split].items()):
            for index in range(count):
                sample = draw_sample(
                    category=self.builder_config.name,
                    split=split,
                    defect_type=defect_type,
                    index=index,
                )
                name = f"{defect_type}/{index:03d}"
                yield (
                    name,
                    {
                        "image": encode_png(sample.image),
                        "mask": encode_png(sample.mask.astype(np.uint8) * 255),
                        "has_mask": True,
                        "label": "good" if defect_type == GOOD else "defective",
                        "defect_type": defect_type,
                        "name": name,
                    },
                )


@cache
def _photograph(category: Category) -> UInt8[np.ndarray, "h w"]:
    match category:
        case "brick":
            return data.brick()
        case "grass":
            return data.grass()
        case "gravel":
            return data.gravel()


def _colour(
    rng: np.random.Generator, category: Category, grey: UInt8[np.ndarray, "H W"]
) -> UInt8[np.ndarray, "H W 3"]:
    """Tints a grey picture, and varies tint, exposure and the fall of light a little."""
    height, width = grey.shape
    shadows, highlights = np.array(_TINTS[category])
    brightness = (grey / 255.0)[..., None]
    tint = shadows + (highlights - shadows) * np.clip(2 * brightness - 0.5, 0, 1)
    tint = tint * (1 + rng.normal(0, 0.012, 3))
    exposure = rng.uniform(0.93, 1.07)
    slope = rng.uniform(-0.05, 0.05, 2)
    rows, columns = np.ogrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    light = exposure * (1 + slope[0] * rows + slope[1] * columns)
    coloured: Float[np.ndarray, "H W 3"] = 255 * brightness * tint * light[..., None]
    return np.clip(np.rint(coloured), 0, 255).astype(np.uint8)


def _add_noise(
    image: UInt8[np.ndarray, "H W 3"], noise: Float[np.ndarray, "H W 3"]
) -> UInt8[np.ndarray, "H W 3"]:
    return np.clip(image + noise, 0, 255).astype(np.uint8)
