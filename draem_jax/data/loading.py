"""From a data set's name to arrays on the host: preparing once, then reading at any size.

TensorFlow Datasets prepares a data set into a folder, as array_record files; Grain reads them
with threads. Neither needs TensorFlow.
"""

import contextlib
import io
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from draem_jax.data.pictures import natural_key, resize, resize_mask
from draem_jax.errors import UserError

DATA_DIR_VARIABLE = "DRAEM_JAX_DATA"
"""Environment variable that names the folder for prepared data sets."""

DATASETS = ("surfaces",)
"""Names of the known data sets."""


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
        masks: 1 on defects, 0 elsewhere.
        defect_types: "good", or the type of the defect, of each picture.
        names: "<type>/<number>" of each.
    """

    __test__ = False  # to pytest a class of this name would be a test

    images: UInt8[np.ndarray, "N H W 3"]
    masks: UInt8[np.ndarray, "N H W 1"]
    defect_types: list[str]
    names: list[str]


def categories(name: str) -> tuple[str, ...]:
    """Names of the categories of a data set.

    Raises:
        UserError: the data set is unknown.
    """
    return tuple(_builder_class(name).builder_configs)


def default_data_dir() -> Path:
    """The folder for prepared data sets: $DRAEM_JAX_DATA, or else ~/.cache/draem_jax."""
    return Path(os.environ.get(DATA_DIR_VARIABLE) or Path.home() / ".cache" / "draem_jax")


def prepare(name: str, category: str, *, data_dir: str | Path | None = None) -> Any:
    """Prepares one category of a data set, unless that has been done before.

    The data set takes its place in one step once it is complete: what a killed run leaves behind
    is never taken for whole. Where several processes prepare at once, the first to end wins and
    the others use its result.

    Args:
        name: the data set, like "surfaces".
        category: its category, like "brick".
        data_dir: the folder to keep it in; `default_data_dir()` where None.

    Returns:
        The prepared `tfds.core.DatasetBuilder`.

    Raises:
        UserError: the data set or the category is unknown, or the folder cannot be written.
    """
    builder_class = _builder_class(name)
    known = tuple(builder_class.builder_configs)
    if category not in known:
        raise UserError(f"{name} has no category {category!r}; choose one of: {', '.join(known)}")
    root = Path(data_dir if data_dir is not None else default_data_dir()).expanduser()
    with _quiet():
        try:
            root.mkdir(parents=True, exist_ok=True)
            builder = builder_class(config=category, data_dir=root)
            builder.download_and_prepare()
        except OSError as error:
            builder = builder_class(config=category, data_dir=root) if root.is_dir() else None
            if builder is None or not builder.data_path.exists():
                raise UserError(
                    f"cannot write data sets to {root}: {error.strerror or error}; choose another "
                    f"folder, or set {DATA_DIR_VARIABLE}"
                ) from error
    return builder


def load_training_set(
    name: str, category: str, *, size: tuple[int, int], data_dir: str | Path | None = None
) -> TrainingSet:
    """Loads the normal pictures of a category, preparing it first where needed.

    Args:
        name: the data set.
        category: its category.
        size: (height, width) to bring the pictures to.
        data_dir: the folder of prepared data sets; `default_data_dir()` where None.

    Returns:
        The pictures in natural order of their names.

    Raises:
        UserError: see `prepare`; or the prepared data are damaged.
    """
    examples = _read(prepare(name, category, data_dir=data_dir), "train", size)
    return TrainingSet(
        images=np.stack([e["image"] for e in examples]), names=[e["name"] for e in examples]
    )


def load_test_set(
    name: str, category: str, *, size: tuple[int, int], data_dir: str | Path | None = None
) -> TestSet:
    """Loads the test pictures of a category, preparing it first where needed.

    A pixel of a resized mask is defect where the nearest pixel of the original is above 0.

    Args:
        name: the data set.
        category: its category.
        size: (height, width) to bring pictures and masks to.
        data_dir: the folder of prepared data sets; `default_data_dir()` where None.

    Returns:
        Pictures and masks in natural order of their names.

    Raises:
        UserError: see `prepare`; or the prepared data are damaged.
    """
    examples = _read(prepare(name, category, data_dir=data_dir), "test", size)
    return TestSet(
        images=np.stack([e["image"] for e in examples]),
        masks=np.stack([e["mask"] for e in examples]),
        defect_types=[e["defect_type"] for e in examples],
        names=[e["name"] for e in examples],
    )


def load(
    name: str, category: str, *, size: tuple[int, int], data_dir: str | Path | None = None
) -> tuple[TrainingSet, TestSet]:
    """Loads both halves of a category; see `load_training_set` and `load_test_set`."""
    return (
        load_training_set(name, category, size=size, data_dir=data_dir),
        load_test_set(name, category, size=size, data_dir=data_dir),
    )


def _builder_class(name: str) -> Any:
    # Builders are imported here and not above since TFDS takes a second to import.
    match name:
        case "surfaces":
            from draem_jax.data.surfaces import Surfaces

            return Surfaces
        case _:
            raise UserError(f"unknown data set {name!r}; choose one of: {', '.join(DATASETS)}")


def _read(builder: Any, split: str, size: tuple[int, int]) -> list[dict[str, Any]]:
    import grain

    def decode(example: dict[str, Any]) -> dict[str, Any]:
        mask = resize_mask(example["mask"][..., 0] > 0, size)
        return {
            "image": resize(example["image"], size),
            "mask": mask[..., None].astype(np.uint8),
            "defect_type": example["defect_type"].decode(),
            "name": example["name"].decode(),
        }

    with _quiet():
        options = grain.ReadOptions(num_threads=os.cpu_count() or 1)
        try:
            source = builder.as_data_source(split)
            examples = list(grain.MapDataset.source(source).map(decode).to_iter_dataset(options))
        except (KeyError, RuntimeError) as error:  # what lost and cut files come out as
            raise UserError(
                f"the prepared data in {builder.data_path} are damaged; delete that folder, and "
                "they will be prepared anew"
            ) from error
    return sorted(examples, key=lambda example: natural_key(example["name"]))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps TFDS from printing, logging below errors, and drawing progress bars."""
    import tensorflow_datasets as tfds

    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
