"""Pictures of a prepared data set, read at any size: by index, each decoded and resized by itself.

So a set can be held in memory whole or streamed. Nothing here needs TensorFlow.
"""

import contextlib
import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, UInt8

from draem_jax.data.crops import Window
from draem_jax.data.fitting import Fitting
from draem_jax.data.layouts import GOOD
from draem_jax.data.names import shuffled
from draem_jax.data.pictures import decode_picture, stored_size
from draem_jax.data.prepared import quiet, warnings_of
from draem_jax.data.roi import EVERYWHERE, Plane, Roi
from draem_jax.errors import UserError

Part = Literal["training", "held_out", "selection", "calibration"]
"""Part of the normal pictures: those to train on, or those held out from training; and of the
latter one of two halves, "selection" to choose by and "calibration" to set thresholds by, so that
what is calibrated on has chosen nothing. With one held out, "selection" is empty."""


class LabelledPicture(NamedTuple):
    """One picture to evaluate on, with the truth about it.

    Attributes:
        image: the picture's canvas, RGB: what the networks see of it, see
            `draem_jax.data.fitting`.
        mask: true on defects, at the picture's original size; empty where `has_mask` is not.
        has_mask: whether it is known which pixels are defect; of normal pictures it always is.
        defect_type: "good", or the type of the defect.
        name: "<type>/<number>".
        plane: true where to look, at the original size, see `draem_jax.data.roi`; None for
            everywhere.
    """

    image: UInt8[np.ndarray, "H W 3"]
    mask: Bool[np.ndarray, "h w"]
    has_mask: bool
    defect_type: str
    name: str
    plane: Bool[np.ndarray, "h w"] | None = None


@dataclass(frozen=True)
class StoredPictures:
    """Pictures of a prepared data set, read and decoded one at a time by index.

    It holds no open file, and can be pickled and read in other processes.

    Attributes:
        directory: the folder of the prepared data set.
        split: "train", "test", or another that the data set has.
        indices: the indices of the pictures among the split's records.
        names: the names of the pictures.
        fitting: how they are brought to the networks; a picture is read as its canvas.
        digests: the digests of the pictures as they are stored, by which it is seen whether one has
            changed; none of the built-in data sets.
        full_scale: the value that was taken for white in pictures with more than 8 bits a channel;
            None where there are none, or where it was the highest that each file's type can hold.
            With it `read_picture` reads other pictures in the same way.
        warnings: on the data set as a whole, one line each, for the user.
    """

    directory: str
    split: str
    indices: tuple[int, ...]
    names: tuple[str, ...]
    fitting: Fitting
    digests: tuple[str, ...] = ()
    full_scale: int | None = None
    warnings: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> UInt8[np.ndarray, "H W 3"]:
        return self.fitting.fit(decode_picture(self.record(index)["image"]))

    def fitted(self, fitting: Fitting) -> "StoredPictures":
        """The same pictures, brought to the networks in another way."""
        return dataclasses.replace(self, fitting=fitting)

    def own_size(self, index: int) -> tuple[int, int]:
        """The (height, width) of a picture as it was taken; decodes no pixels.

        Raises:
            UserError: the prepared data are damaged.
        """
        with _telling_damage(self.directory):
            written = _written(self.directory)
            return _own_size(self.directory, self.split, self.indices[index], written)

    def canvas_size(self, index: int) -> tuple[int, int]:
        """The (height, width) of a picture's canvas; decodes no pixels."""
        return self.fitting.canvas_size(self.own_size(index))

    def read_window(self, index: int, window: Window) -> UInt8[np.ndarray, "h w 3"]:
        """A window of a picture's canvas."""
        return self[index][window]

    def padded(self) -> int:
        """How many of the pictures do not fill their canvases; decodes no pixels."""
        if self.fitting.way == "squeeze":
            return 0
        return sum(self.fitting.pads(self.own_size(index)) for index in range(len(self)))

    def take(self, indices: Sequence[int]) -> "StoredPictures":
        """Some of the pictures."""
        return dataclasses.replace(
            self,
            indices=tuple(self.indices[i] for i in indices),
            names=tuple(self.names[i] for i in indices),
            digests=tuple(self.digests[i] for i in indices) if self.digests else (),
        )

    def find_object(self, index: int, roi: Roi) -> Plane | None:
        """The object in a picture, see `Roi.find_object`; it is looked for once.

        Raises:
            UserError: the prepared data are damaged.
        """
        if not roi.on_overview:
            return None
        with _telling_damage(self.directory):
            written = _written(self.directory)
            return _find_object(self.directory, self.split, self.indices[index], written, roi)()

    def path(self, index: int) -> str:
        """The path of a picture within the data set, as `draem_jax.data.roi` takes it."""
        return f"{self.split}/{self.names[index]}"

    def record(self, index: int) -> dict[str, Any]:
        """What is stored of a picture, image and mask still encoded.

        Raises:
            UserError: the prepared data are damaged.
        """
        with _telling_damage(self.directory):
            written = _written(self.directory)
            record = _records(self.directory, self.split, written)[self.indices[index]]
            if record["name"].decode() != self.names[index]:
                raise ValueError("records have changed their places")
        return record


