"""Names of files and folders: when two mean the same, and which ones are masks."""

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
_WORDS_OF_MASKS = {"mask", "masks", "gt", "groundtruth", "annotation", "annotations"}
_FOLDERS_OF_MASKS = {"label", "labels", "seg", "segmentation", "segmentations"}


def natural_key(name: str) -> list[tuple[int, str]]:
    """Sorting key by which numbers within names stand in order of their value."""
    return [
        (int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)
    ]


def as_text(name: str) -> str:
    """A name for messages and tables; what is no UTF-8 in it is written by numbers."""
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
        What each name is called among those that are there. None is given to two, and what may be
        several is left out.
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
    """Which pictures of a folder are masks of others that lie beside them.

    A name is a mask's where the picture is there whose name it has before its ending, and where
    others of the same folder and ending are masks: that one has lost its picture.

    Args:
        names: of pictures, or their paths within a folder, without the files' suffixes.
    """
    names = sorted(names, key=len)  # so that pictures come before their masks
    found: set[str] = set()
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
    for name in names:
        folder, _, own = name.rpartition("/")
        ending = plain(own[len(without_mask_suffix(own)) :])
        if (folder, ending) in endings and (folder, plain(own)) not in owners:
            found.add(name)
    return found


def looks_like_masks(folder: str) -> bool:
    """Whether a folder of this name should hold masks, so that it is no type of defect."""
    words = re.split(r"[^a-z]+", folder.lower())
    return folder.lower() in (*MASK_FOLDERS, *_FOLDERS_OF_MASKS) or bool(
        _WORDS_OF_MASKS.intersection(words)
    )


def _by_plain(names: Iterable[str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(plain(name), []).append(name)
    return groups
