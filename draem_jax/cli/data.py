"""`draem-jax data prepare`, `data list`, `data check` and `data export`."""

import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from absl import flags

from draem_jax.cli.common import (
    PROGRAM,
    Verb,
    check_smallest_defect,
    define_path,
    define_roi,
    define_smallest_defect,
    say,
    say_warnings,
)
from draem_jax.data.layouts import LAYOUTS
from draem_jax.errors import UserError


def _usage(text: str) -> str:
    """A paragraph of help that says what NAME may be, and more."""
    names = [name + f" ({it.note})" * bool(it.note) for name, it in LAYOUTS.items()]
    text = f"NAME is {', '.join(names[:-1])} or {names[-1]}. {text}"
    return textwrap.fill(text, 92, initial_indent="    ", subsequent_indent="    ")


def _define_source(values: flags.FlagValues) -> None:
    define_path(
        values, "root", None, "The data set's folder as it was published, or the downloaded "
        "archive (.tar, .tar.gz, .tar.xz, .zip); of folder, your folder, a list file (.csv) or an "
        "archive.",
    )  # fmt: skip
    flags.DEFINE_list(
        "category", None, "One category, or several separated by commas; all that the root holds "
        "if not given.", flag_values=values,
    )  # fmt: skip
    flags.DEFINE_string(
        "depth", "auto", "Of pictures with more than 8 bits a channel: auto, the fewest bits that "
        "hold the highest value of all of them; full, what each file's type can hold; or a number "
        "of bits. As config.data.depth.", flag_values=values,
    )  # fmt: skip


def _define_data_dir(values: flags.FlagValues) -> None:
    define_path(
        values, "data_dir", None, "Where prepared data sets are kept; $DRAEM_JAX_DATA or "
        "~/.cache/draem_jax if not given.",
    )  # fmt: skip


def _define_prepare(values: flags.FlagValues) -> None:
    _define_source(values)
    flags.DEFINE_bool(
        "skip_bad", False, "Go on without pictures and masks that are wrong, and count them.",
        flag_values=values,
    )  # fmt: skip
    _define_data_dir(values)


def _define_check(values: flags.FlagValues) -> None:
    _define_source(values)
    define_roi(values)
    define_smallest_defect(values)
    _define_data_dir(values)


def _prepare(values: Any, name: str) -> None:
    from draem_jax.data.dataset import prepare_all
    from draem_jax.data.prepared import categories, summarise

    data = replace(_data_set(values, name), skip_bad=values.skip_bad)
    found = prepare_all(data, values.category)
    good = {c: summarise(it) for c, it in found.items() if not isinstance(it, UserError)}
    if good:
        say(_table(list(good.values())))
        first = next(iter(good.values()))
        say(f"\nprepared in {first.path.parents[1]}" + (f" from {first.root}" * bool(first.root)))
        for summary in good.values():
            say_warnings(f"{summary.category}: {line}" for line in summary.warnings())
    if not values.category and (absent := [c for c in categories(name) if c not in found]):
        say_warnings([f"not in {values.root}: {', '.join(absent)}"])
    _raise_errors({c: it for c, it in found.items() if isinstance(it, UserError)})


def _list(values: Any) -> None:
    from draem_jax.data.prepared import DATASETS, categories, default_data_dir, list_prepared

    say("known data sets:")
    for name in DATASETS:
        is_own = name in LAYOUTS and LAYOUTS[name].is_own
        say(f"  {name:<11} {LAYOUTS[name].note if is_own else ', '.join(categories(name))}")
    found = list_prepared(values.data_dir)
    where = values.data_dir or default_data_dir()
    if not found:
        say(f"\nnothing is prepared in {where}; see `{PROGRAM} data prepare --help`")
        return
    say(f"\nprepared in {where}:")
    rows = [
        (s.name, s.category, str(s.train), *_tested(s), f"{s.nbytes / 1e6:.1f} MB", s.root or "-")
        for s in found
    ]
    say(_align([("", "", "train", "good", "defective", "size", "from"), *rows]))


