"""How much slower the train step is when its pictures stream instead of staying on the device.

    python tools/benchmark_streaming.py [--steps=40] [--rounds=3] [--workers=-1]

Both ways make the same steps of the quickstart, in turns; the ratio of their rates is printed.
"""

import argparse
import statistics
import time

import jax
import numpy as np

from draem_jax.anomalies import AnomalyParams
from draem_jax.losses import LossWeights
from draem_jax.training import parallel


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=40, help="steps of a round")
    parser.add_argument("--rounds", type=int, default=3, help="rounds each way")
    parser.add_argument("--workers", type=int, default=-1, help="as config.data.workers")
    options = parser.parse_args()
    parallel.use_cpu_devices()

    from draem_jax.cli.recipes import recipe_config
    from draem_jax.training.feed import make_feed
    from draem_jax.training.optimizer import create_optimizer
    from draem_jax.training.pictures import open_pictures
    from draem_jax.training.state import create_network, create_state, run_keys
    from draem_jax.training.step import make_train_steps

    config = recipe_config("configs/quickstart.py")
    config.data.workers = options.workers
    config.train.batch_size = 8
    config.train.steps = options.steps * options.rounds + 1
    pictures = open_pictures(config)
    key = parallel.replicate(run_keys(config)[1])
    params = parallel.replicate(AnomalyParams())
    weights = parallel.replicate(LossWeights())
    indices = parallel.sample_indices(config.train.batch_size)
    network = create_network(config, axis_name=parallel.AXIS_NAME)
    steps = make_train_steps(network, create_optimizer(config), max_steps=1)

    ways = {}
    for name, gib in (("resident", 1.0), ("streaming", 0.0)):
        config.data.resident_gib = gib
        all_steps = range(config.train.steps)
        feed = make_feed(
            config, pictures, key, sample_indices=indices, steps=all_steps, max_steps=1
        )
        run = parallel.map_over_devices(steps, pictures_axes=feed.pictures_axes)
        state = parallel.replicate(create_state(config))
        state, losses = run(state, indices, key, feed.take(1), params, weights, np.int32(1))
        jax.block_until_ready(losses)
        ways[name] = [feed, run, state, []]
        print(f"{name}: {feed.description}", flush=True)
    for _ in range(options.rounds):
        for way in ways.values():
            feed, run, state, rates = way
            start = time.perf_counter()
            for _ in range(options.steps):
                state, losses = run(state, indices, key, feed.take(1), params, weights, np.int32(1))
            jax.block_until_ready(losses)
            rates.append(options.steps / (time.perf_counter() - start))
            way[2] = state
    for name, way in ways.items():
        print(f"{name:10} {statistics.median(way[3]):6.2f} steps/s  {way[3]}")
    pairs = zip(ways["streaming"][3], ways["resident"][3], strict=True)
    ratios = [streaming / resident for streaming, resident in pairs]
    print(f"streaming / resident: median {statistics.median(ratios):.3f}, least {min(ratios):.3f}")


if __name__ == "__main__":
    main()
