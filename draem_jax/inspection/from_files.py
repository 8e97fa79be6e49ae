"""Inspecting pictures that lie in files; one that cannot be read does not stop the others."""

import contextlib
import functools
import itertools
import math
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from draem_jax.data.pictures import read_decoded
from draem_jax.data.roi import Plane
from draem_jax.data.windows import count_pixels
from draem_jax.detector import Begun, Draem, Inspection
from draem_jax.errors import UserError
from draem_jax.in_order import map_in_order
from draem_jax.inspection.large import LargeInspection, inspect_large
from draem_jax.regions.rule import RegionRule

MOST_PIXELS = 2**24
"""That are worked at ahead of their turn, each time: pictures of more are taken one by one."""

_TOO_LARGE = (
    "save it as a TIFF and train with config.data.tile to have it looked at in tiles, or cut it "
    "into tiles first"
)


class Opening(NamedTuple):
    """A picture that is about to be inspected.

    Attributes:
        pixels: how many it has, at least `MOST_PIXELS` where it is large; 0 if it cannot be read.
        open: gives what is said of it, which can be asked as long as the block lasts; it may be
            opened in any thread, and again. Raises UserError if the picture cannot be read, or
            nobody can tell where to look in it.
    """

    pixels: int
    open: Callable[[], AbstractContextManager[Inspection | LargeInspection]]


def inspect_files(
    detector: Draem,
    paths: Sequence[Path],
    *,
    rule: RegionRule | None = None,
    alpha: float = 0.05,
    with_features: bool = False,
) -> Iterator[Inspection | UserError]:
    """Inspects the pictures of files; see `Draem.inspect_pictures` for the options.

    Yields:
        What is said of each picture, in their order, or why it cannot be read, or nobody can tell
        where to look in it, or too little is left of it at the scale that tiles are seen at.
    """
    for begun in _begin_files(detector, paths, rule=rule, alpha=alpha, with_features=with_features):
        yield begun if isinstance(begun, UserError) else begun.finish()


def open_files_of_any_size(
    detector: Draem,
    paths: Sequence[Path],
    *,
    rule: RegionRule,
    alpha: float,
    with_features: bool,
    large_from: int,
    scratch: Path,
) -> Generator[Opening, None, None]:
    """The same; a detector that sees pictures in tiles looks at large ones in bounded memory.

    Args:
        detector: the detector.
        paths: the files.
        rule: what is called a region.
        alpha: see `Draem.inspect_pictures`.
        with_features: the same; of large pictures there are none.
        large_from: from so many pixels on a picture is large.
        scratch: see `inspect_large`.

    Yields:
        What remains to be done for each picture, in their order: all of a large one, and of others
        what the devices do not do.
    """

    def is_large(path: Path) -> bool:
        return detector.fitting.is_tiled and _count_pixels(path) >= large_from

    for are_large, some in itertools.groupby(paths, is_large):
        if are_large:
            for path in some:
                yield Opening(
                    MOST_PIXELS,
                    functools.partial(
                        inspect_large, detector, path, rule=rule, alpha=alpha, scratch=scratch
                    ),
                )
            continue
        for begun in _begin_files(
            detector, list(some), rule=rule, alpha=alpha, with_features=with_features
        ):
            pixels = 0 if isinstance(begun, UserError) else math.prod(begun.size)
            yield Opening(pixels, functools.partial(_finished, begun))


class _Read(NamedTuple):
    picture: UInt8[np.ndarray, "_ _ 3"]
    plane: Plane | None
    highest: int | None


def _begin_files(
    detector: Draem,
    paths: Sequence[Path],
    *,
    rule: RegionRule | None,
    alpha: float,
    with_features: bool,
) -> Iterator[Begun | UserError]:
    """Reads files, some ahead in threads, and has the devices look at them; see `inspect_files`."""
    unreadable: dict[int, UserError] = {}
    highest: dict[int, int | None] = {}

    def readable() -> Iterator[_Read]:
        read = map_in_order(
            functools.partial(_read, detector), paths, cost=_count_pixels, budget=MOST_PIXELS
        )
        for i, found in enumerate(read):
            if isinstance(found, UserError):
                unreadable[i] = found
            else:
                highest[i] = found.highest
                yield found

    images, planes = itertools.tee(readable())
    begun_ones = detector.begin_inspections(
        (found.picture for found in images),
        rule=rule,
        alpha=alpha,
        with_features=with_features,
        planes=(found.plane for found in planes),
    )
    # Pictures are read a batch ahead, so what precedes one that was inspected has been read.
    following = next(begun_ones, None)
    for i in range(len(paths)):
        if i in unreadable:
            yield unreadable.pop(i)
        elif following is not None:
            yield following._replace(finish=functools.partial(_finish, following, highest.pop(i)))
            following = next(begun_ones, None)


def _read(detector: Draem, path: Path) -> _Read | UserError:
    try:
        # As those were read that the detector was trained on.
        decoded = read_decoded(path, full_scale=detector.full_scale, too_large=_TOO_LARGE)
        name = path.absolute().with_suffix("").as_posix()
        plane = detector.roi.plane_of(name, decoded.picture)
        detector.fitting.content_size(decoded.picture.shape[:2])  # too little may be left
    except UserError as error:
        return error
    return _Read(decoded.picture, plane, decoded.highest)


def _finish(begun: Begun, highest: int | None) -> Inspection:
    return replace(begun.finish(), highest=highest)


@contextlib.contextmanager
def _finished(begun: Begun | UserError) -> Iterator[Inspection]:
    if isinstance(begun, UserError):
        raise begun
    yield begun.finish()


def _count_pixels(path: Path) -> int:
    try:
        return count_pixels(path)
    except UserError:
        return 0  # it is told when the picture is read
