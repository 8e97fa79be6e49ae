"""DAGM 2007: CLASS/Train and CLASS/Test, defects told by CLASS/Train/Label/NUMBER_label.PNG.

The labels are weak: an ellipse around each defect. Label/Labels.txt names the label of every
defective picture, so that one whose label is lost is not taken for a normal one.
Wieler and Hahn, "Weakly Supervised Learning for Industrial Optical Inspection", DAGM 2007.
"""

import re
from pathlib import Path

from draem_jax.data.layouts.entries import (
    GOOD,
    Counts,
    Entry,
    Listing,
    Split,
    account,
    find_category,
    find_pictures,
    make_listing,
    named_child,
)
from draem_jax.data.layouts.layout import Layout
from draem_jax.data.layouts.pairs import lonely_mask, missing_mask
from draem_jax.errors import UserError

_DEFECTIVE_TEST = (71, 84, 84, 68, 80, 67, 150, 150, 150, 150)
_DEFECTIVE_TRAIN = (79, 66, 66, 82, 70, 83, 150, 150, 150, 150)

_COUNTS = {
    f"Class{i + 1}": Counts(
        (575 if i < 6 else 1150) - _DEFECTIVE_TRAIN[i],
        (575 if i < 6 else 1150) - _DEFECTIVE_TEST[i],
        _DEFECTIVE_TEST[i],
    )
    for i in range(10)
}
"""Numbers of pictures in the published archive; defective ones of the training half not counted."""

DEFECT = "defect"
"""The type of every defective picture."""

_LABEL = re.compile(r"(\S+)_label\.png", re.IGNORECASE)


def list_category(root: Path, category: str) -> Listing:
    """Lists the pictures of a class. Defective ones of the training half are left out and counted.

    Raises:
        UserError: `root` does not hold the class.
    """
    folder = find_category(root, category, holding="Train")
    entries, problems, left_out, used = [], [], list[Path](), list[Path]()
    halves: tuple[tuple[Split, str], ...] = (("train", "Train"), ("test", "Test"))
    for split, name in halves:
        half = named_child(folder, name)
        if half is None:
            raise UserError(f"{folder} holds no folder {name}; give DAGM as it was published")
        labels = {
            match[1]: file
            for file in find_pictures(half / "Label").all()
            for match in [_LABEL.fullmatch(file[1].name)]
            if match
        }
        used.append(half / "Label" / "Labels.txt")
        defective = set(labels) | _listed_labels(used[-1])
        pictures = {file.stem: file for _, file in find_pictures(half, recursive=False).all()}
        problems += [
            lonely_mask(file, half) for stem, (_, file) in labels.items() if stem not in pictures
        ]
        for stem, path in pictures.items():
            if stem not in defective:
                entries.append(Entry(path, split, GOOD, f"{GOOD}/{stem}"))
            elif split == "train":
                left_out.append(path)
                used += [labels[stem][1]] if stem in labels else []
            elif stem not in labels:
                problems.append(missing_mask(path, half / "Label"))
            else:
                masks = (labels[stem][1],)
                entries.append(Entry(path, split, DEFECT, f"{DEFECT}/{stem}", masks))
    return account(
        make_listing(entries, problems),
        folder,
        left_out={"defective pictures of the training half": left_out},
        used=used,
    )


def _listed_labels(path: Path) -> set[str]:
    """Names of the pictures whose label a Labels.txt names."""
    if not path.is_file():
        return set()
    return set(_LABEL.findall(path.read_text(encoding="utf-8", errors="replace")))


LAYOUT = Layout(
    name="dagm",
    description="DAGM 2007: ten generated textures with defects; masks are ellipses around them.",
    list_category=list_category,
    homepage="https://hci.iwr.uni-heidelberg.de/content/weakly-supervised-learning-industrial-optical-inspection",
    counts=_COUNTS,
)
