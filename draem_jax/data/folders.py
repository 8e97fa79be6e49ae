"""Folders as all of the package reads them: which files are pictures, and what is left out.

Left out are what is hidden, what systems keep for themselves, and what draem_jax wrote. Links are
followed; a folder that is reached twice is read once. A link that has a picture's name and leads
nowhere counts as a picture, so that whoever reads it says so.
"""

import os
import re
from collections import defaultdict, deque
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import NamedTuple

from draem_jax.data.names import as_text, in_folder_of_masks, masks_beside, natural_key
from draem_jax.errors import UserError
from draem_jax.files import OUTPUT_MARKER

SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif"),
    *(".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm"),
)
"""Suffixes, in lower case, of the files that count as pictures in a folder."""

_SYSTEM_FOLDERS = {
    *("@eadir", "@recycle", "@recently-snapshot", "#recycle", "#snapshot"),  # network storage
    *("$recycle.bin", "recycler", "system volume information"),  # Windows
    *("__macosx", "lost+found", "network trash folder", "temporary items"),
}
_SYSTEM_FILES = {"thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini"}

_PREDICTED = (
    {"predictions.csv", "maps"},
    r"predictions\.csv|regions(_rle)?\.(csv|json)|journal\.jsonl|maps|masks|overlays",
)
_WHOLE = (
    (
        {"config.json", "checkpoints"},
        r"config\.json|metrics\.jsonl|finetune\.(json|png)|"
        r"checkpoints|evaluation|samples|tensorboard|thresholds|types",
    ),
    ({"regions.csv", "group_1.png"}, r"regions\.csv|examples\.csv|group_\d+\.png"),
    ({"study.json", "runs"}, r"study\.json|results\.(csv|md)|report\.html|runs"),
    ({"dataset_info.json", "features.json"}, r".*"),
)
_OUTPUTS = (_PREDICTED, *_WHOLE)
"""Names that show that draem_jax wrote to a folder, and a pattern of all that it writes there."""

_WRITTEN = "files and folders that draem_jax wrote"
_NOWHERE = "links that lead nowhere"
_UNTOLD = "hidden files"  # nobody would look for a picture in them
LABELS = "label files"
"""How `sort_others` begins the kind of files that may hold labels, which are not read."""

_SILENT = re.compile(r"(readme|licen[sc]e|copying|citation|changelog|notice)\b.*", re.IGNORECASE)
_LABEL_SUFFIXES = (".json", ".xml", ".txt", ".csv", ".npy", ".npz", ".mat")
_LABEL_WORDS = re.compile(r"(^|[^a-z])(annotations?|labels?|coco|classes)([^a-z]|$)", re.IGNORECASE)


@dataclass(frozen=True)
class Contents:
    """What a folder and the folders within hold.

    Attributes:
        pictures: files that are pictures by their suffix, in natural order.
        others: all other files that are looked at, in natural order.
        passed_over: files that are not looked at and folders that are not looked into, by what
            they are.
    """

    pictures: tuple[Path, ...]
    others: tuple[Path, ...]
    passed_over: Mapping[str, tuple[Path, ...]]


class Found(NamedTuple):
    """The pictures of a folder, and how many files and folders were left out, by what they are."""

    paths: list[Path]
    left_out: Mapping[str, int]


class _Item(NamedTuple):
    name: str
    is_link: bool
    is_folder: bool
    is_file: bool  # neither is a link that leads nowhere, nor what is no file, such as a socket


