"""What samples are drawn from: normal pictures and textures, on the device or streamed to it."""

import functools
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import flax.struct
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int32, UInt8
from ml_collections import ConfigDict

from draem_jax.anomalies.inside import Inside
from draem_jax.config import check_config, data_set, fitting, region_of_interest
from draem_jax.data.crops import corner_range
from draem_jax.data.fitting import Fitting
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
from draem_jax.errors import UserError
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


class Crops(flax.struct.PyTreeNode):
    """Where crops of pictures may lie, see `draem_jax.data.crops.corner_range`.

    Attributes:
        normal: the range of corners in each normal picture; int32 (N, 4).
        textures: the same of the textures; int32 (T, 4).
        size: (height, width) of all crops; another one is another program.
    """

    normal: Any
    textures: Any
    size: tuple[int, int] = flax.struct.field(pytree_node=False)


class Pictures(NamedTuple):
    """What samples are drawn from; it stays in device memory as uint8.

    Attributes:
        normal: the normal pictures, RGB. Where they are seen in crops, they may be of several
            sizes; behind each there is nothing, up to the size of the largest.
        textures: the pictures among the anomaly source, RGB; of the same height and width, or
            likewise.
        mix: the parts of the anomaly source.
        inside: where to look in the normal pictures; None for everywhere.
        crops: where crops of them may lie; None where samples see whole pictures.
    """

    normal: UInt8[Array, "N H W 3"]
    textures: UInt8[Array, "T h w 3"]
    mix: TextureMix
    inside: Inside | None = None
    crops: Crops | None = None


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
        size: (height, width) of what samples see: of all pictures, or of crops of them.
        full_scale: the value that is white in normal pictures with more than 8 bits a channel, see
            `draem_jax.data.loading.StoredPictures`.
        planes: where to look in the normal pictures, as far as it is known without looking at
            them; None for everywhere.
        on_object: whether to look at the object in each picture alone.
        in_crops: whether samples see crops of them.
    """

    normal: PictureSource
    textures: Joined
    mix: TextureMix
    size: tuple[int, int]
    full_scale: int | None = None
    planes: PlaneSource | None = None
    on_object: bool = False
    in_crops: bool = False

    @functools.cached_property
    def nbytes(self) -> int:
        """Device memory that all of them take as uint8, with a byte for each pixel of a plane."""
        planes = 0 if self.planes is None else len(self.planes)
        return (3 * len(self.normal) + planes) * math.prod(self.normal_size) + (
            3 * len(self.textures) * math.prod(self.texture_size)
        )

    @functools.cached_property
    def normal_size(self) -> tuple[int, int]:
        """The (height, width) that holds the canvas of every normal picture."""
        return largest_canvas(self.normal) if self.in_crops else self.size

    @functools.cached_property
    def texture_size(self) -> tuple[int, int]:
        """The (height, width) that holds every texture."""
        return largest_canvas(self.textures) if self.in_crops else self.size

    @property
    def fitting(self) -> Fitting:
        """How the normal pictures are brought to the networks."""
        return (
            self.normal.fitting if isinstance(self.normal, StoredPictures) else Fitting(self.size)
        )

    def own_size(self, index: int) -> tuple[int, int]:
        """The (height, width) of a normal picture as it was taken."""
        assert isinstance(self.normal, StoredPictures)
        return self.normal.own_size(index)

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
        planes = None if self.planes is None else _stack(self.planes, self.normal_size, bool)
        crops = None
        if self.in_crops:
            crops = Crops(
                _corner_ranges(self.normal, self.size, planes),
                _corner_ranges(self.textures, self.size),
                self.size,
            )
        return Pictures(
            jnp.asarray(_stack(self.normal, (*self.normal_size, 3), np.uint8)),
            jnp.asarray(_stack(self.textures, (*self.texture_size, 3), np.uint8)),
            self.mix,
            self.inside(None if planes is None else jnp.asarray(planes)),
            crops,
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
            `draem_jax.data.roi.Roi.plane`; or no picture to train on is as large as a tile.
    """
    way = fitting(config)
    size = way.size
    sources = parse_texture_sources(config.data.texture_source)
    opened = [
        open_textures(source, fitting=way.of_textures) if source.kind == "pictures" else None
        for source in sources
    ]
    if trained_on:
        data = data_set(config, full_scale=trained_on.full_scale)
        normal = trained_on.take(data.training_pictures(size=size).fitted(way), part)
    else:
        data = data_set(config)
        normal = data.training_pictures(size=size, holdout=config.data.holdout, part=part)
        normal = normal.fitted(way)
    # A program needs at least one texture to look up, even if it is never looked at.
    textures = [source for source in opened if source is not None] or [
        PictureArray(np.zeros((1, *size, 3), np.uint8))
    ]
    counts = [len(normal) if source is None else len(source) for source in opened]
    roi = region_of_interest(config) if roi is None else roi
    padded = normal.padded()
    if part == "training" and way.is_tiled and padded == len(normal) > 0:
        raise _none_fills_a_tile(normal)
    # What pads a picture is not looked at.
    planes = StoredPlanes(normal, roi) if roi.has_planes or padded else None
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
        way.is_tiled,
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
    return (*data_set(config).warnings(), *textures, *_tell_padded(config))


def _tell_padded(config: ConfigDict) -> list[str]:
    """Says how many normal pictures are smaller than a tile; where all are, a run is refused."""
    way = fitting(config)
    if not way.is_tiled:
        return []
    pictures = data_set(config).training_pictures(size=way.size).fitted(way)
    count = pictures.padded()
    if not 0 < count < len(pictures):
        return []
    are = "is" if count == 1 else "are"
    return [
        f"{count} of {len(pictures)} normal pictures {are} {_than_a_tile(way)}; what is lacking of "
        "a tile is not looked at"
    ]


def _none_fills_a_tile(normal: StoredPictures) -> UserError:
    way = normal.fitting
    sizes = [way.content_size(normal.own_size(i)) for i in range(len(normal))]
    height, width = max(sizes, key=lambda size: min(np.divide(size, way.size)))
    return UserError(
        f"all {len(normal)} normal pictures are {_than_a_tile(way)}, the largest with {height} x "
        f"{width}; choose a smaller config.data.tile, or a larger config.data.scale"
    )


def _than_a_tile(way: Fitting) -> str:
    height, width = way.size
    return f"smaller than a tile of {height} x {width} at config.data.scale={way.scale:g}"


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


def largest_canvas(source: PictureSource) -> tuple[int, int]:
    """The (height, width) that holds the canvas of every picture; decodes no pixels."""
    heights, widths = zip(*map(source.canvas_size, range(len(source))), strict=True)
    return max(heights), max(widths)


def _stack(source: PictureSource | PlaneSource, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    """All pictures or planes as one array, read by threads; zero behind those that are smaller."""
    pictures: np.ndarray = np.zeros((len(source), *shape), dtype)

    def fill(index: int) -> None:
        picture = source[index]
        height, width = picture.shape[:2]
        pictures[index, :height, :width] = picture

    with ThreadPoolExecutor() as pool:
        for _ in pool.map(fill, range(len(source))):
            pass
    return pictures


def _corner_ranges(
    source: PictureSource, size: tuple[int, int], planes: Bool[np.ndarray, "N H W"] | None = None
) -> Int32[Array, "N 4"]:
    """Where crops of all pictures may lie, see `corner_range`."""
    ranges = [
        corner_range(source.canvas_size(i), size, None if planes is None else planes[i])
        for i in range(len(source))
    ]
    return jnp.asarray(np.stack(ranges))
