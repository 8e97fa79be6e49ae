"""Where the textures of anomalies come from: named sources, the user's folders, or mixtures."""

import difflib
import hashlib
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from draem_jax import files
from draem_jax.data.builtin_textures import builtin_textures
from draem_jax.data.checks import find_highest
from draem_jax.data.crops import Window
from draem_jax.data.dataset import DataSet
from draem_jax.data.depth import AUTO, find_full_scale
from draem_jax.data.fitting import Fitting
from draem_jax.data.folders import find_pictures_in, list_pictures
from draem_jax.data.loading import StoredPictures
from draem_jax.data.pictures import picture_header, picture_size, read_picture
from draem_jax.data.windows import open_windows
from draem_jax.errors import UserError
from draem_jax.files import expand

SourceKind = str
"""What a source is to the device: "pictures" to look up; "self", the normal pictures; or the name
of what makes textures in `draem_jax.anomalies.sources.MAKERS`."""

_NEVER_DEEP = (".jpg", ".jpeg", ".bmp", ".webp")  # have no more than 8 bits a channel


@runtime_checkable
class PictureSource(Protocol):
    """Pictures that are read one at a time, in any order; it can be pickled.

    All are of one size, unless they are seen in tiles.
    """

    def __len__(self) -> int:
        """How many there are."""
        ...

    def __getitem__(self, index: int) -> UInt8[np.ndarray, "H W 3"]:
        """Reads one's canvas, RGB; see `draem_jax.data.fitting`."""
        ...

    def canvas_size(self, index: int) -> tuple[int, int]:
        """The (height, width) of one's canvas; decodes no pixels."""
        ...

    def read_window(self, index: int, window: Window) -> UInt8[np.ndarray, "h w 3"]:
        """Reads a window of one's canvas; no more of it where its file allows that."""
        ...


@dataclass(frozen=True)
class NamedSource:
    """A source of textures that is no folder of the user's.

    Attributes:
        about: what its textures are, in a few words.
        open: opens pictures of it, brought to the networks in a given way; None where the device
            has or makes the textures, so that the source's name is its kind.
    """

    about: str
    open: Callable[[Fitting], PictureSource] | None = None


NAMED_SOURCES: Mapping[str, NamedSource] = {
    "builtin": NamedSource(
        "photographs and patterns, no download",
        lambda fitting: PictureArray(builtin_textures(fitting.size)),
    ),
    "dtd": NamedSource(
        "the data set",
        lambda fitting: (
            DataSet("dtd", "textures").training_pictures(size=fitting.size).fitted(fitting)
        ),
    ),
    "self": NamedSource("the normal pictures"),
    "solid": NamedSource("one random colour"),
    "noise": NamedSource("random colours"),
    "blocks": NamedSource("the picture's own, shuffled"),
    "elsewhere": NamedSource("another place of the same picture"),
}
"""The sources that `config.data.texture_source` can name besides folders."""


@dataclass(frozen=True)
class TextureSource:
    """One part of the anomaly source.

    Attributes:
        name: one of `NAMED_SOURCES`, or the path of a folder.
        weight: how often it is drawn, relative to the other parts.
    """

    name: str
    weight: float = 1.0

    @property
    def is_folder(self) -> bool:
        """Whether its pictures are the user's own."""
        return self.name not in NAMED_SOURCES

    @property
    def kind(self) -> SourceKind:
        """What it is to the device."""
        return "pictures" if self.is_folder or NAMED_SOURCES[self.name].open else self.name


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
        source = TextureSource(name, weight)
        if not name or (source.is_folder and not expand(name).is_dir()):
            close = difflib.get_close_matches(name, NAMED_SOURCES, n=1)
            known = ", ".join(f"{name} ({named.about})" for name, named in NAMED_SOURCES.items())
            hint = f"did you mean {close[0]}?" if close else f"give a folder, or one of {known}"
            raise UserError(f"config.data.texture_source: {name!r} is no folder; {hint}")
        sources.append(source)
    return tuple(sources)


def with_absolute_folders(text: str) -> str:
    """The same parts with their folders named such that they are found from anywhere.

    Raises:
        UserError: see `parse_texture_sources`.
    """
    sources = parse_texture_sources(text)
    if not any(source.is_folder for source in sources):
        return text
    return ",".join(
        (files.absolute_path(source.name) if source.is_folder else source.name)
        + (f":{source.weight!r}" if source.weight != 1 else "")
        for source in sources
    )


