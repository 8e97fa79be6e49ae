"""A trained detector: pictures in; maps, scores, decisions and regions out."""

from __future__ import annotations

import functools
import itertools
import math
import operator
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float, UInt8
from ml_collections import ConfigDict
from scipy.special import expit

from draem_jax.config import anomaly_params, fitting, image_size, region_of_interest, tile_overlap
from draem_jax.data.fitting import Fitting
from draem_jax.data.pictures import resize, resize_channels, resize_mask, resize_plane
from draem_jax.data.roi import EVERYWHERE, Plane, Roi, both
from draem_jax.data.tiles import TileGrid, lay_tiles
from draem_jax.detector.outputs import (
    AtNetworkSize,
    BatchOutput,
    Inspection,
    Prediction,
    Seen,
)
from draem_jax.detector.program import make_inspect
from draem_jax.detector.tiling import Canvas, CanvasInMemory, Rows, see_in_tiles
from draem_jax.networks import DraemNetwork
from draem_jax.regions.edges import above_edges
from draem_jax.regions.find import find_regions
from draem_jax.regions.rule import PixelRule, RegionRule
from draem_jax.scores import DEFAULT_SCORE, ScoreOfRows
from draem_jax.thresholds import Thresholds, pixel_threshold
from draem_jax.training.parallel import jit_here, local_devices, replicate, shard_batch
from draem_jax.training.state import create_network
from draem_jax.training.trained_on import TrainedOn
from draem_jax.training.workdir import load_run

Image = UInt8[np.ndarray, "_ _ 3"] | Float[np.ndarray, "_ _ 3"]

_IN_FLIGHT = 2  # batches: the devices work at one while another is taken from them


class Begun(NamedTuple):
    """A picture that the devices are done with.

    Attributes:
        size: (height, width) of the picture.
        finish: does what is left, and says all of it; it may be called in any thread.
    """

    size: tuple[int, int]
    finish: Callable[[], Inspection]


