"""Kills short runs at random and starts them again, and checks after each time what must hold.

    python -m tools.kill_runs --kills=50

Runs whose pictures stay on the device, runs whose pictures stream, and the same with two processes
that train together take turns; of two processes one or both are killed. Holds that a command that
was killed can be started again, that a process whose partner is gone says so in one line within a
minute, that the best checkpoint is the one of the least validation loss in metrics.jsonl, that no
more checkpoints are kept than configured, and that each run ends in the same state, bit for bit, as
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
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from draem_jax.config import default_config
from draem_jax.training.checkpoints import logged_losses, open_checkpoints
from draem_jax.training.workdir import load_run
from tools.processes import free_port, own_lines, write_recipe

_SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGKILL, signal.SIGTERM)
_EARLY = 0.25  # share of the kills that may come before the first step
_START = 6.0  # seconds that a start takes
_PATIENCE = 300.0  # seconds that a run may take to its first step, or to its end
_JOIN = 20  # seconds that a process waits for another one to start
# Seconds in which a process ends whose partner was killed; longer where it had not heard of it yet.
_NOTICE, _LATE_NOTICE = 60.0, 120.0


@dataclass(frozen=True)
class Kind:
    """What is particular to some runs.

    Attributes:
        changes: of the config, by dotted names.
        processes: that train together.
    """

    changes: Mapping[str, object] = field(default_factory=dict)
    processes: int = 1


_STREAMING = {"data.resident_gib": 0.0, "data.workers": 1}
KINDS = {
    "resident": Kind(),
    "pair": Kind(processes=2),
    "streaming": Kind(_STREAMING),
    "streaming_pair": Kind(_STREAMING, processes=2),
}


@dataclass
class Trial:
    """What is tried, and what came of it so far.

    Attributes:
        root: the folder of everything.
        steps: of a run.
        rng: what and when is drawn with.
        counts: kills by signal, kind and who was killed, and ends that were compared.
        slowest: seconds that a process took at most to end after its partner was killed.
    """

    root: Path
    steps: int
    rng: random.Random
    counts: Counter[str] = field(default_factory=Counter)
    slowest: float = 0.0

    @contextmanager
    def running(self, kind: str, workdir: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
        """Starts the processes of a run, or goes on with it; none outlives the block."""
        processes = KINDS[kind].processes
        command = [
            *(sys.executable, "-m", "tools.processes", "train", "--cpu_devices=1"),
            f"--config={self.root / kind}.py",
            f"--workdir={workdir}",
        ]
        if processes > 1:
            command += [f"--coordinator=localhost:{free_port()}", f"--processes={processes}"]
            command += [f"--join_timeout={_JOIN}"]
        started = []
        for which in range(processes):
            own = [f"--process={which}"] if processes > 1 else []
            with self.output_of(which).open("wb") as output:
                started.append(subprocess.Popen(command + own, stdout=output, stderr=output))
        try:
            yield started
        finally:
            for process in started:
                process.kill()

    def leave_alone(self, kind: str, workdir: Path) -> None:
        """Lets a run come to its end, undisturbed from here on."""
        with self.running(kind, workdir) as processes:
            for process in processes:
                assert process.wait(_PATIENCE) == 0, self.outputs()

    def kill_once(self, kind: str, workdir: Path) -> bool:
        """Starts a run and kills it at a random time; whether it was done before."""
        sent, since = self.rng.choice(_SIGNALS), time.time()
        with self.running(kind, workdir) as processes:
            # Each of two, or both.
            victims = self.rng.choice([processes[:1], processes[1:], processes]) or processes
            is_early = self.rng.random() < _EARLY
            if is_early:
                time.sleep(self.rng.uniform(0, _START))
            else:
                # Counted from the first line that it logs, so that slow starts do not matter.
                log = workdir / "metrics.jsonl"
                while processes[0].poll() is None and not _has_grown(log, since):
                    assert time.time() < since + _PATIENCE, self.outputs()
                    time.sleep(0.01)
                time.sleep(self.rng.uniform(0, 2))
            for process in victims:
                process.send_signal(sent)
            began = time.monotonic()
            statuses = [process.wait(_PATIENCE) for process in processes]
            took = time.monotonic() - began
        if set(statuses) == {0}:
            return True
        # SIGTERM before the run listens ends it as any process.
        by_signal = {-sent, 128 + sent}
        expected = {*by_signal, 0, *([1] if len(processes) > 1 else [])}
        assert set(statuses) <= expected, (statuses, self.outputs())
        assert by_signal & {process.returncode for process in victims}, (statuses, self.outputs())
        if 1 in statuses:
            assert took < (_LATE_NOTICE if is_early else _NOTICE), (took, self.outputs())
            self.slowest = max(self.slowest, took)
            self.check_last_words(statuses)
        who = "" if len(processes) == 1 else f" to {len(victims)}"
        self.counts[f"{sent.name}{who} {kind}"] += 1
        return False

    def check_last_words(self, statuses: Sequence[int]) -> None:
        """Raises AssertionError unless those that lost their partner say so in one line."""
        for which, status in enumerate(statuses):
            if status == 1:
                said = self.output_of(which).read_text(errors="replace")
                assert len(own_lines(said)) == 1, said

    def output_of(self, which: int) -> Path:
        """What a process of the last run printed."""
        return self.root / f"output_{which}.txt"

    def outputs(self) -> str:
        """What all of them printed."""
        return "\n".join(path.read_text() for path in sorted(self.root.glob("output_*.txt")))


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


def kill_runs(*, kills: int, steps: int, seed: int, kinds: Sequence[str]) -> Trial:
    """Kills runs as often as is said, and compares what each comes to.

    Args:
        kills: how often; a run that was done before it was killed does not count.
        steps: of each run.
        seed: of what is random.
        kinds: that take turns, of `KINDS`.

    Returns:
        What came of it.

    Raises:
        AssertionError: something does not hold.
    """
    with tempfile.TemporaryDirectory() as folder:
        trial = Trial(Path(folder), steps, random.Random(seed))
        # Programs are compiled once, or each start would take most of the time.
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(trial.root / "compiled"))
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
        keep, done = default_config().train.keep_checkpoints, 0
        for kind in kinds:
            write_recipe(trial.root / f"{kind}.py", tiny_config(steps, **KINDS[kind].changes))
        expected = {}
        for number in range(sys.maxsize):
            kind = kinds[number % len(kinds)]
            if kind not in expected:
                trial.leave_alone(kind, trial.root / kind)
                expected[kind] = load_run(trial.root / kind)[1]
            workdir = trial.root / f"run_{number}"
            # Of the kills that are left, so that each kind has its share.
            share = -(-(kills - done) // max(1, len(kinds) - number))
            for _ in range(share):
                if is_done := trial.kill_once(kind, workdir):
                    break
                done += 1
                print(f"{done:3}/{kills} {kind:14} {check(workdir, keep)}", flush=True)
            else:
                is_done = False
            if not is_done:
                trial.leave_alone(kind, workdir)
            jax.tree.map(np.testing.assert_array_equal, load_run(workdir)[1], expected[kind])
            trial.counts[f"equal ends {kind}"] += 1
            print(f"        {kind:14} equal to the run that was left alone", flush=True)
            if done >= kills:
                return trial
    raise AssertionError("there are kills enough")


def main() -> None:
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    options = parser.parse_args()
    trial = kill_runs(**vars(options))
    print("; ".join(f"{count} {what}" for what, count in sorted(trial.counts.items())))
    if trial.slowest:
        print(f"a process ended at most {trial.slowest:.0f} s after its partner")


if __name__ == "__main__":
    main()
