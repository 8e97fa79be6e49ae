"""From a data set's name to arrays on the host: preparing once, then reading at any size.

TensorFlow Datasets prepares a data set into a folder, as array_record files, in the natural order
of the pictures' names. They are read by index, each decoded and resized by itself, so that a set
can be held in memory whole or streamed. Nothing here needs TensorFlow.
"""

import dataclasses
import functools
import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Bool, UInt8

from draem_jax.data.depth import AUTO, Depth
from draem_jax.data.pictures import decode_picture, resize, resize_mask
from draem_jax.data.preparing import (
    DATA_DIR_VARIABLE,
    DATASETS,
    categories,
    default_data_dir,
    prepare,
    quiet,
    warnings_of,
)
from draem_jax.errors import UserError

Part = Literal["training", "held_out", "selection", "calibration"]

__all__ = [
    "DATASETS",
    "DATA_DIR_VARIABLE",
    "LabelledPicture",
    "LabelledSource",
    "PictureSource",
    "TestSet",
    "TrainingSet",
    "categories",
    "default_data_dir",
    "halves",
    "labelled_source",
    "load",
    "load_test_set",
    "load_training_set",
    "prepare",
    "training_source",
    "warnings_of",
]


@dataclass(frozen=True)
class TrainingSet:
    """Normal pictures to train on.

    Attributes:
        images: the pictures, in RGB.
        names: "good/<number>" of each.
    """

    images: UInt8[np.ndarray, "N H W 3"]
    names: list[str]


@dataclass(frozen=True)
class TestSet:
    """Pictures to evaluate on, with the truth about them.

    Attributes:
        images: the pictures, in RGB.
        masks: 1 on defects, 0 elsewhere; empty where `has_mask` is not.
        defect_types: "good", or the type of the defect, of each picture.
        names: "<type>/<number>" of each.
        has_mask: whether it is known which pixels are defect; of good pictures it always is.
    """

    __test__ = False  # to pytest a class of this name would be a test

    images: UInt8[np.ndarray, "N H W 3"]
    masks: UInt8[np.ndarray, "N H W 1"]
    defect_types: list[str]
    names: list[str]
    has_mask: Bool[np.ndarray, "N"]


class LabelledPicture(NamedTuple):
    """One picture to evaluate on, with the truth about it.

    Attributes:
        image: the picture, RGB, brought to the size asked for.
        mask: true on defects, at the picture's original size; empty where `has_mask` is not.
        has_mask: whether it is known which pixels are defect; of good pictures it always is.
        defect_type: "good", or the type of the defect.
        name: "<type>/<number>".
    """

    image: UInt8[np.ndarray, "H W 3"]
    mask: Bool[np.ndarray, "h w"]
    has_mask: bool
    defect_type: str
    name: str


@dataclass(frozen=True)
class PictureSource:
    """Pictures of a prepared data set, read and decoded one at a time by index.

    It holds no open file, and can be pickled and read in other processes.

    Attributes:
        directory: the folder of the prepared data set.
        split: "train", "test", or another that the data set has.
        indices: of the pictures among the split's records.
        names: of the pictures.
        size: (height, width) that they are brought to.
        digests: of the pictures as they are stored, by which it is seen whether one has changed;
            none of the built-in data sets.
        full_scale: the value that was taken for white in pictures with more than 8 bits a channel;
            None where there are none, or that of each file's type was. `read_picture` reads other
            pictures the same way with it.
        warnings: on the data set as a whole, one line each, for the user.
    """

    directory: str
    split: str
    indices: tuple[int, ...]
    names: tuple[str, ...]
    size: tuple[int, int]
    digests: tuple[str, ...] = ()
    full_scale: int | None = None
    warnings: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> UInt8[np.ndarray, "H W 3"]:
        return resize(decode_picture(self._record(index)["image"]), self.size)

    def take(self, indices: Sequence[int]) -> "PictureSource":
        """Some of the pictures."""
        return dataclasses.replace(
            self,
            indices=tuple(self.indices[i] for i in indices),
            names=tuple(self.names[i] for i in indices),
            digests=tuple(self.digests[i] for i in indices) if self.digests else (),
        )

    @property
    def nbytes(self) -> int:
        """Bytes that all pictures take as an array."""
        height, width = self.size
        return len(self) * height * width * 3

    def read_all(self) -> UInt8[np.ndarray, "N H W 3"]:
        """All pictures as one array, decoded by threads."""
        images = np.empty((len(self), *self.size, 3), np.uint8)

        def fill(index: int) -> None:
            images[index] = self[index]

        _for_each(fill, len(self))
        return images

    def _record(self, index: int) -> dict[str, Any]:
        try:
            # Of the same folder prepared anew, the records must be opened anew.
            written = (Path(self.directory) / "dataset_info.json").stat().st_mtime_ns
            record = _records(self.directory, self.split, written)[self.indices[index]]
            if record["name"].decode() != self.names[index]:
                raise ValueError("records have changed their places")
        except (KeyError, RuntimeError, ValueError, OSError) as error:  # lost and cut files
            raise _damaged(self.directory) from error
        return record


