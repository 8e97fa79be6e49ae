"""Draws a sheet of the built-in surfaces, to judge the defects by eye.

    python tools/surfaces_sheet.py brick /tmp/brick.png

One row of training pictures, one of normal test pictures, then two rows for each type of defect:
the pictures, and the same with the outline of the mask in magenta. Under the sheet's name it
prints, for each type, what the masks hold.
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from draem_jax.data.surface_defects import DEFECTS
from draem_jax.data.surfaces import CATEGORIES, COUNTS, Sample, Split, draw_sample


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("category", choices=CATEGORIES)
    parser.add_argument("path", type=Path, help="the PNG file to write")
    parser.add_argument("--columns", type=int, default=7)
    parser.add_argument("--first", type=int, default=0, help="number of the first picture")
    parser.add_argument("--scale", type=int, default=2)
    parser.add_argument("--types", nargs="+", default=["good", *DEFECTS])
    options = parser.parse_args()

    rows = []
    for defect_type in options.types:
        splits: list[Split] = ["train", "test"] if defect_type == "good" else ["test"]
        for split in splits:
            samples = [
                draw_sample(
                    category=options.category, split=split, defect_type=defect_type, index=index
                )
                for index in range(options.first, options.first + options.columns)
            ]
            rows.append(_row(f"{split} {defect_type}", [s.image for s in samples], options.scale))
            if defect_type != "good":
                rows.append(_row("", [_outlined(s, options.scale) for s in samples], 1))
    Image.fromarray(np.concatenate(rows)).save(options.path)
    print(options.path)
    for defect_type in DEFECTS:
        samples = [
            draw_sample(
                category=options.category, split="test", defect_type=defect_type, index=index
            )
            for index in range(COUNTS["test"][defect_type])
        ]
        areas = [s.mask.sum() for s in samples]
        change = [np.abs(s.image.astype(int) - s.undamaged)[s.mask].mean() for s in samples]
        print(
            f"{defect_type:15s} area {min(areas):5d} … {max(areas):5d} (mean {np.mean(areas):6.0f})"
            f"   change {min(change):4.0f} … {max(change):4.0f} (mean {np.mean(change):4.0f})"
        )


def _row(title: str, pictures: list[np.ndarray], scale: int) -> np.ndarray:
    tiles = [np.kron(p, np.ones((scale, scale, 1), np.uint8)) for p in pictures]
    row = np.concatenate([np.pad(t, ((2, 2), (2, 2), (0, 0))) for t in tiles], axis=1)
    picture = Image.fromarray(row)
    if title:
        ImageDraw.Draw(picture).text((6, 4), title, fill="white", stroke_width=2, stroke_fill=0)
    return np.array(picture)


def _outlined(sample: Sample, scale: int) -> np.ndarray:
    image = np.kron(sample.image, np.ones((scale, scale, 1), np.uint8))
    mask = np.kron(sample.mask, np.ones((scale, scale), bool))
    image[ndimage.binary_dilation(mask) & ~mask] = (255, 0, 255)
    return image


if __name__ == "__main__":
    main()
