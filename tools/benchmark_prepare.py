"""Measures how long it takes to prepare a folder of large pictures, and in how much memory.

    python tools/benchmark_prepare.py [--pictures 2000] [--size 1024] [--format png]

It makes the pictures in a temporary folder (of a few tens of distinct ones, each under many
names), prepares them in a process of its own, and reads all of them back once at 256 x 256. The
last line is JSON; memory is the process's peak resident size, and what it had before it began.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

DISTINCT = 40

PREPARE = """
import json, sys, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from draem_jax.data.dataset import DataSet
root, data_dir = sys.argv[1:]
def peak():
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024
import tensorflow_datasets
before, start = peak(), time.perf_counter()
data = DataSet("folder", "", root=root, data_dir=data_dir)
data.prepare()
seconds, after, start = time.perf_counter() - start, peak(), time.perf_counter()
cpu_seconds = time.process_time()
pictures = data.training_pictures(size=(256, 256))
found_again, start = time.perf_counter() - start, time.perf_counter()
with ThreadPoolExecutor(8) as pool:
    list(pool.map(pictures.__getitem__, range(len(pictures))))
print(json.dumps({
    "seconds": round(seconds, 1), "cpu_seconds": round(cpu_seconds, 1),
    "pictures_per_second": round(len(pictures) / seconds, 1),
    "megabytes_before": round(before), "megabytes_at_peak": round(after),
    "seconds_to_find_again": round(found_again, 2),
    "seconds_to_load_at_256": round(time.perf_counter() - start, 1),
}))
"""


def make_pictures(folder: Path, count: int, size: int, suffix: str) -> None:
    rng = np.random.default_rng(0)
    for i in range(min(DISTINCT, count)):
        # Structure and noise, so that a picture packs about as a photograph does.
        coarse = ndimage.zoom(
            rng.uniform(40, 215, (size // 32, size // 32, 3)), (32, 32, 1), order=1
        )
        picture = coarse[:size, :size] + rng.normal(0, 3, (size, size, 3))
        Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8)).save(folder / f"{i}.{suffix}")
    for i in range(DISTINCT, count):
        shutil.copyfile(folder / f"{i % DISTINCT}.{suffix}", folder / f"{i}.{suffix}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--format", default="png", choices=("png", "jpg", "bmp", "tif"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root, data_dir = Path(name, "pictures"), Path(name, "prepared")
        root.mkdir()
        make_pictures(root, arguments.pictures, arguments.size, arguments.format)
        total = sum(file.stat().st_size for file in root.iterdir())
        print(f"{arguments.pictures} pictures, {total / 1e6:.0f} MB; {os.cpu_count()} cores")
        subprocess.run([sys.executable, "-c", PREPARE, str(root), str(data_dir)], check=True)


if __name__ == "__main__":
    main()
