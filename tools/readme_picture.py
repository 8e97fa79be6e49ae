"""Draws the README's picture from a finished run.

    python tools/readme_picture.py runs/quickstart docs/example.png

A row for each defect type: the test picture whose image score is the median of its type, so that
neither the best nor the worst is chosen.
"""

import sys

import numpy as np

from draem_jax import Draem
from draem_jax.config import data_set
from draem_jax.data.pictures import resize_mask
from draem_jax.reports.pictures import overlay, sheet, write_png


def main(workdir, out):
    detector = Draem.load(workdir)
    size = detector.image_size
    stored = data_set(detector.config).test_pictures(size=size)
    test = [stored[i] for i in range(len(stored))]
    images = np.stack([picture.image for picture in test])
    masks = np.stack([resize_mask(picture.mask, size) for picture in test])
    prediction = detector.predict(images)
    types = np.array([picture.defect_type for picture in test])
    chosen = []
    for kind in sorted(set(types)):
        of_kind = np.flatnonzero(types == kind)
        chosen.append(of_kind[np.argsort(prediction.score[of_kind])[len(of_kind) // 2]])
    maps = prediction.anomaly_map[chosen]
    overlays = [overlay(images[i], m) for i, m in zip(chosen, maps, strict=True)]
    columns = {
        "picture": images[chosen],
        "reconstruction": prediction.reconstruction[chosen],
        "anomaly map": maps[..., None],
        "overlay": np.stack(overlays),
        "true mask": masks[chosen, ..., None],
    }
    write_png(out, sheet(columns, [f"{types[i]} {prediction.score[i]:.2f}" for i in chosen]))


if __name__ == "__main__":
    main(*sys.argv[1:])
