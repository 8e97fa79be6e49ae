"""Where the textures of anomalies come from: named sources, the user's folders, or mixtures."""

import difflib
import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Literal, Protocol, get_args, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from draem_jax import files
from draem_jax.data.builtin_textures import builtin_textures
from draem_jax.data.checks import find_highest
from draem_jax.data.dataset import DataSet
from draem_jax.data.depth import AUTO, find_full_scale
from draem_jax.data.folders import find_pictures_in, list_pictures
from draem_jax.data.loading import StoredPictures
from draem_jax.data.pictures import picture_header, read_picture, resize
from draem_jax.errors import UserError
from draem_jax.files import expand

SourceKind = Literal["pictures", "self", "solid", "noise", "blocks", "elsewhere"]
"""What a source is to the device: pictures to look up, the normal pictures themselves, or something
that it makes: one random colour, noise of random colours, the blocks of the sample's own normal
picture in random order, or that picture moved, so that another place of it shows."""

Name = Literal["builtin", "dtd", "self", "solid", "noise", "blocks", "elsewhere"]
NAMES: tuple[Name, ...] = get_args(Name)

_NEVER_DEEP = (".jpg", ".jpeg", ".bmp", ".webp")  # have no more than 8 bits a channel


@runtime_checkable
class PictureSource(Protocol):
    """Pictures of one size that are read one at a time, in any order; it can be pickled."""

    def __len__(self) -> int:
        """How many there are."""
        ...

    def __getitem__(self, index: int) -> UInt8[np.ndarray, "H W 3"]:
        """Reads one, RGB."""
        ...


@dataclass(frozen=True)
class TextureSource:
    """One part of the anomaly source.

    Attributes:
        name: one of `NAMES`, or the path of a folder.
        weight: how often it is drawn, relative to the other parts.
    """

    name: str
    weight: float = 1.0

    @property
    def kind(self) -> SourceKind:
        """What it is to the device."""
        match self.name:
            case "self" | "solid" | "noise" | "blocks" | "elsewhere":
                return self.name
            case _:
                return "pictures"


def parse_texture_sources(text: str) -> tuple[TextureSource, ...]:
    """Reads what `config.data.texture_source` says.

    Args:
        text: parts with commas between, each a name or a folder's path, with its weight behind a
            colon if not 1: "builtin", "dtd", "photos/rust", "dtd:3,photos/rust:1,solid:0.5".

    Returns:
        The parts.

    Raises:
        UserError: a part is neither a known name nor a folder, or a weight is no positive number.

    Example:
        >>> parse_texture_sources("dtd:3,noise")
        (TextureSource(name='dtd', weight=3.0), TextureSource(name='noise', weight=1.0))
    """
    sources = []
    for part in text.split(","):
        name, weight = part.strip(), 1.0
        head, colon, tail = name.rpartition(":")
        if colon and head and not expand(name).exists():
            try:
                name, weight = head, float(tail)
            except ValueError as error:
                raise UserError(
                    f"config.data.texture_source: the weight in {part!r} is no number; write "
                    "NAME:WEIGHT, such as dtd:3,photos/rust:1"
                ) from error
            if not 0 < weight < float("inf"):
                raise UserError(
                    f"config.data.texture_source: the weight in {part!r} must be above 0"
                )
        if not name or (name not in NAMES and not expand(name).is_dir()):
            close = difflib.get_close_matches(name, NAMES, n=1)
            hint = f"did you mean {close[0]}?" if close else f"or one of {', '.join(NAMES)}"
            raise UserError(f"config.data.texture_source: {name!r} is no folder; {hint}")
        sources.append(TextureSource(name, weight))
    return tuple(sources)


def with_absolute_folders(text: str) -> str:
    """The same parts with their folders named such that they are found from anywhere.

    Raises:
        UserError: see `parse_texture_sources`.
    """
    sources = parse_texture_sources(text)
    if all(source.name in NAMES for source in sources):
        return text
    return ",".join(
        (source.name if source.name in NAMES else files.absolute_path(source.name))
        + (f":{source.weight!r}" if source.weight != 1 else "")
        for source in sources
    )


def open_textures(source: TextureSource, *, size: tuple[int, int]) -> PictureSource:
    """Opens a source of kind "pictures", whose pictures are read when they are asked for.

    Those of a folder that have more than 8 bits a channel are read at once, for their own range of
    values, which need not be that of the normal pictures: see `draem_jax.data.depth`.

    Args:
        source: built-in, a prepared data set of textures, or a folder.
        size: (height, width) that each whole picture is brought to, whatever its shape.

    Raises:
        UserError: the folder holds no pictures, or the data set has not been prepared.
    """
    if source.name == "builtin":
        return PictureArray(builtin_textures(size))
    if source.name == "dtd":
        return DataSet("dtd", "textures").training_pictures(size=size)
    paths = tuple(list_pictures(expand(source.name), recursive=True))
    return PictureFiles(paths, size, _own_full_scale(paths))


def _own_full_scale(paths: Sequence[Path]) -> int | None:
    deep = []
    for path in paths:
        if path.suffix.lower() not in _NEVER_DEEP:
            with suppress(UserError):  # reading it tells what is wrong, if it comes to that
                if picture_header(path).deep:
                    deep.append(path)
    return find_full_scale(AUTO, highest=find_highest(deep))


def tell_left_out(sources: Sequence[TextureSource]) -> list[str]:
    """Says what is left out of folders of textures, one line each."""
    folders = [source.name for source in sources if source.name not in NAMES]
    return [
        f"left out of the textures in {folder}: {count} {kind}"
        for folder in folders
        for kind, count in find_pictures_in(expand(folder)).left_out.items()
    ]


@dataclass(frozen=True)
class PictureFiles:
    """Pictures in files, resized when they are read.

    Attributes:
        paths: of the files.
        size: (height, width) that they are brought to.
        full_scale: the value that is white in those with more than 8 bits a channel.
    """

    paths: tuple[Path, ...]
    size: tuple[int, int]
    full_scale: int | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> UInt8[np.ndarray, "H W 3"]:
        return resize(read_picture(self.paths[index], full_scale=self.full_scale), self.size)


@dataclass(frozen=True)
class PictureArray:
    """Pictures in memory."""

    pictures: UInt8[np.ndarray, "N H W 3"]

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> UInt8[np.ndarray, "H W 3"]:
        return self.pictures[index]


class Joined:
    """Several sources as one, the pictures of the first at the front."""

    def __init__(self, sources: Sequence[PictureSource]):
        self._sources = tuple(sources)
        self._ends = list(accumulate(len(source) for source in self._sources))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @property
    def digest(self) -> str:
        """Digest of the pictures: of their names, with the sizes of files or with contents."""
        lines = [line for source in self._sources for line in _identity(source)]
        return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()

    def __getitem__(self, index: int) -> UInt8[np.ndarray, "H W 3"]:
        which = bisect_right(self._ends, index)
        return self._sources[which][index - (self._ends[which - 1] if which else 0)]


def _identity(source: PictureSource) -> list[str]:
    match source:
        case PictureFiles(paths=paths):
            return [f"{path.name} {path.stat().st_size}" for path in paths]
        case StoredPictures(names=names, digests=digests):
            return [*names, *digests]
    return [f"{len(source)} built in"]
