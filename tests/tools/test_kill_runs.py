"""Runs that are killed at random end as those that were left alone."""

import pytest

from tools.kill_runs import kill_runs


@pytest.mark.long
def test_killed_runs_end_as_others_do():
    counts = kill_runs(kills=2, steps=40, seed=1, feeds=["streaming"])
    assert sum(counts[f"{name} streaming"] for name in ("SIGKILL", "SIGTERM")) == 2
    assert counts["equal ends streaming"] >= 1