def _check(values: Any, name: str) -> None:
    from draem_jax.cli.scale import tell_advice
    from draem_jax.data.checks import LEAST_NORMAL
    from draem_jax.data.dataset import check
    from draem_jax.data.roi import Roi
    from draem_jax.data.scale import advise

    check_smallest_defect(values)
    data = _data_set(values, name)
    if data.root is None:
        raise UserError(f"--root=DIR_OR_ARCHIVE is missing; see `{PROGRAM} data check --help`")
    roi = Roi(values.roi or "", values.ignore_border or 0)
    if roi.on_object:
        raise UserError(
            f"--roi={roi.source} is found in each picture by `{PROGRAM} preview`, which shows it; "
            "give a mask or a folder of masks"
        )
    root, found = data.root, check(data, values.category, roi=roi)
    wrong, warned = 0, 0
    for category, checked in found.items():
        title = category or name
        if isinstance(checked, UserError):
            say(f"{title}: {checked}")
            wrong += 1
            continue
        entries, problems = checked.listing.entries, checked.listing.problems
        train = sum(entry.split == "train" for entry in entries)
        say(f"{title}: {train} to train, {len(entries) - train} to test")
        if roi.has_planes:
            say(f"  looked at: {100 * checked.looked_at:.3g} % of a picture, on average")
        for problem in problems:
            say(f"  {problem.text}")
        for kind, count in Counter(problem.kind for problem in problems).items():
            say(f"  {count} x {kind}")
        for line in checked.warnings:
            say(f"  warning: {line}")
        if values.smallest_defect is not None and checked.sizes:
            for line in tell_advice(advise(checked.sizes, values.smallest_defect)):
                say(f"  {line}")
        if train < LEAST_NORMAL:
            say(f"  {root} has {train} normal pictures, {LEAST_NORMAL} are needed to train")
        wrong += len(problems) + (train < LEAST_NORMAL)
        warned += len(checked.warnings)
    if wrong:
        raise UserError(f"{wrong} problem{'s' * (wrong > 1)} in {root}")
    say("no problems" + f", {warned} warning{'s' * (warned > 1)}" * (warned > 0))


def _define_export(values: flags.FlagValues) -> None:
    flags.DEFINE_string("category", "brick", "brick, grass or gravel.", flag_values=values)
    flags.DEFINE_string(
        "split", "stain", "train (cut from the half of the photograph that training sees), test or "
        "stain (from the other half).", flag_values=values,
    )  # fmt: skip
    flags.DEFINE_string(
        "type", None, "good, stain, or a type of defect; all that the split has if not given.",
        flag_values=values,
    )  # fmt: skip
    flags.DEFINE_integer(
        "count", None, "Pictures of each type; as many as the split has if not given.",
        lower_bound=1, flag_values=values,
    )  # fmt: skip
    define_path(values, "out", None, "The folder to write to.")


def _export(values: Any) -> None:
    from draem_jax.data.surface_defects import DEFECTS
    from draem_jax.data.surfaces import CATEGORIES, COUNTS, GOOD, STAIN, export_samples

    if not values.out:
        raise UserError(f"--out=FOLDER is missing; see `{PROGRAM} data export --help`")
    counts = COUNTS.get(values.split, {})
    for name, known in (
        ("category", CATEGORIES),
        ("split", tuple(COUNTS)),
        ("type", (None, GOOD, STAIN, *DEFECTS)),
    ):
        if values[name].value not in known:
            raise UserError(
                f"--{name}={values[name].value} is unknown; choose one of: "
                f"{', '.join(filter(None, known))}"
            )
    types = [values.type] if values.type else list(counts)
    if values.count is None and (missing := [t for t in types if t not in counts]):
        raise UserError(
            f"the split {values.split} has no pictures of type {missing[0]}; say with --count how "
            "many to draw"
        )
    written = [
        path
        for kind in types
        for path in export_samples(
            values.out,
            category=values.category,
            split=values.split,
            defect_type=kind,
            indices=range(values.count or counts[kind]),
        )
    ]
    print(f"{len(written)} pictures in {values.out}")


def _data_set(values: Any, name: str) -> Any:
    """The data set that the flags name, without a category."""
    from draem_jax.data.dataset import DataSet

    if name in LAYOUTS and LAYOUTS[name].is_own and not values.root:
        raise UserError("--root=DIR is missing; give the folder of your pictures")
    root = values.root or None
    return DataSet(name, "", root=root, depth=values.depth, data_dir=values.data_dir)


