"""TFDS builders of the published data sets and of the user's own, without TensorFlow.

All are one builder over different layouts. It writes records one by one in the order of their
names: TFDS's own writer holds up to a gigabyte of them in memory, and needs TensorFlow for more.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from array_record.python.array_record_module import ArrayRecordWriter
from etils import epath
from tensorflow_datasets.core import example_serializer

from draem_jax.data.checks import Examination, Record, check_enough, tell_problems
from draem_jax.data.depth import AUTO, Depth
from draem_jax.data.features import anomaly_features, local_info
from draem_jax.data.layouts import GOOD, LAYOUTS, Entry, Layout, Listing


@dataclasses.dataclass(frozen=True)
class Plan:
    """How a category is to be prepared.

    Attributes:
        listing: what there is.
        where: what to call the folder or archive in messages.
        skip_bad: whether to go on without what is wrong.
        depth: of pictures with more than 8 bits a channel, see `draem_jax.data.depth`.
        full_scale: the value that is white in them; overrides `depth`.
        progress: called with the numbers of pictures done and in all.
        facts: more to keep with the prepared data.
    """

    listing: Listing
    where: str
    skip_bad: bool = False
    depth: Depth = AUTO
    full_scale: int | None = None
    progress: Callable[[int, int], None] = lambda done, total: None
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)


class PicturesBuilder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Base of the builders.

    `draem_jax.data.dataset` sets `plan`; without one the data set is read from the
    `manual_dir` of TFDS's `DownloadConfig`, and must be without fault.

    Prepared data are kept by version: raise `VERSION` with every change to what is stored.
    """

    VERSION = tfds.core.Version("1.1.0")
    RELEASE_NOTES = {  # noqa: RUF012 (so TFDS declares it)
        "1.1.0": "Deep pictures are scaled by their own range; opacity that is 0 everywhere is "
        "ignored; masks are decoded as pictures are; keeps digests, and what is odd.",
        "1.0.0": "First version.",
    }
    MANUAL_DOWNLOAD_INSTRUCTIONS = "Give the folder of the data set as it was published."
    HOMEPAGE = ""

    # TFDS would infer it by way of importlib_resources, which it does not declare.
    code_path = epath.Path(__file__)

    plan: Plan | None = None

    def __init_subclass__(cls, **options: Any):
        # TFDS has a `dtd` of its own, and allows no second one among those it finds by name.
        super().__init_subclass__(**{"skip_registration": True} | options)

    def __init__(self, **options: Any):
        super().__init__(**{"file_format": "array_record"} | options)

    def _info(self) -> tfds.core.DatasetInfo:
        return local_info(
            self.dataset_info_from_configs(
                description=self.__doc__,
                features=anomaly_features((None, None)),
                homepage=self.HOMEPAGE,
                disable_shuffling=True,
                metadata=tfds.core.MetadataDict(),
            )
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        plan = self.plan
        if plan is None:
            root = Path(dl_manager.manual_dir)
            category = self.builder_config.name
            plan = Plan(LAYOUTS[self.name].list_category(root, category), str(root))
        return {"all": self._generate_examples(plan)}

    def _generate_examples(self, plan: Plan) -> Iterator[tuple[Entry, dict[str, Any]]]:
        """Yields what can be used; raises at its end if anything wrong may not be skipped."""
        examination = Examination(plan.listing)
        if examination.listing.problems and not plan.skip_bad:
            raise tell_problems(examination.listing.problems)
        check_enough(examination.listing.entries, plan.where)
        for record in examination.records(
            depth=plan.depth, full_scale=plan.full_scale, progress=plan.progress
        ):
            if plan.skip_bad or not examination.listing.problems:
                yield record.entry, _example(record)
        if examination.listing.problems and not plan.skip_bad:
            raise tell_problems(examination.listing.problems)
        check_enough(examination.listing.entries, plan.where)
        self.info.metadata.update(plan.facts, **examination.facts())

    def _download_and_prepare(
        self,
        dl_manager: tfds.download.DownloadManager,
        download_config: tfds.download.DownloadConfig,
    ) -> None:
        del download_config
        serializer = example_serializer.ExampleSerializer(self.info.features.get_serialized_info())
        (examples,) = self._split_generators(dl_manager).values()
        splits: dict[str, _SplitWriter] = {}
        try:
            for entry, example in examples:
                if entry.split not in splits:
                    template = self._get_filename_template(split_name=entry.split)
                    splits[entry.split] = _SplitWriter(template)
                encoded = self.info.features.encode_example(example)
                splits[entry.split].write(serializer.serialize_example(encoded))
        finally:
            for writer in splits.values():
                writer.close()
        infos = [writer.info(split) for split, writer in splits.items()]
        self.info.set_splits(tfds.core.splits.SplitDict(infos))


class _SplitWriter:
    """Writes one split into one file, record by record."""

    def __init__(self, template: Any):
        self._template = template
        path = template.sharded_filepath(shard_index=0, num_shards=1)
        # Pictures are packed already.
        self._writer = ArrayRecordWriter(str(path), "group_size:1,uncompressed")
        self._count, self._bytes = 0, 0

    def write(self, record: bytes) -> None:
        with _as_os_error():
            self._writer.write(record)
        self._count += 1
        self._bytes += len(record)

    def close(self) -> None:
        with _as_os_error():
            self._writer.close()

    def info(self, split: str) -> tfds.core.SplitInfo:
        return tfds.core.SplitInfo(
            name=split,
            shard_lengths=[self._count],
            num_bytes=self._bytes,
            filename_template=self._template,
        )


@contextlib.contextmanager
def _as_os_error() -> Iterator[None]:
    """A full disk comes as "write() failed: No space left on device; writing …"."""
    try:
        yield
    except RuntimeError as error:
        raise OSError(str(error).partition(";")[0]) from error


def _example(record: Record) -> dict[str, Any]:
    entry = record.entry
    return {
        "image": record.image,
        "mask": record.mask,
        "has_mask": entry.has_mask,
        "label": "good" if entry.defect_type == GOOD else "defective",
        "defect_type": entry.defect_type,
        "name": entry.name,
    }


def _builder_of(layout: Layout) -> type[PicturesBuilder]:
    """The builder of a data set: TFDS wants a class of its own for each."""

    class Builder(PicturesBuilder):
        __doc__ = layout.description
        name = layout.name
        HOMEPAGE = layout.homepage
        BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=c) for c in layout.counts]  # noqa: RUF012

    return Builder


BUILDERS: Mapping[str, type[PicturesBuilder]] = {
    name: _builder_of(layout) for name, layout in LAYOUTS.items()
}
"""The builder of each data set, by its name."""
