"""How many millimetres a pixel covers: of all pictures, or of each in a table."""

import csv
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from draem_jax.errors import UserError

_COLUMNS = ("name", "mm_per_pixel")
_LIMITS = (1e-9, 1e9)


@dataclass(frozen=True)
class PixelWidths:
    """What is known of how wide the pixels of pictures are.

    Attributes:
        mm_per_pixel: for pictures that the table leaves out, or for all; None if not known.
        table: a CSV file with the columns `name`, a picture's path within its folder, and
            `mm_per_pixel`; None for none.
    """

    mm_per_pixel: float | None = None
    table: str | Path | None = None

    def of(self, names: Sequence[str]) -> list[float | None]:
        """How many millimetres a pixel of each picture is wide; None where nothing is known.

        Args:
            names: the names of the pictures.

        Raises:
            UserError: a width makes no sense, the table cannot be read, or there is one and it
                leaves a picture out that nothing else is said of.
        """
        if self.mm_per_pixel is not None:
            check_mm_per_pixel(self.mm_per_pixel, "mm_per_pixel")
        if self.table is None:
            return [self.mm_per_pixel] * len(names)
        known = read_mm_per_pixel(self.table, names)
        missing = [name for name in names if name not in known]
        if missing and self.mm_per_pixel is None:
            raise UserError(
                f"{self.table} has no line for {missing[0]}"
                + (f" and {len(missing) - 1} other pictures" if len(missing) > 1 else "")
                + "; add it, or give mm_per_pixel for the pictures that the table leaves out"
            )
        return [known.get(name, self.mm_per_pixel) for name in names]


def check_mm_per_pixel(value: float, source: str) -> None:
    """Raises UserError unless a number can be the side of a pixel in millimetres.

    Args:
        value: the number.
        source: what gives it, for the message.
    """
    if not _LIMITS[0] <= value <= _LIMITS[1]:
        raise UserError(
            f"{source}: a pixel cannot be {value:g} mm wide; give a number above 0, such as 0.05"
        )


def read_mm_per_pixel(path: str | Path, names: Sequence[str]) -> dict[str, float]:
    """Reads the table of a CSV file with the columns `name` and `mm_per_pixel`.

    Args:
        path: the file; other columns and other pictures in it do not matter.
        names: the names of the pictures that are looked for. Unicode's composed and decomposed
            letters are the same in them, where that does not make two names one.

    Returns:
        Of each picture that the table has, how many millimetres its pixels are wide.

    Raises:
        UserError: the file cannot be read, lacks a column, has a picture twice, or a number that
            is none above 0.
    """
    path = Path(path)
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            if not set(_COLUMNS) <= set(reader.fieldnames or ()):
                raise UserError(
                    f"{path} must begin with a line that names the columns name and mm_per_pixel, "
                    "separated by a comma"
                )
            rows = [(reader.line_num, row["name"], row["mm_per_pixel"]) for row in reader]
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; check the path") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is not a CSV file in UTF-8; save it as one") from error
    known = {unicodedata.normalize("NFC", name): name for name in names}
    known |= {name: name for name in names}
    found: dict[str, float] = {}
    for line, given, text in rows:
        name = known.get(given) or known.get(unicodedata.normalize("NFC", given or ""))
        if name is None:
            continue
        source = f"{path}, line {line}"
        if name in found:
            raise UserError(f"{source}: {name} is there twice; leave one line of it")
        try:
            value = float(text)
        except (TypeError, ValueError) as error:
            raise UserError(f"{source}: {text!r} is not a number of millimetres") from error
        check_mm_per_pixel(value, source)
        found[name] = value
    return found
