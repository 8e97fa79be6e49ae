"""Draws the README's picture from a finished run.

    python tools/readme_picture.py runs/quickstart docs/example.png

A row for each defect type: the test picture whose image score is the median of its type, so that
neither the best nor the worst is chosen.
"""

import sys

import numpy as np

from draem_jax import Draem
from draem_jax.data.loading import load_test_set
from draem_jax.reports.pictures import overlay, sheet, write_png


def main(workdir, out):
    detector = Draem.load(workdir)
    data = detector.config.data
    test = load_test_set(data.name, data.category, size=detector.image_size)
    prediction = detector.predict(test.images)
    types = np.array(test.defect_types)
    chosen = []
    for kind in sorted(set(types)):
        of_kind = np.flatnonzero(types == kind)
        chosen.append(of_kind[np.argsort(prediction.score[of_kind])[len(of_kind) // 2]])
    maps = prediction.anomaly_map[chosen]
    overlays = [overlay(test.images[i], m) for i, m in zip(chosen, maps, strict=True)]
    columns = {
        "picture": test.images[chosen],
        "reconstruction": prediction.reconstruction[chosen],
        "anomaly map": maps[..., None],
        "overlay": np.stack(overlays),
        "true mask": test.masks[chosen].astype(bool),
    }
    write_png(out, sheet(columns, [f"{types[i]} {prediction.score[i]:.2f}" for i in chosen]))


if __name__ == "__main__":
    main(*sys.argv[1:])
