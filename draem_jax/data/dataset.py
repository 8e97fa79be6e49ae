"""A data set as a value: which one it is, where its files lie and how they are read.

It is prepared once, in one step or not at all, and then read by index at any size.
"""

import contextlib
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path
from typing import Any

from draem_jax.data.checks import Examination
from draem_jax.data.depth import AUTO, FULL, Depth, check_depth, find_full_scale
from draem_jax.data.facts import tell_facts
from draem_jax.data.layouts import LAYOUTS, AbsentError, Layout, Listing, Problem
from draem_jax.data.loading import Part, StoredPictures, StoredTestPictures, open_split, take_part
from draem_jax.data.pictures import picture_size
from draem_jax.data.prepared import (
    BUILT_IN,
    builder_class,
    categories,
    facts_of,
    find_data_dir,
    open_builder,
    published_counts,
    quiet,
    warnings_of,
)
from draem_jax.data.preparing import (
    bar,
    cannot_write,
    clear_leftovers,
    make_folder,
    opened,
    put_in_place,
    temporary,
)
from draem_jax.data.roi import EVERYWHERE, Roi
from draem_jax.data.sources import Source, find_source, folder_config
from draem_jax.errors import UserError
from draem_jax.files import expand


@dataclass(frozen=True)
class DataSet:
    """One category of a data set, and how it is read.

    Attributes:
        name: the data set, like "surfaces".
        category: its category, like "brick"; of the user's own pictures ("folder"), a folder within
            the root, or "" for the root itself.
        root: the folder or archive of the data set; where None, it must have been prepared before
            or be built in.
        skip_bad: go on without pictures and masks that are wrong, and count them.
        depth: of pictures with more than 8 bits a channel: "auto", the fewest bits that hold the
            highest value of all of them; "full", what each file's type can hold; or a number of
            bits from 8 to 32.
        full_scale: the value that is white in them, as `StoredPictures.full_scale` tells it of
            another data set; overrides `depth`.
        data_dir: the folder of prepared data sets; `default_data_dir()` where None.
    """

    name: str
    category: str
    _: KW_ONLY
    root: str | Path | None = None
    skip_bad: bool = False
    depth: Depth = AUTO
    full_scale: int | None = None
    data_dir: str | Path | None = None

    def prepare(self, *, progress: bool | None = None) -> Any:
        """Prepares it, unless that has been done before.

        The data set takes its place in one step once it is complete: what a killed run leaves
        behind is never taken for whole. Where several processes prepare at once, the first to end
        wins and the others use its result.

        What is prepared from one state of a folder or archive is found again as long as that does
        not change; where it has changed, or pictures were skipped that now may not be, it is
        prepared anew. Where it is gone, the last that was prepared from it is used.

        Args:
            progress: whether to draw a progress bar; where None, if stderr is a terminal.

        Returns:
            The prepared `tfds.core.DatasetBuilder`.

        Raises:
            UserError: the data set or the category is unknown, the folder cannot be written, the
                data set is neither prepared nor given, or something is wrong with it and `skip_bad`
                is not set; in that case nothing is prepared.
        """
        found = prepare_all(self, [self.category], progress=progress)[self.category]
        if isinstance(found, UserError):
            raise found
        return found

    def warnings(self) -> tuple[str, ...]:
        """What the user should know before trusting figures, one line each.

        Raises:
            UserError: see `prepare`.
        """
        return warnings_of(self.prepare())

    def training_pictures(
        self, *, size: tuple[int, int], holdout: float = 0.0, part: Part = "training"
    ) -> StoredPictures:
        """The normal pictures, to be read one by one; they are prepared first where needed.

        Args:
            size: (height, width) to bring them to.
            holdout: share of them that is held out from training, see
                `draem_jax.data.loading.take_part`.
            part: which of them.

        Returns:
            The pictures in natural order of their names.

        Raises:
            UserError: see `prepare`; or `holdout` leaves nothing to train on.
        """
        return take_part(open_split(self.prepare(), "train", size=size), part, holdout=holdout)

    def count_normal(self) -> tuple[int, str]:
        """Counts the normal pictures without preparing them; nothing is read but names.

        Returns:
            How many there are; and "" where they were counted, else why so many are expected.

        Raises:
            UserError: see `prepare`; or nothing is known of an archive that is not prepared.
        """
        (data,) = _categories_of(self, [self.category])
        if data.name == BUILT_IN:
            from draem_jax.data.surfaces import COUNTS

            return sum(COUNTS["train"].values()), ""
        files = _list_normal(data)
        if files is not None:
            return len(files), ""
        published = published_counts(data.name, data.category)
        try:
            return len(facts_of(_find_last(data))["names"]["train"]), ""
        except UserError:
            is_gone = data.root is not None and not expand(data.root).exists()
            if published is None or is_gone:
                raise
        return published.train, f"as published; {data.name} is not prepared here"

    def normal_sizes(self) -> list[tuple[int, int]] | None:
        """The (height, width) of the normal pictures without preparing them; reads no pixels.

        Returns:
            The sizes of those that can be read; None where nothing is there to be read.
        """
        (data,) = _categories_of(self, [self.category])
        if data.name == BUILT_IN:
            from draem_jax.data.surfaces import COUNTS, PICTURE_SIZE

            return [(PICTURE_SIZE, PICTURE_SIZE)] * sum(COUNTS["train"].values())
        sizes = []
        files = _list_normal(data)
        if files is not None:
            for path in files:
                with contextlib.suppress(UserError):  # preparing tells what is wrong
                    sizes.append(picture_size(path))
            return sizes or None
        try:
            pictures = open_split(_find_last(data), "train", size=(1, 1))
        except UserError:
            return None
        return [pictures.own_size(i) for i in range(len(pictures))] or None

    def test_pictures(
        self, *, size: tuple[int, int], split: str = "test", roi: Roi = EVERYWHERE
    ) -> StoredTestPictures:
        """The pictures to evaluate on, to be read one by one; they are prepared first where needed.

        Args:
            size: (height, width) to bring them to; their masks keep their original size.
            split: another split to take in their place, such as "stain" of the built-in surfaces.
            roi: where to look in them.

        Returns:
            The pictures in natural order of their names; none where the user's folder has none.

        Raises:
            UserError: see `prepare`.
        """
        return StoredTestPictures(open_split(self.prepare(), split, size=size), roi)


