"""Folders of test pictures by type, and folders of masks that mirror them.

A mask belongs to the picture of the same name, whatever its suffix, or with an ending such as
`_mask` after it (see `draem_jax.data.names`); or it is one of several in a folder of the picture's
name. It lies beside its picture or in a folder of masks, which may be within the folder of the
pictures, or next to one called images there. Names that differ only in case, or in how accents are
written, are the same unless both are there.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from draem_jax.data.folders import subfolders
from draem_jax.data.layouts.entries import (
    GOOD,
    Entry,
    FilesByStem,
    Listing,
    Problem,
    Split,
    find_pictures,
    is_good,
    make_listing,
)
from draem_jax.data.names import (
    MASK_NAMES,
    beside_folder_of_masks,
    looks_like_masks,
    masks_beside,
    match,
    plain,
    without_mask_suffix,
)
from draem_jax.errors import UserError

_LONELY = "mask without picture"


def list_halves(
    train: Path, test_types: list[Path], masks: Path | None, *, masks_expected: bool
) -> Listing:
    """Lists a category that has its normal pictures in one folder, and test pictures by type.

    Args:
        train: the folder of normal pictures to train on.
        test_types: one folder for each type of test pictures.
        masks: the folder that holds a folder of masks for each type.
        masks_expected: whether every defective picture must have a mask. Where not, a type
            without any mask is one whose masks are unknown.
    """
    entries, problems = _list_type(train, "train", None, masks_expected=False)
    mirrored = mirrors(test_types, masks)
    for folder in test_types:
        mask_folder = mirrored.get(folder)
        if mask_folder is None and masks is not None:
            mask_folder = masks / folder.name
        found, wrong = _list_type(folder, "test", mask_folder, masks_expected=masks_expected)
        entries += found
        problems += wrong
    if masks is not None and masks not in mirrored.values():
        problems += [
            lonely_mask(file, "the folder of test pictures that mirrors its own")
            for _, file in find_pictures(masks).all()
            if not any(file.is_relative_to(mirror) for mirror in mirrored.values())
        ]
    return make_listing(entries, problems)


def list_types(types: list[Path], masks: Path | None) -> Listing:
    """Lists folders of test pictures by type, where none is to be trained on.

    Args:
        types: one folder for each type.
        masks: the folder that holds a folder of masks for each type; masks of other types in it
            do not matter. A type without any mask is one whose masks are unknown; where there are
            masks and none fits, that is a problem of the type.
    """
    entries, problems = [], []
    mirrored = mirrors(types, masks)
    for folder in types:
        found, wrong = _list_type(folder, "test", mirrored.get(folder), masks_expected=False)
        lonely = [problem.path for problem in wrong if problem.kind == _LONELY]
        if lonely and not is_good(folder) and not any(entry.masks for entry in found):
            wrong = [_no_mask_fits(folder, lonely), *wrong]
        entries += found
        problems += wrong
    return make_listing(entries, problems)


def mirrors(types: Sequence[Path], masks: Path | None) -> dict[Path, Path]:
    """The folder of masks for each type's folder: the one of the same name, if there is one.

    Args:
        types: one folder for each type.
        masks: the folder that holds a folder of masks for each type. With one type of defect there
            need be no folder for it.
    """
    folders = [] if masks is None else subfolders(masks)
    defects = [folder for folder in types if not is_good(folder)]
    if masks is not None and len(defects) == 1 and not folders:
        return {defects[0]: masks}
    by_name, masks_by_name = {f.name: f for f in types}, {f.name: f for f in folders}
    found = match(by_name, masks_by_name)
    return {by_name[name]: masks_by_name[mirror] for name, mirror in found.items()}


def refuse_masks(types: Sequence[Path]) -> None:
    """Refuses folders of masks where folders of pictures by type are expected.

    Raises:
        UserError: one of them holds masks, as its name says, or as its folders do, which are called
            as the types are.
    """
    names = {plain(folder.name) for folder in types}
    for folder in types:
        inside = {plain(child.name) for child in subfolders(folder)}
        if looks_like_masks(folder.name) or (inside and inside <= names):
            raise UserError(
                f"{folder} lies where a type of defect should, but looks like masks; call it "
                "ground_truth if it holds masks, and something else if it holds pictures of defects"
            )


def missing_mask(picture: Path, where: Path | str) -> Problem:
    """Says that a defective picture has no mask."""
    return Problem(
        "picture without mask",
        picture,
        f"{picture} has no mask in {where}; add it, called {MASK_NAMES}, or take the picture away",
    )


def lonely_mask(mask: Path, where: Path | str) -> Problem:
    """Says that a mask has no picture."""
    return Problem(
        _LONELY,
        mask,
        f"{mask} is a mask without a picture in {where}; add the picture, or take the mask away "
        f"(masks are called {MASK_NAMES})",
    )


def _no_mask_fits(folder: Path, masks: Sequence[Path]) -> Problem:
    return Problem(
        "masks that fit no picture",
        folder,
        f"{folder} has {len(masks)} masks, such as {masks[0]}, and none fits a picture; call them "
        f"{MASK_NAMES}, or take them away",
    )


def pair_masks(
    folder: Path,
    pictures: FilesByStem,
    masks: Iterable[tuple[str, Path]],
    *,
    split: Split,
    defect_type: str,
    masks_expected: bool,
    where: Path | str,
) -> tuple[list[Entry], list[Problem]]:
    """Gives each picture its masks.

    Args:
        folder: the folder of the pictures.
        pictures: of one type; with masks that lie beside them, if there are any.
        masks: other files by their path within the folder of masks, without suffix.
        split: that the pictures belong to.
        defect_type: their type.
        masks_expected: whether every picture must have a mask, even if there is none at all.
        where: what to call the place where the masks should be, in messages.

    Returns:
        The pictures, and what is wrong with the others and with masks.
    """
    problems: list[Problem] = []
    beside = masks_beside(pictures.files)
    masks = [*((key, file) for key, file in pictures.all() if key in beside), *masks]
    pictures = FilesByStem(
        {key: files for key, files in pictures.files.items() if key not in beside}
    )
    owned: dict[str, list[Path]] = {}
    inexact = []
    for key, mask in masks:
        own = (name for name in _owners(key) if name in pictures.files)
        if owner := next(own, None):
            owned.setdefault(owner, []).append(mask)
        else:
            inexact.append((key, mask))
    # A mask of another case is not lent to a picture that has one by its very name.
    free = match(
        [name for key, _ in inexact for name in _owners(key)], pictures.files.keys() - owned.keys()
    )
    for key, mask in inexact:
        if owner := next((free[name] for name in _owners(key) if name in free), None):
            owned.setdefault(owner, []).append(mask)
        else:
            problems.append(lonely_mask(mask, folder))
    for owner in [owner for owner in owned if len(pictures.files[owner]) > 1]:
        problems += [
            Problem(
                "ambiguous mask",
                mask,
                f"{mask} may belong to any of "
                f"{', '.join(str(p) for p in pictures.files[owner])}; rename all but one",
            )
            for mask in owned.pop(owner)
        ]
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


def _owners(key: str) -> list[str]:
    """The names that the picture of a mask may have."""
    return [
        owner
        for name in (key, *beside_folder_of_masks(key))
        for owner in (name, without_mask_suffix(name), name.rpartition("/")[0])
    ]


def _list_type(
    folder: Path, split: Split, mask_folder: Path | None, *, masks_expected: bool
) -> tuple[list[Entry], list[Problem]]:
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
    entries, wrong = pair_masks(
        folder,
        pictures,
        find_pictures(mask_folder).all() if mask_folder is not None else (),
        split=split,
        defect_type=GOOD if split == "train" or is_good(folder) else folder.name,
        masks_expected=masks_expected,
        where=mask_folder or "any folder of masks",
    )
    return entries, problems + wrong
