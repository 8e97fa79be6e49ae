"""VisA: split_csv/1cls.csv says which picture of CATEGORY/Data/Images belongs to which half.

Its masks, in CATEGORY/Data/Masks, hold the number of the defect's class. The form that the
authors' script makes of it, CATEGORY/train, test and ground_truth, is read as well.
Zou et al., "SPot-the-Difference Self-Supervised Pre-training", ECCV 2022.
"""

import csv
from pathlib import Path

from draem_jax.data.layouts.entries import (
    GOOD,
    AbsentError,
    Counts,
    Entry,
    Listing,
    Problem,
    Split,
    account,
    find_category,
    find_pictures,
    levels,
    make_listing,
)
from draem_jax.data.layouts.layout import Layout
from draem_jax.data.layouts.mvtec_ad import list_mvtec_style
from draem_jax.data.layouts.pairs import lonely_mask, missing_mask
from draem_jax.errors import UserError

_COUNTS = {
    "candle": Counts(900, 100, 100),
    "capsules": Counts(542, 60, 100),
    "cashew": Counts(450, 50, 100),
    "chewinggum": Counts(453, 50, 100),
    "fryum": Counts(450, 50, 100),
    "macaroni1": Counts(900, 100, 100),
    "macaroni2": Counts(900, 100, 100),
    "pcb1": Counts(904, 100, 100),
    "pcb2": Counts(901, 100, 100),
    "pcb3": Counts(905, 101, 100),
    "pcb4": Counts(904, 101, 100),
    "pipe_fryum": Counts(450, 50, 100),
}
"""Numbers of pictures in the published split."""

SPLIT_FILE = Path("split_csv") / "1cls.csv"
DEFECT = "bad"
"""The type of every defective picture, as the authors' script names it."""


def list_category(root: Path, category: str) -> Listing:
    """Lists the pictures of a category.

    Raises:
        UserError: `root` does not hold the category or the file of the split, or that file is not
            what it should be.
    """
    for base in levels(root):
        if (base / SPLIT_FILE).is_file() and (base / category / "Data").is_dir():
            return _list_split(base, category)
    if any((base / category / "train").is_dir() for base in levels(root)):
        return list_mvtec_style(find_category(root, category, holding="train"))
    raise AbsentError(
        f"{root} does not hold {category}/Data beside {SPLIT_FILE}; give VisA's folder or archive "
        "as it was published"
    )


def _list_split(base: Path, category: str) -> Listing:
    path = base / SPLIT_FILE
    entries, problems = [], []
    for line, row in _rows(path):
        if row["object"] != category:
            continue
        picture = base / row["image"]
        if row["split"] not in ("train", "test") or row["label"] not in ("normal", "anomaly"):
            raise UserError(
                f"{path}, line {line}: {row['split']}, {row['label']} is not a split and a label "
                "of VisA; take VisA's own file"
            )
        defect_type = GOOD if row["label"] == "normal" else DEFECT
        masks = (base / row["mask"],) if row["mask"] else ()
        if not _is_file(picture):
            problems.append(
                Problem(
                    "missing picture",
                    picture,
                    f"{picture} is missing though {path}, line {line} names it; unpack the archive "
                    "again",
                )
            )
        elif defect_type != GOOD and not (masks and _is_file(masks[0])):
            problems.append(missing_mask(picture, base / category / "Data" / "Masks"))
        else:
            name = f"{defect_type}/{picture.stem}"
            split: Split = "train" if row["split"] == "train" else "test"
            entries.append(Entry(picture, split, defect_type, name, masks))
    named = {entry.path for entry in entries} | {problem.path for problem in problems}
    data = base / category / "Data"
    unnamed = [file for _, file in find_pictures(data / "Images").all() if file not in named]
    used = {mask for entry in entries for mask in entry.masks}
    pictures = {path.stem for path in named | set(unnamed)}
    problems += [
        lonely_mask(mask, data / "Images")
        for _, mask in find_pictures(data / "Masks").all()
        if mask not in used and mask.stem not in pictures
    ]
    return account(
        make_listing(entries, problems),
        base / category,
        masks=data / "Masks",
        left_out={f"pictures that {path.name} does not name": unnamed},
        used=[base / category / "image_anno.csv"],
    )


def _rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    """The lines of the file of the split, with their numbers; a field that is missing is empty."""
    columns = ("object", "split", "label", "image", "mask")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.DictReader(file)
            if missing := set(columns) - set(rows.fieldnames or ()):
                raise UserError(
                    f"{path} lacks the columns {', '.join(sorted(missing))}; take VisA's own file"
                )
            return [(rows.line_num, {name: row[name] or "" for name in columns}) for row in rows]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is not a CSV file in UTF-8; take VisA's own file") from error


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # as of a name that is too long
        return False


LAYOUT = Layout(
    name="visa",
    description="VisA: twelve kinds of objects, in the authors' split for one class.",
    list_category=list_category,
    homepage="https://github.com/amazon-science/spot-diff",
    counts=_COUNTS,
)