@dataclass(frozen=True)
class Checked:
    """What came of reading every file of a category.

    Attributes:
        listing: the pictures that can be used, and all problems.
        warnings: what `DataSet.warnings` would say once it is prepared.
        sizes: the (height, width) of each picture that can be read, as it was taken.
        looked_at: the mean share of the pictures that the region of interest leaves.
    """

    listing: Listing
    warnings: Sequence[str]
    sizes: Sequence[tuple[int, int]] = ()
    looked_at: float = 1.0


def prepare_all(
    data: DataSet, chosen: Sequence[str] | None = None, *, progress: bool | None = None
) -> dict[str, Any]:
    """Prepares several categories as `DataSet.prepare` does; an archive is unpacked only once.

    Args:
        data: the data set; its own category does not count.
        chosen: the categories; where None, all that the root holds.
        progress: see `DataSet.prepare`.

    Returns:
        By category, the prepared builder; or the UserError that kept it from being prepared.

    Raises:
        UserError: what is wrong with the data set as a whole.
    """
    wanted = _categories_of(data, chosen)
    if data.name == BUILT_IN:
        if data.root is not None:
            raise UserError(f"{BUILT_IN} is built in and has no root; leave out the root")
        return {each.category: _prepare_built_in(each) for each in wanted}
    if data.root is None:
        return {each.category: _find_prepared(each) for each in wanted}
    if chosen and not expand(data.root).exists():
        recalled = {each.category: _recall(each) for each in wanted}
        if all(recalled.values()):
            return recalled
    source = find_source(data.root)
    prints = {d.category: source.fingerprint(data.name, d.category) for d in wanted}
    found = {d.category: _find_again(d, source, prints[d.category]) for d in wanted}
    missing = [each for each in wanted if found[each.category] is None]
    if not missing:
        return found
    target = _target(data)
    make_folder(target)
    clear_leftovers(target)
    with _opened_for(missing, source, progress) as folder:
        for each in missing:
            try:
                listing = _layout(each).list_category(folder, each.category)
                notes = tuple(_shown(note, folder, source) for note in listing.notes)
                found[each.category] = _prepare_category(
                    each,
                    source,
                    prints[each.category],
                    listing=replace(listing, notes=notes),
                    progress=progress,
                )
            except UserError as error:
                found[each.category] = type(error)(_shown(str(error), folder, source))
    if chosen is None:
        present = {c: it for c, it in found.items() if not isinstance(it, AbsentError)}
        if not present:
            raise UserError(
                f"{data.root} holds no category of {data.name} ({', '.join(found)}); check the "
                "path, or give the data set as it was published"
            )
        return present
    return found


