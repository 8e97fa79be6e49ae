"""Bringing pictures to the step: once, to stay on the device, or step by step through Grain."""

import functools
import os
from collections.abc import Generator
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import Array, Int, Key
from ml_collections import ConfigDict

from draem_jax.anomalies import AnomalyParams
from draem_jax.data.crops import Window
from draem_jax.data.streaming import (
    CropChoices,
    PairReader,
    PicturePairs,
    stack,
    stream_pairs,
)
from draem_jax.training import parallel
from draem_jax.training.forecast import size_text
from draem_jax.training.lost_pictures import LostPictures
from draem_jax.training.pictures import Chosen, Parts, Pictures, TextureMix, TrainingPictures
from draem_jax.training.samples import Choices, Draw, Samples, choose, make_samples

_GIB = 2**30
# Steps whose choices are made in one call.
_CHOICES_AT_ONCE = 4096


@runtime_checkable
class Feed(Protocol):
    """Gives the train step what it makes samples of.

    Attributes:
        pictures_axes: the axis of it that runs over the devices, None for none.
        description: one phrase that says how the pictures reach the device.
        lost: what could not be read of the pictures taken so far.
    """

    pictures_axes: int | None
    description: str
    lost: LostPictures

    def take(self, steps: int) -> Pictures | Chosen:
        """The pictures for the next steps, which must be asked for in their order."""
        ...

    def begun_at(self, key: Key[Array, ""], steps: range) -> "Feed":
        """A feed that gives the pictures of other steps, by another key, in the place of this."""
        ...


def make_feed(
    config: ConfigDict,
    pictures: TrainingPictures,
    key: Key[Array, ""],
    *,
    sample_indices: Int[np.ndarray, "L B"],
    steps: range,
    max_steps: int,
) -> Feed:
    """Chooses the way by the memory that the pictures take.

    Both ways give the same samples: which pictures a sample is made of is a function of the run's
    seed, the step and the sample's index. So a run that streams goes on from any step as well.

    Args:
        config: the config of the run; `data.resident_gib` and `data.workers` are used.
        pictures: the pictures of the run.
        key: the run's key for samples.
        sample_indices: this host's share of the batch, by local device.
        steps: that are still to be made, of the whole run.
        max_steps: the most steps of one call.
    """
    if pictures.nbytes <= config.data.resident_gib * _GIB:
        return _Resident(pictures)
    streaming = _Streaming(
        pictures,
        sample_indices,
        max_steps=max_steps,
        workers=config.data.workers,
        skips_lost=config.data.on_lost_picture == "skip",
    )
    return streaming.begun_at(key, steps)


class _Resident:
    pictures_axes: int | None = None

    def __init__(self, pictures: TrainingPictures):
        self._pictures = parallel.replicate(pictures.read())
        self.description = f"{size_text(pictures.nbytes)} of pictures stay on the device"
        self.lost = LostPictures(pictures)

    def take(self, steps: int) -> Pictures:
        del steps
        return self._pictures

    def begun_at(self, key: Key[Array, ""], steps: range) -> "Feed":
        del key, steps  # the device chooses
        return self


