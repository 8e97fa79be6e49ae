"""The region of interest: where to look in pictures.

It is a mask that holds for all pictures, a mask for each picture, or the object that is found in
each; and a border of each picture may be left out. What a mask says, and the border, is a plane:
true where to look. The object in pictures that are seen whole is found on the device, see
`draem_jax.anomalies.foreground`, so a plane does not hold it. Where they are seen in tiles, of
which none shows the object, it is found on an overview, see `draem_jax.data.overview`, and the
plane holds it as it would a mask.

Of a folder of masks, a picture has the one whose path is the end of the picture's own, as
`crack/7.png` or `7_mask.png` for `test/crack/7.jpg`; of several, the longest such path counts.
Names that differ only in case, or in how accents are written, are the same unless both are there.
"""

import functools
import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Int, UInt8

from draem_jax.data.layouts.entries import find_pictures
from draem_jax.data.names import MASK_NAMES, plain, without_mask_suffix
from draem_jax.data.overview import find_object
from draem_jax.data.pictures import read_mask, resize_mask
from draem_jax.data.resizing import Window, nearest
from draem_jax.data.windows import PictureWindows
from draem_jax.errors import UserError
from draem_jax.files import expand

FOREGROUND = "foreground"
"""Names the object in each picture as where to look."""

Plane = Bool[np.ndarray, "_ _"]


@runtime_checkable
class PlaneSource(Protocol):
    """Planes of one size that are read one at a time, in any order; it can be pickled."""

    def __len__(self) -> int:
        """How many there are."""
        ...

    def __getitem__(self, index: int) -> Plane:
        """Reads one."""
        ...


