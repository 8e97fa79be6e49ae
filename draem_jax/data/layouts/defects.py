"""Pictures of defects with masks, from which a detector learns what it did not find.

Read are, in this order:

1. DIR/test/TYPE with DIR/ground_truth/TYPE, as MVTec AD has them; DIR/test/good is left out;
2. DIR/TYPE for each type of defect;
3. pictures directly in DIR, all of one type.

Masks lie in DIR/ground_truth/TYPE, or without the TYPE in the third case (or in masks, mask, gt),
under their picture's name or with _mask after it; or beside their picture, with _mask after its
name. A folder Label, as in each half of a class of DAGM, holds masks of the defective pictures
alone: pictures without one are normal there, and left out.
"""

from pathlib import Path

from draem_jax.data.layouts.entries import (
    Listing,
    Pictures,
    find_pictures,
    is_good,
    make_listing,
    named_child,
    subfolders,
)
from draem_jax.data.layouts.folder import MASK_FOLDERS
from draem_jax.data.layouts.pairs import pair_masks, without_mask_suffix
from draem_jax.errors import UserError

_DEFECT = "defect"


def list_defects(root: Path) -> Listing:
    """Lists the defective pictures of a folder; each has a mask, or is one of the problems.

    All count as of the split "train": they are to learn from.

    Raises:
        UserError: there is no such folder, or it cannot be told what its pictures are.
    """
    if not root.is_dir():
        raise UserError(f"there is no folder {root}; check the path")
    labels = named_child(root, "label")
    masks = labels or named_child(root, *MASK_FOLDERS)
    base = named_child(root, "test") or root
    flat = {key: files for key, files in find_pictures(base).files.items() if "/" not in key}
    types = [
        child
        for child in subfolders(base)
        if child != masks and not is_good(child) and find_pictures(child).files
    ]
    if flat and types:
        raise UserError(
            f"{base} holds pictures both directly and in {types[0].name}; put all of them in "
            "folders, one for each type of defect"
        )
    if not flat and not types:
        raise UserError(
            f"{root} holds no pictures of defects; put them in it, or in a folder for each type, "
            "and their masks in ground_truth/"
        )
    entries, problems, unlabelled = [], [], 0
    for folder, pictures, mask_folder in (
        [(base, Pictures(flat, 0), masks)]
        if flat
        else [(child, find_pictures(child), masks and masks / child.name) for child in types]
    ):
        pictures, found = _masks_beside(pictures)
        if mask_folder is not None and mask_folder.is_dir():
            found += find_pictures(mask_folder).all()
        if labels is not None:
            known = {without_mask_suffix(key) for key, _ in found}
            labelled = {key: files for key, files in pictures.files.items() if key in known}
            unlabelled += len(pictures.files) - len(labelled)
            pictures = Pictures(labelled, 0)
        good, wrong = pair_masks(
            folder,
            pictures,
            found,
            split="train",
            defect_type=_DEFECT if flat else folder.name,
            masks_expected=True,
            where=mask_folder or f"{root / 'ground_truth'} or beside it, as NAME_mask.png",
        )
        entries += good
        problems += wrong
    return make_listing(entries, problems, {"pictures without a label": unlabelled})


def _masks_beside(pictures: Pictures) -> tuple[Pictures, list[tuple[str, Path]]]:
    """Parts pictures from masks that lie among them, which have their names and _mask."""
    beside = {
        key
        for key in pictures.files
        if (name := without_mask_suffix(key)) != key and name in pictures.files
    }
    alone = {key: files for key, files in pictures.files.items() if key not in beside}
    masks = [(key, file) for key, file in pictures.all() if key in beside]
    return Pictures(alone, pictures.others), masks
