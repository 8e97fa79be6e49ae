"""Trains on hosts between which packets come late or not at all, in namespaces of one machine.

    python -m tools.lossy_network --hosts=4 --loss=0.01 --delay=0.005 --mbit=50

What hosts send each other passes through this process, which delays and drops it, since not every
kernel can. Runs as small as they can be are made on a good network and on the bad one, on one that
breaks down for a while, and on one that a host disappears from. Holds that the first three make the
same losses, bit for bit; that the processes of the last one end within a minute, each with one
line; and that the same command goes on from there to the same losses. Needs Linux and root.
"""

import argparse
import fcntl
import heapq
import os
import random
import select
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tools.kill_runs import tiny_config
from tools.processes import own_lines, write_recipe

_PORT = 29500
_NEW_TUN = 0x400454CA  # ioctl TUNSETIFF
_TUN_PACKETS = 0x0001 | 0x1000  # IFF_TUN, IFF_NO_PI
_LONGEST_QUEUE = 0.5  # seconds; what comes to a fuller one is lost
_STEPS = 12
_PATIENCE = 600.0  # seconds for a run
_NOTICE = 60.0  # seconds in which processes end when one is gone


@dataclass
class Link:
    """What becomes of packets on their way to a host.

    Attributes:
        delay: seconds that each takes.
        loss: share of them that is lost, 0 to 1.
        mbit: megabits a second that pass.
        rng: what is lost is drawn with.
        is_cut: whether nothing passes.
        free_at: when what is on its way will have passed, by the clock that `arrival` is told.
    """

    delay: float
    loss: float
    mbit: float
    rng: random.Random
    is_cut: bool = False
    free_at: float = 0.0

    def arrival(self, size: int, now: float) -> float | None:
        """When a packet that is sent now arrives; None if it does not.

        Args:
            size: of the packet, in bytes.
            now: seconds.
        """
        waits = max(0.0, self.free_at - now)
        if self.is_cut or waits > _LONGEST_QUEUE or self.rng.random() < self.loss:
            return None
        self.free_at = now + waits + size * 8 / (self.mbit * 1e6)
        return self.free_at + self.delay


@dataclass
class Network:
    """Hosts in namespaces of their own, and the links that lead to them.

    Attributes:
        links: to each host; may be changed while packets pass.
        passed: how many packets arrived.
        lost: how many did not.
    """

    links: list[Link]
    passed: int = 0
    lost: int = 0
    _ends: list[int] = field(default_factory=list)

    def name(self, host: int) -> str:
        """The namespace of a host."""
        return f"draem_jax_{host}"

    def address(self, host: int) -> str:
        """The address of a host."""
        return f"10.77.0.{host + 1}"

    @contextmanager
    def up(self) -> Iterator[None]:
        """Makes the namespaces, and passes packets on as long as the block lasts."""
        with ExitStack() as stack:
            for host in range(len(self.links)):
                self._begin(host, stack)
            over, wake = os.pipe()
            passing = threading.Thread(target=self._pass_on, args=(over,), daemon=True)
            passing.start()
            try:
                yield
            finally:
                os.write(wake, b"x")
                passing.join()

    def _begin(self, host: int, stack: ExitStack) -> None:
        name, device = self.name(host), f"draem{host}"
        _ip("netns", "add", name)
        stack.callback(_ip, "netns", "del", name)
        # What the host's own name leads to must be what the others reach it at.
        hosts = Path("/etc/netns") / name / "hosts"
        hosts.parent.mkdir(parents=True)
        stack.callback(hosts.parent.rmdir)
        hosts.write_text(f"127.0.0.1 localhost\n{self.address(host)} {socket.gethostname()}\n")
        stack.callback(hosts.unlink)
        end = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        stack.callback(os.close, end)
        fcntl.ioctl(end, _NEW_TUN, struct.pack("16sH22x", device.encode(), _TUN_PACKETS))
        _ip("link", "set", device, "netns", name)
        _ip("-n", name, "addr", "add", f"{self.address(host)}/24", "dev", device)
        for up in (device, "lo"):
            _ip("-n", name, "link", "set", up, "up")
        self._ends.append(end)

    def _pass_on(self, over: int) -> None:
        on_their_way: list[tuple[float, int, int, bytes]] = []
        number = 0
        while True:
            now = time.monotonic()
            while on_their_way and on_their_way[0][0] <= now:
                _, _, host, packet = heapq.heappop(on_their_way)
                os.write(self._ends[host], packet)
                self.passed += 1
            wait = on_their_way[0][0] - now if on_their_way else None
            for end in select.select([over, *self._ends], [], [], wait)[0]:
                if end == over:
                    return
                packet = os.read(end, 65536)
                host = packet[19] - 1  # the last byte of where it goes, in a header of IPv4
                if packet[0] >> 4 != 4 or not 0 <= host < len(self.links):
                    continue
                # Of a host that is cut off, nothing comes either.
                cut = self.links[self._ends.index(end)].is_cut
                due = None if cut else self.links[host].arrival(len(packet), time.monotonic())
                if due is None:
                    self.lost += 1
                else:
                    number += 1
                    heapq.heappush(on_their_way, (due, number, host, packet))

    def start(self, workdir: Path, recipe: Path) -> list[subprocess.Popen[str]]:
        """Starts a process on each host, that train together."""
        return [
            subprocess.Popen(
                [
                    *("ip", "netns", "exec", self.name(host)),
                    *(sys.executable, "-m", "tools.processes", "train", "--cpu_devices=1"),
                    *(f"--config={recipe}", f"--workdir={workdir}", f"--process={host}"),
                    *(f"--coordinator={self.address(0)}:{_PORT}", f"--processes={len(self.links)}"),
                ],
                stderr=subprocess.PIPE, text=True,
            )
            for host in range(len(self.links))
        ]  # fmt: skip


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


