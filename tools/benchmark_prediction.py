"""How long `predict` takes for one picture, and how many pictures a second it looks at.

    python tools/benchmark_prediction.py --workdir=runs/mine --images=photos/ [--repeat=20]
    python tools/benchmark_prediction.py … --against=../other_checkout

Everything between a picture's file and its rows, maps and overlays counts; starting, loading and
compiling do not. With --against, the code of another checkout takes turns with this one's, each
round in a process of its own, and the ratio is told.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]


def measure_once(options: argparse.Namespace) -> dict[str, float]:
    """Measures with the code that Python finds first, in this process."""
    from draem_jax.data.folders import list_pictures
    from draem_jax.detector import Draem
    from draem_jax.inspection.predict import predict_files
    from draem_jax.training.parallel import use_cpu_devices

    use_cpu_devices(0)
    detector = Draem.load(options.workdir, batch_size=options.batch_size)
    paths = list_pictures(options.images, recursive=True)
    with tempfile.TemporaryDirectory() as out:

        def seconds(images: Path) -> float:
            start = time.perf_counter()
            predict_files(detector, images, out)
            return time.perf_counter() - start

        seconds(options.images)  # compiles
        seconds(paths[0])
        alone = [seconds(paths[i % len(paths)]) for i in range(options.repeat)]
        rates = [len(paths) / seconds(options.images) for _ in range(options.passes)]
    return {
        "p50": float(np.quantile(alone, 0.5)),
        "p99": float(np.quantile(alone, 0.99)),
        "rate": statistics.median(rates),
    }


def measure(options: argparse.Namespace, checkout: Path) -> dict[str, float]:
    """Measures with the code of a checkout, in a process of its own."""
    command = [sys.executable, __file__, "--once", f"--workdir={options.workdir.absolute()}"]
    command += [f"--images={options.images.absolute()}", f"--repeat={options.repeat}"]
    command += [f"--passes={options.passes}"]
    if options.batch_size:
        command.append(f"--batch_size={options.batch_size}")
    environment = {**os.environ, "PYTHONPATH": str(checkout.absolute())}
    done = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=True, env=environment, cwd=checkout
    )
    return json.loads(done.stdout.splitlines()[-1])


def shown(figures: dict[str, float]) -> str:
    return (
        f"one picture {1e3 * figures['p50']:.1f} ms (p99 {1e3 * figures['p99']:.1f}), "
        f"{figures['rate']:.1f} pictures/s"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", type=Path, required=True, help="of the run to predict with")
    parser.add_argument("--images", type=Path, required=True, help="a folder of pictures")
    parser.add_argument("--repeat", type=int, default=20, help="times that one is looked at alone")
    parser.add_argument("--passes", type=int, default=3, help="times that all are looked at")
    parser.add_argument("--rounds", type=int, default=3, help="processes for each checkout")
    parser.add_argument("--batch_size", type=int, help="the run's if not given")
    parser.add_argument("--against", type=Path, help="another checkout, to compare with")
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.once:
        print(json.dumps(measure_once(options)))
        return
    here, there = [], []
    for _ in range(options.rounds):
        here.append(measure(options, ROOT))
        print("this: ", shown(here[-1]), flush=True)
        if options.against:
            there.append(measure(options, options.against))
            print("other:", shown(there[-1]), flush=True)
    if there:
        rates = [a["rate"] / b["rate"] for a, b in zip(here, there, strict=True)]
        times = [a["p50"] / b["p50"] for a, b in zip(here, there, strict=True)]
        print(
            f"this over other: {statistics.median(rates):.2f} times the pictures a second "
            f"(least {min(rates):.2f}), {statistics.median(times):.2f} times the seconds of one"
        )


if __name__ == "__main__":
    main()
