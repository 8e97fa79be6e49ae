"""What every layout's function returns: the pictures found, and what is wrong with them."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, NamedTuple

from draem_jax.data.pictures import SUFFIXES, natural_key
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
        masks: files whose union is its mask; empty where no mask is known. A good picture needs
            none.
    """

    path: Path
    split: Split
    defect_type: str
    name: str
    masks: tuple[Path, ...] = ()

    @property
    def has_mask(self) -> bool:
        """Whether it is known which pixels are defect: a good picture has none."""
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
        problems: pictures and masks that are wrong, as far as names tell; none of them is among
            `entries`.
        left_out: number of files that rightly belong to neither split, by what they are.
        notes: what the user should know about how the folder was read, one line each.
    """

    entries: tuple[Entry, ...]
    problems: tuple[Problem, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class Counts(NamedTuple):
    """Pictures of one category: good ones to train on, and good and defective ones to test on."""

    train: int
    good: int
    defective: int


def make_listing(
    entries: Iterable[Entry],
    problems: Iterable[Problem] = (),
    left_out: Mapping[str, int] | None = None,
    notes: Iterable[str] = (),
) -> Listing:
    """Orders entries, and makes their names unique by the files' suffixes where they are not."""
    # A name may come from a file's bytes that are no UTF-8; it must be text all the same.
    entries = [
        replace(e, name=e.name.encode("utf-8", "backslashreplace").decode()) for e in entries
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


class Pictures(NamedTuple):
    """The pictures below a folder, by path within it without suffix, and how much else is there."""

    files: dict[str, list[Path]]
    others: int

    def all(self) -> list[tuple[str, Path]]:
        """Every picture with its path within the folder, in natural order."""
        return [(key, file) for key, files in self.files.items() for file in files]


def find_pictures(folder: Path) -> Pictures:
    """Finds the pictures in a folder and the folders within; hidden files do not count."""
    files: dict[str, list[Path]] = {}
    others = 0
    for file in sorted(
        walk(folder), key=lambda file: natural_key(file.relative_to(folder).as_posix())
    ):
        if file.suffix.lower() in SUFFIXES:
            key = file.relative_to(folder).with_suffix("").as_posix()
            files.setdefault(key, []).append(file)
        else:
            others += 1
    return Pictures(files, others)


def walk(folder: Path) -> Iterator[Path]:
    """Every file in a folder and the folders within, also by links; hidden ones are left out."""
    seen: set[str] = set()
    for name, inside, files in os.walk(folder, followlinks=True):
        here = os.path.realpath(name)
        if here in seen:  # a link that leads back
            inside.clear()
            continue
        seen.add(here)
        inside[:] = [child for child in inside if not is_hidden(Path(child))]
        yield from (Path(name, file) for file in files if not is_hidden(Path(file)))


def subfolders(folder: Path) -> list[Path]:
    """The folders directly within a folder, without hidden ones, in natural order."""
    if not folder.is_dir():
        return []
    found = [p for p in folder.iterdir() if p.is_dir() and not is_hidden(Path(p.name))]
    return sorted(found, key=lambda path: natural_key(path.name))


def is_hidden(path: Path) -> bool:
    """Whether a part of the path begins with a dot, or is what macOS puts into archives."""
    return any(part.startswith(".") or part == "__MACOSX" for part in path.parts)


def is_good(folder: Path) -> bool:
    """Whether a folder of this name holds pictures without a defect."""
    return folder.name.lower() in GOOD_NAMES


def named_child(folder: Path, *names: str) -> Path | None:
    """The folder within `folder` that has one of the names, in any case."""
    for name in names:
        for child in subfolders(folder):
            if child.name.lower() == name.lower():
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