def check(
    data: DataSet,
    chosen: Sequence[str] | None = None,
    *,
    progress: bool | None = None,
    roi: Roi = EVERYWHERE,
) -> dict[str, Checked | UserError]:
    """Reads every file of a data set as `prepare_all` would, and keeps nothing.

    Args:
        data: the data set, with a root; its own category does not count. An archive is unpacked in
            its folder of prepared data sets for the while.
        chosen: the categories; where None, all that the root holds.
        progress: see `DataSet.prepare`.
        roi: where to look in them; that it cannot be told of a picture is a problem.

    Returns:
        By category, what was found; or, where the layout itself is wrong, the UserError.

    Raises:
        UserError: what is wrong with the data set as a whole.
    """
    wanted = _categories_of(data, chosen)
    if data.name == BUILT_IN:
        raise UserError(f"{BUILT_IN} is built in; there is nothing to check")
    if data.root is None:
        raise UserError(f"there is nothing to check of {data.name} without its root; give one")
    source = find_source(data.root)
    if source.is_archive:
        make_folder(_target(data))
    found: dict[str, Checked | UserError] = {}
    with _opened_for(wanted, source, progress) as folder:
        for each in wanted:
            try:
                found[each.category] = _look_within(
                    _check_category(each, folder, source, progress), roi
                )
            except UserError as error:
                if chosen is not None or not isinstance(error, AbsentError):
                    found[each.category] = type(error)(_shown(str(error), folder, source))
    if not found:
        raise UserError(f"{data.root} holds no category of {data.name}; check the path")
    return found


def _categories_of(data: DataSet, chosen: Sequence[str] | None) -> list[DataSet]:
    """The data set with each of the chosen categories, checked as far as that needs no files."""
    known = categories(data.name)
    check_depth(data.depth, "the depth")
    for category in chosen or ():
        if category not in known and not _is_own(data):
            raise UserError(
                f"{data.name} has no category {category!r}; choose one of: {', '.join(known)}"
            )
    return [replace(data, category=category) for category in chosen or known]


def _target(data: DataSet) -> Path:
    return find_data_dir(data.data_dir)


def _layout(data: DataSet) -> Layout:
    return LAYOUTS[data.name]


def _is_own(data: DataSet) -> bool:
    return data.name in LAYOUTS and LAYOUTS[data.name].is_own


def _prepare_built_in(data: DataSet) -> Any:
    of_name, target = builder_class(data.name), _target(data)
    with quiet():
        try:
            target.mkdir(parents=True, exist_ok=True)
            builder = of_name(config=data.category, data_dir=target)
            builder.download_and_prepare()
        except OSError as error:
            builder = of_name(config=data.category, data_dir=target) if target.is_dir() else None
            if builder is None or not builder.data_path.exists():
                raise cannot_write(target, error) from error
    return builder