def look(folder: Path, *, recursive: bool = True) -> Contents:
    """Looks through a folder.

    Args:
        folder: that the user named: it is looked through even if folders like it are passed over
            within another.
        recursive: whether to look into the folders within, too.

    Raises:
        UserError: a folder may not be read, or names of pictures hold backslashes, which were
            folders on Windows.
    """
    pictures, others, seen = [], [], set()
    passed_over: dict[str, list[Path]] = defaultdict(list)
    # What links lead to is read last, so that files go by the names of the folders they lie in.
    waiting, links = deque([folder]), deque[Path]()
    while waiting or links:
        here = waiting.popleft() if waiting else links.popleft()
        real = os.path.realpath(here)
        if real in seen:
            passed_over["folders that links lead to twice"].append(here)
            continue
        seen.add(real)
        inside = _scan(here)
        written = _written(inside)
        if here != folder and _is_output(inside):
            passed_over[_WRITTEN].append(here)
            continue
        for item in inside:
            path = here / item.name
            if kind := _passed_over(item):
                passed_over[kind].append(path)
            elif written and written.fullmatch(item.name):
                passed_over[_WRITTEN].append(path)
            elif item.is_folder:
                if recursive:
                    (links if item.is_link else waiting).append(path)
            elif path.suffix.lower() in SUFFIXES and (item.is_file or item.is_link):
                pictures.append(path)
            elif item.is_file:
                others.append(path)
            else:
                passed_over[_NOWHERE if item.is_link else "devices and sockets"].append(path)
    _refuse_backslashes(folder, pictures)

    def order(path: Path) -> tuple[list[tuple[int, str]], str]:
        name = path.relative_to(folder).as_posix()
        return natural_key(name), name

    return Contents(
        tuple(sorted(pictures, key=order)),
        tuple(sorted(others, key=order)),
        {kind: tuple(paths) for kind, paths in passed_over.items() if kind != _UNTOLD},
    )


def subfolders(folder: Path) -> list[Path]:
    """The folders directly within a folder that are looked into, in natural order."""
    if not folder.is_dir():
        return []
    inside = _scan(folder)
    written = _written(inside)
    found = [
        folder / item.name
        for item in inside
        if item.is_folder
        and not _passed_over(item)
        and not (written and written.fullmatch(item.name))
    ]
    found = [path for path in found if not _is_output(_scan(path))]
    return sorted(found, key=lambda path: natural_key(path.name))


def names_in(folder: Path) -> list[str]:
    """Names of everything in a folder."""
    return [item.name for item in _scan(folder)]


def is_ignored(path: PurePath) -> bool:
    """Whether a part of the path is hidden, or what systems keep for themselves."""
    return any(
        name.startswith(".") or name.lower() in _SYSTEM_FOLDERS or name.lower() in _SYSTEM_FILES
        for name in path.parts
    )


def list_pictures(path: str | Path, *, recursive: bool = False) -> list[Path]:
    """The paths of `find_pictures_in`."""
    return find_pictures_in(path, recursive=recursive).paths


def find_pictures_in(path: str | Path, *, recursive: bool = True) -> Found:
    """Finds the pictures of a folder in natural order: 2.png stands before 10.png.

    Masks that lie among the pictures are left out: 2_mask.png beside 2.png, and folders of masks
    within the folder. A folder of masks that is given itself is read.

    Args:
        path: a folder, or one file, which is then the whole list, whatever its suffix.
        recursive: whether to look into the folders within, too.

    Returns:
        The files whose suffix is in `SUFFIXES`, in either case, and what was left out.

    Raises:
        UserError: there is nothing at `path`, the folder holds no pictures, or see `look`.
    """
    path = Path(path)
    if path.is_file():
        return Found([path], {})
    if not path.is_dir():
        raise UserError(f"there is no file or folder {path}; check the path")
    found = pictures_of_folder(path, recursive=recursive)
    if not found.paths:
        besides = ", ".join(f"{count} {kind}" for kind, count in found.left_out.items())
        raise UserError(
            f"the folder {path} holds no pictures; looked for files ending in {', '.join(SUFFIXES)}"
            + (f", and left out {besides}" if besides else "")
        )
    return found


