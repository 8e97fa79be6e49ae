"""Inspecting pictures that lie in files; one that cannot be read does not stop the others."""

import contextlib
import itertools
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from draem_jax.data.pictures import read_decoded
from draem_jax.data.roi import Plane
from draem_jax.data.windows import count_pixels
from draem_jax.detector import Draem, Inspection
from draem_jax.errors import UserError
from draem_jax.inspection.large import LargeInspection, inspect_large
from draem_jax.regions.rule import RegionRule

_TOO_LARGE = (
    "save it as a TIFF and train with config.data.tile to have it looked at in tiles, or cut it "
    "into tiles first"
)


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
    unreadable: dict[int, UserError] = {}
    highest: dict[int, int | None] = {}

    def readable() -> Iterator[tuple[UInt8[np.ndarray, "_ _ 3"], Plane | None]]:
        for i, path in enumerate(paths):
            try:
                # As those were read that the detector was trained on.
                decoded = read_decoded(path, full_scale=detector.full_scale, too_large=_TOO_LARGE)
                name = path.absolute().with_suffix("").as_posix()
                plane = detector.roi.plane_of(name, decoded.picture)
                detector.fitting.content_size(decoded.picture.shape[:2])  # too little may be left
            except UserError as error:
                unreadable[i] = error
            else:
                highest[i] = decoded.highest
                yield decoded.picture, plane

    images, planes = itertools.tee(readable())
    inspections = detector.inspect_pictures(
        (image for image, _ in images),
        rule=rule,
        alpha=alpha,
        with_features=with_features,
        planes=(plane for _, plane in planes),
    )
    # Pictures are read a batch ahead, so what precedes one that was inspected has been read.
    following = next(inspections, None)
    for i in range(len(paths)):
        if i in unreadable:
            yield unreadable.pop(i)
        elif following is not None:
            yield replace(following, highest=highest.pop(i))
            following = next(inspections, None)


def inspect_files_of_any_size(
    detector: Draem,
    paths: Sequence[Path],
    *,
    rule: RegionRule,
    alpha: float,
    with_features: bool,
    large_from: int,
    scratch: Path,
) -> Generator[Inspection | LargeInspection | UserError, None, None]:
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
        See `inspect_files`. What is said of a large picture can be asked until the next is taken.
    """

    def is_large(path: Path) -> bool:
        try:
            return detector.fitting.is_tiled and count_pixels(path) >= large_from
        except UserError:
            return False  # it is told when the picture is read

    for are_large, some in itertools.groupby(paths, is_large):
        if not are_large:
            yield from inspect_files(
                detector, list(some), rule=rule, alpha=alpha, with_features=with_features
            )
            continue
        for path in some:
            with contextlib.ExitStack() as opened:
                inspection = inspect_large(detector, path, rule=rule, alpha=alpha, scratch=scratch)
                try:
                    found: LargeInspection | UserError = opened.enter_context(inspection)
                except UserError as error:
                    found = error
                yield found