def _raise_errors(errors: Mapping[str, UserError]) -> None:
    if len(errors) == 1:
        raise next(iter(errors.values()))
    if errors:
        told = "; ".join(f"{category}: {error}" for category, error in errors.items())
        raise UserError(f"{len(errors)} categories were not prepared: {told}")


def _tested(summary: Any) -> tuple[str, str]:
    return str(summary.counts.normal), str(summary.counts.defective)


def _table(summaries: Sequence[Any]) -> str:
    rows = [("category", "train", "good", "defective", "no mask", "skipped", "published", "types")]
    for summary in summaries:
        differs = summary.published is not None and summary.published != summary.counts
        types = [f"{t} {n}" for t, n in sorted(summary.types.items()) if t != "good"]
        rows.append(
            (
                summary.category,
                str(summary.train),
                *_tested(summary),
                str(summary.without_mask),
                str(sum(summary.skipped.values())),
                "/".join(map(str, summary.published)) if differs else "",
                ", ".join(types),
            )
        )
    return _align([row if any(r[6] for r in rows[1:]) else row[:6] + row[7:] for row in rows])


def _align(rows: Sequence[Sequence[str]]) -> str:
    """Columns of text; those that hold numbers are set to the right."""
    columns = list(zip(*rows, strict=True))
    widths = [max(len(cell) for cell in column) for column in columns]
    right = [all(cell[:1].isdigit() for cell in column[1:]) for column in columns]
    lines = [
        "  ".join(
            cell.rjust(w) if r else cell.ljust(w)
            for cell, w, r in zip(row, widths, right, strict=True)
        )
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)


VERBS = (
    Verb(
        "data prepare",
        "Bring a downloaded data set, or pictures of your own, into form for training.",
        _usage(
            "Pictures and masks are checked; if anything is wrong, nothing is prepared, and it is "
            "said what. Training with the same root prepares by itself."
        )
        + """

      draem-jax data prepare mvtec_ad --root=mvtec_anomaly_detection.tar.xz
      draem-jax data prepare visa --root=downloads/VisA --category=candle,pcb1
      draem-jax data prepare folder --root=photos/ --skip_bad

    Your own folder needs only normal pictures: in it directly, in good/, or in train/good/.
    To measure a detector, add test/good/ and a folder test/TYPE/ for each type of defect, and
    masks of the same names in ground_truth/TYPE/ if there are any. Or write a list, a .csv
    with the columns path, split (train, test), label (good, defective), type and mask.
    """,
        _define_prepare,
        _prepare,
        argument="NAME",
        computes=False,
    ),
    Verb(
        "data list",
        "Show the known data sets, and what is prepared, where and how large.",
        """\
    What is prepared can be deleted at any time; it is prepared anew when it is needed.

      draem-jax data list
    """,
        _define_data_dir,
        _list,
        computes=False,
    ),
    Verb(
        "data check",
        "Read every picture and mask of a data set, and tell all that is wrong; keep nothing.",
        _usage(
            "With --roi it says as well whether that fits every picture; with --smallest_defect, "
            "what of a defect is left for the networks to see, and at which scale enough of it "
            "is. Ends with status 1 if there are problems."
        )
        + """

      draem-jax data check folder --root=photos/
      draem-jax data check folder --root=photos/ --roi=where.png --ignore_border=20
      draem-jax data check folder --root=photos/ --smallest_defect=12
    """,
        _define_check,
        _check,
        argument="NAME",
        computes=False,
    ),
    Verb(
        "data export",
        "Write pictures of the built-in surfaces to a folder.",
        """\
    Stained pictures are what training lacks though nothing is wrong with them: something to try
    `draem-jax finetune --accept` with. Defects get their masks in ground_truth/, as
    `draem-jax finetune --defects` takes them; those of --split=train are no part of the data set.

      draem-jax data export --split=stain --out=stains/
      draem-jax data export --split=train --type=stain --count=10 --out=accepted/
      draem-jax data export --split=train --type=hole --count=10 --out=holes/
    """,
        _define_export,
        _export,
        computes=False,
    ),
)