def _find_prepared(data: DataSet) -> Any:
    """The builder of what has been prepared from whatever root."""
    if _is_own(data):
        raise UserError(f"{data.name} needs the path of your pictures: --config.data.root=DIR")
    target = _target(data)
    builder = open_builder(data.name, data.category, target)
    if not builder.data_path.exists():
        raise UserError(
            f"{data.name}/{data.category} is not prepared in {target}; run `draem-jax data prepare "
            f"{data.name} --root=DIR_OR_ARCHIVE`, or give --config.data.root=DIR_OR_ARCHIVE"
        )
    if not _is_met_by(replace(data, skip_bad=True), facts_of(builder)):
        raise UserError(
            f"{data.name}/{data.category} is prepared in {target} with another range of its deep "
            "pictures; give --config.data.root=DIR_OR_ARCHIVE to prepare it anew, or leave "
            "config.data.depth as it was"
        )
    return builder


def _find_again(data: DataSet, source: Source, fingerprint: str) -> Any:
    """The builder of what was prepared from the same state of the same files, else None."""
    base = _config(data, source, fingerprint)
    configs = [base]
    if _is_own(data):
        configs += sorted({_copy_name(data, base), *_copies(data, base)})
    for config in configs:
        builder = open_builder(data.name, config, _target(data))
        facts = facts_of(builder)
        if facts.get("fingerprint") == fingerprint and _is_met_by(data, facts):
            return builder
    return None


def _recall(data: DataSet) -> Any:
    """The builder of what was last prepared from a root that is gone, else None."""
    assert data.root is not None
    gone = str(expand(data.root).resolve())
    last: str | None = None
    for config in _copies(data) if _is_own(data) else [data.category]:
        builder = open_builder(data.name, config, _target(data))
        facts = facts_of(builder)
        if (facts.get("root"), facts.get("category")) != (gone, data.category):
            continue
        # Older states do not count, but other ranges of the last one do.
        last = last or facts.get("fingerprint")
        if facts.get("fingerprint") == last and _is_met_by(data, facts):
            return builder
    return None


def _list_normal(data: DataSet) -> list[Path] | None:
    """The files of the normal pictures; None unless there is a folder or list of them."""
    if data.root is None or not expand(data.root).exists():
        return None
    source = find_source(data.root)
    if source.is_archive:
        return None
    entries = _layout(data).list_category(source.root, data.category).entries
    return [entry.path for entry in entries if entry.split == "train"]


def _find_last(data: DataSet) -> Any:
    """The builder of what was last prepared, from whatever state of the files."""
    return _find_prepared(data) if data.root is None else _recall_any(data)


def _recall_any(data: DataSet) -> Any:
    """The builder of what was last prepared from its root, an archive or gone."""
    if builder := _recall(data):
        return builder
    assert data.root is not None
    find_source(data.root)  # raises where it is gone
    raise UserError(
        f"the pictures in the archive {data.root} are counted once it is prepared; run "
        f"`draem-jax data prepare {data.name} --root={data.root}`"
    )


def _is_met_by(data: DataSet, facts: Mapping[str, Any]) -> bool:
    """Whether what was prepared with these facts is what is wanted."""
    full_scale = find_full_scale(
        data.depth, highest=facts.get("highest"), full_scale=data.full_scale
    )
    same_range = full_scale == facts.get("full_scale")
    return same_range and (data.skip_bad or not facts.get("skipped"))


def _config(data: DataSet, source: Source, fingerprint: str) -> str:
    """The name that it is prepared under, in its own range of deep pictures."""
    if not _is_own(data):
        return data.category
    return folder_config(data.category or source.root.name, fingerprint)


