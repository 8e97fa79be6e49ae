"""Processes that train together, over gloo on this machine, against one that trains alone."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time

import jax
import numpy as np
import pytest

from draem_jax.cli import main
from draem_jax.config import to_json
from draem_jax.data.surfaces import export_samples
from draem_jax.errors import UserError
from draem_jax.hosts.clusters import cluster_here
from draem_jax.hosts.joining import join
from draem_jax.hosts.stopping import AgreedStop
from draem_jax.hosts.talking import Watch
from draem_jax.training import parallel
from draem_jax.training.loop import train
from tests.training.steps_in_float64 import make_steps
from tools.processes import free_port, own_lines, write_recipe

STEPS = 20

TALK = """
import json, sys
from draem_jax.errors import UserError
from draem_jax.hosts import joining
from draem_jax.hosts.talking import agree, from_first, gathered, together
port, process = sys.argv[1], int(sys.argv[2])
joining.join(coordinator=f"localhost:{port}", processes=2, process=process)
with together():
    told = [gathered(process), from_first(f"of {process}"), joining.is_first()]
    try:
        agree({"the same": 1, "the number": process})
    except UserError as error:
        told.append(str(error))
print(json.dumps(told))
try:
    with together():
        if process == 1:
            raise ValueError("out of luck")
        gathered(None)
except (UserError, ValueError) as error:
    print(json.dumps(str(error)), flush=True)
joining.end(7)
"""


@pytest.mark.parametrize(
    ("environment", "cluster"),
    [
        ({}, None),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": "4"}, "slurm"),
        # A shell in an allocation, and a batch script.
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": "1"}, None),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}, None),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, "ompi"),
        ({"OMPI_COMM_WORLD_SIZE": "1"}, None),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, "gketpu"),
        ({"TPU_WORKER_HOSTNAMES": "a"}, None),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, None),
    ],
)
def test_who_is_alone_is_not_held_up(environment, cluster):
    assert cluster_here(environment) == cluster


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"processes": 2}, "--coordinator and --process are missing"),
        ({"coordinator": "a:1", "processes": 2}, "--process is missing"),
        ({"coordinator": "a", "processes": 2, "process": 0}, "HOST:PORT"),
        ({"coordinator": "a:1", "processes": 2, "process": 2}, "between 0 and"),
        ({"coordinator": "localhost:1", "processes": 2, "process": 1}, "does not answer"),
    ],
)
def test_flags_that_name_no_process(given, message):
    with pytest.raises(UserError, match=message):
        join(**given, timeout=0.1)


def test_two_processes_talk_and_one_that_fails_ends_the_other():
    port = str(free_port())
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TALK, port, which], stdout=subprocess.PIPE, text=True
        )
        for which in "01"
    ]
    outputs = [process.communicate(timeout=120)[0].splitlines() for process in processes]
    assert [process.returncode for process in processes] == [7, 7]
    for which, (told, failure) in enumerate(outputs):
        values, first, is_first, disagreement = json.loads(told)
        assert (values, first, is_first) == ([0, 1], "of 0", which == 0)
        assert "process 1 on " in disagreement
        assert "the number is 1, and 0 there" in disagreement
        assert "the same" not in disagreement.partition(";")[0]
        assert "out of luck" in json.loads(failure)


class WatchOfThreads(Watch):
    """Tells texts to threads that stand in the place of other processes."""

    def __init__(self, which, said, count):
        super().__init__("", lambda: "")
        self.which, self.said, self.count = which, said, count

    def say(self, what, text):
        self.said.setdefault(what, {})[self.which] = text

    def told(self, what):
        return dict(self.said.get(what, {}))


@pytest.mark.parametrize("seed", range(8))
def test_all_stop_after_the_same_call(seed):
    draw = random.Random(seed)
    count, said, over = draw.choice([2, 3, 5]), {}, threading.Event()
    wishes = {i: draw.randint(1, 60) for i in draw.sample(range(count), draw.randint(1, count))}
    watches = [WatchOfThreads(i, said, count) for i in range(count)]
    calls, ends = [0] * count, [None] * count

    def run(which):
        stop = AgreedStop(
            lambda: signal.SIGTERM if calls[which] >= wishes.get(which, 99) else 0,
            watch=watches[which],
        )
        for call in range(1, 99):
            while min(calls) < call - 1:  # no device is a call ahead of another
                time.sleep(0)
            calls[which] = call
            if stop.after_call():
                break
        ends[which] = (calls[which], stop.number)
        calls[which] = 99

    def look():
        while not over.wait(draw.random() / 500):
            for watch in draw.sample(watches, count):
                watch.tick()

    threads = [threading.Thread(target=run, args=(which,)) for which in range(count)]
    looking = threading.Thread(target=look)
    for thread in (*threads, looking):
        thread.start()
    for thread in threads:
        thread.join(30)
    over.set()
    looking.join(30)
    first = min(wishes.values())
    assert len(set(ends)) == 1
    assert first <= ends[0][0] <= first + 2
    assert ends[0][1] == signal.SIGTERM


class Pair:
    """Two processes with two devices each."""

    def __init__(self, verb, workdir, *flags, versions=("", "")):
        """Starts them; `flags` are those of the first and those of the second one."""
        port, self.workdir = free_port(), workdir
        kept = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
        self.processes = [
            subprocess.Popen(
                [
                    *(sys.executable, "-m", "tests.training.slowly", verb, "--cpu_devices=2"),
                    *(f"--process={which}", "--processes=2", f"--coordinator=localhost:{port}"),
                    *own,
                ],
                stderr=subprocess.PIPE, text=True,
                env=os.environ | kept | {"TEST_VERSION": version},
            )
            for which, (own, version) in enumerate(zip(flags, versions, strict=True))
        ]  # fmt: skip

    @classmethod
    def train(cls, workdir, config, *, other=None, other_workdir=None, versions=("", "")):
        """Two that train; the second one may differ."""
        flags = []
        for which, chosen in enumerate((config, other or config)):
            recipe = write_recipe(workdir.parent / f"{workdir.name}_{which}.py", chosen)
            own_workdir = (which and other_workdir) or workdir
            flags.append([f"--config={recipe}", f"--workdir={own_workdir}"])
        return cls("train", workdir, *flags, versions=versions)

    def await_step(self, step):
        until = time.monotonic() + 300
        while step not in losses(self.workdir):
            assert time.monotonic() < until
            assert [process.poll() for process in self.processes] == [None, None]
            time.sleep(0.05)

    def end(self, seconds=300):
        """The exit statuses, and the lines that are the program's own."""
        try:
            outputs = [process.communicate(timeout=seconds)[1] for process in self.processes]
        finally:
            for process in self.processes:
                process.kill()
        return [process.returncode for process in self.processes], [
            own_lines(output) for output in outputs
        ]