@dataclass(frozen=True)
class StoredPlanes:
    """Where to look in the canvases of stored pictures.

    Attributes:
        pictures: the pictures.
        roi: the region of interest.
    """

    pictures: StoredPictures
    roi: Roi

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> Plane:
        own, fitting = self.pictures.own_size(index), self.pictures.fitting
        found = self.pictures.find_object(index, self.roi)
        plane = self.roi.plane(self.pictures.path(index), own, found=found)
        fitted = fitting.fit_plane(plane, own)
        if fitted is None:
            return np.ones(fitting.canvas_size(own), bool)
        if not fitted.any():
            raise self.roi.too_small(self.pictures.path(index), fitted.shape)
        return fitted


@dataclass(frozen=True)
class StoredTestPictures:
    """Pictures to evaluate on, with the truth about them, read one at a time by index.

    Attributes:
        pictures: where they are read from.
        roi: where to look in them.
    """

    pictures: StoredPictures
    roi: Roi = EVERYWHERE

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> LabelledPicture:
        record = self.pictures.record(index)
        mask = decode_picture(record["mask"])[..., 0] > 0
        picture = decode_picture(record["image"])
        return LabelledPicture(
            image=self.pictures.fitting.fit(picture),
            mask=mask,
            has_mask=bool(record["has_mask"]),
            defect_type=record["defect_type"].decode(),
            name=self.pictures.names[index],
            plane=self.roi.plane_of(self.pictures.path(index), picture),
        )

    def is_outside(self, index: int) -> bool:
        """Whether a picture has a defect, and all of it lies where nobody looks, by its mask.

        Where the region is the object in the picture, it is taken to be everywhere: what was found
        in a picture must not decide what it counts as.
        """
        record = self.pictures.record(index)
        mask = decode_picture(record["mask"])[..., 0] > 0
        plane = self.roi.plane(self.pictures.path(index), mask.shape)
        return plane is not None and bool(mask.any()) and not (mask & plane).any()

    def fitted(self, fitting: Fitting) -> "StoredTestPictures":
        """The same pictures, brought to the networks in another way."""
        return dataclasses.replace(self, pictures=self.pictures.fitted(fitting))

    @property
    def names(self) -> tuple[str, ...]:
        """Of the pictures, in their order."""
        return self.pictures.names

    @property
    def normal(self) -> tuple[bool, ...]:
        """Which of them are of nothing but good surface."""
        return tuple(name.startswith(f"{GOOD}/") for name in self.names)

    @property
    def warnings(self) -> tuple[str, ...]:
        """On the data set as a whole, one line each, for the user."""
        return self.pictures.warnings


