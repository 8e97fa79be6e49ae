"""Measures the streaming metrics against scikit-learn's pixel AUROC and average precision.

    python tools/benchmark_metrics.py [--pictures 1725] [--size 256] [--batch 8] [--replicates 200]

The maps are margins from two overlapping heavy-tailed distributions. Drawing them, and labelling
the masks' regions, which happens where masks are decoded, is not timed. Timed are all metrics of
all pictures and of each defect type with bootstrap intervals, and apart from that without
intervals. Peak memory is that of a process that draws batches as it goes. The last line is JSON.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from sklearn.metrics import average_precision_score, roc_auc_score

from draem_jax.evaluation.results import Evaluation, compute_metrics
from draem_jax.evaluation.stream import MetricOptions, MetricStream
from draem_jax.evaluation.truth import GOOD, encode_mask

TYPES = ("crack", "cut", "hole", "print", "scratch")
GOOD_SHARE = 467 / 1725  # of MVTec AD's test pictures


class Batch(NamedTuple):
    """The arguments of an update."""

    margins: np.ndarray
    truth: np.ndarray
    scores: np.ndarray
    types: list[str]


def batches(pictures: int, size: int, batch: int) -> Iterator[Batch]:
    """Draws the pictures, good ones first; the last batch is padded."""
    rng = np.random.default_rng(0)
    row, column = np.ogrid[:size, :size]
    good = round(pictures * GOOD_SHARE)
    kinds = [GOOD] * good + sorted(TYPES[i % len(TYPES)] for i in range(pictures - good))
    for start in range(0, pictures, batch):
        margins = 1.5 * rng.standard_t(3, (batch, size, size)).astype(np.float32) - 5
        truth = np.zeros(margins.shape, np.float32)
        types = kinds[start : start + batch]
        for i, kind in enumerate(types):
            if kind == GOOD:
                continue
            mask = np.zeros((size, size), bool)
            for _ in range(rng.integers(1, 4)):
                y, x, radius = rng.uniform((0, 0, size / 64), (size, size, size / 8))
                mask |= (row - y) ** 2 + (column - x) ** 2 < radius**2
            margins[i][mask] = 2 * rng.standard_t(3, mask.sum()) + 1
            truth[i] = encode_mask(mask)
        scores = margins.reshape(batch, -1).max(1) + rng.normal(size=batch)
        yield Batch(margins, truth, scores.astype(np.float32), types)


def stream(source: Iterator[Batch] | list[Batch], options: MetricOptions) -> Evaluation:
    metrics = MetricStream(options)
    for batch in source:
        metrics.update(*batch)
    return compute_metrics(metrics.totals(), options)


def seconds(function, *arguments) -> tuple[float, Any]:
    start = time.perf_counter()
    result = function(*arguments)
    return time.perf_counter() - start, result


def peak_megabytes(pictures: int, arguments: argparse.Namespace) -> float:
    command = [sys.executable, __file__, "--memory-of", str(pictures)]
    for name in ("size", "batch", "replicates", "devices"):
        command += [f"--{name}", str(getattr(arguments, name))]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=1725)
    parser.add_argument("--size", type=int, default=256, help="height and width, pixels")
    parser.add_argument("--batch", type=int, default=8, help="pictures an update, on all devices")
    parser.add_argument("--replicates", type=int, default=200)
    parser.add_argument("--devices", type=int, default=0, help="of the CPU; 0 for one a core")
    parser.add_argument("--memory-of", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.devices = arguments.devices or len(os.sched_getaffinity(0))
    jax.config.update("jax_num_cpu_devices", arguments.devices)
    options = MetricOptions(replicates=arguments.replicates)
    if arguments.memory_of:
        stream(batches(arguments.memory_of, arguments.size, arguments.batch), options)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return

    few = min(200, arguments.pictures)
    memory = {n: peak_megabytes(n, arguments) for n in (few, arguments.pictures)}
    data = list(batches(arguments.pictures, arguments.size, arguments.batch))
    first, evaluation = seconds(stream, data, options)
    again, evaluation = seconds(stream, data, options)
    plain = MetricOptions(replicates=0)
    stream(data[:1] + data[-1:], plain)
    without, _ = seconds(stream, data, plain)

    margins = np.concatenate([batch.margins[: len(batch.types)] for batch in data]).ravel()
    masks = np.concatenate([batch.truth[: len(batch.types)] for batch in data]).ravel() > 0
    del data
    auroc_seconds, auroc = seconds(roc_auc_score, masks, margins)
    ap_seconds, ap = seconds(average_precision_score, masks, margins)
    reference = auroc_seconds + ap_seconds

    values = evaluation.overall.values
    print(
        f"{jax.devices()[0].platform}, {jax.local_device_count()} devices, "
        f"{arguments.pictures} pictures of {arguments.size}², batch {arguments.batch}"
    )
    print(f"  {'':<44}{'s':>8}{'ratio':>8}")
    rows = {
        "scikit-learn, pixel AUROC and AP": reference,
        f"streaming, all, {arguments.replicates} replicates": again,
        "  the same, with compiling": first,
        "  without intervals": without,
    }
    for name, value in rows.items():
        print(f"  {name:<44}{value:8.2f}{reference / value:8.1f}")
    for number, value in memory.items():
        print(f"  peak memory of streaming {number} pictures: {value:.0f} MB")
    errors = {"auroc": values["pixel_auroc"] - auroc, "ap": values["pixel_ap"] - ap}
    print("  off scikit-learn by " + ", ".join(f"{k} {v:+.1e}" for k, v in errors.items()))
    print(json.dumps({**vars(arguments), "seconds": rows, "megabytes": memory, "errors": errors}))


if __name__ == "__main__":
    main()
