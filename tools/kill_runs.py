"""Kills short runs at random and starts them again, and checks after each time what must hold.

    python -m tools.kill_runs --kills=50

Runs whose pictures stay on the device and runs whose pictures stream take turns. Holds that a
command that was killed can be started again, that the best checkpoint is the one of the least
validation loss in metrics.jsonl, that no more checkpoints are kept than configured, and that each
run ends in the same state, bit for bit, as one that was left alone.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from draem_jax.config import default_config, to_json
from draem_jax.training.checkpoints import logged_losses, open_checkpoints
from draem_jax.training.workdir import load_run

_RECIPE = """
from pathlib import Path
from draem_jax.config import from_json

def get_config(name):
    return from_json(Path(__file__).with_name(f"{name}.json"))
"""
_SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGKILL, signal.SIGTERM)
FEEDS = {"resident": {}, "streaming": {"data.resident_gib": 0.0, "data.workers": 1}}
_EARLY = 0.25  # share of the kills that may come before the first step
_START = 6.0  # seconds that a start takes
_PATIENCE = 300.0  # seconds that a run may take to its first step, or to its end


@dataclass
class Trial:
    """What is tried, and what came of it so far.

    Attributes:
        root: the folder of everything.
        steps: of a run.
        rng: what and when is drawn with.
        counts: kills by signal and feed, and ends that were compared.
    """

    root: Path
    steps: int
    rng: random.Random
    counts: Counter[str] = field(default_factory=Counter)

    def commands(self, feed: str, workdir: Path) -> list[list[str]]:
        """The command of each process of a run, which are started and killed together."""
        command = [
            *(sys.executable, "-m", "draem_jax", "train", "--cpu_devices=1"),
            f"--config={self.root / 'recipe.py'}:{feed}",
            f"--workdir={workdir}",
        ]
        return [command]

    def start(self, feed: str, workdir: Path) -> list[subprocess.Popen[bytes]]:
        """Starts a run, or goes on with it."""
        output = (self.root / "output.txt").open("wb")
        return [
            subprocess.Popen(command, stdout=output, stderr=output)
            for command in self.commands(feed, workdir)
        ]

    def leave_alone(self, feed: str, workdir: Path) -> None:
        """Lets a run come to its end, undisturbed from here on."""
        for process in self.start(feed, workdir):
            assert process.wait(_PATIENCE) == 0, self.output()

    def kill_once(self, feed: str, workdir: Path) -> bool:
        """Starts a run and kills it at a random time; whether it was done before."""
        sent, since = self.rng.choice(_SIGNALS), time.time()
        processes = self.start(feed, workdir)
        if self.rng.random() < _EARLY:
            time.sleep(self.rng.uniform(0, _START))
        else:
            # Counted from the first line that it logs, so that slow starts do not matter.
            log = workdir / "metrics.jsonl"
            while processes[0].poll() is None and not _has_grown(log, since):
                assert time.time() < since + _PATIENCE, self.output()
                time.sleep(0.01)
            time.sleep(self.rng.uniform(0, 2))
        for process in processes:
            process.send_signal(sent)
        statuses = {process.wait(_PATIENCE) for process in processes}
        # SIGTERM before the run listens ends it as any process.
        expected = {-sent, 128 + sent, 0}
        assert statuses <= expected, (statuses, self.output())
        if statuses == {0}:
            return True
        self.counts[f"{sent.name} {feed}"] += 1
        return False

    def output(self) -> str:
        """What the last run printed."""
        return (self.root / "output.txt").read_text(errors="replace")


def _has_grown(log: Path, since: float) -> bool:
    return log.exists() and log.stat().st_mtime > since and log.stat().st_size > 0


def tiny_config(steps: int, **changes: object) -> ConfigDict:
    """A run as small as it can be."""
    config = default_config()
    config.data.image_size = (32,)
    config.model.reconstructive_width = config.model.discriminative_width = 4
    config.optimizer.learning_rate = 1e-3
    config.optimizer.milestones = ()
    config.train.batch_size = config.train.validation_pictures = 4
    config.train.steps, config.train.log_every, config.train.sample_every = steps, 1, steps
    config.train.checkpoint_every = 7
    config.update_from_flattened_dict(changes)
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
    # The one that was to go when a kill came, and the one that came for it.
    assert len(steps) <= keep + 2, steps
    return f"checkpoints {steps}, best {best}"


def kill_runs(*, kills: int, steps: int, seed: int, feeds: Sequence[str]) -> Counter[str]:
    """Kills runs as often as is said, and compares what each comes to.

    Args:
        kills: how often; a run that was done before it was killed does not count.
        steps: of each run.
        seed: of what is random.
        feeds: that take turns, of `FEEDS`.

    Returns:
        How many kills and compared ends there were, by kind.

    Raises:
        AssertionError: something does not hold.
    """
    with tempfile.TemporaryDirectory() as folder:
        trial = Trial(Path(folder), steps, random.Random(seed))
        # Programs are compiled once, or each start would take most of the time.
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(trial.root / "compiled"))
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
        (trial.root / "recipe.py").write_text(_RECIPE)
        keep, done = default_config().train.keep_checkpoints, 0
        for feed in feeds:
            config = tiny_config(steps, **FEEDS[feed])
            (trial.root / f"{feed}.json").write_text(to_json(config))
        expected = {}
        for number in range(sys.maxsize):
            feed = feeds[number % len(feeds)]
            if feed not in expected:
                trial.leave_alone(feed, trial.root / feed)
                expected[feed] = load_run(trial.root / feed)[1]
            workdir = trial.root / f"run_{number}"
            # Of the kills that are left, so that each feed has its share.
            share = -(-(kills - done) // max(1, len(feeds) - number))
            for _ in range(share):
                if is_done := trial.kill_once(feed, workdir):
                    break
                done += 1
                print(f"{done:3}/{kills} {feed:9} {check(workdir, keep)}", flush=True)
            else:
                is_done = False
            if not is_done:
                trial.leave_alone(feed, workdir)
            jax.tree.map(np.testing.assert_array_equal, load_run(workdir)[1], expected[feed])
            trial.counts[f"equal ends {feed}"] += 1
            print(f"        {feed:9} equal to the run that was left alone", flush=True)
            if done >= kills:
                return trial.counts
    raise AssertionError("there are kills enough")


def main() -> None:
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--feeds", nargs="+", choices=FEEDS, default=list(FEEDS))
    options = parser.parse_args()
    counts = kill_runs(**vars(options))
    print("; ".join(f"{count} {what}" for what, count in sorted(counts.items())))


if __name__ == "__main__":
    main()
