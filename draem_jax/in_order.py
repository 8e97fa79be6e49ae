"""Work in threads whose results come in the order of what was given, a bounded part of it ahead."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

In = TypeVar("In")
Out = TypeVar("Out")

THREADS = min(8, os.cpu_count() or 1)
"""That work at a time: what is done in them mostly runs without Python's lock."""


def map_in_order(
    function: Callable[[In], Out],
    items: Iterable[In],
    *,
    threads: int = THREADS,
    ahead: int = 2 * THREADS,
    cost: Callable[[In], int] = lambda item: 0,
    budget: int = 0,
) -> Iterator[Out]:
    """Applies a function to items in threads, some of them ahead of the result that is asked for.

    Items are taken in the caller's thread, as there is room for them. When the iteration is left,
    what has begun is waited for, and the rest is dropped.

    Args:
        function: what is done; what it raises is raised in its turn.
        items: what to do it to. If taking one raises, that is raised after the results of those
            before.
        threads: that work at a time.
        ahead: items that are under way at most.
        cost: what an item costs, as its memory.
        budget: what all that are under way may cost together; a single one may cost more.

    Yields:
        The results, in the order of the items.
    """
    under_way: deque[tuple[Future[Out], int]] = deque()
    total = 0
    source = iter(items)
    failed: BaseException | None = None
    with ThreadPoolExecutor(threads, thread_name_prefix="in_order") as pool:

        def take() -> Out:
            nonlocal total
            future, paid = under_way.popleft()
            result = future.result()
            total -= paid
            return result

        try:
            while failed is None:
                try:
                    item = next(source)
                except StopIteration:
                    break
                except Exception as error:
                    failed = error
                    break
                price = cost(item)
                while under_way and (len(under_way) >= ahead or total + price > budget):
                    yield take()
                under_way.append((pool.submit(function, item), price))
                total += price
                del item  # it may be large
                while under_way and under_way[0][0].done():
                    yield take()
            while under_way:
                yield take()
        finally:
            for future, _ in under_way:
                future.cancel()
    if failed is not None:
        raise failed
