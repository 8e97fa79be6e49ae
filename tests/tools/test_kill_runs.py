"""Runs that are killed at random end as those that were left alone."""

import pytest

from tools.kill_runs import kill_runs


@pytest.mark.long
def test_killed_runs_end_as_others_do():
    counts = kill_runs(kills=2, steps=12, seed=1, kinds=["streaming_pair"]).counts
    assert sum(count for name, count in counts.items() if name.startswith("SIG")) == 2
    assert counts["equal ends streaming_pair"] >= 1
