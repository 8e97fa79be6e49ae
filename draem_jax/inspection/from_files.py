"""Inspecting pictures that lie in files; one that cannot be read does not stop the others."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from draem_jax.data.pictures import read_decoded
from draem_jax.data.roi import Plane
from draem_jax.detector import Draem, Inspection
from draem_jax.errors import UserError
from draem_jax.regions.rule import RegionRule


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
                decoded = read_decoded(path, full_scale=detector.full_scale)
                name = path.absolute().with_suffix("").as_posix()
                plane = detector.roi.plane(name, decoded.picture.shape[:2])
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
