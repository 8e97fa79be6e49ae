"""Folders of test pictures by type, and folders of masks that mirror them."""

import re
from collections.abc import Iterable
from pathlib import Path

from draem_jax.data.layouts.entries import (
    GOOD,
    Entry,
    Listing,
    Pictures,
    Problem,
    Split,
    find_pictures,
    is_good,
    make_listing,
    subfolders,
)

_MASK_SUFFIX = re.compile(r"[_-](mask|label|gt)$", re.IGNORECASE)


def list_halves(
    train: Path, test_types: list[Path], masks: Path | None, *, masks_expected: bool
) -> Listing:
    """Lists a category that has its normal pictures in one folder, and test pictures by type.

    A mask belongs to the picture of the same name, whatever its suffix, or with `_mask` after it;
    or it is one of several in a folder of the picture's name.

    Args:
        train: the folder of normal pictures to train on.
        test_types: one folder for each type of test pictures.
        masks: the folder that holds a folder of masks for each type.
        masks_expected: whether every defective picture must have a mask. Where not, a type
            without any mask is one whose masks are unknown.
    """
    entries, problems, others = _list_type(train, "train", None, masks_expected=False)
    defects = [folder for folder in test_types if not is_good(folder)]
    for folder in test_types:
        mask_folder = masks / folder.name if masks is not None else None
        if masks is not None and defects == [folder] and not subfolders(masks):
            mask_folder = masks  # with one type of defect there need be no folder for it
        found, wrong, more = _list_type(folder, "test", mask_folder, masks_expected=masks_expected)
        entries += found
        problems += wrong
        others += more
    if masks is not None and not (len(defects) == 1 and not subfolders(masks)):
        known = {folder.name for folder in test_types}
        for key, file in find_pictures(masks).all():
            if key.partition("/")[0] not in known or "/" not in key:
                problems.append(
                    lonely_mask(file, "the folder of test pictures that mirrors its own")
                )
    return make_listing(entries, problems, {"files that are no pictures": others})


def list_types(types: list[Path], masks: Path | None) -> Listing:
    """Lists folders of test pictures by type, where none is to be trained on.

    Args:
        types: one folder for each type.
        masks: the folder that holds a folder of masks for each type; masks of other types in it
            do not matter. A type without any mask is one whose masks are unknown.
    """
    entries, problems, others = [], [], 0
    for folder in types:
        mask_folder = None if masks is None else masks / folder.name
        found, wrong, more = _list_type(folder, "test", mask_folder, masks_expected=False)
        entries += found
        problems += wrong
        others += more
    return make_listing(entries, problems, {"files that are no pictures": others})


def missing_mask(picture: Path, where: Path | str) -> Problem:
    """A defective picture has no mask."""
    return Problem(
        "picture without mask",
        picture,
        f"{picture} has no mask in {where}; add it, or take the picture away",
    )


def lonely_mask(mask: Path, where: Path | str) -> Problem:
    """A mask has no picture."""
    return Problem(
        "mask without picture",
        mask,
        f"{mask} is a mask without a picture in {where}; add the picture, or take the mask away",
    )


def pair_masks(
    folder: Path,
    pictures: Pictures,
    masks: Iterable[tuple[str, Path]],
    *,
    split: Split,
    defect_type: str,
    masks_expected: bool,
    where: Path | str,
) -> tuple[list[Entry], list[Problem]]:
    """Gives each picture its masks, as `list_halves` describes.

    Args:
        folder: of the pictures.
        pictures: of one type.
        masks: files by their path within the folder of masks, without suffix.
        split: that the pictures belong to.
        defect_type: their type.
        masks_expected: whether every picture must have a mask, even if there is none at all.
        where: the masks are looked for, for messages.

    Returns:
        The pictures, and what is wrong with the others and with masks.
    """
    problems: list[Problem] = []
    owned: dict[str, list[Path]] = {}
    for key, mask in masks:
        candidates = (key, without_mask_suffix(key), key.rpartition("/")[0])
        owner = next((c for c in candidates if c in pictures.files), None)
        if owner is None:
            problems.append(lonely_mask(mask, folder))
        elif len(pictures.files[owner]) > 1:
            problems.append(
                Problem(
                    "ambiguous mask",
                    mask,
                    f"{mask} may belong to any of "
                    f"{', '.join(str(p) for p in pictures.files[owner])}; rename all but one",
                )
            )
        else:
            owned.setdefault(owner, []).append(mask)
    expected = defect_type != GOOD and (masks_expected or bool(owned))
    entries = []
    for key, file in pictures.all():
        if expected and key not in owned:
            problems.append(missing_mask(file, where))
            continue
        entries.append(
            Entry(
                path=file,
                split=split,
                defect_type=defect_type,
                name=f"{defect_type}/{key}",
                masks=tuple(owned.get(key, ())),
            )
        )
    return entries, problems


def without_mask_suffix(name: str) -> str:
    """A mask's name without what tells it from its picture's, such as _mask."""
    return _MASK_SUFFIX.sub("", name)


def _list_type(
    folder: Path, split: Split, mask_folder: Path | None, *, masks_expected: bool
) -> tuple[list[Entry], list[Problem], int]:
    pictures = find_pictures(folder)
    problems = []
    if not pictures.files:
        problems.append(
            Problem(
                "empty folder",
                folder,
                f"{folder} holds no pictures; add them, or take the folder away",
            )
        )
    masks: list[tuple[str, Path]] = []
    if mask_folder is not None and mask_folder.is_dir():
        masks = find_pictures(mask_folder).all()
    entries, wrong = pair_masks(
        folder,
        pictures,
        masks,
        split=split,
        defect_type=GOOD if split == "train" or is_good(folder) else folder.name,
        masks_expected=masks_expected,
        where=mask_folder or "any folder of masks",
    )
    return entries, problems + wrong, pictures.others
