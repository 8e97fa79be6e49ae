"""The user's own pictures: a folder of normal ones is enough, and a list file can say it all.

Read are, in this order:

1. a list file, NAME.csv: columns path, split, label, type and mask (see `list_file`);
2. DIR/train, with the normal pictures in it or in DIR/train/good; and, where they are there,
   DIR/test/TYPE and DIR/ground_truth/TYPE, as MVTec AD has them;
3. DIR/good; and, where they are there, DIR/test/TYPE or else DIR/TYPE for each type of defect, and
   DIR/ground_truth/TYPE (or masks, mask, gt);
4. pictures directly in DIR, all of them normal.

Instead of good, the folder of normal pictures may be called ok or normal. Masks may also lie beside
their pictures, as NAME_mask.png, or in a folder of masks within; that of a normal picture must be
empty.
"""

import csv
import os
from dataclasses import replace
from pathlib import Path, PurePosixPath

from draem_jax.data.folders import is_ignored, names_in, subfolders
from draem_jax.data.layouts.entries import (
    GOOD,
    GOOD_NAMES,
    Entry,
    Listing,
    Problem,
    Split,
    account,
    find_pictures,
    make_listing,
    named_child,
    note_masks,
)
from draem_jax.data.layouts.layout import Layout
from draem_jax.data.layouts.pairs import list_halves, pair_masks, refuse_masks
from draem_jax.data.names import MASK_FOLDERS, looks_like_masks, match
from draem_jax.errors import UserError

TEST_EVERY = 5
"""Where there are defects but no normal pictures to test on, one of this many is taken from the
training folder."""

_COLUMNS = ("path", "split", "label", "type", "mask")
_SPLITS: dict[str, Split] = {"train": "train", "test": "test"}
_LABELS = dict.fromkeys((*GOOD_NAMES, "0"), True) | dict.fromkeys(
    ("defective", "defect", "anomaly", "anomalous", "bad", "ko", "1"), False
)
_DEFECT = "defect"


def list_category(root: Path, category: str) -> Listing:
    """Lists a folder or a list file of the user's.

    Args:
        root: the folder, or the .csv file.
        category: a folder within `root` to take in its place; "" for `root` itself.

    Raises:
        UserError: it cannot be told which pictures are the normal ones, or the list is wrong.
    """
    if root.is_file():
        if category:
            raise UserError(f"{root} is a list file and has no category {category!r}; leave it out")
        return list_file(root)
    folder = root / _on_disk(root, category)
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}; check the path and the category")
    inner = _unwrap(folder)
    train, good = named_child(inner, "train"), named_child(inner, *GOOD_NAMES)
    test, masks = named_child(inner, "test"), named_child(inner, *MASK_FOLDERS)
    if masks is None and test is not None:
        masks = named_child(test, *MASK_FOLDERS)
    defective: list[Path] = []
    if train is not None:
        normal, defective = _training_folder(train)
        listing = list_halves(normal, _test_types(test, masks), masks, masks_expected=False)
    elif good is not None and test is not None:
        listing = list_halves(good, _test_types(test, masks), masks, masks_expected=False)
    elif good is not None:
        apart = {good, masks}
        types = [child for child in subfolders(inner) if child not in apart and _holds(child)]
        refuse_masks(types)
        listing = _lend_normal(list_halves(good, types, masks, masks_expected=False), types)
    else:
        listing = _list_flat(inner)
    return account(
        listing,
        folder,
        masks=masks,
        left_out={"defective pictures among those to train on": defective},
    )