@dataclass(frozen=True)
class Roi:
    """A region of interest.

    Attributes:
        source: the path of a mask for all pictures, white where to look; the path of a folder of
            masks, one for each picture; `FOREGROUND`; or "" for everything.
        ignore_border: so many pixels of a picture of original size are left out along its sides.
        overview_border: the least share of a picture's frame that a background takes, in [0, 1],
            where objects are found on overviews; None where they are found on the device.
    """

    source: str = ""
    ignore_border: int = 0
    overview_border: float | None = None

    @property
    def on_object(self) -> bool:
        """Whether it is the object in each picture, which is found on the device."""
        return self.source == FOREGROUND and self.overview_border is None

    @property
    def on_overview(self) -> bool:
        """Whether it is the object in each picture, which is found on an overview."""
        return self.source == FOREGROUND and self.overview_border is not None

    @property
    def is_given(self) -> bool:
        """Whether a part of it is known without looking at the pictures."""
        return bool(self._masks) or self.ignore_border > 0

    @property
    def has_planes(self) -> bool:
        """Whether a part of it is known before the device looks at the pictures."""
        return self.is_given or self.on_overview

    @property
    def is_everything(self) -> bool:
        """Whether nothing is left out."""
        return not (self.on_object or self.has_planes)

    def digest(self, names: Iterable[str]) -> str:
        """Digest of what the masks of some pictures mark, by which it is seen if they change.

        Args:
            names: of the pictures, as `plane` takes them; one mask for all depends on none.

        Returns:
            The digest; "" where there are no masks.

        Raises:
            UserError: the masks are not there, or cannot be read.
        """
        if not self._masks:
            return ""
        root = _existing(self._masks)
        masks = {"": root} if root.is_file() else {name: _mask_of(root, name) for name in names}
        digest = hashlib.sha256()
        for name, path in sorted(masks.items()):
            content = hashlib.sha256(_content(path)).hexdigest()
            digest.update(f"{name}\0{content}\n".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()

    def key(self, names: Iterable[str]) -> str:
        """A short name that this region alone has in some pictures; "" for everything.

        Args:
            names: see `digest`.

        Raises:
            UserError: the same.
        """
        if self.is_everything:
            return ""
        all_of_it = f"{self.source == FOREGROUND} {self.ignore_border} {self.digest(names)}"
        return hashlib.sha256(all_of_it.encode()).hexdigest()[:12]

    def __str__(self) -> str:
        parts = [self.source] if self.source else []
        if self.ignore_border:
            parts.append(f"{self.ignore_border} pixels along the border left out")
        return ", ".join(parts) or "everything"

    def find_object(
        self, read: Callable[[Window], UInt8[np.ndarray, "_ _ 3"]], size: tuple[int, int]
    ) -> Plane | None:
        """The object in a picture, where it is found on an overview; else None.

        Args:
            read: gives the rows and columns of the picture that are asked for.
            size: the (height, width) of the picture as it was taken.

        Returns:
            True on the object, for one pixel at least, as small as the overview.
        """
        if self.source != FOREGROUND or self.overview_border is None:
            return None
        return find_object(read, size, border_share=self.overview_border)

    def plane_of(self, name: str, picture: UInt8[np.ndarray, "_ _ 3"]) -> Plane | None:
        """Where to look in a picture, and in the object in it where that is found on an overview.

        Args:
            name: see `plane`.
            picture: the picture as it was taken.

        Raises:
            UserError: see `plane`.
        """
        size = picture.shape[:2]
        return self.plane(name, size, found=self.find_object(picture.__getitem__, size))

    def plane(
        self, name: str, size: tuple[int, int], *, found: Plane | None = None
    ) -> Plane | None:
        """Where to look in a picture, as far as it is known without looking at it.

        Args:
            name: the path of the picture, without the file's suffix; its end tells its mask.
            size: the (height, width) of the picture as it was taken.
            found: the object in it, from `find_object`; it is looked at alone.

        Returns:
            True where to look, for one pixel at least; None for everywhere. Not to be written to.

        Raises:
            UserError: the picture has no mask or several, the mask cannot be read or is of another
                size, or nothing is left to look at.
        """
        if not self.is_given and found is None:
            return None
        plane = np.ones(size, bool) if found is None else resize_mask(found, size)
        if self._masks:
            root = _existing(self._masks)
            path = root if root.is_file() else _mask_of(root, name)
            plane = _read(path, path.stat().st_mtime_ns)
            if plane.shape != size:
                picture = _called(name)
                raise UserError(
                    f"the region of interest {path} has {plane.shape[1]} x {plane.shape[0]} "
                    f"pixels, but {picture} has {size[1]} x {size[0]}; give a mask of the "
                    "picture's size"
                )
        if border := self.ignore_border:
            within = np.zeros(size, bool)
            within[border : size[0] - border, border : size[1] - border] = True
            plane = plane & within
            if not plane.any():
                raise self._nothing_left(name, size)
        return plane

    def plane_windows(self, name: str, windows: PictureWindows) -> "PlaneWindows | None":
        """The plane of a large picture, to be read by windows.

        A mask is read whole, but none is made up of what is left along the border, and an object
        stays as small as the overview that it was found on.

        Args:
            name: see `plane`.
            windows: the picture.

        Raises:
            UserError: see `plane`; or the picture cannot be read.
        """
        if not self.has_planes:
            return None
        size = windows.size
        if self._masks:
            mask = self.plane(name, size)
            return PlaneWindows(np.ones(size[0], bool), np.ones(size[1], bool), mask)
        border = self.ignore_border
        rows, columns = (np.zeros(side, bool) for side in size)
        rows[border : size[0] - border] = True
        columns[border : size[1] - border] = True
        found = self.find_object(windows.read_window, size)
        plane = PlaneWindows(rows, columns, found)
        if plane.is_empty():
            raise self._nothing_left(name, size)
        return plane

    def plane_at(self, name: str, size: tuple[int, int], *, at: tuple[int, int]) -> Plane | None:
        """The plane of a picture, brought to another size as masks are.

        Args:
            name: see `plane`.
            size: the same.
            at: the (height, width) to bring it to.

        Raises:
            UserError: see `plane`; or nothing of it is left at that size.
        """
        plane = self.plane(name, size)
        if plane is None:
            return None
        resized = resize_mask(plane, at)
        if not resized.any():
            raise self.too_small(name, at)
        return resized

    def too_small(self, name: str, at: tuple[int, int]) -> UserError:
        """What to say where nothing of a picture's plane is left at another size."""
        more = "give masks that mark more" if self.on_overview else f"mark more ({self.source})"
        return UserError(
            f"the region of interest of the picture {name} is too small to be left at the "
            f"{at[0]} x {at[1]} pixels that the networks see; {more}, or train at a larger size"
        )

    def _nothing_left(self, name: str, size: tuple[int, int]) -> UserError:
        return UserError(
            f"the region of interest ({self}) leaves nothing of {_called(name)}, which has "
            f"{size[1]} x {size[0]} pixels; leave out a narrower border"
        )

    @property
    def _masks(self) -> str:
        return "" if self.source == FOREGROUND else self.source


EVERYWHERE = Roi()
"""Leaves nothing out."""


@dataclass(frozen=True, eq=False)
class PlaneWindows:
    """A plane of which windows are read; see `Roi.plane_windows`.

    Attributes:
        rows: true for the rows where to look.
        columns: the same.
        plane: true where to look in these, of any size, to be resized as masks are; None for
            everywhere.
        places: which row and which column of `plane` each row and each column takes; the nearest
            if None.
    """

    rows: Bool[np.ndarray, " H"]
    columns: Bool[np.ndarray, " W"]
    plane: Plane | None = None
    places: tuple[Int[np.ndarray, " H"], Int[np.ndarray, " W"]] | None = None

    def read(self, window: Window) -> Plane:
        """True where to look in a window."""
        read = self.rows[window[0], None] & self.columns[window[1]]
        if self.plane is None:
            return read
        rows, columns = self._places
        return read & self.plane[np.ix_(rows[window[0]], columns[window[1]])]

    def count(self) -> int:
        """How many pixels are looked at."""
        if self.plane is None:
            return int(self.rows.sum()) * int(self.columns.sum())
        return sum(
            int(self.read((slice(i, i + 1), slice(None))).sum()) for i in range(len(self.rows))
        )

    def is_empty(self) -> bool:
        """Whether no pixel is looked at."""
        if self.plane is None:
            return not (self.rows.any() and self.columns.any())
        rows, columns = self._places
        taken = np.ix_(np.unique(rows[self.rows]), np.unique(columns[self.columns]))
        return not self.plane[taken].any()

    def resized(self, size: tuple[int, int]) -> "PlaneWindows":
        """The same at another (height, width), as masks are resized."""
        rows, columns = nearest(len(self.rows), size[0]), nearest(len(self.columns), size[1])
        places = None
        if self.plane is not None:
            places = self._places[0][rows], self._places[1][columns]
        return PlaneWindows(self.rows[rows], self.columns[columns], self.plane, places)

    @functools.cached_property
    def _places(self) -> tuple[Int[np.ndarray, " H"], Int[np.ndarray, " W"]]:
        if self.places is not None:
            return self.places
        assert self.plane is not None
        height, width = self.plane.shape
        return nearest(height, len(self.rows)), nearest(width, len(self.columns))


def both(one: Any, other: Any) -> Any:
    """Where to look if both say so; None is everywhere. Of arrays of NumPy or of JAX."""
    if one is None or other is None:
        return other if one is None else one
    return one & other


class _Masks(NamedTuple):
    """The files of masks in a folder, by each name that their pictures may have."""

    exact: Mapping[str, list[Path]]
    alike: Mapping[str, list[Path]]

    def find(self, name: str) -> Sequence[Path]:
        """The masks of a picture; none or several where it is not told which is its own."""
        parts = name.replace(os.sep, "/").split("/")
        for ending in ("/".join(parts[i:]) for i in range(len(parts))):
            if found := self.exact.get(ending) or self.alike.get(plain(ending)):
                return found
        return ()


def _called(name: str) -> str:
    return f"the picture {name}" if name else "the picture"


def _existing(source: str) -> Path:
    path = expand(source)
    if not path.exists():
        raise UserError(
            f"there is no file or folder {path} to say where to look (config.data.roi, --roi); "
            f"check the path, or write {FOREGROUND} for the object in each picture"
        )
    return path


def _mask_of(folder: Path, name: str) -> Path:
    if not name:
        raise UserError(
            f"{folder} holds a mask for each picture, which the picture's name tells; give "
            "pictures as files, or say by `planes` where to look in each"
        )
    found = _masks_in(folder).find(name)
    if not found or not found[0].exists():  # the folder may have changed since
        _masks_in.cache_clear()
        found = _masks_in(folder).find(name)
    if not found:
        raise UserError(
            f"the picture {name} has no mask in {folder} to say where to look; add it, called "
            f"{MASK_NAMES}"
        )
    if len(found) > 1:
        raise UserError(
            f"the picture {name} has several masks in {folder}, such as {found[0].name} and "
            f"{found[1].name}; leave one that says where to look"
        )
    return found[0]


@functools.lru_cache(maxsize=8)
def _masks_in(folder: Path) -> _Masks:
    exact: dict[str, list[Path]] = {}
    alike: dict[str, list[Path]] = {}
    for key, paths in find_pictures(folder).files.items():
        for name in {key, without_mask_suffix(key)}:
            exact.setdefault(name, []).extend(paths)
            alike.setdefault(plain(name), []).extend(paths)
    if not exact:
        raise UserError(
            f"the folder {folder} holds no masks to say where to look (config.data.roi); add one "
            "for each picture, or give one mask for all"
        )
    return _Masks(exact, alike)


@functools.lru_cache(maxsize=4)
def _read(path: Path, written: int) -> Plane:
    del written  # part of the key in the cache
    plane = read_mask(path)
    if not plane.any():
        raise UserError(
            f"the region of interest {path} is empty; mark with white where to look, or leave out "
            "config.data.roi to look everywhere"
        )
    plane.setflags(write=False)
    return plane


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(
            f"{path} cannot be read: {error.strerror}; check its permissions"
        ) from error