def training_source(
    name: str,
    category: str,
    *,
    size: tuple[int, int],
    root: str | Path | None = None,
    skip_bad: bool = False,
    depth: Depth = AUTO,
    full_scale: int | None = None,
    data_dir: str | Path | None = None,
    holdout: float = 0.0,
    part: Part = "training",
) -> PictureSource:
    """The normal pictures of a category to be read one by one, preparing it first where needed.

    Args:
        name: the data set.
        category: its category.
        size: (height, width) to bring the pictures to.
        root: see `prepare`.
        skip_bad: see `prepare`.
        depth: see `prepare`.
        full_scale: see `prepare`.
        data_dir: the folder of prepared data sets; `default_data_dir()` where None.
        holdout: share of the pictures, from 0 to below 1, that is held out from training. Which
            ones depends on their names alone; at least one is, and at least one is left.
        part: which of the pictures: "training", those not held out; "held_out"; or of these one of
            two halves, "selection" to choose by and "calibration" to set thresholds by, so that
            what is calibrated on has chosen nothing. With one held out, "selection" is empty.

    Returns:
        The pictures in natural order of their names, as `load_training_set` has them.

    Raises:
        UserError: see `prepare`; or `holdout` leaves nothing.
    """
    builder = prepare(
        name,
        category,
        root=root,
        skip_bad=skip_bad,
        depth=depth,
        full_scale=full_scale,
        data_dir=data_dir,
    )
    names = _names(builder, "train")
    apart = _held_out(names, holdout)
    chosen = set(names) - set(apart) if part == "training" else set(halves(apart)[part])
    indices = [i for i, name in enumerate(names) if name in chosen]
    return _source(builder, "train", names, indices, size)


def load_training_set(
    name: str,
    category: str,
    *,
    size: tuple[int, int],
    root: str | Path | None = None,
    skip_bad: bool = False,
    depth: Depth = AUTO,
    full_scale: int | None = None,
    data_dir: str | Path | None = None,
    holdout: float = 0.0,
) -> TrainingSet:
    """Loads the normal pictures of a category, preparing it first where needed.

    Args and Raises: see `training_source`; and a UserError if the prepared data are damaged.

    Returns:
        The pictures in natural order of their names, without those held out.
    """
    source = training_source(
        name,
        category,
        size=size,
        root=root,
        skip_bad=skip_bad,
        depth=depth,
        full_scale=full_scale,
        data_dir=data_dir,
        holdout=holdout,
    )
    return TrainingSet(images=source.read_all(), names=list(source.names))