def list_file(path: Path) -> Listing:
    """Lists what a CSV file names; separated by commas, semicolons or tabs.

    Columns, by their names in the first line:
    - path: the picture, from the CSV file's folder.
    - split: train or test. Without the column, normal pictures are to train on.
    - label: good or defective. Without the column the type tells it.
    - type: of the defect, any word; good for a normal picture.
    - mask: the picture's mask, from the CSV file's folder; may be empty.

    A path may differ from its file's in case, and may be written as on Windows.

    Raises:
        UserError: a column is missing or unknown, or a value is; it names the line.
    """
    entries: list[Entry] = []
    problems: list[Problem] = []
    seen: dict[str, int] = {}
    in_training = 0
    for line, row in _rows(path):
        where = f"{path}, line {line}"
        if not row["path"]:
            raise UserError(f"{where}: the path is empty; name a picture, or delete the line")
        try:
            name = _on_disk(path.parent, row["path"])
            mask = path.parent / _on_disk(path.parent, row["mask"]) if row["mask"] else None
            picture = path.parent / name
            is_there, has_mask = picture.is_file(), mask is not None and mask.is_file()
        except OSError as error:  # as of a name that is too long
            raise UserError(f"{where}: {error.strerror} ({error.filename}); mend it") from error
        spelt = os.path.normpath(picture)  # the same for a/1.png and a/../a/1.png
        if spelt in seen:
            raise UserError(
                f"{where}: {row['path']} stands in line {seen[spelt]} already; delete one"
            )
        seen[spelt] = line
        good, defect_type = _label_and_type(row, where)
        split = _SPLITS.get(row["split"].lower() or ("train" if good else "test"))
        if split is None:
            raise UserError(f"{where}: split is {row['split']!r}; write train or test")
        if not is_there:
            problems.append(
                Problem("missing picture", picture, f"{where}: there is no file {picture}; mend it")
            )
        elif mask is not None and not has_mask:
            problems.append(
                Problem(
                    "picture without mask",
                    picture,
                    f"{where}: there is no mask {mask} of {picture}; mend or empty the field",
                )
            )
        elif split == "train" and not good:
            in_training += 1
        else:
            name = Path(os.path.normpath(name)).with_suffix("").as_posix().lstrip("./")
            masks = () if mask is None else (mask,)
            entries.append(Entry(picture, split, defect_type, f"{defect_type}/{name}", masks))
    left_out = {"defective pictures among those to train on": in_training}
    return note_masks(make_listing(entries, problems, left_out))


