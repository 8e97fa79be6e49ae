"""What is wrong with a data set: looked for before anything is prepared, and told in one line."""

import itertools
import os
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from draem_jax.data.layouts.entries import GOOD, Entry, Listing, Problem
from draem_jax.data.pictures import encode_png, picture_size, read_mask, store_picture
from draem_jax.errors import UserError

LEAST_NORMAL = 2
"""Normal pictures that a data set must have to train on: one alone shows nothing of what varies,
and leaves none to hold out."""

_NAMED = 3  # problems that an error names; the others are counted


class Record(NamedTuple):
    """What is stored of one picture.

    Attributes:
        entry: which picture it is.
        image: its file, which decodes to RGB.
        mask: its mask as PNG, 255 on defects.
        empty: whether the mask has no defect.
    """

    entry: Entry
    image: bytes
    mask: bytes
    empty: bool


def check_headers(listing: Listing) -> Listing:
    """Looks at the head of every file: can it be read, and has the mask the size of its picture?

    Returns:
        The listing with the entries that are wrong moved to its problems.
    """
    entries, problems = [], list(listing.problems)
    for entry in listing.entries:
        problem = _header_problem(entry)
        if problem is None:
            entries.append(entry)
        else:
            problems.append(problem)
    return replace(listing, entries=tuple(entries), problems=tuple(problems))


def read_records(entries: Sequence[Entry]) -> Iterator[Record | Problem]:
    """Decodes every picture and mask to its end, in order, by a few threads.

    No more than twice as many pictures as there are threads are held at a time.
    """
    threads = min(4, os.cpu_count() or 1)
    waiting: deque[Future[Record | Problem]] = deque()
    remaining = iter(entries)
    with ThreadPoolExecutor(threads) as pool:
        try:
            for entry in itertools.islice(remaining, 2 * threads):
                waiting.append(pool.submit(_read_record, entry))
            while waiting:
                yield waiting.popleft().result()
                for entry in itertools.islice(remaining, 1):
                    waiting.append(pool.submit(_read_record, entry))
        finally:
            for future in waiting:
                future.cancel()


def check_enough(entries: Iterable[Entry], where: str) -> None:
    """Raises UserError unless there are enough normal pictures to train on."""
    normal = [entry for entry in entries if entry.split == "train"]
    if not normal:
        raise UserError(f"{where} holds no normal pictures to train on that can be used; add some")
    if len(normal) < LEAST_NORMAL:
        raise UserError(
            f"{where} holds one normal picture only, {normal[0].path}; at least {LEAST_NORMAL} are "
            "needed to train, and some dozens to train well"
        )


def tell_problems(problems: Sequence[Problem]) -> UserError:
    """All problems in one line: the first few by name, the others by number."""
    named = "; ".join(problem.text for problem in problems[:_NAMED])
    more = len(problems) - _NAMED
    rest = f"; and {more} more, which `draem-jax data check` lists" if more > 0 else ""
    return UserError(f"{named}{rest} (--skip_bad goes on without them)")


def count_kinds(problems: Iterable[Problem]) -> Mapping[str, int]:
    """How many problems there are of each kind."""
    return dict(Counter(problem.kind for problem in problems))


def _header_problem(entry: Entry) -> Problem | None:
    try:
        size = picture_size(entry.path)
    except UserError as error:
        return Problem("unreadable picture", entry.path, str(error))
    for mask in entry.masks:
        try:
            mask_size = picture_size(mask)
        except UserError as error:
            return Problem("unreadable mask", mask, str(error))
        if mask_size != size:
            return Problem(
                "mask of another size",
                mask,
                f"{mask} has {mask_size[1]} x {mask_size[0]} pixels, but its picture {entry.path} "
                f"has {size[1]} x {size[0]}; give a mask of the picture's size",
            )
    return None


def _read_record(entry: Entry) -> Record | Problem:
    try:
        image, size = store_picture(entry.path)
    except UserError as error:
        return Problem("unreadable picture", entry.path, str(error))
    if not entry.masks:
        return Record(entry, image, _empty_mask(size), True)
    union = np.zeros(size, bool)
    for path in entry.masks:
        try:
            mask = read_mask(path)
        except UserError as error:
            return Problem("unreadable mask", path, str(error))
        if mask.shape != size:
            return Problem(
                "mask of another size",
                path,
                f"{path} has {mask.shape[1]} x {mask.shape[0]} pixels, but its picture "
                f"{entry.path} has {size[1]} x {size[0]}; give a mask of the picture's size",
            )
        union |= mask
    if entry.defect_type == GOOD and union.any():
        return Problem(
            "good picture with a defect",
            entry.path,
            f"{entry.path} counts as good, but its mask {entry.masks[0]} shows a defect; mend one",
        )
    return Record(entry, image, encode_png(union.astype(np.uint8) * 255), not union.any())


@lru_cache(maxsize=16)
def _empty_mask(size: tuple[int, int]) -> bytes:
    return encode_png(np.zeros(size, np.uint8))