def open_split(builder: Any, split: str, *, size: tuple[int, int]) -> StoredPictures:
    """All pictures of a split, in natural order of their names; none where there is no such split.

    Args:
        builder: the builder of the prepared category.
        split: "train", "test", or another that the data set has.
        size: (height, width) to squeeze the pictures to.

    Raises:
        UserError: the prepared data are damaged.
    """
    try:
        facts = dict(builder.info.metadata)
        names = tuple(facts["names"].get(split, []))
        digests = tuple(facts.get("digests", {}).get(split) or ())
        if digests and len(digests) != len(names):
            raise ValueError("digests are not those of the names")
        return StoredPictures(
            directory=str(builder.data_path),
            split=split,
            indices=tuple(range(len(names))),
            names=names,
            fitting=Fitting(size),
            digests=digests,
            full_scale=facts.get("full_scale"),
            warnings=warnings_of(builder),
        )
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise _damaged(builder.data_path) from error


def take_part(normal: StoredPictures, part: Part, *, holdout: float) -> StoredPictures:
    """Those of all normal pictures that belong to a part.

    Args:
        normal: all of them.
        part: which of them.
        holdout: share of the pictures, from 0 to below 1, that is held out from training. Which
            ones depends on their names alone; unless it is 0, at least one is, and at least one is
            left.

    Raises:
        UserError: `holdout` leaves nothing to train on, or is no such share.
    """
    held_out = _held_out(normal.names, holdout)
    chosen = set(halves(held_out)[part]) if part != "training" else {*normal.names} - {*held_out}
    return normal.take([i for i, name in enumerate(normal.names) if name in chosen])


def halves(held_out: Iterable[str]) -> dict[Part, list[str]]:
    """Divides the pictures that are held out into their parts, by their names alone."""
    ordered = shuffled(held_out)
    return {"held_out": ordered, "selection": ordered[1::2], "calibration": ordered[::2]}


def _held_out(names: Sequence[str], share: float) -> list[str]:
    """Names of the pictures that a share holds out."""
    if not 0 <= share < 1:
        raise UserError(f"the share to hold out must lie from 0 to below 1, not {share:g}")
    if share == 0:
        return []
    count = max(1, round(share * len(names)))
    if count >= len(names):
        raise UserError(
            f"holding out {share:g} of {len(names)} normal pictures leaves none to train on; add "
            "pictures or hold out fewer"
        )
    return shuffled(names)[:count]


def _damaged(directory: Any) -> UserError:
    return UserError(
        f"the prepared data in {directory} are damaged; delete that folder, and they will be "
        "prepared anew"
    )


@contextlib.contextmanager
def _telling_damage(directory: str) -> Iterator[None]:
    """Tells as a UserError that prepared data are damaged."""
    try:
        yield
    except (KeyError, RuntimeError, ValueError, OSError) as error:  # lost and cut files
        raise _damaged(directory) from error


def _written(directory: str) -> int:
    """When a folder was prepared; prepared anew, all that is in it must be read anew."""
    return (Path(directory) / "dataset_info.json").stat().st_mtime_ns


# A record is read whole for it, which takes long where pictures are large.
@functools.lru_cache(maxsize=2**17)
def _own_size(directory: str, split: str, place: int, written: int) -> tuple[int, int]:
    return stored_size(_records(directory, split, written)[place]["image"])


# Eight thousand bytes each at most.
@functools.lru_cache(maxsize=2**14)
def _find_object(
    directory: str, split: str, place: int, written: int, roi: Roi
) -> Callable[[], Plane]:
    """Finds an object, and gives what unpacks it."""
    picture = decode_picture(_records(directory, split, written)[place]["image"])
    found = roi.find_object(picture.__getitem__, picture.shape[:2])
    assert found is not None
    return functools.partial(_unpacked, np.packbits(found), found.shape)


def _unpacked(bits: UInt8[np.ndarray, " N"], shape: tuple[int, int]) -> Plane:
    return np.unpackbits(bits, count=math.prod(shape)).reshape(shape).astype(bool)


@functools.lru_cache(maxsize=8)
def _records(directory: str, split: str, written: int) -> Any:
    """The records of a split by index, with pictures and masks as bytes."""
    del written  # part of the key in the cache
    import tensorflow_datasets as tfds

    with quiet():
        builder = tfds.builder_from_directory(directory)
        skip = {name: tfds.decode.SkipDecoding() for name in ("image", "mask")}
        return builder.as_data_source(split, decoders=skip)
