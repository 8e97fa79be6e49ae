"""What is written about pictures besides pictures: the tables and the COCO files.

A `Record` holds all of it for one picture, so that tables and files follow from records alone.
"""

import dataclasses
import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from draem_jax import files
from draem_jax.inspection import coco, table

COLUMNS = (
    "picture",
    "score",
    "p_value",
    "anomalous",
    "anomalous_share",
    *("map", "overlay", "mask"),
    "regions",
    *("type", "type_probability", "type_likeness"),
    "error",
)
"""Of `predictions.csv`, see `draem_jax.inspection.predict.predict_files`."""

TABLES = {"predictions.csv": COLUMNS, "regions.csv": table.COLUMNS}
"""The columns of the tables, by their names."""

COCO_FILES = {"regions.json": "polygons", "regions_rle.json": "run_lengths"}
"""The kinds of segmentation in the COCO files, by their names."""


class FoundRegion(NamedTuple):
    """What tables and COCO files have of a region.

    Attributes:
        row: in `regions.csv`.
        annotation: the entry in the COCO files, whose numbers and segmentation are put in there.
        polygons: see `draem_jax.inspection.coco.polygons`.
        run_lengths: see `draem_jax.inspection.coco.run_lengths`.
        defect_type: of the region; "" if none is known.
    """

    row: Sequence[str]
    annotation: Mapping[str, Any]
    polygons: list[list[int]]
    run_lengths: Mapping[str, Any]
    defect_type: str


@dataclass(frozen=True)
class Record:
    """What is said of one picture.

    Attributes:
        name: the picture's path within its folder, as it is written.
        row: in `predictions.csv`.
        size: (height, width); (0, 0) of a picture that was left out.
        regions: the anomalous ones, the largest first.
        highest: see `draem_jax.detector.Inspection`.
        is_small: whether it is smaller than a tile of those that it was seen in.
        notes: what the user should know of it, a line each.
        error: why it was left out; "" if it was not.
    """

    name: str
    row: tuple[str, ...]
    size: tuple[int, int] = (0, 0)
    regions: tuple[FoundRegion, ...] = ()
    highest: int | None = None
    is_small: bool = False
    notes: tuple[str, ...] = ()
    error: str = ""

    @classmethod
    def left_out(cls, picture: Path, name: str, error: Exception) -> "Record":
        """That of a picture that cannot be read."""
        empty = [""] * (len(COLUMNS) - 2)
        return cls(name, (str(picture), *empty, str(error)), error=str(error))

    def line(self) -> str:
        """What is said of the picture, in short."""
        if self.error:
            return f"left out: {self.error}"
        cells = dict(zip(COLUMNS, self.row, strict=True))
        decision = {"0": ", normal", "1": ", anomalous"}.get(cells["anomalous"], "")
        regions = f"{len(self.regions)} region{'' if len(self.regions) == 1 else 's'}"
        return f"{self.name}: score {float(cells['score']):.3f}{decision}, {regions}"

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON has it."""
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Record":
        """From what `to_json` gave.

        Raises:
            KeyError, TypeError, ValueError, OverflowError: it was given by something else.
        """
        height, width = content["size"]
        (name, error), highest = _texts([content["name"], content["error"]]), content["highest"]
        return cls(
            name=name,
            row=_texts(content["row"]),
            size=(int(height), int(width)),
            regions=tuple(_found(*region) for region in content["regions"]),
            highest=None if highest is None else int(highest),
            is_small=bool(content["is_small"]),
            notes=_texts(content["notes"]),
            error=error,
        )


def _found(
    row: Any, annotation: Any, polygons: Any, run_lengths: Any, defect_type: Any
) -> FoundRegion:
    """A region out of JSON; raises TypeError or ValueError where it is none."""
    (defect_type,) = _texts([defect_type])
    corners = [[int(number) for number in polygon] for polygon in polygons]
    return FoundRegion(_texts(row), dict(annotation), corners, dict(run_lengths), defect_type)


def _texts(values: Any) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise TypeError("they are no texts")
    return tuple(values)


class Tables:
    """The two tables, which gain a picture's lines as soon as it is done."""

    def __init__(self, out: Path):
        self._pictures, self._regions = (
            files.GrowingTable(out / name, columns) for name, columns in TABLES.items()
        )

    def begin(self, records: Callable[[], Iterable[Record]] = tuple) -> None:
        """Puts new tables in the place of those that are there.

        Args:
            records: gives what they have from the beginning; gone through twice.

        Raises:
            UserError: they cannot be written.
        """
        self._regions.begin(region.row for one in records() for region in one.regions)
        self._pictures.begin(one.row for one in records())

    def add(self, record: Record) -> None:
        """Adds a picture; its line in `predictions.csv` comes last.

        Raises:
            UserError: they cannot be written, as on a full disk.
        """
        self._regions.add(region.row for region in record.regions)
        self._pictures.add([record.row])


def write_coco(out: Path, records: Callable[[], Iterable[Record]]) -> None:
    """Writes the COCO files, without holding all of them in memory.

    Args:
        out: the folder.
        records: gives those of all pictures; they are gone through several times.

    Raises:
        UserError: they cannot be written.
    """

    def images() -> Iterator[dict[str, Any]]:
        read = (one for one in records() if not one.error)
        for number, one in enumerate(read, start=1):
            yield coco.image_entry(number, one.name, one.size)

    def annotations(segmentation: str) -> Iterator[dict[str, Any]]:
        number = itertools.count(1)
        read = (one for one in records() if not one.error)
        for image, one in enumerate(read, start=1):
            for region in one.regions:
                numbers = {"id": next(number), "image_id": image}
                form = {"segmentation": getattr(region, segmentation)}
                yield {**region.annotation, **numbers, **form}

    for name, segmentation in COCO_FILES.items():
        coco.write_dataset(out / name, images(), annotations(segmentation))


class Counts(NamedTuple):
    """How much there is in records.

    Attributes:
        pictures: that were looked at.
        with_regions: in how many of them there is a region.
        regions: how many there are in all.
        types: how many regions are of which type, the most frequent first.
        errors: of each picture that was left out, why.
    """

    pictures: int
    with_regions: int
    regions: int
    types: Mapping[str, int]
    errors: tuple[str, ...]


def count(records: Iterable[Record]) -> Counts:
    """Counts what is in records."""
    pictures, with_regions, regions = 0, 0, 0
    types: Counter[str] = Counter()
    errors = []
    for one in records:
        if one.error:
            errors.append(one.error)
            continue
        pictures += 1
        with_regions += bool(one.regions)
        regions += len(one.regions)
        types.update(region.defect_type for region in one.regions if region.defect_type)
    return Counts(pictures, with_regions, regions, dict(types.most_common()), tuple(errors))