@dataclass(frozen=True)
class LabelledSource:
    """Pictures to evaluate on, read and decoded one at a time by index.

    Attributes:
        pictures: where they are read from.
    """

    pictures: PictureSource

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> LabelledPicture:
        record = self.pictures._record(index)
        return LabelledPicture(
            image=resize(decode_picture(record["image"]), self.pictures.size),
            mask=decode_picture(record["mask"])[..., 0] > 0,
            has_mask=bool(record["has_mask"]),
            defect_type=record["defect_type"].decode(),
            name=self.pictures.names[index],
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Of the pictures, in their order."""
        return self.pictures.names

    @property
    def warnings(self) -> tuple[str, ...]:
        """On the data set as a whole, one line each, for the user."""
        return self.pictures.warnings


def labelled_source(
    name: str,
    category: str,
    *,
    size: tuple[int, int],
    root: str | Path | None = None,
    skip_bad: bool = False,
    depth: Depth = AUTO,
    full_scale: int | None = None,
    data_dir: str | Path | None = None,
    split: str = "test",
) -> LabelledSource:
    """The test pictures of a category to be read one by one, preparing it first where needed.

    Args and Raises: see `load_test_set`; and `split` is another split to take in their place, such
    as "stain" of the built-in surfaces.

    Returns:
        The pictures in natural order of their names; none where the user's folder has none.
    """
    builder = prepare(
        name,
        category,
        root=root,
        skip_bad=skip_bad,
        depth=depth,
        full_scale=full_scale,
        data_dir=data_dir,
    )
    names = _names(builder, split)
    return LabelledSource(_source(builder, split, names, range(len(names)), size))


def load_test_set(
    name: str,
    category: str,
    *,
    size: tuple[int, int],
    root: str | Path | None = None,
    skip_bad: bool = False,
    depth: Depth = AUTO,
    full_scale: int | None = None,
    data_dir: str | Path | None = None,
) -> TestSet:
    """Loads the test pictures of a category, preparing it first where needed.

    A pixel of a resized mask is defect where the nearest pixel of the original is above 0.

    Args:
        name: the data set.
        category: its category.
        size: (height, width) to bring pictures and masks to.
        root: see `prepare`.
        skip_bad: see `prepare`.
        depth: see `prepare`.
        full_scale: see `prepare`.
        data_dir: the folder of prepared data sets; `default_data_dir()` where None.

    Returns:
        Pictures and masks in natural order of their names; none where the user's folder has no
        test pictures.

    Raises:
        UserError: see `prepare`; or the prepared data are damaged.
    """
    source = labelled_source(
        name,
        category,
        size=size,
        root=root,
        skip_bad=skip_bad,
        depth=depth,
        full_scale=full_scale,
        data_dir=data_dir,
    )
    count = len(source)
    images = np.empty((count, *size, 3), np.uint8)
    masks = np.zeros((count, *size, 1), np.uint8)
    has_mask = np.zeros(count, bool)
    types = [""] * count

    def fill(index: int) -> None:
        picture = source[index]
        images[index] = picture.image
        masks[index, ..., 0] = resize_mask(picture.mask, size)
        has_mask[index] = picture.has_mask
        types[index] = picture.defect_type

    _for_each(fill, count)
    return TestSet(images, masks, types, list(source.names), has_mask)


def load(
    name: str,
    category: str,
    *,
    size: tuple[int, int],
    root: str | Path | None = None,
    skip_bad: bool = False,
    depth: Depth = AUTO,
    full_scale: int | None = None,
    data_dir: str | Path | None = None,
) -> tuple[TrainingSet, TestSet]:
    """Loads both halves of a category; see `load_training_set` and `load_test_set`."""
    return (
        load_training_set(
            name,
            category,
            size=size,
            root=root,
            skip_bad=skip_bad,
            depth=depth,
            full_scale=full_scale,
            data_dir=data_dir,
        ),
        load_test_set(
            name,
            category,
            size=size,
            root=root,
            skip_bad=skip_bad,
            depth=depth,
            full_scale=full_scale,
            data_dir=data_dir,
        ),
    )


def _source(
    builder: Any, split: str, names: Sequence[str], indices: Sequence[int], size: tuple[int, int]
) -> PictureSource:
    facts = dict(builder.info.metadata)
    try:
        digests = facts.get("digests", {}).get(split)
        return PictureSource(
            directory=str(builder.data_path),
            split=split,
            indices=tuple(indices),
            names=tuple(names[i] for i in indices),
            size=size,
            digests=tuple(digests[i] for i in indices) if digests else (),
            full_scale=facts.get("full_scale"),
            warnings=warnings_of(builder),
        )
    except (KeyError, IndexError, TypeError) as error:
        raise _damaged(builder.data_path) from error


def _names(builder: Any, split: str) -> list[str]:
    try:
        return list(dict(builder.info.metadata)["names"].get(split, []))
    except (KeyError, ValueError, OSError) as error:
        raise _damaged(builder.data_path) from error


def _damaged(directory: Any) -> UserError:
    return UserError(
        f"the prepared data in {directory} are damaged; delete that folder, and they will be "
        "prepared anew"
    )


def halves(held_out: Iterable[str]) -> dict[Part, list[str]]:
    """Parts the pictures that are held out, by their names alone: see `training_source`."""
    ordered = _shuffled(held_out)
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
    return _shuffled(names)[:count]


def _shuffled(names: Iterable[str]) -> list[str]:
    """Names by their digests: an order that has nothing to do with the pictures."""
    return sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())


@functools.lru_cache(maxsize=8)
def _records(directory: str, split: str, written: int) -> Any:
    """The records of a split by index, with pictures and masks as bytes."""
    del written  # part of the key in the cache
    import tensorflow_datasets as tfds

    with quiet():
        builder = tfds.builder_from_directory(directory)
        skip = {name: tfds.decode.SkipDecoding() for name in ("image", "mask")}
        return builder.as_data_source(split, decoders=skip)


def _for_each(work: Callable[[int], None], count: int) -> None:
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for _ in pool.map(work, range(count)):
            pass
