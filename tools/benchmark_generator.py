"""Measures the anomaly generator: wall time an image, in all and by stage.

    python tools/benchmark_generator.py [--size 256] [--batch 8] [--calls 20]

On a CPU it shows each core as one device, as training does, and spreads the batch over them with
`pmap`; it measures a single device as well. The last line is JSON.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from draem_jax.anomalies import (
    AnomalyParams,
    rotate_normals_with_keys,
    simulate_with_keys,
)
from draem_jax.anomalies.masks import perlin_mask
from draem_jax.anomalies.samples import map_samples
from draem_jax.anomalies.texture_operations import augment_texture

Stage = Callable[..., object]


def masks(keys, images, textures, params):
    del textures
    return map_samples(partial(perlin_mask, params=params), keys, images)


def textures(keys, images, textures, params):
    del images
    return map_samples(partial(augment_texture, params=params.texture), keys, textures)


def rotate_normals(keys, images, textures, params):
    del textures
    return rotate_normals_with_keys(keys, images, params)


def milliseconds_an_image(
    stage: Stage, params: AnomalyParams, *, devices: int, batch: int, size: int, calls: int
) -> float:
    """The median over calls, each with keys of its own, compiling left out."""
    per_device = batch // devices
    spread = jax.pmap(stage, in_axes=(0, 0, 0, None), devices=jax.local_devices()[:devices])
    shape = (devices, per_device, size, size, 3)
    images, textures = (
        jax.random.randint(jax.random.key(i), shape, 0, 256) / jnp.float32(255) for i in range(2)
    )
    keys = jax.random.split(jax.random.key(2), (calls + 1, devices, per_device))
    seconds = []
    for call in range(calls + 1):
        call_keys = jax.block_until_ready(keys[call])
        start = time.perf_counter()
        jax.block_until_ready(spread(call_keys, images, textures, params))
        seconds.append(time.perf_counter() - start)
    return 1000 * statistics.median(seconds[1:]) / batch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=256, help="height and width, pixels")
    parser.add_argument("--batch", type=int, default=8, help="images a call, on all devices")
    parser.add_argument("--calls", type=int, default=20)
    arguments = parser.parse_args()
    jax.config.update("jax_num_cpu_devices", len(os.sched_getaffinity(0)))

    recipe = AnomalyParams.code()
    measured: dict[str, tuple[Stage, AnomalyParams]] = {
        "simulate": (simulate_with_keys, recipe),
        "simulate, none untouched": (
            simulate_with_keys,
            AnomalyParams.from_dict({"untouched_share": 0.0}),
        ),
        "masks": (masks, recipe),
        "textures": (textures, recipe),
        "rotate normals": (rotate_normals, recipe),
    }
    found = max(n for n in range(1, jax.local_device_count() + 1) if arguments.batch % n == 0)
    results = {
        f"{devices} device{'s' * (devices > 1)}": {
            name: round(milliseconds_an_image(stage, params, devices=devices, **vars(arguments)), 3)
            for name, (stage, params) in measured.items()
        }
        for devices in sorted({found, 1}, reverse=True)
    }
    platform = jax.devices()[0].platform
    for devices, stages in results.items():
        print(f"{platform}, {devices}, batch {arguments.batch} at {arguments.size}²")
        for name, value in stages.items():
            print(f"  {name:<26}{value:8.3f} ms an image")
    print(json.dumps({"platform": platform, **vars(arguments), "ms_an_image": results}))


if __name__ == "__main__":
    main()
