"""`draem-jax types fit` and `types cluster`."""

from pathlib import Path
from typing import Any

from absl import flags

from draem_jax.cli.common import (
    PROGRAM,
    Verb,
    check_detection,
    define_detection,
    define_path,
    define_workdir,
    load_calibrated,
    parse_workdir,
    progress_bar,
    raise_left_out,
    region_rule,
    say,
    say_warnings,
    shown,
    tell_left_out,
    warn,
)
from draem_jax.errors import UserError


def _define_fit(values: flags.FlagValues) -> None:
    define_workdir(values, "Of the run whose detector finds the regions.")
    define_path(
        values, "examples", None, "A folder with a folder of pictures for each type of defect, or "
        "a list (.csv) with the columns path and type.",
    )  # fmt: skip
    flags.DEFINE_list(
        "leave_out", None, "Types to leave out, separated by commas: to see whether their pictures "
        "are called unknown.", flag_values=values,
    )  # fmt: skip
    flags.DEFINE_float(
        "unknown_rate", 0.1, "The share of known defects that may be called unknown, about; no "
        "less than one in as many as there are examples.", flag_values=values,
    )  # fmt: skip
    define_detection(values)


def _define_cluster(values: flags.FlagValues) -> None:
    define_workdir(values, "Of the run whose detector finds the regions.")
    define_path(values, "images", None, "A picture or a folder of pictures.")
    define_path(values, "out", None, "The folder to write to.")
    flags.DEFINE_integer(
        "groups", None, "How many groups; from 2 to 12, what parts them best, if not given.",
        lower_bound=1, flag_values=values,
    )  # fmt: skip
    define_detection(values)


def _fit(values: Any) -> None:
    from draem_jax.inspection.examples import list_examples
    from draem_jax.inspection.naming import fit_types
    from draem_jax.inspection.types import UNKNOWN

    workdir = parse_workdir(values)
    check_detection(values, "types fit", "examples")
    if not 0 < values.unknown_rate < 1:
        raise UserError(
            f"--unknown_rate={values.unknown_rate:g} must lie between 0 and 1; 0.1 is one in ten"
        )
    examples = list_examples(values.examples)
    tell_left_out(examples.left_out, examples.notes)
    detector = load_calibrated(values, workdir)
    rule = region_rule(values, detector)
    with progress_bar("picture") as progress:
        fitted = fit_types(
            detector,
            examples.entries,
            rule=rule,
            leave_out=values.leave_out or (),
            unknown_rate=values.unknown_rate,
            progress=progress,
        )
    for note in fitted.notes:
        warn(note)
    say(_confusion(fitted.model.types, UNKNOWN, fitted.confusion))
    say(f"macro-F1 {fitted.macro_f1:.3f}, each example named by a model that was fitted without it")
    for name, counts in fitted.left_out.items():
        called = ", ".join(f"{count} {shown(given)}" for given, count in counts.items())
        say(f"left out: {shown(name)}: {called}")
    say(f"report: {fitted.report}")


def _cluster(values: Any) -> None:
    from draem_jax.data.facts import tell_pictures
    from draem_jax.data.folders import find_pictures_in
    from draem_jax.inspection.clusters import check_out, cluster_files

    workdir = parse_workdir(values)
    check_detection(values, "types cluster", "images", "out")
    check_out(Path(values.out))
    given = find_pictures_in(values.images)
    tell_left_out(given.left_out, tell_pictures(given.paths))
    detector = load_calibrated(values, workdir)
    rule = region_rule(values, detector)
    with progress_bar("picture") as progress:
        found = cluster_files(
            detector,
            values.images,
            values.out,
            rule=rule,
            groups=values.groups,
            progress=progress,
        )
    say(
        f"{sum(found.sizes)} regions in {found.with_regions} of {found.pictures} pictures, in "
        f"{len(found.sizes)} groups of {', '.join(map(str, found.sizes))}"
    )
    out = Path(values.out)
    say_warnings(found.notes)
    say(
        f"look at {out / 'group_1.png'} and the others, put names in place of the groups in "
        f"{out / 'examples.csv'}, and go on with `{PROGRAM} types fit --workdir={workdir} "
        f"--examples={out / 'examples.csv'}`"
    )
    raise_left_out(found.errors, found.pictures + len(found.errors), out / "regions.csv")


def _confusion(types: Any, unknown: str, counts: Any) -> str:
    types = [shown(name) for name in types]
    rows = [["", *types, unknown]]
    rows += [[name, *map(str, line)] for name, line in zip(types, counts, strict=True)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            [
                row[0].ljust(widths[0]),
                *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True)),
            ]
        )
        for row in rows
    )


VERBS = (
    Verb(
        "types fit",
        "Learn the kinds of defects from a few examples of each, for predict to name.",
        """\
    Five examples of each type are enough to begin with, two the least. Where masks are in
    ground_truth/TYPE, only regions that touch them are examples. Writes the types beside the
    checkpoint, in WORKDIR/types/, and a page with a confusion matrix there: each example is named
    by a model that was fitted without it. From then on `predict` gives every region a type with
    a probability, or calls it unknown.

      draem-jax types fit --workdir=runs/bottle --examples=bottle/test
      draem-jax types fit --workdir=runs/mine --examples=examples/ --leave_out=scratch
    """,
        _define_fit,
        _fit,
    ),
    Verb(
        "types cluster",
        "Group anomalous regions that are alike, without labels, for a person to name.",
        """\
    Writes into --out

      group_1.png ...    crops around the regions of each group, the most typical first
      regions.csv        the group of each region, and the error of each picture that cannot be
                         read and so is left out; the status is 3 then
      examples.csv       the group of each picture's largest region, as its type: put names in
                         place of the groups, delete lines that are wrong, and give the file to
                         `types fit` as --examples

      draem-jax types cluster --workdir=runs/mine --images=photos/ --out=groups/
    """,
        _define_cluster,
        _cluster,
    ),
)
