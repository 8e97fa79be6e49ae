"""The command line starts itself again where that gives it large pages, and nowhere else."""

import os
import subprocess
import sys

import pytest

from draem_jax import large_pages


@pytest.fixture
def started(monkeypatch, tmp_path):
    """What the process was started as again: program, arguments, environment."""
    calls = []
    monkeypatch.setattr(os, "execve", lambda *call: calls.append(call))
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(sys, "argv", ["/usr/bin/draem-jax", "train", "--workdir=a b"])
    monkeypatch.setattr(sys, "orig_argv", ["python", "-X", "dev", *sys.argv])
    monkeypatch.setattr(large_pages.platform, "libc_ver", lambda: ("glibc", "2.36"))
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    kernel = tmp_path / "enabled"
    kernel.write_text("always [madvise] never\n")
    monkeypatch.setattr(large_pages, "_KERNEL", kernel)
    return calls


def test_the_program_is_started_again_once_as_it_was(started, monkeypatch):
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.check=1")
    large_pages.use_large_pages()
    ((program, arguments, environment),) = started
    assert program == sys.executable
    assert arguments == [sys.executable, "-X", "dev", *sys.argv]
    assert environment["GLIBC_TUNABLES"] == "glibc.malloc.check=1:glibc.malloc.hugetlb=1"
    monkeypatch.setenv("GLIBC_TUNABLES", environment["GLIBC_TUNABLES"])
    large_pages.use_large_pages()
    assert len(started) == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda patch: patch.setenv("GLIBC_TUNABLES", "glibc.malloc.hugetlb=0"),
        lambda patch: patch.setattr(sys, "platform", "darwin"),
        lambda patch: patch.setattr(sys, "argv", ["my_program.py"]),
        lambda patch: patch.setattr(large_pages.platform, "libc_ver", lambda: ("", "")),
        lambda patch: patch.setattr(large_pages.platform, "libc_ver", lambda: ("glibc", "2.31")),
        lambda patch: large_pages._KERNEL.write_text("[always] madvise never\n"),
        lambda patch: large_pages._KERNEL.unlink(),
    ],
)
def test_elsewhere_it_is_not(change, started, monkeypatch):
    change(monkeypatch)
    large_pages.use_large_pages()
    assert not started


def test_the_command_line_still_answers_with_its_status():
    command = [sys.executable, "-m", "draem_jax"]
    environment = {key: value for key, value in os.environ.items() if key != "GLIBC_TUNABLES"}
    done = subprocess.run(
        [*command, "--version"], env=environment, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("draem-jax ")
    done = subprocess.run(
        [*command, "trian"], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert "train" in done.stderr
