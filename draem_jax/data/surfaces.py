"""The built-in data set `surfaces`: three photographed surfaces with drawn defects and stains.

Its pictures are cut from photographs that scikit-image carries, so nothing is downloaded. Every
picture is a pure function of its name (`draw_sample`); `Surfaces` writes them as a data set of
TensorFlow Datasets, without TensorFlow.
"""

import dataclasses
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import tensorflow_datasets as tfds
from etils import epath
from jaxtyping import Bool, Float, UInt8
from skimage import data

from draem_jax import files
from draem_jax.data.features import GOOD, anomaly_features, local_info
from draem_jax.data.pictures import encode_png
from draem_jax.data.surface_defects import DEFECTS
from draem_jax.data.surface_stains import stain

Category = Literal["brick", "grass", "gravel"]
Split = Literal["train", "test", "stain"]
CATEGORIES: tuple[Category, ...] = ("brick", "grass", "gravel")

STAIN: Final = "stain"
"""The type of normal pictures with a stain on them, and their split."""

PICTURE_SIZE = 96
"""Height and width of every picture, in pixels of the photograph: nothing is resampled."""

COUNTS: dict[Split, dict[str, int]] = {
    "train": {GOOD: 200},
    "test": {GOOD: 40} | dict.fromkeys(DEFECTS, 14),
    STAIN: {STAIN: 40},
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
grey, and tinted. Masks are 255 exactly where the defect changed the picture, so that their areas
are exact.

The split `stain` has 40 pictures from the right half with a stain on them, which is no defect: they
are labelled good, and their masks are empty. Nothing like it is among the training pictures.
"""


@dataclasses.dataclass(frozen=True)
class Sample:
    """One picture of the data set, and where it comes from.

    Attributes:
        image: the picture.
        mask: the pixels that the defect covers; empty for a normal picture, stained or not.
        undamaged: the same picture without its defect or stain, light and noise alike.
        corner: (row, column) of its upper left corner in the photograph.
        mirrored: whether it was mirrored, left to right, after cutting.
    """

    image: UInt8[np.ndarray, "H W 3"]
    mask: Bool[np.ndarray, "H W"]
    undamaged: UInt8[np.ndarray, "H W 3"]
    corner: tuple[int, int]
    mirrored: bool

    @property
    def area(self) -> int:
        """Pixels that the defect covers."""
        return int(self.mask.sum())


def draw_sample(*, category: Category, split: Split, defect_type: str, index: int) -> Sample:
    """Draws one picture; the same arguments give the same picture.

    Any type can be drawn for any split, and any number of pictures: what the data set holds is
    `COUNTS`. It holds no defects and no stains of the split "train".

    Args:
        category: the surface.
        split: "train" cuts from the left half of the photograph, the others from the right half.
        defect_type: "good", "stain", or a key of `surface_defects.DEFECTS`.
        index: number of the picture within its split and type.

    Returns:
        The picture with its mask.
    """
    rng = np.random.default_rng(list(f"{category}/{split}/{defect_type}/{index:03d}".encode()))
    photograph = _photograph(category)
    height, width = photograph.shape
    half = width // 2
    row = int(rng.integers(0, height - PICTURE_SIZE + 1))
    column = int(rng.integers(0, half - PICTURE_SIZE + 1)) + (0 if split == "train" else half)
    crop = photograph[row : row + PICTURE_SIZE, column : column + PICTURE_SIZE]
    # The lines of the brick photograph lean one way in its left half and the other way in its
    # right half; mirroring makes the two alike.
    mirrored = bool(rng.random() < 0.5)
    surface = _colour(rng, category, crop[:, ::-1] if mirrored else crop)
    noise = np.rint(rng.normal(0, _NOISE, surface.shape))
    damaged, mask = surface, np.zeros(surface.shape[:2], bool)
    if defect_type == STAIN:
        damaged = stain(rng, surface)
    elif defect_type != GOOD:
        damaged, mask = DEFECTS[defect_type](rng, surface)
    return Sample(
        image=_add_noise(damaged, noise),
        mask=mask,
        undamaged=_add_noise(surface, noise),
        corner=(row, column),
        mirrored=mirrored,
    )


def repeating_surface(category: Category) -> UInt8[np.ndarray, "H W 3"]:
    """A surface without defects that goes on without a seam when it is laid side by side.

    It is the whole photograph, tinted, and its mirror images; noise is left to the caller.
    """
    rng = np.random.default_rng(list(category.encode()))
    surface = _colour(rng, category, _photograph(category))
    surface = np.concatenate([surface, surface[::-1]])
    return np.concatenate([surface, surface[:, ::-1]], axis=1)


def export_samples(
    folder: str | Path,
    *,
    category: Category,
    split: Split,
    defect_type: str,
    indices: Iterable[int],
) -> list[Path]:
    """Writes pictures as PNG: TYPE/NUMBER.png, and ground_truth/TYPE/NUMBER_mask.png of defects.

    Args:
        folder: to write to; files of the same names are replaced.
        category: see `draw_sample`, as for the others.
        split: the split of the pictures.
        defect_type: the defect type of the pictures.
        indices: numbers of the pictures.

    Returns:
        The pictures' files, without the masks'.

    Raises:
        UserError: the folder cannot be written.
    """
    folder, written = Path(folder), []
    for index in indices:
        sample = draw_sample(category=category, split=split, defect_type=defect_type, index=index)
        written.append(folder / defect_type / f"{index:03d}.png")
        files.write_bytes(written[-1], encode_png(sample.image))
        if defect_type in DEFECTS:
            mask = folder / "ground_truth" / defect_type / f"{index:03d}_mask.png"
            files.write_bytes(mask, encode_png(sample.mask.astype(np.uint8) * 255))
    return written


class Surfaces(tfds.core.GeneratorBasedBuilder):
    """TFDS builder of the data set; its configurations are the categories.

    Prepared data are kept by version: raise `VERSION` with every change to what is drawn.
    """

    VERSION = tfds.core.Version("1.2.0")
    RELEASE_NOTES = {  # noqa: RUF012 (so TFDS declares it)
        "1.2.0": "Has a split of stained pictures.",
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
        return local_info(
            self.dataset_info_from_configs(
                description=_DESCRIPTION,
                features=anomaly_features((PICTURE_SIZE, PICTURE_SIZE)),
                homepage="https://scikit-image.org/docs/stable/api/skimage.data.html",
                license="Photographs: CC0 (brick, grass, gravel); coins: no known restrictions.",
                disable_shuffling=True,
                metadata=tfds.core.MetadataDict(
                    names={
                        split: [
                            f"{t}/{i:03d}" for t in sorted(COUNTS[split]) for i in range(counts[t])
                        ]
                        for split, counts in COUNTS.items()
                    },
                    types=COUNTS["test"],
                ),
            )
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
                        "label": "good" if defect_type in (GOOD, STAIN) else "defective",
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
