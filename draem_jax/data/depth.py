"""Which value is white in deep pictures, those with more than 8 bits a channel.

A camera of 12 bits writes values up to 4095 into files that could hold 65535. Which value is white
is the same for all pictures of a data set: it is asked for as a depth, or found in the pictures.
"""

from collections.abc import Iterable

from draem_jax.errors import UserError

AUTO = "auto"
"""The fewest bits, of `BITS`, that hold the highest value of all deep pictures of a data set."""

FULL = "full"
"""The highest value that the type of each file can hold is white."""

BITS = range(8, 33, 2)

_OF_TYPE = 2**16 - 1
"""The highest value of 16 bits, which nearly all deep pictures have."""

_NOT_FILLED = 2**14 - 1
"""The highest value for which `AUTO` finds a narrower range than that of 16 bits."""

Depth = str | int
"""`AUTO`, `FULL` or a number of bits from 8 to 32."""


def check_depth(depth: Depth, field: str = "config.data.depth") -> None:
    """Raises UserError, naming the field, unless this is a depth."""
    if depth not in (AUTO, FULL) and not (_is_number(depth) and 8 <= int(depth) <= 32):
        raise UserError(
            f"{field} must be {AUTO}, {FULL} or a number of bits from 8 to 32, not {depth}"
        )


def find_full_scale(
    depth: Depth, *, highest: int | None, full_scale: int | None = None
) -> int | None:
    """The value that is white.

    Args:
        depth: what was asked for.
        highest: the highest value of all deep pictures; None where there are none.
        full_scale: the value itself, which overrides `depth`.

    Returns:
        The value; None where there are no deep pictures, or where white is the highest value that
        each file's type can hold.

    Raises:
        UserError: there is no such depth.
    """
    check_depth(depth)
    if highest is None or (full_scale is None and depth == FULL):
        return None
    if full_scale is not None:
        return full_scale
    if depth == AUTO:
        return next(2**bits - 1 for bits in BITS if highest < 2**bits)
    return 2 ** int(depth) - 1


def tell_outside(
    highest: Iterable[int | None], *, full_scale: int | None, depth: Depth
) -> list[str]:
    """Says which pictures a trained run cannot read as those it was trained on.

    Args:
        highest: the highest value of each picture with more than 8 bits a channel; None of others.
        full_scale: the value that is white for the run; None where it was trained on 8 bits, or
            takes what each file's type can hold.
        depth: that the run was trained with.

    Returns:
        A line if there are such pictures.
    """
    values = [value for value in highest if value is not None]
    if not values:
        return []
    remedy = "give pictures of the range that it was trained on, or train on such as these"
    if full_scale is not None:
        above = [value for value in values if value > full_scale]
        if above:
            return [
                f"{_pictures(len(above))} more than 8 bits a channel and values up to "
                f"{max(above)}, but the run takes {full_scale} for white: what is brighter is cut "
                f"off; {remedy}"
            ]
    elif depth != FULL and max(values) <= _NOT_FILLED:
        return [
            f"{_pictures(len(values))} more than 8 bits a channel and values up to "
            f"{max(values)}, but the run was trained on 8 bits and takes {_OF_TYPE} for white, so "
            f"that they are read as too dark; {remedy}"
        ]
    return []


def _pictures(count: int) -> str:
    return f"{count} {'picture has' if count == 1 else 'pictures have'}"


def _is_number(depth: Depth) -> bool:
    return isinstance(depth, int) or (depth.isascii() and depth.isdecimal())
