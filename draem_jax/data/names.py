"""Names of files and folders: when two mean the same, and which ones are masks."""

import hashlib
import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping

MASK_FOLDERS = ("ground_truth", "groundtruth", "masks", "mask", "gt")
"""Names, in any case, of the folder of masks."""

MASK_NAMES = "NAME or NAME_mask (or _gt, _label, _seg) for the picture NAME"
"""What masks may be called, for messages."""

_MASK_SUFFIX = re.compile(
    r"[ _.-]+(masks?|labels?|gt|seg|segmentation|annotation|ground[ _-]?truth)$", re.IGNORECASE
)
_SURE_SUFFIX = re.compile(r"[ _.-]+(masks?|gt|ground[ _-]?truth)$", re.IGNORECASE)
_FOLDERS_OF_PICTURES = ("images", "image", "imgs", "img", "pictures", "rgb")
_WORDS_OF_MASKS = {"mask", "masks", "gt", "groundtruth", "annotation", "annotations"}
_FOLDERS_OF_MASKS = {"label", "labels", "seg", "segmentation", "segmentations"}


def natural_key(name: str) -> list[tuple[int, str]]:
    """Sorting key by which numbers within names stand in order of their value."""
    return [
        (int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)
    ]


def as_text(name: str) -> str:
    """A name for messages and tables; bytes in it that are not UTF-8 are written as numbers."""
    return name.encode("utf-8", "backslashreplace").decode()


def plain(name: str) -> str:
    """A name as it compares: in small letters, and with accents as one character (NFC).

    macOS keeps accents as characters of their own (NFD), and Windows does not tell cases apart, so
    that copies of one file are not called the same byte for byte.
    """
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).lower())


def match(wanted: Collection[str], there: Collection[str]) -> Mapping[str, str]:
    """Finds names among others: the same ones, or else those that differ by case or accents alone.

    Args:
        wanted: the names to find.
        there: the names that there are.

    Returns:
        What each wanted name is called among those that are there. No two are called the same, and
        a name that may be several of those that are there is left out.
    """
    found = {name: name for name in wanted if name in there}
    free = _by_plain(set(there) - found.keys())
    for key, names in _by_plain(set(wanted) - found.keys()).items():
        if len(names) == len(free.get(key, ())) == 1:
            found[names[0]] = free[key][0]
    return found


def without_mask_suffix(name: str) -> str:
    """A mask's name without what tells it from its picture's, such as _mask."""
    return _MASK_SUFFIX.sub("", name)


def masks_beside(names: Iterable[str]) -> set[str]:
    """Which pictures of a folder are masks that lie among them.

    A picture is a mask if it lies in a folder of masks, or if its name is that of another picture
    there with an ending such as _mask. Where that other picture is lost, it is a mask if others of
    the same folder and ending are, or if it ends in _mask, _gt or _ground_truth among pictures
    without such an ending; _label and _seg do not suffice for that, as pictures may end so too.

    Args:
        names: the names of pictures, or their paths within the folder, without the files' suffixes.
    """
    names = sorted(names, key=len)  # so that pictures come before their masks
    found = {name for name in names if in_folder_of_masks(name)}
    names = [name for name in names if name not in found]
    pictures: set[tuple[str, str]] = set()
    owners: set[tuple[str, str]] = set()
    endings: set[tuple[str, str]] = set()
    for name in names:
        folder, _, own = name.rpartition("/")
        owner = without_mask_suffix(own)
        if owner != own and (folder, plain(owner)) in pictures:
            found.add(name)
            owners.add((folder, plain(owner)))
            endings.add((folder, plain(own[len(owner) :])))
        else:
            pictures.add((folder, plain(own)))
    with_pictures = {folder for folder, own in pictures if not is_called_mask(own)}
    for name in names:
        folder, _, own = name.rpartition("/")
        ending = plain(own[len(without_mask_suffix(own)) :])
        is_lost = (folder, ending) in endings or (folder in with_pictures and is_called_mask(own))
        if is_lost and (folder, plain(own)) not in owners:
            found.add(name)
    return found


def is_called_mask(name: str) -> bool:
    """Whether a name has an ending that only masks have, as a rule."""
    return bool(_SURE_SUFFIX.search(name))


def in_folder_of_masks(name: str) -> bool:
    """Whether a path within a folder leads through a folder of masks."""
    return any(looks_like_masks(part) for part in name.split("/")[:-1])


def beside_folder_of_masks(name: str) -> list[str]:
    """Paths that a mask's picture may have: around the folder of masks, or in one beside it.

    Args:
        name: the mask's path within the folder of the pictures.

    Returns:
        The path without the folder of masks, and with a folder such as images in its place; none
        where it leads through no folder of masks.
    """
    *parts, own = name.split("/")
    places = [i for i, part in enumerate(parts) if looks_like_masks(part)]
    if not places:
        return []
    before, behind = parts[: places[-1]], [*parts[places[-1] + 1 :], own]
    between = [[], *([folder] for folder in _FOLDERS_OF_PICTURES)]
    return ["/".join([*before, *folder, *behind]) for folder in between]


def looks_like_masks(folder: str) -> bool:
    """Whether a folder of this name should hold masks, so that it is no type of defect."""
    name = re.sub(r"ground[ _.-]?truths?", "groundtruth", folder.lower())
    words = re.split(r"[^a-z]+", name)
    return name in _FOLDERS_OF_MASKS or bool(_WORDS_OF_MASKS.intersection(words))


def _by_plain(names: Iterable[str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(plain(name), []).append(name)
    return groups


def shuffled(names: Iterable[str]) -> list[str]:
    """Names by their digests: an order that has nothing to do with the pictures."""
    return sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())
