"""Work in threads comes out as a loop would give it, and a bounded part of it is under way."""

import random
import threading
import time

import pytest

from draem_jax.in_order import map_in_order


def test_results_come_in_order_and_what_is_under_way_is_bounded():
    draw = random.Random(0)
    costs = [draw.choice([1, 1, 2, 5, 20]) for _ in range(60)]
    lock, running, most = threading.Lock(), [], []

    def work(item):
        with lock:
            running.append(costs[item])
            most.append((len(running), sum(running), max(running)))
        time.sleep(draw.random() / 500)
        with lock:
            running.remove(costs[item])
        return -item

    found = map_in_order(work, range(60), threads=4, ahead=5, cost=costs.__getitem__, budget=10)
    assert list(found) == [-item for item in range(60)]
    assert max(count for count, _, _ in most) > 1
    for count, total, largest in most:
        assert count <= 4
        assert total <= 10 or (count == 1 and total == largest)  # alone
    assert not [t for t in threading.enumerate() if t.name.startswith("in_order")]


def test_errors_come_in_their_turn():
    def items():
        yield from range(5)
        raise KeyError("source")

    found = map_in_order(lambda item: item, items(), ahead=3)
    assert [next(found) for _ in range(5)] == list(range(5))
    with pytest.raises(KeyError, match="source"):
        next(found)
    found = map_in_order(lambda item: 1 // (2 - item), range(5), ahead=5)
    assert [next(found), next(found)] == [0, 1]
    with pytest.raises(ZeroDivisionError):
        next(found)


def test_what_is_left_is_not_begun():
    begun = []
    found = map_in_order(
        lambda item: begun.append(item) or time.sleep(0.02), range(50), threads=1, ahead=9
    )
    next(found)
    found.close()
    assert len(begun) < 9
