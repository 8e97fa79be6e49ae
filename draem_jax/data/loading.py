"""From a data set's name to arrays on the host: preparing once, then reading at any size.

TensorFlow Datasets prepares a data set into a folder, as array_record files, in the natural order
of the pictures' names. They are read by index, each decoded and resized by itself, so that a set
can be held in memory whole or streamed. Nothing here needs TensorFlow.
"""

import contextlib
import functools
import hashlib
import io
import logging
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, UInt8
from tqdm import tqdm

from draem_jax.data.layouts import LAYOUTS, Counts
from draem_jax.data.pictures import decode_picture, resize, resize_mask
from draem_jax.data.sources import Source, find_source, folder_config, list_source, opened
from draem_jax.errors import UserError

DATA_DIR_VARIABLE = "DRAEM_JAX_DATA"
"""Environment variable that names the folder for prepared data sets."""

DATASETS = ("surfaces", *LAYOUTS)
"""Names of the known data sets. `folder` is the user's own."""


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


@dataclass(frozen=True)
class PictureSource:
    """Pictures of a prepared data set, read and decoded one at a time by index.

    It holds no open file, and can be pickled and read in other processes.

    Attributes:
        directory: the folder of the prepared data set.
        split: "train" or "test".
        indices: of the pictures among the split's records.
        names: of the pictures.
        size: (height, width) that they are brought to.
    """

    directory: str
    split: str
    indices: tuple[int, ...]
    names: tuple[str, ...]
    size: tuple[int, int]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> UInt8[np.ndarray, "H W 3"]:
        return resize(decode_picture(self._record(index)["image"]), self.size)

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
            record = _records(self.directory, self.split)[self.indices[index]]
            if record["name"].decode() != self.names[index]:
                raise ValueError("records have changed their places")
        except (KeyError, RuntimeError, ValueError, OSError) as error:  # lost and cut files
            raise UserError(
                f"the prepared data in {self.directory} are damaged; delete that folder, and they "
                "will be prepared anew"
            ) from error
        return record


@dataclass(frozen=True)
class Summary:
    """What a prepared category holds.

    Attributes:
        name: of the data set.
        category: of the category; of a user's folder, its prepared copy.
        path: the folder of the prepared data.
        nbytes: bytes that it takes on the disk.
        root: the folder or archive it was prepared from, "" for built-in data.
        train: normal pictures to train on.
        types: test pictures by type; "good" is one of them.
        without_mask: defective pictures whose mask is unknown.
        empty_masks: defective pictures whose mask shows no defect.
        skipped: what was wrong and left out by `skip_bad`, by kind.
        left_out: files that rightly belong to neither half, by what they are.
        notes: on how the folder was read.
        published: the published numbers of pictures, if they are known.
    """

    name: str
    category: str
    path: Path
    nbytes: int
    root: str
    train: int
    types: Mapping[str, int]
    without_mask: int
    empty_masks: int
    skipped: Mapping[str, int]
    left_out: Mapping[str, int]
    notes: Sequence[str]
    published: Counts | None

    @property
    def counts(self) -> Counts:
        """The numbers that are published for the known data sets."""
        good = self.types.get("good", 0)
        return Counts(self.train, good, sum(self.types.values()) - good)


def categories(name: str) -> tuple[str, ...]:
    """Names of the categories of a data set.

    The category of `folder` is a folder within the root, or "" for the root itself.

    Raises:
        UserError: the data set is unknown.
    """
    if name == "folder":
        return ("",)
    return tuple(_builder_class(name).builder_configs)


def default_data_dir() -> Path:
    """The folder for prepared data sets: $DRAEM_JAX_DATA, or else ~/.cache/draem_jax."""
    return Path(os.environ.get(DATA_DIR_VARIABLE) or Path.home() / ".cache" / "draem_jax")


def prepare(
    name: str,
    category: str,
    *,
    root: str | Path | None = None,
    skip_bad: bool = False,
    data_dir: str | Path | None = None,
    progress: bool | None = None,
) -> Any:
    """Prepares one category of a data set, unless that has been done before.

    The data set takes its place in one step once it is complete: what a killed run leaves behind
    is never taken for whole. Where several processes prepare at once, the first to end wins and
    the others use its result.

    What is prepared from one state of a folder or archive is found again as long as that does not
    change; where it has changed, or pictures were skipped that now may not be, it is prepared
    anew.

    Args:
        name: the data set, like "surfaces".
        category: its category, like "brick".
        root: the folder or archive of the data set; where None, it must have been prepared before
            or be built in.
        skip_bad: go on without pictures and masks that are wrong, and count them.
        data_dir: the folder to keep it in; `default_data_dir()` where None.
        progress: whether to draw a progress bar; where None, if stderr is a terminal.

    Returns:
        The prepared `tfds.core.DatasetBuilder`.

    Raises:
        UserError: the data set or the category is unknown, the folder cannot be written, the data
            set is neither prepared nor given, or something is wrong with it and `skip_bad` is not
            set; in that case nothing is prepared.
    """
    return prepare_all(
        name, [category], root=root, skip_bad=skip_bad, data_dir=data_dir, progress=progress
    )[0]


