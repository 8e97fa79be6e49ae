"""One HTML page for a model of defect types: how well it names examples that it did not see.

The page stands alone, as that of an evaluation does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, UInt8

from draem_jax.reports.data_uris import fit, jpeg
from draem_jax.reports.plots import UNKNOWN, percent
from draem_jax.reports.templates import fill

_CROP_SIDE = 160


@dataclass(frozen=True)
class NamedExample:
    """An example, and what it was named when the model was fitted without it.

    Attributes:
        name: the name of the picture.
        defect_type: what it is.
        given: the type that it was given.
        probability: of that type, in [0, 1]; None where there is none, as for an unknown one.
        crop: the picture around its largest region, RGB.
    """

    name: str
    defect_type: str
    given: str
    probability: float | None
    crop: UInt8[np.ndarray, "h w 3"]


@dataclass(frozen=True)
class TypesReport:
    """What the page shows.

    Attributes:
        title: the title of the page.
        facts: name → value of what the model was made from.
        notes: sentences that the reader must not miss.
        types: the known types, as the rows of the matrix.
        given: what examples can be called, as its columns: the types in the same order, and then
            what is none of them.
        confusion: how many examples of each type were called what.
        examples: all of them; those named wrongly are shown.
    """

    title: str
    facts: Mapping[str, str]
    notes: Sequence[str]
    types: Sequence[str]
    given: Sequence[str]
    confusion: Int[np.ndarray, "types given"]
    examples: Sequence[NamedExample]


def render_types(report: TypesReport) -> str:
    """Writes the page.

    Args:
        report: what to show.

    Returns:
        The page. Texts are escaped, so names may hold any characters.
    """
    return fill(
        "types_page.html.j2",
        report=report,
        rows=[_row(report, index) for index in range(len(report.types))],
        wrong=[
            {
                "example": example,
                "probability": "" if p is None else percent(p),
                "picture": jpeg(fit(example.crop, longest_side=_CROP_SIDE)),
            }
            for example in report.examples
            if example.given != example.defect_type
            for p in [example.probability]
        ],
    )


def _row(report: TypesReport, index: int) -> dict[str, object]:
    counts = report.confusion[index]
    total, called, right = counts.sum(), report.confusion[:, index].sum(), counts[index]
    return {
        "name": report.types[index],
        "cells": [
            {
                "count": int(count),
                "share": round(float(count / max(total, 1)), 3),
                "right": column == index,
            }
            for column, count in enumerate(counts)
        ],
        "recall": percent(right / total) if total else UNKNOWN,
        "precision": percent(right / called) if called else UNKNOWN,
        "f1": percent(2 * right / (total + called)) if total + called else UNKNOWN,
    }