def losses(workdir):
    """The loss of each step."""
    path = workdir / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.is_file() else []
    entries = [json.loads(line) for line in lines if line.endswith("}")]
    return {entry["step"]: entry["total"] for entry in entries if "total" in entry}


def saved(workdir):
    return sorted(int(path.name) for path in (workdir / "checkpoints").iterdir())


def begun_by(workdir, folder):
    """A copy of a finished run as it was at the checkpoint before its last one."""
    shutil.copytree(workdir, folder)
    shutil.rmtree(folder / "checkpoints" / str(STEPS))
    forget_unsaved(folder)
    return folder


def forget_unsaved(workdir):
    """Takes the steps behind the last checkpoint out of the log, as going on does."""
    path, last = workdir / "metrics.jsonl", saved(workdir)[-1]
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if json.loads(line)["step"] <= last))


@pytest.fixture(scope="module")
def config(tiny_config):
    return tiny_config(
        **{"train.steps": STEPS, "train.checkpoint_every": STEPS // 2, "train.sample_every": STEPS}
    )


@pytest.fixture(scope="module")
def one_device(config, tmp_path_factory):
    """A run on one device."""
    workdir = tmp_path_factory.mktemp("hosts") / "one_device"
    with parallel.on_devices(jax.devices()[:1]):
        train(config, workdir, quiet=True)
    return workdir


@pytest.mark.long
def test_two_processes_make_the_steps_that_one_makes(config):
    # In float64 and small: each step of these networks makes what rounding has done larger, at the
    # usual rate about fifty times. At this rate learning changes the losses by 1e-5 to 1e-3.
    config = config.copy_and_resolve_references()
    config.optimizer.learning_rate = 1e-6
    port = str(free_port())
    module = "tests.training.steps_in_float64"
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", module, port, which],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for which in "01"
    ]  # fmt: skip
    for process in processes:
        process.stdin.write(to_json(config))
        process.stdin.close()
    made = []
    for devices in (jax.devices(), jax.devices()[:1]):
        with parallel.on_devices(devices):
            made.append(make_steps(config, STEPS))
    for process in processes:
        made.append(json.loads(process.stdout.read().splitlines()[-1]))
        assert process.wait(60) == 0
    losses, digests = zip(*made, strict=True)
    # Some have no anomaly, so that one may come twice.
    assert len({digest for of_step in digests[0] for digest in of_step}) > STEPS * 3
    for i in (1, 2, 3):
        assert digests[i] == digests[0]  # the samples, bit for bit
        np.testing.assert_allclose(losses[i], losses[0], rtol=1e-11)


