"""What every layout's function returns: the pictures found, and what is wrong with them."""

import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, NamedTuple

from draem_jax.data.folders import LABELS, look, sort_others, subfolders
from draem_jax.data.names import (
    MASK_FOLDERS,
    MASK_NAMES,
    as_text,
    is_called_mask,
    looks_like_masks,
    masks_beside,
    natural_key,
    plain,
)
from draem_jax.errors import UserError

GOOD = "good"
"""The type of pictures without a defect, and the name of their folder."""

GOOD_NAMES = (GOOD, "ok", "normal")
"""Names of folders, in lower case, that hold pictures without a defect."""


class AbsentError(UserError):
    """The folder that was given does not hold the category."""


Split = Literal["train", "test"]


@dataclass(frozen=True)
class Entry:
    """One picture of a data set, and what is known of it.

    Attributes:
        path: its file.
        split: the half of the data set that it belongs to.
        defect_type: `GOOD`, or the type of its defect.
        name: "<type>/<name of the file>", unique within the split.
        masks: files whose union is its mask; empty where no mask is known. A normal picture
            needs none.
    """

    path: Path
    split: Split
    defect_type: str
    name: str
    masks: tuple[Path, ...] = ()

    @property
    def has_mask(self) -> bool:
        """Whether it is known which pixels are defect: of a normal picture, none."""
        return self.defect_type == GOOD or bool(self.masks)


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a data set.

    Attributes:
        kind: what is counted together, like "mask without picture".
        path: the file or folder.
        text: what is wrong and what to do, in one line that names the path.
    """

    kind: str
    path: Path
    text: str


@dataclass(frozen=True)
class Listing:
    """What a folder holds of one category.

    Attributes:
        entries: the pictures, in natural order of their names within each split.
        problems: pictures and masks that are wrong, as far as their names tell; none of them is
            among `entries`.
        left_out: number of files that rightly belong to neither split, by what they are.
        notes: what the user should know about how the folder was read, one line each.
    """

    entries: tuple[Entry, ...]
    problems: tuple[Problem, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class Counts(NamedTuple):
    """Numbers of pictures of one category.

    Attributes:
        train: normal ones to train on.
        normal: normal ones to test on.
        defective: those to test on that have a defect.
    """

    train: int
    normal: int
    defective: int


def make_listing(
    entries: Iterable[Entry],
    problems: Iterable[Problem] = (),
    left_out: Mapping[str, int] | None = None,
    notes: Iterable[str] = (),
) -> Listing:
    """Orders entries, and makes their names unique by the files' suffixes where they are not."""
    entries = [
        replace(entry, name=as_text(entry.name), defect_type=as_text(entry.defect_type))
        for entry in entries
    ]
    times = Counter((entry.split, entry.name) for entry in entries)
    named = [
        replace(entry, name=entry.name + entry.path.suffix)
        if times[entry.split, entry.name] > 1
        else entry
        for entry in entries
    ]
    named.sort(key=lambda entry: (entry.split != "train", natural_key(entry.name)))
    counted = {kind: count for kind, count in (left_out or {}).items() if count}
    return Listing(tuple(named), tuple(problems), counted, tuple(notes))


def account(
    listing: Listing,
    *within: Path,
    masks: Path | None = None,
    left_out: Mapping[str, Collection[Path]] | None = None,
    used: Iterable[Path] = (),
) -> Listing:
    """Accounts for every file in some folders: what the listing does not name is counted.

    Args:
        listing: what was found in the folders.
        within: the folders; none lies in another.
        masks: the folder among or in them that should hold masks.
        left_out: files that belong to neither split for a reason that is known, by what they are.
        used: other files that were read.

    Returns:
        The listing, with everything else counted in `left_out`, and with notes on files that may
        have been meant as masks.
    """
    left_out, used = left_out or {}, set(used)
    known = {path for entry in listing.entries for path in (entry.path, *entry.masks)}
    known.update(problem.path for problem in listing.problems)
    known.update(used, *left_out.values())
    nearest = {path.parent for path in known}
    folders = nearest.union(*(parent.parents for parent in nearest))
    counts = Counter(listing.left_out)
    counts.update({kind: len(paths) for kind, paths in left_out.items()})
    labels: list[str] = []
    notes = list(listing.notes)
    for folder in within:
        contents = look(folder)
        for kind, paths in contents.passed_over.items():
            # What is reached twice by links may be known by its other name.
            counts[kind] += sum(path not in folders for path in paths)
        for kind, files in sort_others(contents, masks=masks, used=used).items():
            counts[kind] += len(files)
            if kind.startswith(LABELS):
                labels += [file.relative_to(folder).as_posix() for file in files]
        unused = Counter(
            _unused_folder(picture, folder, folders)
            for picture in contents.pictures
            if picture not in known
        )
        for name, count in unused.items():
            counts[f"pictures in {name} that are not used"] += count
            if looks_like_masks(Path(name).name):
                notes.append(
                    f"{name} holds {count} pictures that are not used; if they are masks, put them "
                    f"in a folder called {' or '.join(MASK_FOLDERS)}, as {MASK_NAMES}"
                )
    if labels:
        notes.append(
            f"{len(labels)} label files are not read, such as {labels[0]}; defects are read from "
            f"masks alone, which are pictures: export masks, and call them {MASK_NAMES}"
        )
    counted = {as_text(kind): count for kind, count in counts.items() if count}
    return note_masks(replace(listing, left_out=counted, notes=tuple(map(as_text, notes))))


