"""From a folder or archive to a prepared data set, in one step or not at all.

TensorFlow Datasets keeps a prepared data set in a folder, as array_record files, in the natural
order of the pictures' names. It needs no TensorFlow for that.
"""

import contextlib
import io
import logging
import os
import platform
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from draem_jax.data.archives import unpack
from draem_jax.data.checks import Examination
from draem_jax.data.depth import AUTO, FULL, Depth, check_depth, find_full_scale
from draem_jax.data.facts import counts_of, tell_facts
from draem_jax.data.layouts import LAYOUTS, AbsentError, Counts, Listing, Problem
from draem_jax.data.sources import Source, find_source, folder_config
from draem_jax.errors import UserError
from draem_jax.files import expand

DATA_DIR_VARIABLE = "DRAEM_JAX_DATA"
"""Environment variable that names the folder for prepared data sets."""

DATASETS = ("surfaces", *LAYOUTS)
"""Names of the known data sets. `folder` is the user's own."""


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
    empty_masks: int
    skipped: Mapping[str, int]
    left_out: Mapping[str, int]
    notes: Sequence[str]
    published: Counts | None
    facts: Mapping[str, Any] = field(repr=False)

    @property
    def counts(self) -> Counts:
        """The numbers that are published for the known data sets."""
        return counts_of(self.facts)

    def warnings(self) -> list[str]:
        """What the user should know before trusting figures, one line each."""
        return tell_facts(self.facts, self.published)


@dataclass(frozen=True)
class Checked:
    """What came of reading every file of a category.

    Attributes:
        listing: the pictures that can be used, and all problems.
        warnings: what `Summary.warnings` would say of it.
    """

    listing: Listing
    warnings: Sequence[str]


@dataclass(frozen=True)
class _Wanted:
    """How a category is to be prepared, as far as it changes what is stored.

    Attributes:
        skip_bad: whether pictures that are wrong may be missing.
        depth: of pictures with more than 8 bits a channel.
        full_scale: the value that is white in them; overrides `depth`.
    """

    skip_bad: bool
    depth: Depth
    full_scale: int | None

    def is_met_by(self, facts: Mapping[str, Any]) -> bool:
        """Whether what was prepared with these facts is what is wanted."""
        full_scale = find_full_scale(
            self.depth, highest=facts.get("highest"), full_scale=self.full_scale
        )
        same_range = full_scale == facts.get("full_scale")
        return same_range and (self.skip_bad or not facts.get("skipped"))

    def config(self, base: str) -> str:
        """The name of a user's prepared copy: those of other ranges stand beside each other."""
        if self.full_scale is None and self.depth in (AUTO, FULL):
            return base if self.depth == AUTO else f"{base}-{FULL}"
        full_scale = find_full_scale(self.depth, highest=0, full_scale=self.full_scale)
        return f"{base}-{full_scale}"


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
    depth: Depth = AUTO,
    full_scale: int | None = None,
    data_dir: str | Path | None = None,
    progress: bool | None = None,
) -> Any:
    """Prepares one category of a data set, unless that has been done before.

    The data set takes its place in one step once it is complete: what a killed run leaves behind
    is never taken for whole. Where several processes prepare at once, the first to end wins and
    the others use its result.

    What is prepared from one state of a folder or archive is found again as long as that does not
    change; where it has changed, or pictures were skipped that now may not be, it is prepared
    anew. Where it is gone, the last that was prepared from it is used.

    Args:
        name: the data set, like "surfaces".
        category: its category, like "brick".
        root: the folder or archive of the data set; where None, it must have been prepared before
            or be built in.
        skip_bad: go on without pictures and masks that are wrong, and count them.
        depth: of pictures with more than 8 bits a channel: "auto", the fewest bits that hold the
            highest value of all of them; "full", what each file's type can hold; or a number of
            bits from 8 to 32.
        full_scale: the value that is white in them, as `PictureSource.full_scale` tells it of
            another data set; overrides `depth`.
        data_dir: the folder to keep it in; `default_data_dir()` where None.
        progress: whether to draw a progress bar; where None, if stderr is a terminal.

    Returns:
        The prepared `tfds.core.DatasetBuilder`.

    Raises:
        UserError: the data set or the category is unknown, the folder cannot be written, the data
            set is neither prepared nor given, or something is wrong with it and `skip_bad` is not
            set; in that case nothing is prepared.
    """
    found = prepare_all(
        name,
        [category],
        root=root,
        skip_bad=skip_bad,
        depth=depth,
        full_scale=full_scale,
        data_dir=data_dir,
        progress=progress,
    )[category]
    if isinstance(found, UserError):
        raise found
    return found


