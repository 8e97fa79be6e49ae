"""Runs that are killed at random end as those that were left alone."""

import pytest

from tools.kill_runs import kill_runs


@pytest.mark.long
@pytest.mark.parametrize(("kind", "kills"), [("streaming", 2), ("pair", 2)])
def test_killed_runs_end_as_others_do(kind, kills):
    counts = kill_runs(kills=kills, steps=30, seed=1, kinds=[kind]).counts
    assert sum(count for name, count in counts.items() if name.startswith("SIG")) == kills
    assert counts[f"equal ends {kind}"] >= 1
