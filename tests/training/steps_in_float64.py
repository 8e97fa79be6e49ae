"""Steps that float32's rounding does not decide, on one process or as one of two.

python -m tests.training.steps_in_float64 PORT PROCESS < CONFIG.json
"""

import hashlib
import json
import sys
import tempfile
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from draem_jax.config import anomaly_params, from_json
from draem_jax.hosts.joining import join, leave
from draem_jax.hosts.talking import gathered, together
from draem_jax.training import parallel
from draem_jax.training.feed import read_samples
from draem_jax.training.optimizer import create_optimizer
from draem_jax.training.pictures import open_pictures
from draem_jax.training.samples import Draw
from draem_jax.training.state import create_network, create_state, run_keys
from draem_jax.training.step import train_step


def widened(tree):
    return jax.tree.map(lambda a: np.asarray(a, np.float64) if a.dtype == np.float32 else a, tree)


def make_steps(config, count):
    """The losses of the steps, and digests of this process's samples in their order."""
    pictures, key = open_pictures(config), run_keys(config)[1]
    indices = parallel.sample_indices(config.train.batch_size)
    optimizer, state = create_optimizer(config), create_state(config)
    network = create_network(config, axis_name=parallel.AXIS_NAME).clone(dtype=jnp.float64)
    step = partial(train_step, network=network, optimizer=optimizer)
    mapped = parallel.map_over_devices(
        lambda state, samples, *_: step(state, samples), devices=parallel.chosen_devices()
    )
    samples, digests = [], []
    for number in range(count):
        draw = Draw(key, np.int32(number), indices.reshape(-1))
        drawn = jax.tree.map(np.asarray, read_samples(pictures, draw, anomaly_params(config)))
        digests.append(
            [
                hashlib.sha256(b"".join(part[i].tobytes() for part in jax.tree.leaves(drawn)))
                for i in range(indices.size)
            ]
        )
        laid_out = jax.tree.map(lambda a: a.reshape(*indices.shape, *a.shape[1:]), drawn)
        samples.append(widened(laid_out))
    losses = []
    with jax.enable_x64(True):
        state = parallel.replicate(widened(state))
        parallel.connect_devices()
        for one in samples:
            state, made = mapped(state, one, 0, 0, 0, 0, 0)
            losses.append(float(made.total))
    return losses, [[digest.hexdigest() for digest in of_step] for of_step in digests]


if __name__ == "__main__":
    port, process = sys.argv[1:]
    join(coordinator=f"localhost:{port}", processes=2, process=int(process))
    parallel.use_cpu_devices(2)
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file, together():
        file.write(sys.stdin.read())
        file.flush()
        losses, digests = make_steps(from_json(Path(file.name)), 20)
        parts = gathered(digests)
    joined = [[*first, *second] for first, second in zip(*parts, strict=True)]
    print(json.dumps([losses, joined]))
    leave()
