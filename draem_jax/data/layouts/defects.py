"""Folders of defects with masks, by which a trained detector is fine-tuned.

Read are, in this order:

1. DIR/test/TYPE with DIR/ground_truth/TYPE, as MVTec AD has them; DIR/test/good is left out;
2. DIR/TYPE for each type of defect;
3. pictures directly in DIR, all of one type.

Masks lie in DIR/ground_truth/TYPE (or in masks, mask or gt; with a single type, the folder TYPE may
be missing), or beside their picture with an ending such as _mask, or in a folder of masks within
the pictures' folder; see `draem_jax.data.layouts.pairs`. A folder called Label, as in each half of
a class of DAGM, holds masks of the defective pictures alone: pictures without one are normal there,
and left out.
"""

from pathlib import Path

from draem_jax.data.folders import subfolders
from draem_jax.data.layouts.entries import (
    FilesByStem,
    Listing,
    account,
    find_pictures,
    is_good,
    make_listing,
    named_child,
)
from draem_jax.data.layouts.pairs import mirrors, pair_masks, refuse_masks
from draem_jax.data.names import MASK_FOLDERS, masks_beside, plain, without_mask_suffix
from draem_jax.errors import UserError

_DEFECT = "defect"


def list_defects(root: Path) -> Listing:
    """Lists the defective pictures of a folder; each has a mask, or is one of the problems.

    All of them are of the split "train", since a detector learns from them.

    Raises:
        UserError: there is no such folder, or it cannot be told what its pictures are.
    """
    if not root.is_dir():
        raise UserError(f"there is no folder {root}; check the path")
    labels = named_child(root, "label")
    masks = labels or named_child(root, *MASK_FOLDERS)
    base = named_child(root, "test") or root
    flat = find_pictures(base, recursive=False)
    good = [child for child in subfolders(base) if is_good(child)]
    types = [
        child
        for child in subfolders(base)
        if child != masks and child not in good and find_pictures(child).files
    ]
    refuse_masks(types)
    if flat.files and types:
        raise UserError(
            f"{base} holds pictures both directly and in {types[0].name}; put all of them in "
            "folders, one for each type of defect"
        )
    if not flat.files and not types:
        raise UserError(
            f"{root} holds no pictures of defects; put them in it, or in a folder for each type, "
            "and their masks in ground_truth/"
        )
    entries, problems, unlabelled = [], [], list[Path]()
    mirrored = mirrors(types, masks)
    for folder, pictures, mask_folder in (
        [(base, flat, masks)]
        if flat.files
        else [(child, find_pictures(child), mirrored.get(child)) for child in types]
    ):
        found = find_pictures(mask_folder).all() if mask_folder is not None else []
        if labels is not None:
            beside = masks_beside(pictures.files)
            known = {plain(without_mask_suffix(key)) for key in (*beside, *dict(found))}
            labelled = {
                key: files
                for key, files in pictures.files.items()
                if key in beside or plain(key) in known
            }
            unlabelled += [file for key, file in pictures.all() if key not in labelled]
            pictures = FilesByStem(labelled)
        paired, wrong = pair_masks(
            folder,
            pictures,
            found,
            split="train",
            defect_type=_DEFECT if flat.files else folder.name,
            masks_expected=True,
            where=mask_folder or f"{root / 'ground_truth'} or beside it",
        )
        entries += paired
        problems += wrong
    left_out = {
        "pictures without a label": unlabelled,
        "normal pictures": [file for child in good for _, file in find_pictures(child).all()],
    }
    within = {base, masks or base}
    apart = [folder for folder in within if not any(o in folder.parents for o in within)]
    return account(make_listing(entries, problems), *apart, masks=masks, left_out=left_out)