class _Streaming:
    pictures_axes: int | None = 0

    def __init__(
        self,
        pictures: TrainingPictures,
        sample_indices: Int[np.ndarray, "L B"],
        *,
        max_steps: int,
        workers: int,
        skips_lost: bool,
    ):
        if workers < 0:
            workers = max(1, (os.cpu_count() or 1) // 2)
        self.description = f"{size_text(pictures.nbytes)} of pictures stream, read by " + (
            f"{workers} worker process{'es' if workers > 1 else ''}" if workers else "threads"
        )
        self.lost = LostPictures(pictures)
        self._workers = workers
        self._max_steps = max_steps
        self._pictures = pictures
        self._sample_indices = sample_indices
        self._skips_lost = skips_lost
        self._stream: Generator[PicturePairs, None, None] | None = None

    def take(self, steps: int) -> Chosen:
        assert self._stream is not None
        batches = [next(self._stream) for _ in range(steps)]
        self.lost.note(batches)
        batches = [batch._replace(lost=None) for batch in batches]
        # A call takes the same shape whatever its length; what is behind is not looked at.
        batches += batches[-1:] * (self._max_steps - steps)
        shape = self._sample_indices.shape
        laid_out = jax.tree.map(
            lambda *steps: parallel.shard_batch(
                np.stack([part.reshape(*shape, *part.shape[1:]) for part in steps], axis=1)
            ),
            *batches,
        )
        return _chosen(self._pictures, laid_out)

    def begun_at(self, key: Key[Array, ""], steps: range) -> "Feed":
        if self._stream is not None:
            self._stream.close()
        samples = self._sample_indices.reshape(-1)
        reader = _reader(self._pictures, key, steps, samples)
        reader = replace(reader, skips_lost=self._skips_lost)
        self._stream = stream_pairs(reader, batch_size=len(samples), workers=self._workers)
        return self


_make_samples = parallel.jit_here(make_samples)


def read_samples(pictures: TrainingPictures, draw: Draw, params: AnomalyParams) -> Samples:
    """Makes the samples of one step, reading no other pictures than theirs.

    Args:
        pictures: the pictures of the run.
        draw: which samples to make; step and indices lie on the host.
        params: the anomaly generator's numbers.

    Returns:
        What training would see in that step.
    """
    return samples_of(read_pictures(pictures, draw), draw, params)


def samples_of(chosen: Chosen, draw: Draw, params: AnomalyParams) -> Samples:
    """Makes the samples of one step of what `read_pictures` read for it; see `read_samples`."""
    draw = Draw(draw.key, np.int32(draw.step), parallel.shard_if_divided(draw.indices))
    return _make_samples(draw, chosen, params)


def read_pictures(pictures: TrainingPictures, draw: Draw) -> Chosen:
    """Reads what the samples of one step are made of; see `read_samples`."""
    step = int(draw.step)
    reader = _reader(pictures, draw.key, range(step, step + 1), draw.indices)
    pairs = stack([reader[row] for row in range(len(reader))])
    return _chosen(pictures, jax.tree.map(parallel.shard_if_divided, pairs))


def sample_places(pictures: TrainingPictures, draw: Draw) -> list[tuple[int, Window]]:
    """Where the samples of one step come from; see `read_pictures`.

    Where no normal picture is turned, a sample is that window but for its anomaly, so that it can
    be put back into the whole canvas.

    Returns:
        For each sample its normal picture and the window of the picture's canvas.
    """
    step = int(draw.step)
    reader = _reader(pictures, draw.key, range(step, step + 1), draw.indices)
    return [reader.place(row) for row in range(len(reader))]


def _chosen(pictures: TrainingPictures, pairs: Any) -> Chosen:
    """Pairs that were read and brought to the devices, as samples are made of them."""
    parts = Parts(pairs.parts, pictures.mix.kinds)
    return Chosen(pairs.normal, pairs.textures, parts, pictures.inside(pairs.planes))


def _reader(
    pictures: TrainingPictures,
    key: Key[Array, ""],
    steps: range,
    sample_indices: Int[np.ndarray, " B"],
) -> PairReader:
    """Reads what the samples of some steps are made of, a row for each sample, step by step."""
    choices = _choices(pictures, key, steps, sample_indices)
    bits = choices.bits
    crops = None if bits is None else CropChoices(pictures.size, np.asarray(bits))
    rows = np.stack(choices[:3], axis=-1)
    return PairReader(
        pictures.normal, pictures.textures, pictures.mix.kinds, rows, pictures.planes, crops
    )


def _choices(
    pictures: TrainingPictures,
    key: Key[Array, ""],
    steps: range,
    sample_indices: Int[np.ndarray, " B"],
) -> Choices:
    """The choices of some steps, on the host, one behind the other."""
    at_once = min(_CHOICES_AT_ONCE, len(steps))
    none: Any = np.zeros(0, np.int32)
    no_bits: Any = np.zeros((0, 4), np.uint32) if pictures.in_crops else None
    parts = [Choices(none, none, none, no_bits)]
    for begin in steps[::_CHOICES_AT_ONCE]:
        # Behind the end the last step is repeated, so that one program serves all.
        numbers = np.minimum(np.arange(begin, begin + at_once), steps[-1]).astype(np.int32)
        draws = Draw(key, numbers, sample_indices)
        made = _choose_for_steps(draws, len(pictures.normal), pictures.mix, pictures.in_crops)
        count = min(at_once, steps.stop - begin)
        parts.append(
            jax.tree.map(lambda a, n=count: np.asarray(a)[:n].reshape(-1, *a.shape[2:]), made)
        )
    return jax.tree.map(lambda *arrays: np.concatenate(arrays), *parts)


@functools.partial(jax.jit, static_argnums=(1, 3))
def _choose_for_steps(draws: Draw, normal_count: int, mix: TextureMix, in_crops: bool) -> Choices:
    return jax.vmap(
        lambda step: choose(draws._replace(step=step), normal_count, mix, in_crops=in_crops)
    )(draws.step)