def prepare_all(
    name: str,
    chosen: Sequence[str],
    *,
    root: str | Path | None = None,
    skip_bad: bool = False,
    data_dir: str | Path | None = None,
    progress: bool | None = None,
) -> list[Any]:
    """Prepares several categories as `prepare` does; an archive is unpacked only once."""
    builder_class = _builder_class(name)
    target = Path(data_dir if data_dir is not None else default_data_dir()).expanduser()
    if name == "surfaces":
        if root is not None:
            raise UserError("surfaces is built in and has no root; leave out the root")
        return [_prepare_builtin(builder_class, category, target) for category in chosen]
    for category in chosen:
        _check_category(builder_class, name, category)
    if root is None:
        return [_find_prepared(builder_class, name, category, target) for category in chosen]
    source = find_source(root)
    found = {
        category: _reuse(builder_class, name, category, source, skip_bad, target)
        for category in chosen
    }
    missing = [category for category, builder in found.items() if builder is None]
    if missing:
        _make_folder(target)
        without = set(LAYOUTS[name].counts) - set(missing) if len(chosen) else set()
        with (
            _bar("unpacking", "file", progress and source.is_archive) as unpacking,
            opened(
                source, target, without=without, progress=lambda n: unpacking(n, None)
            ) as folder,
        ):
            for category in missing:
                found[category] = _prepare_category(
                    builder_class, name, category, source, folder, skip_bad, target, progress
                )
    return [found[category] for category in chosen]


def training_source(
    name: str,
    category: str,
    *,
    size: tuple[int, int],
    root: str | Path | None = None,
    skip_bad: bool = False,
    data_dir: str | Path | None = None,
    holdout: float = 0.0,
    held_out: bool = False,
) -> PictureSource:
    """The normal pictures of a category to be read one by one, preparing it first where needed.

    Args:
        name: the data set.
        category: its category.
        size: (height, width) to bring the pictures to.
        root: see `prepare`.
        skip_bad: see `prepare`.
        data_dir: the folder of prepared data sets; `default_data_dir()` where None.
        holdout: share of the pictures, from 0 to below 1, that is held out from training. Which
            ones depends on their names alone; at least one is, and at least one is left.
        held_out: whether to return those held out instead of the others.

    Returns:
        The pictures in natural order of their names, as `load_training_set` has them.

    Raises:
        UserError: see `prepare`; or `holdout` leaves nothing.
    """
    builder = prepare(name, category, root=root, skip_bad=skip_bad, data_dir=data_dir)
    names = _names(builder, "train")
    apart = _held_out(names, holdout)
    indices = [i for i in range(len(names)) if (i in apart) == held_out]
    return PictureSource(
        directory=str(builder.data_path),
        split="train",
        indices=tuple(indices),
        names=tuple(names[i] for i in indices),
        size=size,
    )


def load_training_set(
    name: str,
    category: str,
    *,
    size: tuple[int, int],
    root: str | Path | None = None,
    skip_bad: bool = False,
    data_dir: str | Path | None = None,
    holdout: float = 0.0,
) -> TrainingSet:
    """Loads the normal pictures of a category, preparing it first where needed.

    Args and Raises: see `training_source`; and a UserError if the prepared data are damaged.

    Returns:
        The pictures in natural order of their names, without those held out.
    """
    source = training_source(
        name, category, size=size, root=root, skip_bad=skip_bad, data_dir=data_dir, holdout=holdout
    )
    return TrainingSet(images=source.read_all(), names=list(source.names))


def load_holdout(
    name: str,
    category: str,
    *,
    size: tuple[int, int],
    holdout: float,
    root: str | Path | None = None,
    skip_bad: bool = False,
    data_dir: str | Path | None = None,
) -> TrainingSet:
    """Loads the normal pictures that `load_training_set` with the same `holdout` leaves out."""
    source = training_source(
        name, category, size=size, root=root, skip_bad=skip_bad, data_dir=data_dir,
        holdout=holdout, held_out=True,
    )  # fmt: skip
    return TrainingSet(images=source.read_all(), names=list(source.names))