def _rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    """Lines of the list with their numbers; every known column is there, empty where it lacked."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not a text in UTF-8; save it as CSV in UTF-8") from error
    try:
        return _rows_of(path, text)
    except csv.Error as error:
        raise UserError(f"{path} is not a CSV file ({error}); save it as one") from error


def _rows_of(path: Path, text: str) -> list[tuple[int, dict[str, str]]]:
    first = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=first.count)
    reader = csv.DictReader(text.splitlines(), delimiter=delimiter, restkey="")
    names = [(name or "").strip().lower() for name in reader.fieldnames or ()]
    reader.fieldnames = names
    if "path" not in names or not {"split", "label", "type"} & set(names):
        raise UserError(
            f"{path}, line 1: the columns are {', '.join(names) or 'none'}; a list needs path and "
            f"one of split, label and type; it may have {', '.join(_COLUMNS)}"
        )
    if unknown := [name for name in names if name not in _COLUMNS]:
        raise UserError(
            f"{path}, line 1: unknown column {unknown[0]!r}; there are {', '.join(_COLUMNS)}"
        )
    rows = []
    for row in reader:
        if "" in row:
            raise UserError(
                f"{path}, line {reader.line_num}: more fields than columns; put quotes around "
                f"what holds a {delimiter!r}"
            )
        values = {name: (row.get(name) or "").strip() for name in _COLUMNS}
        if any(values.values()):
            rows.append((reader.line_num, values))
    if not rows:
        raise UserError(f"{path} names no pictures; write a line for each")
    return rows


def _label_and_type(row: dict[str, str], where: str) -> tuple[bool, str]:
    label, defect_type = row["label"].lower(), row["type"]
    typed_good = defect_type.lower() in GOOD_NAMES
    if not label:
        good = typed_good or (not defect_type and row["split"].lower() == "train")
        if not good and not defect_type:
            raise UserError(f"{where}: neither label nor type is given; write good or defective")
    elif label not in _LABELS:
        raise UserError(f"{where}: label is {row['label']!r}; write good or defective")
    else:
        good = _LABELS[label]
        if defect_type and typed_good != good:
            raise UserError(
                f"{where}: label {row['label']} and type {defect_type} contradict each other"
            )
    return good, GOOD if good else defect_type or _DEFECT


def _on_disk(folder: Path, name: str) -> str:
    """The path of the file that a list names; its name may differ in case or accents."""
    if (folder / name).exists():
        return name
    path = folder
    for part in PurePosixPath(name.replace("\\", "/")).parts:
        child = path / part
        if not child.exists() and path.is_dir():
            child = path / match([part], names_in(path)).get(part, part)
        path = child
    if not path.exists():
        return name
    return str(path.relative_to(folder) if path.is_relative_to(folder) else path)


def _unwrap(folder: Path) -> Path:
    """Steps into a folder that holds nothing but one other, unless its name says what it holds."""
    for _ in range(3):
        inside = subfolders(folder)
        if len(inside) != 1 or any(
            not is_ignored(Path(name)) and not (folder / name).is_dir() for name in names_in(folder)
        ):
            break
        if inside[0].name.lower() in (*GOOD_NAMES, *MASK_FOLDERS, "train", "test"):
            break
        folder = inside[0]
    return folder


def _holds(folder: Path) -> bool:
    return bool(find_pictures(folder).files)


def _flat_pictures(folder: Path) -> list[Path]:
    return [file for _, file in find_pictures(folder, recursive=False).all()]


def _test_types(test: Path | None, masks: Path | None) -> list[Path]:
    if test is None:
        return []
    if flat := _flat_pictures(test):
        raise UserError(
            f"{test} holds {flat[0].name} and other pictures directly, so that it cannot be told "
            "whether they are good; put them in folders good and one for each type of defect"
        )
    types = [child for child in subfolders(test) if child != masks]
    refuse_masks(types)
    return types


def _training_folder(train: Path) -> tuple[Path, list[Path]]:
    """The folder of the normal pictures in DIR/train, and other pictures there."""
    good = named_child(train, *GOOD_NAMES)
    flat = _flat_pictures(train)
    inside = [child for child in subfolders(train) if _holds(child)]
    if flat and inside:
        raise UserError(
            f"{train} holds pictures both directly and in {inside[0].name}; put the normal ones in "
            f"{train / GOOD}"
        )
    if good is None and inside:
        raise UserError(
            f"{train} holds folders but none of them is called good; put the normal pictures in "
            f"{train / GOOD}"
        )
    defects = [c for c in inside if c != good and not looks_like_masks(c.name)]
    return good or train, [file for child in defects for _, file in find_pictures(child).all()]


def _lend_normal(listing: Listing, types: list[Path]) -> Listing:
    """Moves some normal pictures to the test half, which has defects but no normal pictures."""
    good = [entry for entry in listing.entries if entry.split == "train"]
    if not types or len(good) <= TEST_EVERY // 2:
        return listing
    lent = set(good[TEST_EVERY // 2 :: TEST_EVERY])
    entries = [replace(e, split="test") if e in lent else e for e in listing.entries]
    note = (
        f"no normal pictures to test on: {len(lent)} of the {len(good)} good ones, every "
        f"{TEST_EVERY}th, are kept from training to test on; the folders beside them count as "
        f"types of defects ({', '.join(folder.name for folder in types)})"
    )
    return make_listing(entries, listing.problems, listing.left_out, [*listing.notes, note])


def _list_flat(folder: Path) -> Listing:
    flat = _flat_pictures(folder)
    inside = [child for child in subfolders(folder) if _holds(child)]
    how = (
        f"put the normal pictures in {folder / GOOD} (or {folder / 'train' / GOOD}), or write a "
        "list file"
    )
    trained = [child.name for child in inside if (child / "train").is_dir()]
    if trained:
        raise UserError(
            f"{folder} holds several data sets; choose one with the category: {', '.join(trained)}"
        )
    if inside:
        names = ", ".join(child.name for child in inside[:5])
        also = "pictures and also" if flat else "no pictures directly but"
        raise UserError(
            f"{folder} holds {also} folders of pictures ({names}), so that it cannot be told which "
            f"are normal; {how}"
        )
    if not flat:
        raise UserError(f"{folder} holds no pictures; {how}")
    entries, problems = pair_masks(
        folder,
        find_pictures(folder, recursive=False),
        (),
        split="train",
        defect_type=GOOD,
        masks_expected=False,
        where=folder,
    )
    return make_listing(entries, problems)


LAYOUT = Layout(
    name="folder",
    description="Pictures of the user's own. A configuration is one state of one folder.",
    list_category=list_category,
    note="your own pictures",
)