def prepare_all(
    name: str,
    chosen: Sequence[str] | None = None,
    *,
    root: str | Path | None = None,
    skip_bad: bool = False,
    depth: Depth = AUTO,
    full_scale: int | None = None,
    data_dir: str | Path | None = None,
    progress: bool | None = None,
) -> dict[str, Any]:
    """Prepares several categories as `prepare` does; an archive is unpacked only once.

    Args:
        name: the data set.
        chosen: its categories; where None, all that the root holds.
        root: see `prepare`.
        skip_bad: see `prepare`.
        depth: see `prepare`.
        full_scale: see `prepare`.
        data_dir: see `prepare`.
        progress: see `prepare`.

    Returns:
        By category, the prepared builder; or the UserError that kept it from being prepared.

    Raises:
        UserError: what is wrong with the data set as a whole.
    """
    builder_class = _builder_class(name)
    target = _data_dir(data_dir)
    check_depth(depth, "the depth")
    wanted = _Wanted(skip_bad, depth, full_scale)
    for category in chosen or ():
        _check_category(builder_class, name, category)
    if name == "surfaces":
        if root is not None:
            raise UserError("surfaces is built in and has no root; leave out the root")
        return {c: _prepare_builtin(builder_class, c, target) for c in chosen or categories(name)}
    if root is None:
        return {
            c: _find_prepared(builder_class, c, wanted, target) for c in chosen or categories(name)
        }
    found: dict[str, Any] = {}
    if not expand(root).exists():
        found = {c: _recall(builder_class, c, root, wanted, target) for c in chosen or ()}
        if found and all(found.values()):
            return found
        found.clear()
    source = find_source(root)
    prints: dict[str, str] = {}
    for category in chosen or categories(name):
        prints[category] = source.fingerprint(name, category)
        found[category] = _reuse(builder_class, category, source, prints[category], wanted, target)
    missing = [category for category, builder in found.items() if builder is None]
    if not missing:
        return found
    _make_folder(target)
    _clear_leftovers(target)
    with _opened(source, target, LAYOUTS[name].counts.keys() - missing, progress) as folder:
        for category in missing:
            try:
                listing = LAYOUTS[name].list_category(folder, category)
                notes = tuple(_shown(note, folder, source) for note in listing.notes)
                listing = replace(listing, notes=notes)
                found[category] = _prepare_category(
                    builder_class, category, source, prints[category], listing, wanted, target,
                    progress,
                )  # fmt: skip
            except UserError as error:
                found[category] = type(error)(_shown(str(error), folder, source))
    if chosen is None:
        present = {c: it for c, it in found.items() if not isinstance(it, AbsentError)}
        if not present:
            raise UserError(
                f"{root} holds no category of {name} ({', '.join(found)}); check the path, or give "
                "the data set as it was published"
            )
        return present
    return found


def check(
    name: str,
    chosen: Sequence[str] | None = None,
    *,
    root: str | Path,
    depth: Depth = AUTO,
    data_dir: str | Path | None = None,
    progress: bool | None = None,
) -> dict[str, Checked | UserError]:
    """Reads every file of a data set as `prepare_all` would, and keeps nothing.

    Args:
        name: the data set.
        chosen: its categories; where None, all that the root holds.
        root: its folder or archive.
        depth: see `prepare`.
        data_dir: where an archive is unpacked for the while.
        progress: see `prepare`.

    Returns:
        By category, what was found; or, where the layout itself is wrong, the UserError.

    Raises:
        UserError: what is wrong with the data set as a whole.
    """
    builder_class = _builder_class(name)
    if name == "surfaces":
        raise UserError("surfaces is built in; there is nothing to check")
    for category in chosen or ():
        _check_category(builder_class, name, category)
    check_depth(depth, "the depth")
    source, target = find_source(root), _data_dir(data_dir)
    wanted = chosen or categories(name)
    found: dict[str, Checked | UserError] = {}
    if source.is_archive:
        _make_folder(target)
    with _opened(source, target, LAYOUTS[name].counts.keys() - wanted, progress) as folder:
        for category in wanted:
            try:
                examination = Examination(LAYOUTS[name].list_category(folder, category))
                with _bar(f"checking {category or name}", "picture", progress) as report:
                    for _ in examination.records(depth=depth, progress=report):
                        pass
                problems = [
                    Problem(p.kind, p.path, _shown(p.text, folder, source))
                    for p in examination.listing.problems
                ]
                facts = examination.facts() | {"skipped": {}}  # they are told as problems
                lines = tell_facts(facts, _published(name, category))
                found[category] = Checked(
                    replace(examination.listing, problems=tuple(problems)),
                    [_shown(line, folder, source) for line in lines],
                )
            except UserError as error:
                if chosen is not None or not isinstance(error, AbsentError):
                    found[category] = type(error)(_shown(str(error), folder, source))
    if not found:
        raise UserError(f"{root} holds no category of {name}; check the path")
    return found


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
        published=_published(builder.name, category),
        facts=facts,
    )