@dataclass(frozen=True)
class Draem:
    """A trained detector.

        detector = Draem.load("runs/mine")
        found = detector.inspect_picture(image)

    Attributes:
        config: that it was trained with.
        workdir: the work directory of the run that it was loaded from.
        step: training steps made.
        batch_size: pictures that one call to the devices takes at most; what is given is cut and
            padded to it. See `fitted_to` for fewer.
        trained_on: the pictures that the run was begun with; None where they were not noted.
        thresholds: that decisions and regions follow from; None where none were worked out, see
            `draem_jax.evaluation.calibration.calibrated`.
        roi: where it looks. What is elsewhere raises nothing.
    """

    config: ConfigDict
    workdir: Path
    step: int
    batch_size: int
    _variables: Any = field(repr=False)
    trained_on: TrainedOn | None = field(default=None, repr=False)
    thresholds: Thresholds | None = field(default=None, repr=False)
    roi: Roi = EVERYWHERE

    @classmethod
    def load(
        cls,
        workdir: str | Path,
        *,
        checkpoint: str = "latest",
        batch_size: int | None = None,
        roi: str | None = None,
        ignore_border: int | None = None,
    ) -> Draem:
        """Loads what a training run saved.

        Args:
            workdir: the work directory of the run.
            checkpoint: "latest", "best" (by validation loss) or a step.
            batch_size: pictures a call; `config.evaluation.batch_size` if None. It is raised to a
                multiple of the number of devices.
            roi: where to look, as `config.data.roi`; where the run was trained to look if None.
            ignore_border: as `config.data.ignore_border`; that of the run if None.

        Raises:
            UserError: there is no run in `workdir`, or no such checkpoint, or its thresholds are
                damaged, or there is no mask that says where to look.
        """
        workdir = Path(workdir)
        config, state = load_run(workdir, checkpoint=checkpoint, networks_only=True)
        devices = len(local_devices())
        wanted = batch_size or config.evaluation.batch_size
        detector = cls(
            config=config,
            workdir=workdir,
            step=int(state.step),
            batch_size=-(-wanted // devices) * devices,
            _variables=replicate(state.variables),
            trained_on=TrainedOn.load(workdir),
            roi=region_of_interest(config, source=roi, ignore_border=ignore_border),
        )
        kept = detector.thresholds_path
        return replace(detector, thresholds=Thresholds.load(kept) if kept.is_file() else None)

    @property
    def variables(self) -> Any:
        """The `params` and `batch_stats` of the networks, on the devices."""
        return self._variables

    @property
    def image_size(self) -> tuple[int, int]:
        """The (height, width) that the networks see pictures at."""
        return image_size(self.config)

    @property
    def fitting(self) -> Fitting:
        """How pictures are brought to that size."""
        return fitting(self.config)

    @property
    def score_name(self) -> str:
        """The image score that it gives, see `draem_jax.scores.score_by_name`."""
        if self.thresholds is not None:
            return self.thresholds.score
        chosen = self.config.evaluation.score
        return DEFAULT_SCORE if chosen == "auto" else chosen

    @property
    def full_scale(self) -> int | None:
        """The value that `read_picture` takes for white in pictures of more than 8 bits."""
        return None if self.trained_on is None else self.trained_on.full_scale

    @property
    def thresholds_path(self) -> Path:
        """Where its thresholds are kept, for each region of interest its own.

        Raises:
            UserError: a mask that says where to look is not there.
        """
        key = self.roi.key(self.trained_on.paths if self.trained_on else [])
        name = f"step_{self.step:07d}" + (f"_roi_{key}" if key else "")
        return self.workdir / "thresholds" / f"{name}.json"

    @property
    def feature_channels(self) -> int:
        """How many features the networks have of each place; 0 if there are none."""
        return create_network(self.config).feature_channels

    def roi_warning(self) -> str | None:
        """Says in one line if the masks that say where to look have changed since training."""
        trained = self.trained_on
        if trained is None or self.roi != region_of_interest(self.config):
            return None  # another region was asked for
        if trained.roi == self.roi.digest(trained.paths):
            return None
        return (
            f"what {self.roi.source} marks has changed since {self.workdir} was trained; it is "
            "looked where it says now"
        )

    def predict(
        self,
        images: np.ndarray | jax.Array,
        *,
        planes: Bool[np.ndarray, "B H W"] | None = None,
    ) -> Prediction:
        """Looks for anomalies.

        Pictures are brought to the networks as those of training were, and maps and reconstructions
        back to the size of the pictures; scores are computed at the size that the networks see.
        What is said of a picture does not depend on the others, but for rounding.

        Args:
            images: (B, H, W, 3), RGB, uint8 or float in [0, 1].
            planes: true where to look in each; as the detector's `roi` says if None.

        Returns:
            The prediction, at the pictures' own size.

        Raises:
            ValueError: the array is of another shape or kind, or floats lie outside [0, 1].
            UserError: the detector's `roi` does not fit the pictures, or needs their names.
        """
        pictures = _checked(images)
        size = pictures.shape[1:3]
        planes = self._planes(pictures) if planes is None else planes
        if self.fitting.way != "squeeze" and len(pictures):
            return self._predict_fitted(map(_as_uint8, pictures), size, planes)
        pictures = _resized(pictures, self.image_size)
        parts = [
            self._predict_batch(
                pictures[i : i + self.batch_size],
                None if planes is None else planes[i : i + self.batch_size],
            )
            for i in range(0, len(pictures), self.batch_size)
        ]
        if not parts:
            return Prediction(
                np.zeros((0, *size), np.float32),
                np.zeros(0, np.float32),
                np.zeros((0, *size, 3), np.float32),
            )
        output = jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts)
        maps, reconstructions = output.anomaly_map, output.reconstruction
        if size != self.image_size:
            maps = np.stack([resize_plane(plane, size) for plane in maps])
            reconstructions = np.stack([resize_channels(r, size) for r in reconstructions])
        on_object: Any = output.on_object
        if on_object is not None:
            on_object = np.stack([resize_mask(mask, size) for mask in on_object])
        if (inside := both(planes, on_object)) is not None:
            maps = np.where(inside, maps, np.float32(0))
        return Prediction(maps, output.score, reconstructions)

    def region_rule(
        self,
        *,
        pixel_rule: PixelRule = "best_f1",
        alpha: float = 0.05,
        join_gap: int | float = RegionRule.join_gap,
        min_area: int | float = RegionRule.min_area,
    ) -> RegionRule:
        """What the detector calls a region, by its thresholds.

        Args:
            pixel_rule: where regions begin, see `draem_jax.thresholds.pixel_threshold`.
            alpha: for "conformal", the share of normal pictures that may have a region.
            join_gap: see `RegionRule`.
            min_area: the same.

        Raises:
            UserError: the rule is "conformal", and no normal pictures were held out, or too few.
        """
        threshold = pixel_threshold(self.thresholds, rule=pixel_rule, alpha=alpha)
        return RegionRule(threshold, join_gap, min_area)

    def inspect_picture(
        self,
        image: Image,
        *,
        rule: RegionRule | None = None,
        alpha: float = 0.05,
        with_features: bool = False,
        plane: Plane | None = None,
    ) -> Inspection:
        """Looks for anomalies in one picture of any size; see `inspect_pictures`."""
        (found,) = self.inspect_pictures(
            [image],
            rule=rule,
            alpha=alpha,
            with_features=with_features,
            planes=None if plane is None else [plane],
        )
        return found

    def inspect_pictures(
        self,
        images: Iterable[Image],
        *,
        rule: RegionRule | None = None,
        alpha: float = 0.05,
        with_features: bool = False,
        planes: Iterable[Plane | None] | None = None,
    ) -> Iterator[Inspection]:
        """Looks for anomalies in pictures of any sizes, a batch of them at a time.

        Args:
            images: (H, W, 3) each, RGB, uint8 or float in [0, 1], which is rounded to 8 bits; taken
                as they are needed.
            rule: what is called a region; `region_rule()` if None.
            alpha: the share of normal pictures that may be called anomalous.
            with_features: whether to keep what the discriminative network computes, for
                `draem_jax.inspection.features`.
            planes: true where to look in each picture, at its size, or None for everywhere, as
                `Roi.plane_of` gives it for a picture's name; as the detector's `roi` says if None.

        Yields:
            What is said of each picture, in their order.

        Raises:
            ValueError: an array is of another shape or kind, or floats lie outside [0, 1].
            UserError: the detector's `roi` does not fit the pictures, or needs their names.
        """
        for begun in self.begin_inspections(
            images, rule=rule, alpha=alpha, with_features=with_features, planes=planes
        ):
            yield begun.finish()

    def begin_inspections(
        self,
        images: Iterable[Image],
        *,
        rule: RegionRule | None = None,
        alpha: float = 0.05,
        with_features: bool = False,
        planes: Iterable[Plane | None] | None = None,
    ) -> Iterator[Begun]:
        """Does what the devices do of `inspect_pictures`; the rest can be done in any thread.

        Yields:
            What is to be finished, in the order of the pictures; see `inspect_pictures`.
        """
        rule = rule or self.region_rule()
        given: Iterator[UInt8[np.ndarray, "_ _ 3"]] = map(_as_uint8, images)
        if planes is None:
            given, sized = itertools.tee(given)
            planes = (self.roi.plane_of("", image) for image in sized)
        pairs, kept = itertools.tee(zip(given, planes, strict=True))
        seen = self.see(map(self._canvas, pairs), with_features=with_features)
        for (image, plane), one in zip(kept, seen, strict=True):
            yield Begun(
                image.shape[:2],
                functools.partial(self._inspection, image, plane, one, rule, alpha),
            )

    def see(
        self,
        canvases: Iterable[tuple[UInt8[np.ndarray, "_ _ 3"], Plane | None]],
        *,
        with_features: bool = False,
        with_reconstruction: bool = True,
    ) -> Iterator[Seen]:
        """What the networks say of canvases, a batch of them or of their tiles at a time.

        Args:
            canvases: as `fitting` makes them of pictures, each with where to look in it, or None
                for everywhere; taken as they are needed.
            with_features: whether to keep what the discriminative network computes.
            with_reconstruction: whether to keep reconstructions.

        Yields:
            What is said of each canvas, in their order.
        """
        if self.fitting.is_tiled:
            maps = ["margin"] + ["reconstruction"] * with_reconstruction
            maps += ["features"] * (with_features and self.feature_channels > 0)
            yield from self._see_in_tiles(canvases, maps)
            return
        canvases = iter(canvases)
        waiting: deque[tuple[list[np.ndarray], BatchOutput]] = deque()
        while batch := list(itertools.islice(canvases, self.batch_size)):
            images = np.stack([image for image, _ in batch])
            planes = None
            if any(plane is not None for _, plane in batch):
                everywhere = np.ones(self.image_size, bool)
                planes = np.stack([everywhere if p is None else p for _, p in batch])
            fitted = self.fitted_to(len(batch))
            output = fitted.run_batch(images, planes, with_features=with_features)
            waiting.append(([image for image, _ in batch], output))
            if len(waiting) == _IN_FLIGHT:
                yield from _each_seen(*waiting.popleft())
        while waiting:
            yield from _each_seen(*waiting.popleft())

    def see_rows(self, canvas: Canvas) -> Iterator[Rows]:
        """The margin of a canvas that is read tile by tile, some rows after the others.

        Yields:
            See `draem_jax.detector.tiling.see_in_tiles`.
        """
        yield from self._rows([canvas], ("margin",))

    def tiles(self, canvas: tuple[int, int]) -> TileGrid:
        """The tiles that a canvas of this (height, width) is seen in."""
        return lay_tiles(canvas, self.image_size, overlap=tile_overlap(self.config))

    def _rows(self, canvases: Iterable[Canvas], maps: Sequence[str]) -> Iterator[Rows]:
        return see_in_tiles(
            lambda tiles: self.fitted_to(len(tiles)).run_batch(
                tiles, with_features="features" in maps
            ),
            canvases,
            batch_size=self.batch_size,
            maps=maps,
        )

    def _see_in_tiles(
        self,
        canvases: Iterable[tuple[UInt8[np.ndarray, "_ _ 3"], Plane | None]],
        maps: Sequence[str],
    ) -> Iterator[Seen]:
        pairs, kept = itertools.tee(canvases)
        rows = self._rows(
            (CanvasInMemory(image, self.tiles(image.shape[:2])) for image, _ in pairs), maps
        )
        for image, plane in kept:
            height, width = image.shape[:2]
            parts: list[Rows] = []
            while not parts or not parts[-1].is_last:
                parts.append(next(rows))
            whole = {name: np.concatenate([p.values[name] for p in parts]) for name in maps}
            margins = whole["margin"][:height, :width, 0]
            likely = expit(margins)
            looked_at = likely.size if plane is None else int(plane.sum())
            score = ScoreOfRows(self.score_name, looked_at=looked_at)
            score.add(likely, plane)
            features: Any = whole.get("features")
            if features is not None:
                reach = whole["margin"].shape[0] // features.shape[0]
                features = features[: -(-height // reach), : -(-width // reach)]
            reconstruction: Any = whole.get("reconstruction")
            if reconstruction is not None:
                reconstruction = reconstruction[:height, :width]
            yield Seen(image, margins, likely, score.value(), reconstruction, features)

    def run_batch(
        self,
        images: UInt8[np.ndarray, "B H W 3"] | Float[np.ndarray, "B H W 3"],
        planes: Bool[np.ndarray, "B H W"] | None = None,
        *,
        with_features: bool = False,
    ) -> BatchOutput:
        """Runs the networks on at most `batch_size` pictures, without waiting for the devices.

        Args:
            images: of the trained size, RGB, uint8 or float in [0, 1].
            planes: true where to look in them, at the same size; None for everywhere. Where the
                detector looks at objects alone, both must hold.
            with_features: whether to return the discriminative network's features as well.

        Returns:
            What the networks say of `batch_size` pictures: those behind the ones given are padding.
            Scores are of what is looked at; margin and map are of the whole picture.
        """
        program = _make_program(
            create_network(self.config),
            self.score_name,
            with_features,
            self.config.evaluation.flips,
        )
        border_share = None
        if self.roi.on_object:
            border_share = anomaly_params(self.config).shapes.foreground_border
        return program(self._variables, *map(self._padded, (images, planes)), border_share)

    def fitted_to(self, pictures: int) -> Draem:
        """The same detector with a smaller batch, so that few pictures do not take all its time.

        Batches hold 1, 2, 4 … pictures of each device: each size is a program to compile, so there
        shall be few.

        Args:
            pictures: that the batch must hold, as far as `batch_size` allows.
        """
        devices = len(local_devices())
        of_each = -(-pictures // devices)
        size = devices * (1 << max(0, of_each - 1).bit_length())
        return replace(self, batch_size=min(size, self.batch_size))

    def _padded(self, array: np.ndarray | None) -> jax.Array | None:
        """An array of as many pictures as a batch has, spread over the devices."""
        if array is None:
            return None
        padding = [(0, self.batch_size - len(array))] + [(0, 0)] * (array.ndim - 1)
        return shard_batch(np.pad(array, padding))

    def small_planes(self, planes: Sequence[Plane | None]) -> Bool[np.ndarray, "B h w"] | None:
        """Planes of some pictures at the size that the networks see; None if all are None.

        Args:
            planes: true where to look in each picture, of any size; None for everywhere.
        """
        if all(plane is None for plane in planes):
            return None
        everywhere = np.ones(self.image_size, bool)
        return np.stack(
            [everywhere if p is None else resize_mask(p, self.image_size) for p in planes]
        )

    def _canvas(
        self, pair: tuple[UInt8[np.ndarray, "H W 3"], Plane | None]
    ) -> tuple[UInt8[np.ndarray, "h w 3"], Plane | None]:
        image, plane = pair
        return self.fitting.fit(image), self.fitting.fit_plane(plane, image.shape[:2])

    def _planes(self, pictures: np.ndarray) -> Bool[np.ndarray, "B H W"] | None:
        """Where to look in pictures of one size, as `roi` says."""
        if self.roi.on_overview:
            found: list[Any] = [self.roi.plane_of("", _as_uint8(picture)) for picture in pictures]
            return np.stack(found) if found else None
        plane = self.roi.plane("", pictures.shape[1:3])
        return None if plane is None else np.broadcast_to(plane, pictures.shape[:3])

    def _predict_fitted(
        self,
        images: Iterable[UInt8[np.ndarray, "H W 3"]],
        size: tuple[int, int],
        planes: np.ndarray | None,
    ) -> Prediction:
        """Predicts for pictures of one size that are letterboxed or seen in tiles."""
        each = itertools.repeat(None) if planes is None else planes
        parts: list[tuple[Any, ...]] = []
        seen_ones = self.see(map(self._canvas, zip(images, each, strict=False)))
        for seen, plane in zip(seen_ones, each, strict=False):
            whole = self._whole(seen, size, plane)
            parts.append((whole.anomaly_map, np.float32(seen.score), whole.reconstruction))
        return Prediction(*map(np.stack, zip(*parts, strict=True)))

    def _predict_batch(self, images: np.ndarray, planes: np.ndarray | None) -> BatchOutput:
        small = None if planes is None else self.small_planes(list(planes))
        output = self.fitted_to(len(images)).run_batch(images, small)
        return jax.tree.map(lambda array: np.asarray(array)[: len(images)], output)

    def _whole(self, seen: Seen, size: tuple[int, int], plane: Plane | None) -> _Whole:
        """Brings what is said of a canvas back to the size of its picture."""
        fitting = self.fitting
        inside = plane
        if seen.on_object is not None:
            inside = both(plane, fitting.restore_mask(seen.on_object, size))
        likely = fitting.restore(seen.anomaly_map, size)
        if inside is not None:
            likely = np.where(inside, likely, np.float32(0))
        assert seen.reconstruction is not None
        return _Whole(
            fitting.restore(seen.margin, size),
            likely,
            fitting.restore(seen.reconstruction, size),
            inside,
        )

    def _inspection(
        self,
        image: UInt8[np.ndarray, "H W 3"],
        plane: Plane | None,
        seen: Seen,
        rule: RegionRule,
        alpha: float,
    ) -> Inspection:
        """What is said of a picture at its own size, with its regions."""
        whole = self._whole(seen, image.shape[:2], plane)
        scale = self.fitting.network_pixel(image.shape[:2])
        p_value = None
        if self.thresholds is not None:
            p_value = float(self.thresholds.p_values(np.array([seen.score]))[0])
        threshold = rule.threshold.margin
        content = self.fitting.content_of(image.shape[:2])
        assert seen.reconstruction is not None
        features = seen.features
        if features is not None:
            reach = round(len(seen.image) / len(features))
            features = features[tuple(slice(math.ceil(s.stop / reach)) for s in content)]
        return Inspection(
            image=image,
            reconstruction=whole.reconstruction,
            margin=whole.margin,
            anomaly_map=whole.anomaly_map,
            score=seen.score,
            p_value=p_value,
            is_anomalous=None if p_value is None else p_value <= alpha,
            regions=find_regions(
                above_edges(whole.margin, threshold, scale=scale, inside=whole.inside),
                anomaly_map=whole.anomaly_map,
                join_gap=rule.join_gap,
                min_area=rule.min_area,
            ),
            at_network_size=AtNetworkSize(
                seen.image[content], seen.reconstruction[content], features
            ),
            inside=whole.inside,
        )


class _Whole(NamedTuple):
    """What is said of a picture, at its own size; see `Inspection`."""

    margin: Float[np.ndarray, "H W"]
    anomaly_map: Float[np.ndarray, "H W"]
    reconstruction: Float[np.ndarray, "H W 3"]
    inside: Plane | None


def _each_seen(images: Sequence[UInt8[np.ndarray, "H W 3"]], output: BatchOutput) -> Iterator[Seen]:
    """What is said of each picture of a batch, whose last ones may be padding."""
    output = jax.device_get(output)
    for i, image in enumerate(images):
        one = jax.tree.map(operator.itemgetter(i), output)
        yield Seen(image, **one._replace(score=float(one.score))._asdict())


# Detectors of one architecture share a program.
@functools.lru_cache(maxsize=8)
def _make_program(
    network: DraemNetwork, score_name: str, with_features: bool, flips: str
) -> Callable[..., BatchOutput]:
    return jit_here(make_inspect(network, score_name, with_features=with_features, flips=flips))


def _checked(images: np.ndarray | jax.Array) -> np.ndarray:
    array = np.asarray(images)
    if array.ndim != 4 or array.shape[-1] != 3 or 0 in array.shape[1:3]:
        raise ValueError(
            f"images must be of shape (B, H, W, 3), RGB, not {array.shape}; "
            "give one picture as image[None]"
        )
    if array.dtype == np.uint8:
        return array
    if not np.issubdtype(array.dtype, np.floating):
        raise ValueError(f"images must be uint8 or float in [0, 1], not {array.dtype}")
    if array.size and not (array.min() >= 0 and array.max() <= 1):
        raise ValueError(
            f"images of type {array.dtype} must lie in [0, 1], not in "
            f"[{array.min():g}, {array.max():g}]; divide 8-bit values by 255"
        )
    return array.astype(np.float32)


def _as_uint8(image: Image) -> UInt8[np.ndarray, "H W 3"]:
    (picture,) = _checked(np.asarray(image)[None])
    return picture if picture.dtype == np.uint8 else np.rint(picture * 255).astype(np.uint8)


def _resized(images: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if images.shape[1:3] == size or not len(images):
        return images
    resized = resize if images.dtype == np.uint8 else resize_channels
    return np.stack([resized(image, size) for image in images])