def load_test_set(
    name: str,
    category: str,
    *,
    size: tuple[int, int],
    root: str | Path | None = None,
    skip_bad: bool = False,
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
        data_dir: the folder of prepared data sets; `default_data_dir()` where None.

    Returns:
        Pictures and masks in natural order of their names; none where the user's folder has no
        test pictures.

    Raises:
        UserError: see `prepare`; or the prepared data are damaged.
    """
    builder = prepare(name, category, root=root, skip_bad=skip_bad, data_dir=data_dir)
    names = _names(builder, "test")
    source = PictureSource(
        str(builder.data_path), "test", tuple(range(len(names))), tuple(names), size
    )
    images = np.empty((len(names), *size, 3), np.uint8)
    masks = np.zeros((len(names), *size, 1), np.uint8)
    has_mask = np.zeros(len(names), bool)
    types = [""] * len(names)

    def fill(index: int) -> None:
        record = source._record(index)
        images[index] = resize(decode_picture(record["image"]), size)
        masks[index, ..., 0] = resize_mask(decode_picture(record["mask"])[..., 0] > 0, size)
        has_mask[index] = record["has_mask"]
        types[index] = record["defect_type"].decode()

    _for_each(fill, len(names))
    return TestSet(images, masks, types, names, has_mask)


def load(
    name: str, category: str, *, size: tuple[int, int], **options: Any
) -> tuple[TrainingSet, TestSet]:
    """Loads both halves of a category; see `load_training_set` and `load_test_set`."""
    return (
        load_training_set(name, category, size=size, **options),
        load_test_set(name, category, size=size, **options),
    )


def summarise(builder: Any) -> Summary:
    """What a prepared category holds, from what was noted when it was prepared."""
    facts = dict(builder.info.metadata)
    category = builder.builder_config.name
    path = Path(str(builder.data_path))
    return Summary(
        name=builder.name,
        category=category,
        path=path,
        nbytes=sum(file.stat().st_size for file in path.iterdir()),
        root=facts.get("root", ""),
        train=len(facts["names"]["train"]),
        types=facts["types"],
        without_mask=facts.get("without_mask", 0),
        empty_masks=facts.get("empty_masks", 0),
        skipped=facts.get("skipped", {}),
        left_out=facts.get("left_out", {}),
        notes=facts.get("notes", ()),
        published=LAYOUTS[builder.name].counts.get(category) if builder.name in LAYOUTS else None,
    )


def prepared(data_dir: str | Path | None = None) -> list[Summary]:
    """All categories that are prepared, in the order of their names; of damaged ones nothing."""
    target = Path(data_dir if data_dir is not None else default_data_dir()).expanduser()
    found = []
    with _quiet():
        import tensorflow_datasets as tfds

        for name in DATASETS:
            version = str(_builder_class(name).VERSION)
            for path in sorted((target / name).glob(f"*/{version}")):
                with contextlib.suppress(Exception):
                    found.append(summarise(tfds.builder_from_directory(path)))
    return found


def _builder_class(name: str) -> Any:
    # Builders are imported here and not above since TFDS takes a second to import.
    if name == "surfaces":
        from draem_jax.data.surfaces import Surfaces

        return Surfaces
    if name in LAYOUTS:
        from draem_jax.data.builders import BUILDERS

        return BUILDERS[name]
    raise UserError(f"unknown data set {name!r}; choose one of: {', '.join(DATASETS)}")


def _check_category(builder_class: Any, name: str, category: str) -> None:
    known = tuple(builder_class.builder_configs)
    if name != "folder" and category not in known:
        raise UserError(f"{name} has no category {category!r}; choose one of: {', '.join(known)}")


def _prepare_builtin(builder_class: Any, category: str, target: Path) -> Any:
    _check_category(builder_class, builder_class.name, category)
    with _quiet():
        try:
            target.mkdir(parents=True, exist_ok=True)
            builder = builder_class(config=category, data_dir=target)
            builder.download_and_prepare()
        except OSError as error:
            builder = builder_class(config=category, data_dir=target) if target.is_dir() else None
            if builder is None or not builder.data_path.exists():
                raise _cannot_write(target, error) from error
    return builder


def _builder(builder_class: Any, config: str, target: Path) -> Any:
    """The builder of a configuration, over what is prepared of it in `target`, if anything is."""
    import tensorflow_datasets as tfds

    known = builder_class.builder_configs.get(config)
    with _quiet():
        return builder_class(config=known or tfds.core.BuilderConfig(name=config), data_dir=target)


def _find_prepared(builder_class: Any, name: str, category: str, target: Path) -> Any:
    if name == "folder":
        raise UserError("folder needs the path of your pictures: --config.data.root=DIR")
    builder = _builder(builder_class, category, target)
    if not builder.data_path.exists():
        raise UserError(
            f"{name}/{category} is not prepared in {target}; run `draem-jax data prepare {name} "
            f"--root=DIR_OR_ARCHIVE`, or give --config.data.root=DIR_OR_ARCHIVE"
        )
    return builder


def _config_name(name: str, category: str, source: Source) -> str:
    return folder_config(source, category) if name == "folder" else category


def _reuse(
    builder_class: Any, name: str, category: str, source: Source, skip_bad: bool, target: Path
) -> Any:
    """The builder of what was prepared from the same state of the same files, else None."""
    builder = _builder(builder_class, _config_name(name, category, source), target)
    if not builder.data_path.exists():
        return None
    facts = dict(builder.info.metadata)
    same = facts.get("fingerprint") == source.fingerprint(category)
    return builder if same and (skip_bad or not facts.get("skipped")) else None


def _prepare_category(
    builder_class: Any,
    name: str,
    category: str,
    source: Source,
    folder: Path,
    skip_bad: bool,
    target: Path,
    progress: bool | None,
) -> Any:
    from draem_jax.data.builders import Plan

    config = _config_name(name, category, source)
    final = Path(str(_builder(builder_class, config, target).data_path))
    listing = list_source(name, category, folder, source)
    try:
        # Made aside, so that what was prepared before stays until this is whole.
        with tempfile.TemporaryDirectory(prefix=".preparing.", dir=target) as aside:
            builder = _builder(builder_class, config, Path(aside))
            with _bar(f"preparing {category or name}", "picture", progress) as report, _quiet():
                builder.plan = Plan(
                    listing=listing,
                    where=str(source.root / category),
                    skip_bad=skip_bad,
                    progress=report,
                    facts={"root": str(source.root), "fingerprint": source.fingerprint(category)},
                )
                builder.download_and_prepare()
            _put_in_place(Path(str(builder.data_path)), final, Path(aside))
    except OSError as error:
        raise _cannot_write(target, error) from error
    return _builder(builder_class, config, target)


def _put_in_place(made: Path, final: Path, aside: Path) -> None:
    final.parent.mkdir(parents=True, exist_ok=True)
    if final.exists():
        final.rename(aside / "replaced")
    try:
        made.rename(final)
    except OSError:
        if not final.exists():  # else another process has put its own in place just now
            raise


def _make_folder(target: Path) -> None:
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_write(target, error) from error


def _cannot_write(target: Path, error: OSError) -> UserError:
    return UserError(
        f"cannot write data sets to {target}: {error.strerror or error}; choose another folder, "
        f"or set {DATA_DIR_VARIABLE}"
    )


def _names(builder: Any, split: str) -> list[str]:
    return list(dict(builder.info.metadata)["names"].get(split, []))


def _held_out(names: Sequence[str], share: float) -> set[int]:
    """Indices of the pictures that a share holds out: those whose names have the least digests."""
    if not 0 <= share < 1:
        raise UserError(f"the share to hold out must lie from 0 to below 1, not {share:g}")
    if share == 0:
        return set()
    count = max(1, round(share * len(names)))
    if count >= len(names):
        raise UserError(
            f"holding out {share:g} of {len(names)} normal pictures leaves none to train on; add "
            "pictures or hold out fewer"
        )
    order = sorted(range(len(names)), key=lambda i: hashlib.sha256(names[i].encode()).digest())
    return set(order[:count])


@functools.lru_cache(maxsize=8)
def _records(directory: str, split: str) -> Any:
    """The records of a split by index, with pictures and masks as bytes."""
    import tensorflow_datasets as tfds

    with _quiet():
        builder = tfds.builder_from_directory(directory)
        skip = {name: tfds.decode.SkipDecoding() for name in ("image", "mask")}
        return builder.as_data_source(split, decoders=skip)


def _for_each(work: Callable[[int], None], count: int) -> None:
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for _ in pool.map(work, range(count)):
            pass


@contextlib.contextmanager
def _bar(text: str, unit: str, wanted: bool | None) -> Iterator[Callable[[int, int | None], None]]:
    """A progress bar on stderr; yields what to call with the numbers done and in all."""
    shown = sys.stderr.isatty() if wanted is None else wanted
    with tqdm(desc=text, unit=unit, disable=not shown, file=sys.stderr) as bar:

        def report(done: int, total: int | None) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield report


_quiet_lock = threading.RLock()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps TFDS from printing, logging below errors, and drawing progress bars."""
    import tensorflow_datasets as tfds

    # One thread at a time, or the last to leave would put back what the first had put there.
    with _quiet_lock:
        logger = logging.getLogger("absl")
        level = logger.level
        logger.setLevel(logging.ERROR)
        tfds.disable_progress_bar()
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                yield
        finally:
            logger.setLevel(level)