def warnings_of(builder: Any) -> tuple[str, ...]:
    """What `Summary.warnings` says of a prepared category."""
    facts = dict(builder.info.metadata)
    return tuple(tell_facts(facts, _published(builder.name, builder.builder_config.name)))


def prepared(data_dir: str | Path | None = None) -> list[Summary]:
    """All categories that are prepared, in the order of their names; damaged ones are left out."""
    target = _data_dir(data_dir)
    found = []
    with quiet():
        import tensorflow_datasets as tfds

        for name in DATASETS:
            version = str(_builder_class(name).VERSION)
            for path in sorted((target / name).glob(f"*/{version}")):
                with contextlib.suppress(Exception):
                    found.append(summarise(tfds.builder_from_directory(path)))
    return found


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


def _builder_class(name: str) -> Any:
    # Builders are imported here and not above since TFDS takes a second to import.
    if name == "surfaces":
        from draem_jax.data.surfaces import Surfaces

        return Surfaces
    if name in LAYOUTS:
        from draem_jax.data.builders import BUILDERS

        return BUILDERS[name]
    raise UserError(f"unknown data set {name!r}; choose one of: {', '.join(DATASETS)}")


def _data_dir(data_dir: str | Path | None) -> Path:
    return expand(data_dir if data_dir is not None else default_data_dir())


def _check_category(builder_class: Any, name: str, category: str) -> None:
    known = tuple(builder_class.builder_configs)
    if name != "folder" and category not in known:
        raise UserError(f"{name} has no category {category!r}; choose one of: {', '.join(known)}")


def _prepare_builtin(builder_class: Any, category: str, target: Path) -> Any:
    with quiet():
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
    with quiet():
        return builder_class(config=known or tfds.core.BuilderConfig(name=config), data_dir=target)


def _published(name: str, category: str) -> Counts | None:
    return LAYOUTS[name].counts.get(category) if name in LAYOUTS else None


def _find_prepared(builder_class: Any, category: str, wanted: _Wanted, target: Path) -> Any:
    name = builder_class.name
    if name == "folder":
        raise UserError("folder needs the path of your pictures: --config.data.root=DIR")
    builder = _builder(builder_class, category, target)
    if not builder.data_path.exists():
        raise UserError(
            f"{name}/{category} is not prepared in {target}; run `draem-jax data prepare {name} "
            f"--root=DIR_OR_ARCHIVE`, or give --config.data.root=DIR_OR_ARCHIVE"
        )
    if not replace(wanted, skip_bad=True).is_met_by(dict(builder.info.metadata)):
        raise UserError(
            f"{name}/{category} is prepared in {target} with another range of its deep pictures; "
            "give --config.data.root=DIR_OR_ARCHIVE to prepare it anew, or leave config.data.depth "
            "as it was"
        )
    return builder


def _reuse(
    builder_class: Any,
    category: str,
    source: Source,
    fingerprint: str,
    wanted: _Wanted,
    target: Path,
) -> Any:
    """The builder of what was prepared from the same state of the same files, else None."""
    base = _config(builder_class, category, source, fingerprint)
    configs = [base]
    if builder_class.name == "folder":
        configs += sorted({wanted.config(base), *_prepared_configs(builder_class, target, base)})
    for config in configs:
        builder = _builder(builder_class, config, target)
        facts = dict(builder.info.metadata) if builder.data_path.exists() else {}
        if facts.get("fingerprint") == fingerprint and wanted.is_met_by(facts):
            return builder
    return None


