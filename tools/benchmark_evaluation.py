"""How much faster evaluation is in batches than one picture at a time.

    python tools/benchmark_evaluation.py [--rounds=3] [--size=128] [--repeats=3]

Both ways measure the same test pictures with networks of the quickstart's widths, all metrics
included, each in a process of its own: in batches on one device a core, the next batch being read
meanwhile; and picture by picture on one device. They take turns; compiling is not counted.
"""

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path


class Repeated:
    """Test pictures several times over."""

    def __init__(self, pictures, repeats):
        self.pictures = pictures
        self.names = pictures.names * repeats
        self.normal = pictures.normal * repeats

    def __len__(self):
        return len(self.names)

    def __getitem__(self, index):
        return self.pictures[index % len(self.pictures)]


def measure_once(options):
    from draem_jax.training import parallel

    parallel.use_cpu_devices(options.devices)

    from draem_jax.cli.recipes import recipe_config
    from draem_jax.detector import Draem
    from draem_jax.evaluation.evaluate import measure, open_test_pictures
    from draem_jax.training.state import create_state

    config = recipe_config("configs/quickstart.py")
    config.data.image_size = (options.size,)
    config.evaluation.flips = "none"
    detector = Draem(
        config=config,
        workdir=Path(),
        step=0,
        batch_size=options.batch,
        _variables=parallel.replicate(create_state(config).variables),
    )
    test = Repeated(open_test_pictures(detector)[0], options.repeats)
    measure(detector, Repeated(test.pictures, 1))  # compiles
    start = time.perf_counter()
    measure(detector, test)
    print(len(test) / (time.perf_counter() - start))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="rounds each way")
    parser.add_argument("--size", type=int, default=128, help="side of the pictures")
    parser.add_argument("--batch", type=int, default=8, help="pictures of a batch")
    parser.add_argument("--repeats", type=int, default=3, help="of the 124 test pictures")
    parser.add_argument("--devices", type=int, default=-1, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.devices >= 0:
        measure_once(options)
        return

    def rate(batch, devices):
        command = [
            sys.executable,
            __file__,
            f"--size={options.size}",
            f"--repeats={options.repeats}",
        ]
        command += [f"--batch={batch}", f"--devices={devices}"]
        run = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        return float(run.stdout)

    batched, single = [], []
    for _ in range(options.rounds):
        batched.append(rate(options.batch, 0))
        single.append(rate(1, 1))
        print(
            f"batches of {options.batch}: {batched[-1]:.1f} pictures/s   "
            f"one at a time: {single[-1]:.1f}   ratio {batched[-1] / single[-1]:.2f}",
            flush=True,
        )
    ratios = [b / s for b, s in zip(batched, single, strict=True)]
    print(f"ratio: median {statistics.median(ratios):.2f}, least {min(ratios):.2f}")


if __name__ == "__main__":
    main()
