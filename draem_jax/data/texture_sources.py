"""Where the textures of anomalies come from: named sources, the user's folders, or mixtures."""

import difflib
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Literal, Protocol, get_args, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from draem_jax.data.builtin_textures import builtin_textures
from draem_jax.data.pictures import list_pictures, read_picture, resize
from draem_jax.errors import UserError
from draem_jax.files import expand

SourceKind = Literal["pictures", "self", "solid", "noise", "blocks", "elsewhere"]
"""What a source is to the device: pictures to look up, the normal pictures themselves, or something
that it makes: one random colour, noise of random colours, the blocks of the sample's own normal
picture in random order, or that picture moved, so that another place of it shows."""

Name = Literal["builtin", "dtd", "self", "solid", "noise", "blocks", "elsewhere"]
NAMES: tuple[Name, ...] = get_args(Name)


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


def open_textures(source: TextureSource, *, size: tuple[int, int]) -> PictureSource:
    """Opens a source of kind "pictures"; those of a folder are not read before they are asked for.

    Args:
        source: built-in, a prepared data set of textures, or a folder.
        size: (height, width) that each whole picture is brought to, whatever its shape.

    Raises:
        UserError: the folder holds no pictures, or the data set has not been prepared.
    """
    if source.name == "builtin":
        return PictureArray(builtin_textures(size))
    if source.name == "dtd":
        from draem_jax.data.loading import training_source

        return training_source("dtd", "textures", size=size)
    folder = expand(source.name)
    return PictureFiles(tuple(list_pictures(folder, recursive=True)), size)


@dataclass(frozen=True)
class PictureFiles:
    """Pictures in files, resized when they are read."""

    paths: tuple[Path, ...]
    size: tuple[int, int]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> UInt8[np.ndarray, "H W 3"]:
        return resize(read_picture(self.paths[index]), self.size)


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

    def __getitem__(self, index: int) -> UInt8[np.ndarray, "H W 3"]:
        which = bisect_right(self._ends, index)
        return self._sources[which][index - (self._ends[which - 1] if which else 0)]
