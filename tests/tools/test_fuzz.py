"""What strangers hand in is read or refused in one line; the fuzzers' targets, for some seconds."""

import json
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from draem_jax.errors import UserError
from tools.fuzz import workdirs
from tools.fuzz.json_mutations import mutated
from tools.fuzz.promise import BrokenPromiseError, Target, hold
from tools.fuzz.targets import TARGETS

CHEAP = sorted(set(TARGETS) - {"run"})

ODD = (None, True, -1, 0, 10**30, 1e999, float("nan"), "", "../../x", "\0", "\ud800", [], {}, [[]])
values = st.sampled_from(ODD) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


def damage_bytes(draw, content):
    """Some bytes are changed, cut, put in or repeated."""
    content = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        end = min(len(content), start + draw(st.sampled_from((0, 1, 2, 4, 30, 10**6))))
        new = draw(st.binary(max_size=4) | st.just(bytes(content[start:end]) * 2))
        content[start:end] = new
    return bytes(content)


def damage_json(draw, content):
    """A value anywhere in it becomes another one, or a field is lost."""
    path = []
    inner = content
    while isinstance(inner, (dict, list)) and inner and draw(st.integers(0, 3)):
        keys = sorted(inner) if isinstance(inner, dict) else range(len(inner))
        path.append(draw(st.sampled_from(keys)))
        inner = inner[path[-1]]
    if not path:
        return draw(values)
    holder = content
    for key in path[:-1]:
        holder = holder[key]
    if draw(st.integers(0, 4)):
        holder[path[-1]] = draw(values)
    else:
        del holder[path[-1]]
    return content


@st.composite
def inputs(draw, seeds, by_line):
    seed = draw(st.sampled_from(seeds))
    lines = seed.split(b"\n") if by_line else [seed]
    try:
        parsed = [json.loads(line) for line in lines if line]
    except (ValueError, RecursionError):
        return damage_bytes(draw, seed)
    if draw(st.booleans()):
        return damage_bytes(draw, seed)
    return b"".join(json.dumps(damage_json(draw, one)).encode() + b"\n" for one in parsed)


SETTINGS = settings(
    deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


@pytest.mark.parametrize("name", CHEAP)
def test_what_once_broke_it(name):
    """Seeds hold what fuzzing found, made anew, beside what is read without complaint."""
    target = TARGETS[name]
    target.prepare()
    assert "" in [hold(target, seed) for seed in target.seeds()]  # else little of it is reached


@pytest.mark.parametrize("name", CHEAP)
def test_damaged(name):
    target = TARGETS[name]
    target.prepare()

    @settings(SETTINGS, max_examples=25)
    @given(content=inputs(target.seeds(), by_line=name == "journal"))
    def holds(content):
        hold(target, content)

    holds()


@pytest.mark.parametrize("name", sorted(name for name in CHEAP if TARGETS[name].is_json))
def test_changes_to_json_are_changes_and_json(name):
    target = TARGETS[name]
    target.prepare()
    content = target.seeds()[0]
    changes = {mutated(content, random.Random(seed)) for seed in range(50)}
    assert len(changes - {content}) > 25
    for changed in changes:
        for line in changed.splitlines():
            json.loads(line)
    assert mutated(b"[" * 5000, random.Random(0)) is None


@pytest.mark.long
@pytest.mark.tiny_programs
def test_a_damaged_run(trained):
    target = TARGETS["run"]
    workdirs.keep_run(trained)
    target.prepare()

    @settings(SETTINGS, max_examples=25)
    @given(content=st.sampled_from(target.seeds()) | st.binary(min_size=5, max_size=30))
    def holds(content):
        hold(target, content)

    holds()


def writes_outside(content, folder):
    (folder.parent / "draem_jax_outside").write_bytes(content)


def runs_a_program(content, folder):
    import subprocess

    subprocess.run(["true"], check=True)


def refuses_without_end(content, folder):
    raise UserError("")


def crashes(content, folder):
    raise ZeroDivisionError


@pytest.mark.parametrize(
    ("run", "error"),
    [
        (writes_outside, BrokenPromiseError),
        (runs_a_program, BrokenPromiseError),
        (refuses_without_end, BrokenPromiseError),
        (crashes, ZeroDivisionError),
    ],
)
def test_a_broken_promise_is_seen(run, error):
    with pytest.raises(error):
        hold(Target("broken", "", list, run), b"")
