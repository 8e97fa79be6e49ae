"""Whether a large picture in tiles is judged as its parts are: pixel AP of a mosaic and its crops.

    python -m tools.measure_mosaic runs/quickstart --out=/tmp/mosaic

The run must be of `surfaces`. The mosaic, 2048 x 1536, is made of crops of 96 x 96 of the half that
test pictures come from, a third of them good and the rest with a defect each, in two ways: *cut*,
test crops of the data set side by side, so that the surface breaks off at their borders; *joined*,
each crop where the surface goes on. The same pixels are judged three times: as pictures of a crop
each, as one large picture in tiles that overlap as usual, and in tiles side by side, which are the
crops but for the last ones. All are told for all pixels, and without those within 8 of the crops'
borders. Mosaics, maps and true masks are written to --out.
"""

import argparse
import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8
from sklearn.metrics import average_precision_score

from draem_jax import Draem, files
from draem_jax.data.features import GOOD
from draem_jax.data.pictures import encode_png
from draem_jax.data.surface_defects import DEFECTS
from draem_jax.data.surfaces import (
    COUNTS,
    PICTURE_SIZE,
    Category,
    draw_sample,
    repeating_surface,
)
from draem_jax.training.parallel import use_cpu_devices

SIZE = (1536, 2048)
BORDER = 8

_ROWS, _COLUMNS = (-(-length // PICTURE_SIZE) for length in SIZE)
_NOISE = 2.0  # of 255


class Cells(NamedTuple):
    """Crops in the order of rows: (N, 96, 96, 3), and what defects cover of them, (N, 96, 96)."""

    images: UInt8[np.ndarray, "N h w 3"]
    masks: Bool[np.ndarray, "N h w"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("workdir", type=Path, metavar="WORKDIR")
    parser.add_argument("--out", type=Path, help="folder to write pictures to")
    options = parser.parse_args()

    use_cpu_devices()
    detector = in_tiles(Draem.load(options.workdir))
    side_by_side = in_tiles(detector, overlap=0)
    if (detector.config.data.name, *detector.image_size) != ("surfaces", *[PICTURE_SIZE] * 2):
        parser.error(f"{options.workdir} is no run of surfaces at {PICTURE_SIZE} x {PICTURE_SIZE}")
    category = detector.config.data.category
    inner = np.zeros((PICTURE_SIZE, PICTURE_SIZE), bool)
    inner[BORDER:-BORDER, BORDER:-BORDER] = True
    inner = laid(np.stack([inner] * (_ROWS * _COLUMNS)))
    print(f"{'':12} {'pixels':16} {'crops':>7} {'tiles':>7} {'side by side':>13}")
    for way, cells in (("cut", cut(category)), ("joined", joined(category))):
        mosaic, mask = laid(cells.images), laid(cells.masks)
        apart = laid(detector.predict(cells.images).anomaly_map)
        tiled, parted = (
            looking.predict(mosaic[None]).anomaly_map[0] for looking in (detector, side_by_side)
        )
        for pixels, chosen in (("all", np.ones_like(inner)), ("without borders", inner)):
            of_crops, of_tiles, of_parts = (
                average_precision_score(mask[chosen], anomaly_map[chosen])
                for anomaly_map in (apart, tiled, parted)
            )
            line = f"{way:12} {pixels:16} {of_crops:7.3f} {of_tiles:7.3f} {of_parts:13.3f}"
            print(line, flush=True)
        if options.out is not None:
            for name, picture in (
                ("mosaic", mosaic),
                ("crops_map", as_grey(apart)),
                ("tiles_map", as_grey(tiled)),
                ("side_by_side_map", as_grey(parted)),
                ("mask", as_grey(mask.astype(np.float32))),
            ):
                files.write_bytes(options.out / f"{way}_{name}.png", encode_png(picture))


def in_tiles(detector: Draem, overlap: int = -1) -> Draem:
    """The same networks, which look at pictures in tiles of the size that they learned from."""
    config = detector.config.copy_and_resolve_references()
    config.data.tile = (PICTURE_SIZE,)
    config.data.tile_overlap = overlap
    return replace(detector, config=config)


def defect_types() -> Iterator[tuple[str, int]]:
    """The data set's test pictures, and more in the same shares: types and numbers, shuffled."""
    rng = np.random.default_rng(0)
    counts = COUNTS["test"]
    for turn in itertools.count():
        names = [(name, turn * count + i) for name, count in counts.items() for i in range(count)]
        rng.shuffle(names)
        yield from names


def cut(category: Category) -> Cells:
    """Test crops of the data set, each from anywhere, in a light of its own."""
    samples = [
        draw_sample(category=category, split="test", defect_type=name, index=index)
        for name, index in itertools.islice(defect_types(), _ROWS * _COLUMNS)
    ]
    return Cells(np.stack([s.image for s in samples]), np.stack([s.mask for s in samples]))


def joined(category: Category) -> Cells:
    """Crops that lie side by side on the half of the photograph that test pictures come from."""
    surface = repeating_surface(category)
    quarter = surface.shape[1] // 4
    surface = surface[:, quarter : 3 * quarter]  # the right half and its mirror image
    rng = np.random.default_rng(1)
    images, masks = [], []
    types = defect_types()
    for row, column in np.ndindex(_ROWS, _COLUMNS):
        rows, columns = (
            np.arange(at * PICTURE_SIZE, (at + 1) * PICTURE_SIZE) % length
            for at, length in zip((row, column), surface.shape, strict=False)
        )
        image, mask = surface[np.ix_(rows, columns)], np.zeros((PICTURE_SIZE, PICTURE_SIZE), bool)
        name, _ = next(types)
        if name != GOOD:
            image, mask = DEFECTS[name](rng, image)
        noisy = image + rng.normal(0, _NOISE, image.shape)
        images.append(np.clip(np.rint(noisy), 0, 255).astype(np.uint8))
        masks.append(mask)
    return Cells(np.stack(images), np.stack(masks))


def laid(cells: np.ndarray) -> np.ndarray:
    """Cells side by side, (H, W, ...), cut to the mosaic's size."""
    grid = cells.reshape(_ROWS, _COLUMNS, *cells.shape[1:]).swapaxes(1, 2)
    return grid.reshape(_ROWS * PICTURE_SIZE, _COLUMNS * PICTURE_SIZE, *cells.shape[3:])[
        : SIZE[0], : SIZE[1]
    ]


def as_grey(plane: Float[np.ndarray, "H W"]) -> UInt8[np.ndarray, "H W"]:
    return np.rint(plane * 255).astype(np.uint8)


if __name__ == "__main__":
    main()