def close_at_first(workdir, other, step):
    """Whether the first losses after a step that both have come to are the same but for rounding.

    See `test_two_processes_make_the_steps_that_one_makes`.
    """
    one, another = losses(workdir), losses(other)
    assert list(one) == list(another) == list(range(1, STEPS + 1))
    for number in (step + 1, step + 2):
        assert one[number] == pytest.approx(another[number], rel=1e-4)


@pytest.mark.long
def test_two_processes_go_on_whatever_stops_them(config, one_device, tmp_path):
    # From one device's checkpoint. That the end is the same, bit for bit, is tried by
    # `tools.kill_runs`.
    workdir = begun_by(one_device, tmp_path / "two")
    begun_at = saved(workdir)[-1]

    # Asked to stop, first one process and then the other.
    pair = Pair.train(workdir, config)
    pair.await_step(begun_at + 2)
    pair.processes[1].send_signal(signal.SIGTERM)
    time.sleep(0.5)
    pair.processes[0].send_signal(signal.SIGINT)
    began = time.monotonic()
    codes, lines = pair.end()
    assert time.monotonic() - began < 30
    assert codes[0] == codes[1]
    assert codes[0] in (143, 130)
    step = saved(workdir)[-1]
    assert begun_at + 2 <= step < STEPS - 2
    for line in lines:
        assert line == [
            f"draem-jax: stopped at step {step} of {STEPS}, so it is not done; the same command "
            "goes on there"
        ]

    # The first one is killed: the other ends with a line that says where the same command goes on.
    forget_unsaved(workdir)  # else what is awaited is there already
    pair = Pair.train(workdir, config)
    pair.await_step(step + 1)
    pair.processes[0].kill()
    began = time.monotonic()
    codes, lines = pair.end()
    assert time.monotonic() - began < 60
    assert codes == [-signal.SIGKILL, 1]
    (line,) = lines[1]
    assert line.startswith("draem-jax: process 0 on ")
    assert line.endswith(f"the same command goes on from step {step}")

    assert Pair.train(workdir, config).end()[0] == [0, 0]
    close_at_first(workdir, one_device, begun_at)
    assert not list(workdir.glob(".shared_*"))

    # What two processes saved goes on on four devices of one, and on one device.
    for devices in (jax.devices(), jax.devices()[:1]):
        other = begun_by(workdir, tmp_path / f"on_{len(devices)}")
        with parallel.on_devices(devices):
            train(config, other, quiet=True)
        close_at_first(other, workdir, step)


@pytest.mark.long
def test_processes_that_differ_end_with_a_line(config, tmp_path, tiny_config):
    def lines_of(**changes):
        codes, lines = Pair.train(tmp_path / "run", config, **changes).end(120)
        assert codes == [1, 1]
        assert all(len(line) == 1 for line in lines)
        return [line for (line,) in lines]

    other = config.copy_and_resolve_references()
    other.train.batch_size = 8
    for line in lines_of(other=other, versions=("", "7.0")):
        assert "process 1 on " in line
        assert "the version of draem_jax is '7.0'" in line
        assert "config.train.batch_size is '8', and '4' there" in line
    for line in lines_of(other_workdir=tmp_path / "another"):
        assert "process 1 on " in line
        assert "does not see" in line
    other = config.copy_and_resolve_references()
    other.data.name, other.data.root = "folder", str(tmp_path / "nowhere")
    for line in lines_of(other=other):
        assert "nowhere" in line


@pytest.mark.long
@pytest.mark.tiny_programs
def test_two_processes_finetune_as_one_does(trained, tmp_path):
    export_samples(
        tmp_path / "stains", category="brick", split="train", defect_type="stain", indices=range(6)
    )
    flags = [
        f"--workdir={trained}",
        f"--accept={tmp_path / 'stains'}",
        "--config.finetune.steps=3",
    ]
    out = [f"--out-workdir={tmp_path / 'two'}"]
    codes, lines = Pair("finetune", tmp_path / "two", flags + out, flags + out).end()
    assert codes == [0, 0]
    assert not any(lines)
    assert main(["finetune", *flags, f"--out-workdir={tmp_path / 'one'}"]) == 0
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    assert list(two) == list(one) == [5, 6, 7]
    for step in (5, 6):
        assert two[step] == pytest.approx(one[step], rel=1e-4)
    assert saved(tmp_path / "two") == saved(tmp_path / "one")