def open_textures(source: TextureSource, *, fitting: Fitting) -> PictureSource:
    """Opens a source of kind "pictures", whose pictures are read when they are asked for.

    Those of a folder that have more than 8 bits a channel are read at once, for their own range of
    values, which need not be that of the normal pictures: see `draem_jax.data.depth`.

    Args:
        source: whose `kind` is "pictures".
        fitting: how its pictures are brought to the networks, see `Fitting.of_textures`; those that
            are built in are made at the size that these see.

    Raises:
        UserError: the folder holds no pictures, or the data set has not been prepared.
    """
    named = NAMED_SOURCES.get(source.name)
    if named and named.open:
        return named.open(fitting)
    paths = tuple(list_pictures(expand(source.name), recursive=True))
    return PictureFiles(paths, fitting, _own_full_scale(paths), tuple(map(_stamp, paths)))


def _stamp(path: Path) -> tuple[int, int] | None:
    """By what a file that has changed is told without reading it: its size and its time."""
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_size, facts.st_mtime_ns


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
    folders = [source.name for source in sources if source.is_folder]
    return [
        f"left out of the textures in {folder}: {count} {kind}"
        for folder in folders
        for kind, count in find_pictures_in(expand(folder)).left_out.items()
    ]


@dataclass(frozen=True)
class PictureFiles:
    """Pictures in files, fitted when they are read.

    Attributes:
        paths: the paths of the files.
        fitting: how they are brought to the networks.
        full_scale: the value that is white in those with more than 8 bits a channel.
        stamps: sizes and times of the files; one that has others when it is read is refused. ()
            where any will do.
    """

    paths: tuple[Path, ...]
    fitting: Fitting
    full_scale: int | None = None
    stamps: tuple[tuple[int, int] | None, ...] = ()

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> UInt8[np.ndarray, "H W 3"]:
        self._refuse_changed(index)
        return self.fitting.fit(read_picture(self.paths[index], full_scale=self.full_scale))

    def canvas_size(self, index: int) -> tuple[int, int]:
        """See `PictureSource`."""
        return self.fitting.canvas_size(picture_size(self.paths[index]))

    def read_window(self, index: int, window: Window) -> UInt8[np.ndarray, "h w 3"]:
        """See `PictureSource`; of a TIFF at scale 1, only the blocks of the window are decoded."""
        self._refuse_changed(index)
        with open_windows(self.paths[index], full_scale=self.full_scale) as picture:
            if self.fitting.canvas_size(picture.size) != picture.size:
                return self[index][window]
            rows, columns = window
            height, width = rows.stop - rows.start, columns.stop - columns.start
            return picture.read(rows.start, columns.start, height, width)

    def _refuse_changed(self, index: int) -> None:
        """Raises UserError where a file is there and is another one than in the beginning."""
        if not self.stamps:
            return
        now = _stamp(path := self.paths[index])
        if now is not None and now != self.stamps[index]:
            raise UserError(
                f"{path} has changed since the run was started (its size or its time); restore it"
            )


@dataclass(frozen=True)
class PictureArray:
    """Pictures in memory."""

    images: UInt8[np.ndarray, "N H W 3"]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> UInt8[np.ndarray, "H W 3"]:
        return self.images[index]

    def canvas_size(self, index: int) -> tuple[int, int]:
        """See `PictureSource`."""
        del index
        height, width = self.images.shape[1:3]
        return height, width

    def read_window(self, index: int, window: Window) -> UInt8[np.ndarray, "h w 3"]:
        """See `PictureSource`."""
        return self[index][window]


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
        source, within = self._find(index)
        return source[within]

    def canvas_size(self, index: int) -> tuple[int, int]:
        """See `PictureSource`."""
        source, within = self._find(index)
        return source.canvas_size(within)

    def read_window(self, index: int, window: Window) -> UInt8[np.ndarray, "h w 3"]:
        """See `PictureSource`."""
        source, within = self._find(index)
        return source.read_window(within, window)

    def _find(self, index: int) -> tuple[PictureSource, int]:
        """The source that a picture is of, and its index there."""
        which = bisect_right(self._ends, index)
        return self._sources[which], index - (self._ends[which - 1] if which else 0)


def _identity(source: PictureSource) -> list[str]:
    match source:
        case PictureFiles(paths=paths):
            return [f"{path.name} {path.stat().st_size}" for path in paths]
        case StoredPictures(names=names, digests=digests):
            return [*names, *digests]
    return [f"{len(source)} built in"]