def note_masks(listing: Listing) -> Listing:
    """Adds a note where pictures without masks are themselves called as masks are."""
    if not listing.entries:
        return listing
    paths = [Path(os.path.normpath(e.path.absolute())).with_suffix("") for e in listing.entries]
    around = os.path.commonpath([path.parent for path in paths])  # what the user named, or within
    # Of two slashes at the beginning, which a list may have, pathlib keeps both, and os.path one.
    names = [Path(os.path.relpath(path, around)).as_posix() for path in paths]
    masks = masks_beside(names)
    called = [
        entry.name
        for entry, name in zip(listing.entries, names, strict=True)
        if not entry.masks and (name in masks or is_called_mask(name))
    ]
    if not called:
        return listing
    note = (
        f"{len(called)} of the pictures are called as masks are, such as {called[0]}; if they are "
        "masks, take them from among the pictures and put them in ground_truth/TYPE, or in the "
        "column mask of a list"
    )
    return replace(listing, notes=(*listing.notes, note))


def _unused_folder(picture: Path, within: Path, used: Collection[Path]) -> str:
    """The largest folder around a picture in which nothing is used, or else the one it lies in."""
    around = [parent for parent in picture.parents if parent.is_relative_to(within)]
    unused = [parent for parent in around if parent not in used]
    largest = unused[-1] if unused else picture.parent
    return largest.name if largest == within else largest.relative_to(within).as_posix()


class FilesByStem(NamedTuple):
    """The pictures below a folder, by path within it without suffix."""

    files: dict[str, list[Path]]

    def all(self) -> list[tuple[str, Path]]:
        """Every picture with its path within the folder, in natural order."""
        return [(key, file) for key, files in self.files.items() for file in files]


def find_pictures(folder: Path, *, recursive: bool = True) -> FilesByStem:
    """Finds the pictures in a folder and the folders within; there are none where it is not."""
    files: dict[str, list[Path]] = {}
    for file in look(folder, recursive=recursive).pictures if folder.is_dir() else ():
        key = file.relative_to(folder).with_suffix("").as_posix()
        files.setdefault(key, []).append(file)
    return FilesByStem(files)


def is_good(folder: Path) -> bool:
    """Whether a folder of this name holds pictures without a defect."""
    return folder.name.lower() in GOOD_NAMES


def named_child(folder: Path, *names: str) -> Path | None:
    """The folder within `folder` that has one of the names, in any case."""
    children = subfolders(folder)
    for name in names:
        for child in children:
            if plain(child.name) == plain(name):
                return child
    return None


def find_category(root: Path, category: str, *, holding: str) -> Path:
    """Finds the folder of a category: within `root`, up to three folders deeper, or `root` itself.

    Args:
        root: the folder that was given or unpacked.
        category: the name of the category's folder.
        holding: a folder that each category's folder holds.

    Raises:
        AbsentError: there is none.
        UserError: there is one, but it does not hold what it should.
    """
    for folder in levels(root):
        if (folder / category / holding).is_dir():
            return folder / category
    if root.name == category and (root / holding).is_dir():
        return root
    if root.is_dir():
        look(root, recursive=False)  # tells if what should be folders are names with backslashes
    if (root / category).is_dir():
        raise UserError(
            f"{root / category} holds no folder {holding}; give the data set as it was published"
        )
    raise AbsentError(
        f"{root} holds no folder {category} with a folder {holding} in it; check the path"
    )


def levels(root: Path) -> Iterator[Path]:
    """A folder, the folders within it, and those within them: archives wrap what they hold."""
    level = [root]
    for _ in range(4):
        yield from level
        level = [child for folder in level for child in subfolders(folder)]
