"""Kills and resumes a short run at random, and checks after each time what must hold.

    python tools/kill_and_resume.py --kills=50

Holds that the best checkpoint is the one of the least validation loss in metrics.jsonl, that no
more checkpoints are kept than configured, and that the run ends in the same state, bit for bit, as
one that was left alone.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import numpy as np

from draem_jax.config import default_config, to_json
from draem_jax.training.checkpoints import logged_losses, open_checkpoints
from draem_jax.training.workdir import load_run

# Trains the config in argv[1] into argv[2].
_PROGRAM = """
import pathlib, sys
from draem_jax.config import from_json
from draem_jax.errors import StoppedError
from draem_jax.training.loop import train
from draem_jax.training.parallel import use_cpu_devices
use_cpu_devices(1)
try:
    train(from_json(pathlib.Path(sys.argv[1])), sys.argv[2], quiet=True)
except StoppedError as error:
    sys.exit(error.exit_code)
"""
_SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


def tiny_config(steps: int):
    config = default_config()
    config.data.image_size = (32,)
    config.model.reconstructive_width = config.model.discriminative_width = 4
    config.optimizer.learning_rate = 1e-3
    config.optimizer.milestones = ()
    config.train.batch_size = config.train.validation_pictures = 4
    config.train.steps, config.train.log_every, config.train.sample_every = steps, 1, steps
    config.train.checkpoint_every = 7
    return config


def check(workdir: Path, keep: int) -> str:
    """Raises AssertionError unless the checkpoints are as they should be; says what there is."""
    if not (workdir / "checkpoints").is_dir():
        return "no checkpoints yet"
    with open_checkpoints(workdir) as checkpoints:
        steps, best = checkpoints.steps(), checkpoints.best_step()
    if not steps:
        return "no checkpoints yet"
    # What was logged and not saved yet when the run was killed has no checkpoint.
    losses = {step: loss for step, loss in logged_losses(workdir).items() if step <= steps[-1]}
    assert best == min(sorted(losses), key=losses.__getitem__), (best, losses)
    assert len(steps) <= keep + 1, steps
    return f"{steps}, best {best}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    config = tiny_config(options.steps)
    keep = config.train.keep_checkpoints
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        # Programs are compiled once, or each start would take most of the time.
        os.environ["JAX_COMPILATION_CACHE_DIR"] = str(root / "compiled")
        os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
        config_path = root / "config.json"
        config_path.write_text(to_json(config))

        def start(workdir: Path) -> subprocess.Popen:
            return subprocess.Popen([sys.executable, "-c", _PROGRAM, config_path, workdir])

        assert start(root / "alone").wait() == 0
        expected, workdir, kills, runs = load_run(root / "alone")[1], root / "killed_0", 0, 0
        while kills < options.kills:
            run, sent = start(workdir), rng.choice(_SIGNALS)
            # Counted from the first line that it logs, so that slow starts do not matter.
            log, begun_at = workdir / "metrics.jsonl", time.time()
            while run.poll() is None and not (
                log.exists() and log.stat().st_mtime > begun_at and log.stat().st_size
            ):
                time.sleep(0.01)
            time.sleep(rng.uniform(0, 1))
            run.send_signal(sent)
            status = run.wait()
            kills += status != 0  # a run that was done before does not count
            print(f"{kills:3} {sent.name:8} exit {status:4}  {check(workdir, keep)}", flush=True)
            if status == 0:  # begin again, to have all kills
                same(load_run(workdir)[1], expected)
                runs += 1
                workdir = root / f"killed_{runs}"
        assert start(workdir).wait() == 0
        print(f"end: {check(workdir, keep)}")
        same(load_run(workdir)[1], expected)
    print(f"{options.kills} kills; every end is bit-identical to the run that was left alone")


def same(state, expected) -> None:
    jax.tree.map(np.testing.assert_array_equal, state, expected)


if __name__ == "__main__":
    main()
