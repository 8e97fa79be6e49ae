"""One of two processes that measure a test set together; the pictures are drawn, the maps theirs.

python -m tests.evaluation.one_of_two PORT PROCESS FILE
"""

import json
import sys
from pathlib import Path

import jax
import numpy as np

from draem_jax.data.fitting import Fitting
from draem_jax.data.loading import LabelledPicture
from draem_jax.detector import BatchOutput, Draem
from draem_jax.evaluation.evaluate import measure
from draem_jax.evaluation.stream import MetricOptions

SIZE = (32, 32)


class Pictures:
    """Two good ones for each defective one; remembers which were read."""

    names = tuple(f"{'good' if i % 3 else 'hole'}/{i}" for i in range(25))

    normal = tuple(name.startswith("good/") for name in names)

    def __init__(self):
        self.read = []

    def __len__(self):
        return len(self.names)

    def __getitem__(self, index):
        self.read.append(index)
        kind, _, number = self.names[index].partition("/")
        image = np.random.default_rng(index).integers(0, 200, (*SIZE, 3), np.uint8)
        mask = np.zeros(SIZE, bool)
        if kind != "good":
            mask[4:20, int(number) % 9 : 20] = True
            image[mask] += 40
        return LabelledPicture(
            image=image, mask=mask, has_mask=True, name=self.names[index], defect_type=kind
        )


class Detector(Draem):
    """Takes bright pixels for defects."""

    image_size = SIZE
    fitting = Fitting(SIZE)

    def __init__(self):
        object.__setattr__(self, "batch_size", 4)

    def run_batch(self, images, planes=None):
        margin = np.zeros((self.batch_size, *SIZE), np.float32)
        margin[: len(images)] = images.mean(-1) / 40 - 3
        maps = 1 / (1 + np.exp(-margin))
        return BatchOutput(margin, maps, maps.max((1, 2)), images)


def measure_share():
    """All that is measured, and which pictures this process read for it."""
    pictures = Pictures()
    evaluation = measure(Detector(), pictures, options=MetricOptions(replicates=8))["default"]
    rows = [[row.index, row.defect_type, row.score, row.aupimo] for row in evaluation.pictures]
    return {"metrics": evaluation.overall.as_json(), "rows": rows, "read": sorted(pictures.read)}


if __name__ == "__main__":
    port, process, out = sys.argv[1:]
    jax.config.update("jax_num_cpu_devices", 2)
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"localhost:{port}", 2, int(process))
    Path(out).write_text(json.dumps(measure_share()))
