"""From examples to the types of defects that a run knows: fitted, measured, kept and reported."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

from draem_jax import files
from draem_jax.data.layouts.entries import Entry
from draem_jax.detector import Draem
from draem_jax.errors import UserError
from draem_jax.inspection.classifier import folds
from draem_jax.inspection.examples import Example, read_examples
from draem_jax.inspection.features import feature_names
from draem_jax.inspection.kept_types import types_path
from draem_jax.inspection.types import UNKNOWN, Named, TypeModel
from draem_jax.regions.rule import RegionRule
from draem_jax.reports.plots import percent
from draem_jax.reports.types_page import NamedExample, TypesReport, render_types

LEAST_EXAMPLES = 2
"""Pictures of a type without which it cannot be learned."""

ENOUGH_EXAMPLES = 5
"""Pictures of a type; with fewer, the report warns."""

_FOLDS = 25


class TypesSummary(NamedTuple):
    """What came of fitting types to examples.

    Attributes:
        model: the types, as they were kept.
        confusion: how many examples of each type (a row) were called each type, or unknown, by
            models that were fitted without them.
        macro_f1: the mean F1 of these over the types.
        left_out: type that was left out → what its examples are called, and how often.
        notes: what the user should know, a sentence each.
        report: the page that was written.
    """

    model: TypeModel
    confusion: Int[np.ndarray, "types given"]
    macro_f1: float
    left_out: Mapping[str, Mapping[str, int]]
    notes: tuple[str, ...]
    report: Path


def fit_types(
    detector: Draem,
    entries: Sequence[Entry],
    *,
    rule: RegionRule | None = None,
    leave_out: Sequence[str] = (),
    unknown_rate: float = 0.1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> TypesSummary:
    """Learns types from examples, and writes model and report to `WORKDIR/types/`.

    Args:
        detector: that finds the regions.
        entries: the examples, see `draem_jax.inspection.examples.list_examples`.
        rule: what is called a region; the detector's own if None.
        leave_out: types that are not learned, but named, to see whether they are called unknown.
        unknown_rate: see `TypeModel.fit`.
        progress: called with the pictures done and all of them.

    Raises:
        UserError: there are too few types, or too few examples of one; `leave_out` names a type
            that there is not; or pictures cannot be read. What was kept before stays then.
    """
    rule = rule or detector.region_rule()
    present = sorted({entry.defect_type for entry in entries})
    if absent := sorted(set(leave_out) - set(present)):
        raise UserError(f"there is no type {absent[0]!r} to leave out, but {', '.join(present)}")
    learned = [entry for entry in entries if entry.defect_type not in leave_out]
    check_examples([entry.defect_type for entry in learned])
    examples = read_examples(detector, entries, rule, progress=progress)
    found = [example for example in examples if len(example.features)]
    known = [example for example in found if example.defect_type not in leave_out]
    check_examples([e.defect_type for e in known], where=" in which a region was found")
    names = feature_names(detector.feature_channels)
    model = TypeModel.fit(
        [example.features for example in known],
        [example.defect_type for example in known],
        names,
        unknown_rate=unknown_rate,
        made_from={
            "data": detector.config.data.name,
            "category": detector.config.data.category,
            "step": detector.step,
            "pixel_threshold": rule.threshold.margin,
            "join_gap": float(rule.join_gap),
            "min_area": float(rule.min_area),
        },
    )
    called = cross_validate(known, names, unknown_rate=unknown_rate)
    confusion = _confusion(model.types, known, called)
    left_out = {
        name: dict(
            Counter(
                model.name_picture(e.features).defect_type for e in found if e.defect_type == name
            )
        )
        for name in leave_out
    }
    path = types_path(detector.workdir, detector.step)
    fitted = TypesSummary(
        model=model,
        confusion=confusion,
        macro_f1=macro_f1(confusion),
        left_out=left_out,
        notes=_notes(examples, known),
        report=path.parent / "report.html",
    )
    model.save(path)
    files.write_text(fitted.report, render_types(_report(detector, fitted, known, called)))
    return fitted


def check_examples(types: Sequence[str], *, where: str = "") -> None:
    """Raises UserError unless there are two types at least, and enough examples of each.

    Args:
        types: of each example.
        where: what examples must be to count, for the message.
    """
    counts = Counter(types)
    for name, count in sorted(counts.items()):
        if name == UNKNOWN:
            raise UserError(f"no type may be called {UNKNOWN}; give its folder another name")
        if count < LEAST_EXAMPLES:
            raise UserError(
                f"the type {name} has only one example{where}; give {LEAST_EXAMPLES} at least and "
                f"better {ENOUGH_EXAMPLES}, or leave the type out"
            )
    if len(counts) < 2:
        raise UserError(
            f"examples of two types at least are needed{where}, not of {len(counts)}; without any, "
            "see `draem-jax types cluster`"
        )


def cross_validate(
    examples: Sequence[Example], names: Sequence[str], *, unknown_rate: float
) -> list[Named]:
    """Names each example by a model that was fitted without it.

    Args:
        examples: with a region each, two of a type at least.
        names: the names of their features.
        unknown_rate: see `TypeModel.fit`.
    """
    types = [example.defect_type for example in examples]
    called: dict[int, Named] = {}
    for kept, left in folds(np.unique(types, return_inverse=True)[1], most=_FOLDS):
        model = TypeModel.fit(
            [examples[i].features for i in kept],
            [types[i] for i in kept],
            names,
            unknown_rate=unknown_rate,
        )
        for i in left:
            called[int(i)] = model.name_picture(examples[i].features)
    return [called[i] for i in range(len(examples))]


def macro_f1(confusion: Int[np.ndarray, "types given"]) -> float:
    """The mean over the types of the harmonic mean of precision and recall.

    Args:
        confusion: a row for each type, columns in the same order and then what is none of them.
    """
    size = len(confusion)
    right = np.diag(confusion[:, :size])
    return float(np.mean(2 * right / (confusion.sum(axis=1) + confusion[:, :size].sum(axis=0))))


def _confusion(
    types: Sequence[str], examples: Sequence[Example], called: Sequence[Named]
) -> Int[np.ndarray, "types given"]:
    given = [*types, UNKNOWN]
    counts = np.zeros((len(types), len(given)), int)
    for example, name in zip(examples, called, strict=True):
        counts[types.index(example.defect_type), given.index(name.defect_type)] += 1
    return counts


def _notes(examples: Sequence[Example], known: Sequence[Example]) -> tuple[str, ...]:
    notes = []
    if missed := Counter(e.defect_type for e in examples if not len(e.features)):
        notes.append(
            "no region was found in "
            + ", ".join(f"{count} of {name}" for name, count in sorted(missed.items()))
            + "; these examples do not count"
        )
    counts = Counter(example.defect_type for example in known)
    few = sorted(name for name, count in counts.items() if count < ENOUGH_EXAMPLES)
    if few:
        notes.append(
            f"fewer than {ENOUGH_EXAMPLES} examples of {', '.join(few)}: do not rely on these types"
        )
    return tuple(notes)


def _report(
    detector: Draem,
    fitted: TypesSummary,
    known: Sequence[Example],
    called: Sequence[Named],
) -> TypesReport:
    model = fitted.model
    facts = {
        "run": str(detector.workdir.absolute()),
        "step": str(detector.step),
        "examples": f"{len(known)} of {len(model.types)} types",
        "macro-F1": f"{fitted.macro_f1:.3f}",
        "called unknown": percent(fitted.confusion[:, -1].sum() / len(known)),
    }
    for name, counts in fitted.left_out.items():
        facts[f"left out: {name}"] = ", ".join(f"{n} {given}" for given, n in counts.items())
    return TypesReport(
        title="Types of defects",
        facts=facts,
        notes=fitted.notes,
        types=model.types,
        given=(*model.types, UNKNOWN),
        confusion=fitted.confusion,
        examples=[
            NamedExample(e.name, e.defect_type, c.defect_type, c.probability, e.crop)
            for e, c in zip(known, called, strict=True)
        ],
    )
