"""Which value is white in deep pictures, those with more than 8 bits a channel.

A camera of 12 bits writes values up to 4095 into files that could hold 65535. Which value is white
is the same for all pictures of a data set: it is asked for as a depth, or found in the pictures.
"""

from draem_jax.errors import UserError

AUTO = "auto"
"""The fewest bits, of `BITS`, that hold the highest value of all deep pictures of a data set."""

FULL = "full"
"""What the type of each file can hold."""

BITS = range(8, 33, 2)

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
        The value; None where there are no deep pictures, or that of each file's type is white.

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


def _is_number(depth: Depth) -> bool:
    return isinstance(depth, int) or (depth.isascii() and depth.isdecimal())
