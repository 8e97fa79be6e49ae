"""Compiled programs are kept for the user alone, and nothing about them ever stops a run."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from draem_jax import compilation_cache
from draem_jax.cli import main
from draem_jax.compilation_cache import keep_compiled_programs, machine_name

# Trains a little on two devices, and says what it computed, what it compiled and what it loaded.
PROGRAM = """
import collections, logging, resource, sys
import jax, jax.numpy as jnp
from draem_jax.compilation_cache import keep_compiled_programs

logging.basicConfig(format="%(message)s")
keep_compiled_programs(sys.argv[1])
if len(sys.argv) > 2:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
events = collections.Counter()
jax.monitoring.register_event_listener(lambda event, **_: events.update([event]))

def step(state, x):
    loss, gradient = jax.value_and_grad(lambda w: jnp.tanh(x @ w).var())(state["w"])
    gradient = jax.lax.pmean(gradient, "batch")
    return {"w": state["w"] - 0.1 * gradient}, jax.lax.pmean(loss, "batch")

step = jax.pmap(step, axis_name="batch", in_axes=(None, 0), out_axes=None, donate_argnums=0)
state = {"w": jax.random.normal(jax.random.key(0), (64, 64))}
x = jax.random.normal(jax.random.key(1), (2, 32, 64))
for _ in range(20):
    state, loss = step(state, x)
print(state["w"].tobytes().hex()[:4096], float(loss).hex())
print(events["/jax/compilation_cache/cache_hits"], events["/jax/compilation_cache/cache_misses"])
"""


def run(folder, *limit):
    """What the program computed, how many programs it loaded and compiled, and its warnings."""
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": "2"}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(folder), *map(str, limit)],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    computed, counts = done.stdout.splitlines()
    return computed, *map(int, counts.split()), done.stderr.splitlines()


@pytest.fixture
def untold():
    """JAX as it is where nobody has told it of a folder."""
    names = (
        "jax_compilation_cache_dir",
        "jax_enable_compilation_cache",
        "jax_persistent_cache_min_compile_time_secs",
    )
    before = {name: jax.config.values[name] for name in names}
    jax.config.update("jax_compilation_cache_dir", None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.showwarning", lambda *_, **__: None)  # put back afterwards
        yield
    for name, value in before.items():
        jax.config.update(name, value)


@pytest.mark.long
def test_what_is_kept_is_loaded_and_computes_the_same_bits(tmp_path):
    fresh, _, _, said = run("off")
    assert said == []
    computed, loaded, compiled, said = run(tmp_path)
    assert (computed, said) == (fresh, [])
    programs = loaded + compiled  # two are alike
    entries = sorted(tmp_path.glob("*/*-cache"))
    assert len(entries) == compiled > loaded
    assert run(tmp_path) == (fresh, programs, 0, [])

    # Damage costs a line, whatever it is, and is mended by the way.
    content = entries[0].read_bytes()
    for entry, damage in zip(entries, itertools.cycle((b"", content[:-9], b"damaged" * 99))):
        entry.write_bytes(damage)
    computed, _, compiled, (said,) = run(tmp_path)
    assert (computed, compiled) == (fresh, len(entries))
    assert "cannot be read" in said
    assert run(tmp_path) == (fresh, programs, 0, [])

    for entry in entries:
        entry.unlink()
    computed, _, _, (said,) = run(tmp_path, 100)  # no file may be larger: as on a full disk
    assert computed == fresh
    assert "cannot be written" in said
    assert not any(entry.exists() for entry in entries)


def test_the_folder_is_the_users_own(tmp_path, untold, caplog):
    kept = keep_compiled_programs(tmp_path / "programs")
    assert kept == tmp_path / "programs" / machine_name()
    assert jax.config.values["jax_compilation_cache_dir"] == str(kept)
    assert [path.stat().st_mode & 0o777 for path in (kept, kept.parent)] == [0o700, 0o700]
    assert not caplog.messages


@pytest.mark.parametrize("mode", [0o770, 0o707])
def test_a_folder_that_others_may_write_to_is_refused(mode, tmp_path, untold, caplog):
    tmp_path.chmod(mode)
    assert keep_compiled_programs(tmp_path) is None
    assert jax.config.values["jax_compilation_cache_dir"] is None
    (message,) = caplog.messages
    assert f"others may write to {tmp_path}, so `chmod go-w` it" in message
    tmp_path.chmod(0o700)
    keep_compiled_programs(tmp_path).chmod(mode)  # nor that of the machine
    assert keep_compiled_programs(tmp_path) is None


def test_a_folder_that_cannot_be_had_costs_one_line(tmp_path, untold, caplog):
    (tmp_path / "file").touch()
    assert keep_compiled_programs(tmp_path / "file" / "below") is None
    assert jax.config.values["jax_compilation_cache_dir"] is None
    assert len(caplog.messages) == 1


def test_the_command_line_keeps_programs_unless_told_otherwise(tmp_path, untold, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    kept = tmp_path / "draem_jax" / "compiled"

    def start(*flags):
        assert main(["evaluate", f"--workdir={tmp_path / 'missing'}", *flags]) == 1
        return jax.config.values["jax_compilation_cache_dir"]

    assert main(["data", "list"]) == 0  # which computes nothing
    assert not kept.exists()
    assert start("--compilation_cache=off") is None
    assert not jax.config.values["jax_enable_compilation_cache"]
    jax.config.update("jax_enable_compilation_cache", True)
    assert start() == str(kept / machine_name())
    assert start(f"--compilation_cache={tmp_path / 'own'}") == str(
        tmp_path / "own" / machine_name()
    )
    jax.config.update("jax_compilation_cache_dir", "the user's")
    assert start() == "the user's"


def test_programs_make_room_that_were_used_least_recently(tmp_path, untold, monkeypatch):
    kept = keep_compiled_programs(tmp_path)
    (tmp_path / "jax-0").mkdir()
    paths = [tmp_path / "jax-0" / "a-cache", kept / "b-cache", kept / "c-cache", kept / "notes"]
    for path, (read, written) in zip(paths, [(5, 1), (2, 4), (3, 3), (0, 0)], strict=True):
        path.write_bytes(bytes(10))
        os.utime(path, (read, written))
    monkeypatch.setattr(compilation_cache, "_MOST", 15)
    keep_compiled_programs(tmp_path)
    assert [path.name for path in paths if path.exists()] == ["a-cache", "notes"]


@pytest.mark.parametrize("line", ["flags : fpu avx512f", "model name : another", "Features : sve"])
def test_another_cpu_has_a_folder_of_its_own(line, monkeypatch):
    mine = machine_name()
    cores = "processor : 0\ncpu MHz : {}\nflags : fpu\n\nprocessor : 1\n"
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: cores.format(1))
    one = machine_name()
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: cores.format(2))
    assert machine_name() == one != mine
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: f"{line}\n{cores.format(1)}")
    assert machine_name() != one