def pictures_of_folder(path: Path, *, recursive: bool = True) -> Found:
    """Finds the pictures of a folder as `find_pictures_in` does; there may be none.

    Raises:
        UserError: see `look`.
    """
    contents = look(path, recursive=recursive)
    names = {p: p.relative_to(path).with_suffix("").as_posix() for p in contents.pictures}
    masks = masks_beside(names.values())
    pictures = [picture for picture, name in names.items() if name not in masks]
    apart = sum(in_folder_of_masks(name) for name in names.values())
    kinds = [*contents.passed_over.items(), *sort_others(contents).items()]
    left_out = {as_text(kind): len(paths) for kind, paths in kinds}
    if apart:
        left_out["pictures in folders of masks"] = apart
    if beside := len(contents.pictures) - len(pictures) - apart:
        left_out["masks beside their pictures"] = beside
    return Found(pictures, left_out)


def sort_others(
    contents: Contents, *, masks: Path | None = None, used: Collection[Path] = ()
) -> Mapping[str, list[Path]]:
    """Sorts the files that are not pictures by what they are, as their suffixes tell it.

    Args:
        contents: what a folder holds.
        masks: a folder within it that should hold masks, so that other files there are labels.
        used: files that were read.

    Returns:
        The files by what they are, without licences, READMEs and the like.
    """
    kinds: dict[str, list[Path]] = defaultdict(list)
    names = {picture.stem for picture in contents.pictures}
    for path in contents.others:
        if path in used or _SILENT.fullmatch(path.name):
            continue
        suffix = path.suffix.lower()
        is_label = (masks is not None and path.is_relative_to(masks)) or (
            suffix in _LABEL_SUFFIXES
            and (path.stem in names or _LABEL_WORDS.search(f"{path.parent.name} {path.stem}"))
        )
        if not suffix:
            kinds["files without a suffix"].append(path)
        else:
            kinds[f"{LABELS if is_label else 'files'} ending in {suffix}"].append(path)
    return kinds


def _scan(folder: Path) -> list[_Item]:
    """What a folder holds, in the order of the names."""
    try:
        with os.scandir(folder) as inside:
            items = [
                _Item(
                    entry.name,
                    entry.is_symlink(),
                    Path(entry).is_dir() if entry.is_symlink() else entry.is_dir(),
                    Path(entry).is_file() if entry.is_symlink() else entry.is_file(),
                )
                for entry in inside
            ]
    except OSError as error:
        raise UserError(
            f"the folder {folder} cannot be read: {error.strerror}; check its permissions"
        ) from error
    return sorted(items)


def _written(inside: Iterable[_Item]) -> re.Pattern[str] | None:
    """A pattern of the names that draem_jax wrote in a folder; None if it wrote nothing there."""
    names = {item.name for item in inside}
    found = [written for marks, written in _OUTPUTS if marks <= names]
    if OUTPUT_MARKER in names or found:
        return re.compile("|".join([re.escape(OUTPUT_MARKER), *found]))
    return None


def _is_output(inside: list[_Item]) -> bool:
    """Whether draem_jax wrote a folder as a whole.

    `predict` may write beside pictures, which are still the user's then: of such a folder only what
    was written is left out.
    """
    names = {item.name for item in inside}
    written = _written(inside)
    if written is None or OUTPUT_MARKER in names or any(m <= names for m, _ in _WHOLE):
        return written is not None
    return all(written.fullmatch(item.name) or _passed_over(item) for item in inside)


def _passed_over(item: _Item) -> str:
    """What a file or folder is that is not looked at; "" for one that is."""
    name = item.name.lower()
    if item.is_folder and name in _SYSTEM_FOLDERS:
        return f"folders of the system ({item.name})"
    if not item.is_folder and name in _SYSTEM_FILES:
        return f"files of the system ({item.name})"
    if name.startswith("."):
        if item.is_folder:
            return "hidden folders"
        return "hidden pictures" if Path(name).suffix in SUFFIXES else _UNTOLD
    return ""


def _refuse_backslashes(folder: Path, pictures: Iterable[Path]) -> None:
    crooked = [name for p in pictures if "\\" in (name := p.relative_to(folder).as_posix())]
    if crooked:
        raise UserError(
            f"{folder} holds {len(crooked)} pictures with backslashes in their names, such as "
            f"{crooked[0]}; they were folders on Windows: unpack the archive anew with a tool that "
            "makes folders of them, or rename them"
        )
