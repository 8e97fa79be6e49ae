"""What is left of the smallest defect once pictures are brought to the networks, and what suits it.

A defect is as large as it is across, in pixels of the pictures as they were taken. Where pictures
are made smaller, it keeps fewer pixels, and of too few of them nobody can tell it from the surface.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Context, Decimal
from typing import NamedTuple

from draem_jax.data.fitting import LEAST_SIDE, Fitting
from draem_jax.data.tiles import UNIT, lay_tiles, usual_overlap
from draem_jax.errors import UserError

WANTED = 4.0
"""Pixels across that the smallest defect should keep in what the networks see."""

USUAL = Fitting((256, 256))
"""How pictures are brought to the networks unless the config says otherwise. Its size is that of
tiles as well, as both networks are meant for it."""

_DIGITS = 2  # of a scale that is recommended

Size = tuple[int, int]


class Spread(NamedTuple):
    """A number that differs between pictures of several sizes.

    Attributes:
        least: over all sizes.
        typical: of pictures of the typical size.
        most: over all sizes.
    """

    least: float
    typical: float
    most: float


class Sizes(NamedTuple):
    """The (height, width) of a data set's pictures, as they were taken.

    Attributes:
        smallest: of those with the fewest pixels.
        typical: of those in the middle when all are ordered by their pixels.
        largest: of those with the most pixels.
    """

    smallest: Size
    typical: Size
    largest: Size


class Outcome(NamedTuple):
    """What becomes of pictures that are brought to the networks in one way.

    Attributes:
        fitting: the way.
        overlap: pixels that neighbouring tiles share at least; 0 where pictures are seen whole.
        kept: pixels across that the smallest defect keeps, along the side where it keeps fewer.
        tiles: how many tiles the networks see of a picture; 1 where they see it whole.
        cost: how many pixels the networks see of a picture of the typical size, as a multiple of
            those of `USUAL`: so much longer an evaluation takes.
    """

    fitting: Fitting
    overlap: int
    kept: Spread
    tiles: Spread
    cost: float


@dataclass(frozen=True)
class Advice:
    """How well the smallest defect can be seen, and how pictures had better be seen for it.

    Attributes:
        smallest_defect: how large it is across in pictures as they were taken, in pixels.
        sizes: the sizes of these.
        configured: what becomes of them as it is configured.
        usual: the same by `USUAL`.
        recommended: the same in the way that `advise` recommends.
    """

    smallest_defect: float
    sizes: Sizes
    configured: Outcome
    usual: Outcome
    recommended: Outcome

    @property
    def wanted(self) -> float:
        """Pixels that the smallest defect should keep: `WANTED`, or all that it has."""
        return min(WANTED, self.smallest_defect)


def advise(
    sizes: Sequence[Size],
    smallest_defect: float,
    *,
    configured: Fitting = USUAL,
    overlap: int | None = None,
) -> Advice:
    """Works out what is left of the smallest defect, and recommends how to see pictures for it.

    In what is recommended it keeps `WANTED` pixels, or all that it has where these are fewer. That
    is whole pictures as `USUAL` has them where these keep enough of it; else whole ones of another
    shape, where these need no more pixels than a tile has; and else tiles, at the least scale that
    keeps enough.

    Args:
        sizes: the (height, width) of every picture as it was taken; one at least.
        smallest_defect: how large it is across in them, in pixels; above 0.
        configured: how pictures are brought to the networks as it is configured.
        overlap: pixels that tiles share as it is configured; `usual_overlap` where None.

    Raises:
        UserError: the defect is larger than one of the pictures, or a picture has too few pixels
            to be brought to the networks as it is configured.
    """
    counts = Counter(sizes)
    smallest = min(counts, key=min)
    if smallest_defect > min(smallest):
        raise UserError(
            f"a smallest defect of {smallest_defect:g} pixels does not fit into a picture of "
            f"{smallest[1]} x {smallest[0]}; give how large it is across, in pixels of the "
            "pictures as they were taken"
        )
    told = _order(counts)

    def outcome(fitting: Fitting, overlap: int | None = None) -> Outcome:
        shared = 0
        if fitting.is_tiled:
            shared = usual_overlap(fitting.size) if overlap is None else overlap

        def seen(size: Size) -> float:
            return float(_count_tiles(size, fitting, shared))

        def kept(size: Size) -> float:
            return smallest_defect * min(fitting.scales(size))

        tiles = _spread(seen, counts, told.typical)
        cost = tiles.typical * math.prod(fitting.size) / math.prod(USUAL.size)
        return Outcome(fitting, shared, _spread(kept, counts, told.typical), tiles, cost)

    usual = outcome(USUAL)
    enough = usual.kept.least >= min(WANTED, smallest_defect)
    return Advice(
        smallest_defect=smallest_defect,
        sizes=told,
        configured=outcome(configured, overlap),
        usual=usual,
        recommended=usual if enough else outcome(_recommend(counts, smallest_defect)),
    )


def kept_text(pixels: float) -> str:
    """A number of pixels with two digits, or all those before the point; never more than it is."""
    digits = max(0, 1 - math.floor(math.log10(pixels)))
    steps = math.floor(pixels * 10**digits + 1e-6)
    return f"{steps / 10**digits:.{digits}f}".removesuffix(".0")


def _recommend(sizes: Counter[Size], smallest_defect: float) -> Fitting:
    """How to see pictures that are too large for `USUAL`."""
    highest, widest = (max(size[axis] for size in sizes) for axis in (0, 1))
    shortest = min(map(min, sizes))
    height, width = (
        _whole_units(side * WANTED / max(WANTED, smallest_defect)) for side in (highest, widest)
    )
    if height * width <= math.prod(USUAL.size) or shortest < LEAST_SIDE:
        return Fitting((height, width))
    # Rounded up, so that nothing is lost by it.
    scale = max(_round_up(WANTED, smallest_defect), _round_up(float(LEAST_SIDE), float(shortest)))
    scale = min(1.0, scale)
    height, width = (
        min(usual, _whole_units(side * scale))
        for usual, side in zip(USUAL.size, (highest, widest), strict=True)
    )
    return Fitting((height, width), "tile", scale)


def _count_tiles(size: Size, fitting: Fitting, overlap: int) -> int:
    if not fitting.is_tiled:
        return 1
    return len(lay_tiles(fitting.canvas_size(size), fitting.size, overlap=overlap))


def _order(counts: Counter[Size]) -> Sizes:
    ordered = sorted(counts, key=lambda size: (math.prod(size), size))
    below, middle = 0, (counts.total() - 1) // 2
    for size in ordered:
        below += counts[size]
        if below > middle:
            break
    return Sizes(ordered[0], size, ordered[-1])


def _spread(number: Callable[[Size], float], sizes: Counter[Size], typical: Size) -> Spread:
    values = [number(size) for size in sizes]
    return Spread(min(values), number(typical), max(values))


def _whole_units(length: float) -> int:
    """The least multiple of `UNIT` that is not shorter."""
    return UNIT * math.ceil(length / UNIT)


def _round_up(numerator: float, denominator: float) -> float:
    """A quotient, rounded up to so many digits as a recommended scale has."""
    context = Context(prec=_DIGITS, rounding=ROUND_CEILING)
    return float(context.divide(Decimal(str(numerator)), Decimal(str(denominator))))
