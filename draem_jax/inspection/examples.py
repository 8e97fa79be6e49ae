"""Examples of kinds of defects: from folders named by type to the features of their regions."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, UInt8

from draem_jax.data.folders import subfolders
from draem_jax.data.layouts.entries import GOOD, Entry, Listing, account, named_child
from draem_jax.data.layouts.folder import list_file
from draem_jax.data.layouts.pairs import list_types, refuse_masks
from draem_jax.data.names import MASK_FOLDERS
from draem_jax.data.pictures import read_mask
from draem_jax.detector import Draem, Inspection
from draem_jax.errors import UserError
from draem_jax.inspection.features import region_features
from draem_jax.inspection.from_files import inspect_files
from draem_jax.regions.find import Region, find_regions
from draem_jax.regions.rule import RegionRule
from draem_jax.reports.data_uris import fit

_CROP_MARGIN = 0.35
"""Of a crop around a region, as a share of the region's longer side."""
_CROP_SIDE = 256


@dataclass(frozen=True, eq=False)
class Example:
    """A picture of a defect of a known kind.

    Attributes:
        name: the name of the picture, "<type>/<name of the file>".
        defect_type: the kind.
        features: the features of its regions, the largest first; none where nothing was found.
        crop: the picture around its largest region, RGB; all of it, small, where nothing was found.
    """

    name: str
    defect_type: str
    features: Float[np.ndarray, "R F"]
    crop: UInt8[np.ndarray, "h w 3"]


def list_examples(path: str | Path) -> Listing:
    """Lists pictures of defects by their kind.

    Args:
        path: a folder with a folder of pictures for each type, as MVTec AD's test folders are.
            Folders of normal pictures do not count. Masks may be in a folder `ground_truth/TYPE`
            in it, or beside it if it is called test, or lie beside their pictures. Or a list file,
            see `draem_jax.data.layouts.folder.list_file`.

    Returns:
        The pictures, with their masks where they have any; a type has masks for all or for none.
        A mask without a picture is no problem here, and left out.

    Raises:
        UserError: there is no such folder, it holds no folder of pictures, or one of its types
            has masks for some of its pictures alone.
    """
    path = Path(path)
    if path.is_file():
        listing = list_file(path)
    elif path.is_dir():
        beside = path.parent if path.name.lower() == "test" else path
        masks = named_child(path, *MASK_FOLDERS) or named_child(beside, *MASK_FOLDERS)
        types = [folder for folder in subfolders(path) if folder != masks]
        refuse_masks(types)
        listing = account(list_types(types, masks), path, masks=masks)
    else:
        raise UserError(f"there is no file or folder {path}; check the path")
    wrong = [problem for problem in listing.problems if problem.kind != "mask without picture"]
    if wrong:
        raise UserError(wrong[0].text)
    entries = tuple(entry for entry in listing.entries if entry.defect_type != GOOD)
    if not entries:
        raise UserError(
            f"{path} holds no examples; put pictures of each type of defect into a folder of its "
            f"own, such as {path / 'scratch'}"
        )
    left_out = dict(listing.left_out)
    if lonely := len(listing.problems):
        left_out["masks without a picture"] = lonely
    return dataclasses.replace(listing, entries=entries, problems=(), left_out=left_out)


def read_examples(
    detector: Draem,
    entries: Sequence[Entry],
    rule: RegionRule,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Example]:
    """Inspects pictures of known defects; see `make_example` for what is kept of them.

    Args:
        detector: the trained detector.
        entries: the pictures.
        rule: what is called a region.
        progress: called with the pictures done and all of them.

    Raises:
        UserError: a picture or a mask cannot be read, or a mask is of another size.
    """
    paths = [entry.path for entry in entries]
    inspections = inspect_files(detector, paths, rule=rule, with_features=True)
    found = []
    for entry, inspection in zip(entries, inspections, strict=True):
        if isinstance(inspection, UserError):
            raise inspection
        mask = _read_masks(entry, inspection.margin.shape) if entry.masks else None
        found.append(make_example(entry.name, entry.defect_type, inspection, mask))
        progress(len(found), len(entries))
    return found


def make_example(
    name: str,
    defect_type: str,
    inspection: Inspection,
    mask: Bool[np.ndarray, "H W"] | None = None,
) -> Example:
    """Takes what is needed of a picture of a defect.

    Args:
        name: the name of the picture.
        defect_type: the kind of its defect.
        inspection: the inspection of the picture, with the network's features.
        mask: true on the defect, if that is known. Regions that do not touch it are left out, and
            if none does, the mask itself is the region. Otherwise regions are kept as they were
            found, since it is by such ones that types will be told.
    """
    regions = inspection.regions
    if mask is not None:
        regions = [region for region in regions if (mask[region.window] & region.mask).any()]
        if not regions:
            regions = find_regions(np.where(mask, 1.0, -1.0), join_gap=math.inf)
    crop = inspection.at_network_size.image
    if regions:
        crop = crop_around(inspection.image, regions[0])
    features = region_features(dataclasses.replace(inspection, regions=regions))
    return Example(name, defect_type, features, crop)


def crop_around(image: UInt8[np.ndarray, "H W 3"], region: Region) -> UInt8[np.ndarray, "h w 3"]:
    """Cuts the square around a region out of a picture, with some of its surroundings.

    At the picture's border it is cut short. Its longer side is brought down to 256 pixels, so that
    many crops fit in memory.
    """
    height, width = image.shape[:2]
    top, left, bottom, right = region.bbox
    half = math.ceil((0.5 + _CROP_MARGIN) * max(bottom - top, right - left)) + 1
    row, column = (top + bottom) // 2, (left + right) // 2
    rows = slice(max(0, row - half), min(height, row + half))
    columns = slice(max(0, column - half), min(width, column + half))
    return fit(image[rows, columns], longest_side=_CROP_SIDE).copy()


def _read_masks(entry: Entry, shape: tuple[int, int]) -> Bool[np.ndarray, "H W"]:
    mask = np.zeros(shape, bool)
    for path in entry.masks:
        part = read_mask(path)
        if part.shape != shape:
            raise UserError(
                f"{path} is {part.shape[1]} x {part.shape[0]} pixels, its picture {entry.path} "
                f"{shape[1]} x {shape[0]}; masks must have the size of their pictures"
            )
        mask |= part
    return mask
