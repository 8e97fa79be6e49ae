"""What is wrong with a data set: looked for before anything is prepared, and told in one line."""

import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from draem_jax.data.depth import AUTO, Depth, find_full_scale
from draem_jax.data.facts import PictureFacts, gather_facts, note_picture
from draem_jax.data.layouts.entries import GOOD, Entry, Listing, Problem
from draem_jax.data.pictures import (
    Header,
    encode_png,
    picture_header,
    picture_size,
    read_highest,
    read_mask,
    store_picture,
)
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
        facts: what was noted of it.
    """

    entry: Entry
    image: bytes
    mask: bytes
    facts: PictureFacts


class Examination:
    """Reads every file of a listing: first all heads, then, by `records`, all pixels.

    Attributes:
        listing: with the entries that have been found wrong moved to its problems.
    """

    def __init__(self, listing: Listing):
        self.listing, self._headers = _check_headers(listing)
        self._noted: list[PictureFacts] = []
        self._range: dict[str, Any] = {}

    def records(
        self,
        *,
        depth: Depth = AUTO,
        full_scale: int | None = None,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> Iterator[Record]:
        """Decodes what can be used, in order; what cannot is moved to the listing's problems.

        Args:
            depth: of pictures with more than 8 bits a channel, see `draem_jax.data.depth`.
            full_scale: the value that is white in them; overrides `depth`.
            progress: called with the numbers of pictures done and in all.
        """
        entries, kept = self.listing.entries, []
        deep = [e.path for e, header in zip(entries, self._headers, strict=True) if header.deep]
        highest = None
        if deep:
            measured = depth == AUTO and full_scale is None
            highest = find_highest(deep) if measured else 0
        full_scale = find_full_scale(depth, highest=highest, full_scale=full_scale)
        for done, record in enumerate(read_records(entries, full_scale=full_scale), start=1):
            if isinstance(record, Problem):
                problems = (*self.listing.problems, record)
                self.listing = replace(self.listing, problems=problems)
            else:
                kept.append(record.entry)
                self._noted.append(record.facts)
                yield record
            progress(done, len(entries))
        self.listing = replace(self.listing, entries=tuple(kept))
        values = [k.highest for k in self._noted if k.highest is not None]
        highest = highest or max(values, default=None)
        if highest is None:
            full_scale = None
        self._range = {"depth": depth, "full_scale": full_scale, "highest": highest}

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """The (height, width) of each picture that `records` has given."""
        return tuple(noted.size for noted in self._noted)

    def facts(self) -> dict[str, Any]:
        """What is known once `records` has come to its end, see `draem_jax.data.facts`."""
        return gather_facts(self._noted, listing=self.listing, headers=self._headers, **self._range)


def check_headers(listing: Listing) -> Listing:
    """Looks at the head of every file: can it be read, and has the mask the size of its picture?

    Returns:
        The listing with the entries that are wrong moved to its problems.
    """
    return _check_headers(listing)[0]


def find_highest(paths: Sequence[Path]) -> int | None:
    """The highest value of pictures with more than 8 bits a channel; None where none can be read.

    Those that cannot be read do not count; whoever decodes them will say so.
    """

    def read(path: Path) -> int:
        try:
            return read_highest(path)
        except UserError:
            return -1

    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        highest = max(pool.map(read, paths), default=-1)
    return highest if highest >= 0 else None


def read_records(
    entries: Sequence[Entry], *, full_scale: int | None = None
) -> Iterator[Record | Problem]:
    """Decodes every picture and mask to its end, in order, by a few threads.

    No more than twice as many pictures as there are threads are held at a time.
    """
    threads = min(4, os.cpu_count() or 1)
    waiting: deque[Future[Record | Problem]] = deque()
    remaining = iter(entries)
    with ThreadPoolExecutor(threads) as pool:
        try:
            for entry in itertools.islice(remaining, 2 * threads):
                waiting.append(pool.submit(_read_record, entry, full_scale))
            while waiting:
                yield waiting.popleft().result()
                for entry in itertools.islice(remaining, 1):
                    waiting.append(pool.submit(_read_record, entry, full_scale))
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


def _check_headers(listing: Listing) -> tuple[Listing, list[Header]]:
    """The listing that `check_headers` returns, and the heads of its pictures."""
    entries, problems, headers = [], list(listing.problems), []
    for entry in listing.entries:
        found = _read_header(entry)
        if isinstance(found, Problem):
            problems.append(found)
        else:
            entries.append(entry)
            headers.append(found)
    return replace(listing, entries=tuple(entries), problems=tuple(problems)), headers


def _read_header(entry: Entry) -> Header | Problem:
    try:
        header = picture_header(entry.path)
    except UserError as error:
        return Problem("unreadable picture", entry.path, str(error))
    size = header.size
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
    return header


def _read_record(entry: Entry, full_scale: int | None) -> Record | Problem:
    try:
        stored = store_picture(entry.path, full_scale=full_scale)
    except UserError as error:
        return Problem("unreadable picture", entry.path, str(error))
    size = stored.decoded.picture.shape[:2]
    if not entry.masks:
        return Record(entry, stored.content, _empty_mask(size), note_picture(entry, stored, None))
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
            "normal picture with a defect",
            entry.path,
            f"{entry.path} counts as good, but its mask {entry.masks[0]} shows a defect; mend one",
        )
    marked = encode_png(union.astype(np.uint8) * 255)
    return Record(entry, stored.content, marked, note_picture(entry, stored, union))


@lru_cache(maxsize=16)
def _empty_mask(size: tuple[int, int]) -> bytes:
    return encode_png(np.zeros(size, np.uint8))
