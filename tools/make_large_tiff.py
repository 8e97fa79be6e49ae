"""Writes a large picture of a built-in surface with a few defects, in bounded memory.

    python tools/make_large_tiff.py /tmp/large.tif --side=20000 [--bits=16] [--compression=deflate]

It is a BigTIFF in tiles, and the same with the same options. What defects it has and where is
written beside it, as /tmp/large.csv. `tools/benchmark_windows.py` reads it.
"""

import argparse
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np
import tifffile

from draem_jax import files
from draem_jax.data.surface_defects import DEFECTS
from draem_jax.data.surfaces import CATEGORIES, PICTURE_SIZE, Category, repeating_surface

TILE = 512
"""Height and width of tiles, of which two are the surface's period."""

Compression = Literal["none", "deflate"]
_CODECS = {"none": None, "deflate": "zlib"}

_NOISE = 2.0  # of 255
_NOISE_SIDE = 1024  # of the noise that each tile's is cut from


class Defect(NamedTuple):
    """A defect, and the square that it was drawn in, which lies in one tile.

    Attributes:
        kind: its type, of `DEFECTS`.
        top: the square's first row in the picture.
        left: its first column.
        image: the square without noise, (96, 96, 3).
        mask: what the defect covers of it, (96, 96).
    """

    kind: str
    top: int
    left: int
    image: np.ndarray
    mask: np.ndarray


def draw_defects(side: int, *, category: Category, count: int) -> list[Defect]:
    """Draws defects of all types in turn, each in a tile of its own that lies in the picture."""
    rng = np.random.default_rng([side, count])
    surface, tiles = repeating_surface(category), side // TILE
    defects = []
    for kind, place in zip(
        itertools.cycle(DEFECTS), rng.permutation(tiles**2)[:count].tolist(), strict=False
    ):
        corner = np.array(divmod(place, tiles)) * TILE
        top, left = (corner + rng.integers(0, TILE - PICTURE_SIZE, 2)).tolist()
        rows, columns = (
            slice(at % (2 * TILE), at % (2 * TILE) + PICTURE_SIZE) for at in (top, left)
        )
        defects.append(Defect(kind, top, left, *DEFECTS[kind](rng, surface[rows, columns])))
    return defects


def draw_tiles(
    side: int, *, category: Category, defects: Sequence[Defect], bits: int
) -> Iterator[np.ndarray]:
    """Draws the tiles of a picture, row by row: (512, 512, 3), uint8 or uint16."""
    surface = repeating_surface(category)
    defective = {(defect.top // TILE, defect.left // TILE): defect for defect in defects}
    rng = np.random.default_rng(side)
    noise = rng.normal(0, _NOISE, (_NOISE_SIDE, _NOISE_SIDE, 3)).astype(np.float32)
    white = 2**bits - 1
    for row, column in np.ndindex(*[-(-side // TILE)] * 2):
        top, left = row % 2 * TILE, column % 2 * TILE
        tile = surface[top : top + TILE, left : left + TILE].astype(np.float32)
        if defect := defective.get((row, column)):
            top, left = defect.top % TILE, defect.left % TILE
            tile[top : top + PICTURE_SIZE, left : left + PICTURE_SIZE] = defect.image
        top, left = rng.integers(0, _NOISE_SIDE - TILE, 2)
        tile += noise[top : top + TILE, left : left + TILE]
        levels = np.clip(np.rint(tile * (white / 255)), 0, white)
        yield levels.astype(np.uint8 if bits == 8 else np.uint16)


def write_large_tiff(
    path: Path,
    side: int,
    *,
    category: Category = "gravel",
    bits: int = 8,
    compression: Compression = "none",
    defects: int = 12,
) -> list[Defect]:
    """Writes a square picture as a BigTIFF, and what defects it has as CSV beside it.

    Args:
        path: the file to write; it is replaced.
        side: height and width in pixels.
        category: the surface.
        bits: of a channel, 8 or 16.
        compression: of each tile.
        defects: how many there are, at most one in a tile.

    Returns:
        The defects.
    """
    drawn = draw_defects(side, category=category, count=defects)
    with files.atomic_path(path) as temporary:
        tifffile.imwrite(
            temporary,
            draw_tiles(side, category=category, defects=drawn, bits=bits),
            shape=(side, side, 3),
            dtype=f"uint{bits}",
            bigtiff=True,
            photometric="rgb",
            tile=(TILE, TILE),
            compression=_CODECS[compression],
            compressionargs={"level": 1} if compression == "deflate" else None,
            metadata=None,
        )
    files.write_csv(
        path.with_suffix(".csv"),
        ["type", "top", "left", "height", "width", "pixels"],
        [(d.kind, d.top, d.left, *d.mask.shape, int(d.mask.sum())) for d in drawn],
    )
    return drawn


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("path", type=Path, help="the TIFF to write")
    parser.add_argument("--side", type=int, default=20_000, help="height and width in pixels")
    parser.add_argument("--category", choices=CATEGORIES, default="gravel")
    parser.add_argument("--bits", type=int, choices=(8, 16), default=8)
    parser.add_argument("--compression", choices=get_args(Compression), default="none")
    parser.add_argument("--defects", type=int, default=12)
    options = parser.parse_args()
    for defect in write_large_tiff(
        options.path,
        options.side,
        category=options.category,
        bits=options.bits,
        compression=options.compression,
        defects=options.defects,
    ):
        print(f"{defect.kind} within 96 x 96 pixels at {defect.top}, {defect.left}")
    print(f"{options.path}: {options.path.stat().st_size / 2**20:.0f} MiB")


if __name__ == "__main__":
    main()
