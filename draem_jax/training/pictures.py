"""What samples are drawn from: normal pictures and textures, on the device or streamed to it."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import flax.struct
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, UInt8
from ml_collections import ConfigDict

from draem_jax.anomalies.inside import Inside
from draem_jax.config import check_config, data_set, image_size, region_of_interest
from draem_jax.data.loading import Part, StoredPictures, StoredPlanes
from draem_jax.data.roi import PlaneSource, Roi
from draem_jax.data.texture_sources import (
    Joined,
    PictureArray,
    PictureSource,
    SourceKind,
    TextureSource,
    open_textures,
    parse_texture_sources,
    tell_left_out,
)
from draem_jax.training.trained_on import TrainedOn, digests_of


class TextureMix(flax.struct.PyTreeNode):
    """The parts that textures are drawn from, and how often each is.

    Attributes:
        weights: the weights of the parts, relative to each other; float (S,), as all numbers here
            traced.
        starts: where the pictures of each part begin among all textures; int (S,).
        counts: how many pictures each part has; int (S,).
        kinds: the kinds of the parts; other kinds are another program.
    """

    weights: Any
    starts: Any
    counts: Any
    kinds: tuple[SourceKind, ...] = flax.struct.field(pytree_node=False)


class Parts(flax.struct.PyTreeNode):
    """Which part of the anomaly source each sample's texture is from.

    Attributes:
        indices: the indices of the parts; int (B,), or with more axes in front.
        kinds: the kinds of all parts.
    """

    indices: Any
    kinds: tuple[SourceKind, ...] = flax.struct.field(pytree_node=False)


class Pictures(NamedTuple):
    """What samples are drawn from; it stays in device memory as uint8.

    Attributes:
        normal: the normal pictures, RGB.
        textures: the pictures among the anomaly source, RGB, of the same height and width.
        mix: the parts of the anomaly source.
        inside: where to look in the normal pictures; None for everywhere.
    """

    normal: UInt8[Array, "N H W 3"]
    textures: UInt8[Array, "T H W 3"]
    mix: TextureMix
    inside: Inside | None = None


class Chosen(NamedTuple):
    """The pictures that samples are made of, one of each kind for a sample.

    Those of a batch; where pictures stream, those of all steps of a call, with an axis for the
    steps in front.

    Attributes:
        normal: the normal picture of each sample, RGB.
        textures: the texture of each, RGB; of no meaning where the device makes it.
        parts: the parts of the anomaly source that the textures are from.
        inside: where to look in the normal pictures; None for everywhere.
    """

    normal: UInt8[Array, "*steps B H W 3"]
    textures: UInt8[Array, "*steps B H W 3"]
    parts: Parts
    inside: Inside | None = None


@dataclass(frozen=True)
class TrainingPictures:
    """The pictures of a run, opened but not read.

    Attributes:
        normal: the normal pictures.
        textures: the pictures among the anomaly source.
        mix: the parts of the anomaly source.
        size: (height, width) of all.
        full_scale: the value that is white in normal pictures with more than 8 bits a channel, see
            `draem_jax.data.loading.StoredPictures`.
        planes: where to look in the normal pictures, as far as it is known without looking at
            them; None for everywhere.
        on_object: whether to look at the object in each picture alone.
    """

    normal: PictureSource
    textures: Joined
    mix: TextureMix
    size: tuple[int, int]
    full_scale: int | None = None
    planes: PlaneSource | None = None
    on_object: bool = False

    @property
    def nbytes(self) -> int:
        """Device memory that all of them take as uint8, with a byte for each pixel of a plane."""
        height, width = self.size
        pictures = len(self.normal) + len(self.textures)
        planes = 0 if self.planes is None else len(self.planes)
        return (3 * pictures + planes) * height * width

    def take(self, indices: Sequence[int]) -> "TrainingPictures":
        """The same with some of the normal pictures alone."""
        assert isinstance(self.normal, StoredPictures)
        normal, planes = self.normal.take(indices), self.planes
        if planes is not None:
            assert isinstance(planes, StoredPlanes)
            planes = StoredPlanes(normal, planes.roi)
        return replace(self, normal=normal, planes=planes)

    def inside(self, planes: Any) -> Inside | None:
        """What says where to look, given the planes of some of the normal pictures."""
        if planes is None and not self.on_object:
            return None
        return Inside(planes, self.on_object)

    def read(self) -> Pictures:
        """Reads all of them onto the default device.

        Raises:
            UserError: one of them is missing or damaged.
        """
        planes = None if self.planes is None else jnp.asarray(_stack(self.planes))
        return Pictures(
            jnp.asarray(_stack(self.normal)),
            jnp.asarray(_stack(self.textures)),
            self.mix,
            self.inside(planes),
        )


def open_pictures(
    config: ConfigDict,
    *,
    part: Part = "training",
    trained_on: TrainedOn | None = None,
    roi: Roi | None = None,
) -> TrainingPictures:
    """Opens the pictures that the config names.

    Args:
        config: the config of a run.
        part: the part of the normal pictures, see `draem_jax.data.loading.Part`.
        trained_on: what the run was begun with: the normal pictures are those of its part that are
            left as they were, and read in its range. Where None, the part is made of what there is.
        roi: where to look in them; where the config says if None.

    Raises:
        UserError: the data set cannot be had, see `DataSet.training_pictures`; or the anomaly
            source is wrong, see `parse_texture_sources`; or it cannot be told where to look, see
            `draem_jax.data.roi.Roi.plane`.
    """
    size = image_size(config)
    sources = parse_texture_sources(config.data.texture_source)
    opened = [
        open_textures(source, size=size) if source.kind == "pictures" else None
        for source in sources
    ]
    if trained_on:
        data = data_set(config, full_scale=trained_on.full_scale)
        normal = trained_on.take(data.training_pictures(size=size), part)
    else:
        data = data_set(config)
        normal = data.training_pictures(size=size, holdout=config.data.holdout, part=part)
    # A program needs at least one texture to look up, even if it is never looked at.
    textures = [source for source in opened if source is not None] or [
        PictureArray(np.zeros((1, *size, 3), np.uint8))
    ]
    counts = [len(normal) if source is None else len(source) for source in opened]
    roi = region_of_interest(config) if roi is None else roi
    planes = StoredPlanes(normal, roi) if roi.has_planes else None
    if planes is not None and len(planes):
        planes[0]  # so that a region that fits no picture is told before anything begins
    return TrainingPictures(
        normal,
        Joined(textures),
        make_mix(sources, counts),
        size,
        normal.full_scale,
        planes,
        roi.on_object,
    )


def note_data(config: ConfigDict, pictures: TrainingPictures) -> TrainedOn:
    """What a run that begins now with these pictures is trained on.

    Args:
        config: the config of the run.
        pictures: to train on, opened for it.
    """
    held_out = data_set(config).training_pictures(
        size=pictures.size, holdout=config.data.holdout, part="held_out"
    )
    assert isinstance(pictures.normal, StoredPictures)
    noted = TrainedOn(
        training=digests_of(pictures.normal),
        held_out=digests_of(held_out),
        textures=pictures.textures.digest,
        full_scale=pictures.full_scale,
    )
    return replace(noted, roi=region_of_interest(config).digest(noted.paths))


def data_warnings(config: ConfigDict) -> tuple[str, ...]:
    """What the user should know of the data set that the config names, one line each.

    Raises:
        UserError: no run can be made with the config, or the data set cannot be had.
    """
    check_config(config)
    textures = tell_left_out(parse_texture_sources(config.data.texture_source))
    return (*data_set(config).warnings(), *textures)


def make_mix(sources: Sequence[TextureSource], counts: Sequence[int]) -> TextureMix:
    """Lays out the parts of the anomaly source, whose pictures stand one part behind the other.

    Args:
        sources: the parts.
        counts: how many pictures each has to draw from; of the normal pictures for "self".
    """
    starts, taken = [], 0
    for source, count in zip(sources, counts, strict=True):
        starts.append(taken if source.kind == "pictures" else 0)
        taken += count if source.kind == "pictures" else 0
    return TextureMix(
        weights=np.array([source.weight for source in sources], np.float32),
        starts=np.array(starts, np.int32),
        counts=np.array(counts, np.int32),
        kinds=tuple(source.kind for source in sources),
    )


def _stack(source: PictureSource | PlaneSource) -> np.ndarray:
    """All pictures or planes as one array, read by threads."""
    first = source[0]
    pictures = np.empty((len(source), *first.shape), first.dtype)

    def fill(index: int) -> None:
        pictures[index] = source[index]

    with ThreadPoolExecutor() as pool:
        for _ in pool.map(fill, range(len(source))):
            pass
    return pictures