def _await_step(processes: Sequence[subprocess.Popen[str]], workdir: Path, step: int) -> None:
    until = time.monotonic() + _PATIENCE
    while len(_losses(workdir)) < step:
        assert time.monotonic() < until, "no step was made"
        assert all(process.poll() is None for process in processes), _ended(processes)
        time.sleep(0.05)


def _ended(processes: Sequence[subprocess.Popen[str]]) -> list[tuple[int, list[str]]]:
    """The exit status of each process, and its own lines."""
    try:
        said = [process.communicate(timeout=_PATIENCE)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [
        (process.returncode, own_lines(text)) for process, text in zip(processes, said, strict=True)
    ]


def _losses(workdir: Path) -> list[str]:
    """The lines that steps were logged in, but for their rates, which a process's first has not."""
    log = workdir / "metrics.jsonl"
    lines = log.read_text().splitlines() if log.is_file() else []
    losses = [line for line in lines if '"total"' in line]
    return [line.partition(', "images_per_second"')[0].rstrip("}") for line in losses]


def try_networks(*, hosts: int, delay: float, loss: float, mbit: float, seed: int) -> None:
    """Trains on one network after the other, and says how each run went.

    Args:
        hosts: how many train together.
        delay: seconds that a packet takes.
        loss: share of the packets that is lost, 0 to 1.
        mbit: megabits a second that come to a host.
        seed: of what is lost.

    Raises:
        AssertionError: something does not hold.
    """
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(root / "compiled"))
        os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
        changes = {"train.checkpoint_every": _STEPS // 3, "train.batch_size": 4 * hosts}
        config = tiny_config(_STEPS, **changes)
        recipe = write_recipe(root / "recipe.py", config)
        good = Network([Link(0.0, 0.0, 1e4, rng) for _ in range(hosts)])
        bad = Network([Link(delay, loss, mbit, rng) for _ in range(hosts)])
        done: list[tuple[int, list[str]]] = [(0, [])] * hosts
        with good.up():
            began = time.monotonic()
            assert _ended(good.start(root / "good", recipe)) == done
            print(f"good network: {time.monotonic() - began:.0f} s, {good.passed} packets")
        expected = _losses(root / "good")
        assert len(expected) == _STEPS
        with bad.up():
            began = time.monotonic()
            assert _ended(bad.start(root / "bad", recipe)) == done
            assert _losses(root / "bad") == expected
            print(
                f"bad network: {time.monotonic() - began:.0f} s, {bad.passed} packets, "
                f"{bad.lost} lost; the same losses"
            )
            for seconds in (3.0, 10.0):
                workdir = root / f"cut_{seconds:g}"
                processes = bad.start(workdir, recipe)
                _await_step(processes, workdir, _STEPS // 3)
                for link in bad.links:
                    link.is_cut = True
                time.sleep(seconds)
                for link in bad.links:
                    link.is_cut = False
                assert _ended(processes) == done
                assert _losses(workdir) == expected
                print(f"nothing passed for {seconds:g} s: the same losses")
            for host in (hosts - 1, 0):
                workdir = root / f"without_{host}"
                processes = bad.start(workdir, recipe)
                _await_step(processes, workdir, _STEPS // 3 + 1)
                bad.links[host].is_cut = True
                began = time.monotonic()
                ends = _ended(processes)
                took = time.monotonic() - began
                assert took < _NOTICE, took
                assert [(status, len(lines)) for status, lines in ends] == [(1, 1)] * hosts, ends
                print(f"host {host} was cut off: all ended within {took:.0f} s, with such lines:")
                for _, (line,) in ends:
                    print(f"    {line}")
                bad.links[host].is_cut = False
                assert _ended(bad.start(workdir, recipe)) == done
                assert _losses(workdir) == expected
                print("    the same command went on to the same losses")


def main() -> None:
    """Runs what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hosts", type=int, default=4)
    parser.add_argument("--delay", type=float, default=0.005, help="seconds")
    parser.add_argument("--loss", type=float, default=0.01, help="share of the packets")
    parser.add_argument("--mbit", type=float, default=50.0, help="megabits a second")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("network namespaces need root")
    try_networks(**vars(options))


if __name__ == "__main__":
    main()
