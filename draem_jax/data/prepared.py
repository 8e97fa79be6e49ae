"""What is prepared, where it is kept, and what was noted of it.

TensorFlow Datasets keeps a prepared category in a folder, as array_record files, in the natural
order of the pictures' names. It needs no TensorFlow for that.
"""

import contextlib
import io
import logging
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from draem_jax.data.facts import counts_of, tell_facts
from draem_jax.data.layouts import LAYOUTS, Counts
from draem_jax.errors import UserError
from draem_jax.files import expand

DATA_DIR_VARIABLE = "DRAEM_JAX_DATA"
"""Environment variable that names the folder for prepared data sets."""

BUILT_IN = "surfaces"
"""The data set that is drawn and not read: it has no files and so no layout."""

DATASETS = (BUILT_IN, *LAYOUTS)
"""Names of the known data sets."""


@dataclass(frozen=True)
class PreparedCategory:
    """What a prepared category holds.

    Attributes:
        name: the name of the data set.
        category: its name; of the user's own pictures, the name of their
            prepared copy.
        path: the folder of the prepared data.
        nbytes: bytes that it takes on the disk.
        root: the folder or archive it was prepared from, "" for built-in data.
        train: number of normal pictures to train on.
        types: number of test pictures by type; "good" is one of the types.
        without_mask: number of defective pictures whose mask is unknown.
        skipped: number of pictures and masks that were wrong and skipped, by what is wrong.
        published: the published numbers of pictures, if they are known.
        facts: all that was noted when it was prepared, see `draem_jax.data.facts`.
    """

    name: str
    category: str
    path: Path
    nbytes: int
    root: str
    train: int
    types: Mapping[str, int]
    without_mask: int
    skipped: Mapping[str, int]
    published: Counts | None
    facts: Mapping[str, Any] = field(repr=False)

    @property
    def counts(self) -> Counts:
        """Its numbers of pictures, to compare with the published ones."""
        return counts_of(self.facts)

    def warnings(self) -> list[str]:
        """What the user should know before trusting figures, one line each."""
        return tell_facts(self.facts, self.published)


def categories(name: str) -> tuple[str, ...]:
    """Names of the categories of a data set.

    The user's own pictures have one, "", which is all of the root.

    Raises:
        UserError: the data set is unknown.
    """
    if name in LAYOUTS:  # without TFDS, which takes a second to import
        return tuple(LAYOUTS[name].counts) or ("",)
    return tuple(builder_class(name).builder_configs)


def published_counts(name: str, category: str) -> Counts | None:
    """The published numbers of pictures of a category, if they are known."""
    return LAYOUTS[name].counts.get(category) if name in LAYOUTS else None


def default_data_dir() -> Path:
    """The folder for prepared data sets: $DRAEM_JAX_DATA, or else ~/.cache/draem_jax."""
    return Path(os.environ.get(DATA_DIR_VARIABLE) or Path.home() / ".cache" / "draem_jax")


def find_data_dir(data_dir: str | Path | None) -> Path:
    """The folder for prepared data sets that was named, or else `default_data_dir()`."""
    return expand(data_dir if data_dir is not None else default_data_dir())


def list_prepared(data_dir: str | Path | None = None) -> list[PreparedCategory]:
    """All categories that are prepared, ordered as `DATASETS` is; damaged ones are left out."""
    target = find_data_dir(data_dir)
    found = []
    with quiet():
        import tensorflow_datasets as tfds

        for name in DATASETS:
            version = str(builder_class(name).VERSION)
            for path in sorted((target / name).glob(f"*/{version}")):
                with contextlib.suppress(Exception):
                    found.append(summarise(tfds.builder_from_directory(path)))
    return found


def summarise(builder: Any) -> PreparedCategory:
    """What the prepared category of a builder holds, from what was noted when it was prepared."""
    facts = dict(builder.info.metadata)
    category = builder.builder_config.name
    path = Path(str(builder.data_path))
    return PreparedCategory(
        name=builder.name,
        category=category,
        path=path,
        nbytes=sum(file.stat().st_size for file in path.iterdir()),
        root=facts.get("root", ""),
        train=len(facts["names"]["train"]),
        types=facts["types"],
        without_mask=facts.get("without_mask", 0),
        skipped=facts.get("skipped", {}),
        published=published_counts(builder.name, category),
        facts=facts,
    )


def warnings_of(builder: Any) -> tuple[str, ...]:
    """What `PreparedCategory.warnings` says of the prepared category of a builder."""
    published = published_counts(builder.name, builder.builder_config.name)
    return tuple(tell_facts(dict(builder.info.metadata), published))


def builder_class(name: str) -> Any:
    """The class of TFDS builders of a data set.

    Raises:
        UserError: the data set is unknown.
    """
    # Builders are imported here and not above since they import TFDS.
    if name == BUILT_IN:
        from draem_jax.data.surfaces import Surfaces

        return Surfaces
    if name in LAYOUTS:
        from draem_jax.data.builders import BUILDERS

        return BUILDERS[name]
    raise UserError(f"unknown data set {name!r}; choose one of: {', '.join(DATASETS)}")


def open_builder(name: str, config: str, folder: Path) -> Any:
    """The builder of a configuration, over what is prepared of it in a folder, if anything is.

    Args:
        name: the data set.
        config: the category; of the user's own pictures, the name of their prepared copy.
        folder: the folder of prepared data sets.
    """
    import tensorflow_datasets as tfds

    of_name = builder_class(name)
    known = of_name.builder_configs.get(config)
    with quiet():
        return of_name(config=known or tfds.core.BuilderConfig(name=config), data_dir=folder)


def facts_of(builder: Any) -> dict[str, Any]:
    """What was noted when it was prepared; nothing where it is not prepared."""
    return dict(builder.info.metadata) if builder.data_path.exists() else {}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
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


_quiet_lock = threading.RLock()