def _copy_name(data: DataSet, base: str) -> str:
    """The name of the user's prepared copy in the range that is asked for.

    So copies in several ranges stand beside each other.
    """
    if data.full_scale is None and data.depth in (AUTO, FULL):
        return base if data.depth == AUTO else f"{base}-{FULL}"
    return f"{base}-{find_full_scale(data.depth, highest=0, full_scale=data.full_scale)}"


def _copies(data: DataSet, start: str = "") -> list[str]:
    """Names of the user's prepared copies, the newest first."""
    version = builder_class(data.name).VERSION
    made = (_target(data) / data.name).glob(f"{start}*/{version}/dataset_info.json")
    last_first = sorted(made, key=lambda path: path.stat().st_mtime, reverse=True)
    return [path.parents[1].name for path in last_first]


def _prepare_category(
    data: DataSet, source: Source, fingerprint: str, *, listing: Listing, progress: bool | None
) -> Any:
    from draem_jax.data.builders import Plan

    target, config = _target(data), _config(data, source, fingerprint)
    if _is_own(data):
        config = _copy_name(data, config)
    try:
        # Made aside, so that what was prepared before stays until this is whole.
        with temporary(target, "preparing") as aside:
            builder = open_builder(data.name, config, aside)
            with (
                bar(f"preparing {data.category or config}", "picture", progress) as report,
                quiet(),
            ):
                builder.plan = Plan(
                    listing=listing,
                    where=str(source.root / data.category),
                    skip_bad=data.skip_bad,
                    depth=data.depth,
                    full_scale=data.full_scale,
                    progress=report,
                    facts={
                        "root": str(source.root),
                        "category": data.category,
                        "fingerprint": fingerprint,
                    },
                )
                builder.download_and_prepare()
            final = open_builder(data.name, config, target).data_path
            if not _find_again(data, source, fingerprint):
                put_in_place(Path(str(builder.data_path)), Path(str(final)), aside)
    except OSError as error:
        raise cannot_write(target, error) from error
    return open_builder(data.name, config, target)


def _check_category(data: DataSet, folder: Path, source: Source, progress: bool | None) -> Checked:
    examination = Examination(_layout(data).list_category(folder, data.category))
    with bar(f"checking {data.category or data.name}", "picture", progress) as report:
        for _ in examination.records(depth=data.depth, progress=report):
            pass
    problems = [
        Problem(p.kind, p.path, _shown(p.text, folder, source))
        for p in examination.listing.problems
    ]
    facts = examination.facts() | {"skipped": {}}  # they are told as problems
    lines = tell_facts(facts, published_counts(data.name, data.category))
    return Checked(
        replace(examination.listing, problems=tuple(problems)),
        [_shown(line, folder, source) for line in lines],
        examination.sizes,
    )


def _look_within(checked: Checked, roi: Roi) -> Checked:
    """Adds to what was found what the region of interest leaves of each picture."""
    if not roi.is_given:
        return checked
    entries, problems, shares = [], list(checked.listing.problems), []
    for entry in checked.listing.entries:
        try:
            plane = roi.plane(f"{entry.split}/{entry.name}", picture_size(entry.path))
        except UserError as error:
            problems.append(Problem("region of interest that does not fit", entry.path, str(error)))
        else:
            assert plane is not None
            shares.append(float(plane.mean()))
            entries.append(entry)
    listing = replace(checked.listing, entries=tuple(entries), problems=tuple(problems))
    return replace(checked, listing=listing, looked_at=sum(shares) / max(1, len(shares)))


def _opened_for(
    wanted: Sequence[DataSet], source: Source, progress: bool | None
) -> AbstractContextManager[Path]:
    """The folder with the source's files, of an archive without categories that are not wanted."""
    unneeded = _layout(wanted[0]).counts.keys() - {data.category for data in wanted}
    return opened(source, _target(wanted[0]), without=unneeded, progress=progress)


def _shown(text: str, folder: Path, source: Source) -> str:
    """A message about what an archive was unpacked to, as one about the archive."""
    return text.replace(str(folder), str(source.root)) if source.is_archive else text
