"""The time of threads is given to the operations that took it, all of it and once."""

import pytest

from tools.profile_step import Span, thread_times


def test_the_time_of_idle_threads_is_that_of_what_is_under_way():
    spans = [
        # One thread begins an operation that is spread over both, and waits for it within another.
        Span(0, start=0, left=10, end=10, name="outer"),
        Span(0, start=2, left=4, end=4, name="inner"),
        Span(0, start=10, left=12, end=20, name="spread"),
        Span(0, start=20, left=25, end=25, name="after"),
        Span(1, start=0, left=12, end=12, name="long"),
        Span(1, start=22, left=25, end=25, name="late"),
    ]
    # From 12 to 20 both threads are idle while "spread" is under way, from 20 to 22 the second one
    # is idle while nothing is.
    expected = {"outer": 8, "inner": 2, "spread": 2 + 8 + 8, "after": 5, "long": 12, "late": 3}
    times = thread_times(spans)
    assert times == pytest.approx(expected | {"": 2})
    assert sum(times.values()) == 2 * 25