def _prepared_configs(builder_class: Any, target: Path, start: str = "") -> list[str]:
    """What is prepared of the user's folders, the newest first."""
    made = (target / "folder").glob(f"{start}*/{builder_class.VERSION}/dataset_info.json")
    last_first = sorted(made, key=lambda path: path.stat().st_mtime, reverse=True)
    return [path.parents[1].name for path in last_first]


def _recall(
    builder_class: Any, category: str, root: str | Path, wanted: _Wanted, target: Path
) -> Any:
    """The builder of what was last prepared from a root that is gone, else None."""
    gone = str(expand(root).resolve())
    last: str | None = None
    configs = [category]
    if builder_class.name == "folder":
        configs = _prepared_configs(builder_class, target)
    for config in configs:
        builder = _builder(builder_class, config, target)
        facts = dict(builder.info.metadata) if builder.data_path.exists() else {}
        if (facts.get("root"), facts.get("category")) != (gone, category):
            continue
        # Older states do not count, but other ranges of the last one do.
        last = last or facts.get("fingerprint")
        if facts.get("fingerprint") == last and wanted.is_met_by(facts):
            return builder
    return None


def _config(builder_class: Any, category: str, source: Source, fingerprint: str) -> str:
    if builder_class.name != "folder":
        return category
    return folder_config(category or source.root.name, fingerprint)


def _prepare_category(
    builder_class: Any,
    category: str,
    source: Source,
    fingerprint: str,
    listing: Listing,
    wanted: _Wanted,
    target: Path,
    progress: bool | None,
) -> Any:
    from draem_jax.data.builders import Plan

    config = _config(builder_class, category, source, fingerprint)
    if builder_class.name == "folder":
        config = wanted.config(config)
    try:
        # Made aside, so that what was prepared before stays until this is whole.
        with _temporary(target, "preparing") as aside:
            builder = _builder(builder_class, config, aside)
            with _bar(f"preparing {category or config}", "picture", progress) as report, quiet():
                builder.plan = Plan(
                    listing=listing,
                    where=str(source.root / category),
                    skip_bad=wanted.skip_bad,
                    depth=wanted.depth,
                    full_scale=wanted.full_scale,
                    progress=report,
                    facts={
                        "root": str(source.root),
                        "category": category,
                        "fingerprint": fingerprint,
                    },
                )
                builder.download_and_prepare()
            final = _builder(builder_class, config, target).data_path
            if not _reuse(builder_class, category, source, fingerprint, wanted, target):
                _put_in_place(Path(str(builder.data_path)), Path(str(final)), aside)
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


def _shown(text: str, folder: Path, source: Source) -> str:
    """A message about what an archive was unpacked to, as one about the archive."""
    return text.replace(str(folder), str(source.root)) if source.is_archive else text


@contextlib.contextmanager
def _opened(
    source: Source, target: Path, without: Collection[str], progress: bool | None
) -> Iterator[Path]:
    if not source.is_archive:
        yield source.root
        return
    with _temporary(target, "unpacking") as beside:
        with _bar(f"unpacking {source.root.name}", "file", progress) as report:
            unpack(source.root, beside, without=without, progress=lambda n: report(n, None))
        yield beside


@contextlib.contextmanager
def _temporary(target: Path, purpose: str) -> Iterator[Path]:
    """A folder that goes at the end; its name tells whose it is, in case its process is killed."""
    prefix = f".{purpose}.{platform.node()}.{os.getpid()}."
    with tempfile.TemporaryDirectory(prefix=prefix, dir=target) as name:
        yield Path(name)


def _clear_leftovers(target: Path) -> None:
    """Removes what killed processes of this machine have left."""
    for folder in target.glob(f".*ing.{platform.node()}.*"):
        pid = folder.name.split(".")[-2]
        if pid.isdecimal() and not _runs(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


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


@contextlib.contextmanager
def _bar(text: str, unit: str, wanted: bool | None) -> Iterator[Callable[[int, int | None], None]]:
    """A progress bar on stderr; yields what to call with the numbers done and in all."""
    shown = sys.stderr.isatty() if wanted is None else wanted
    with tqdm(desc=text, unit=unit, disable=not shown, file=sys.stderr) as bar:

        def report(done: int, total: int | None) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield report
