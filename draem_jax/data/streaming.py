"""Pictures too many for the device, read by worker processes in an order that is given.

Nothing here imports JAX, so that a worker process is light and never touches an accelerator.
"""

import multiprocessing
import os
import threading
from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int, UInt8, UInt32

from draem_jax.data.crops import Window, corner_range, corners_of, window_at
from draem_jax.data.roi import Plane, PlaneSource
from draem_jax.data.texture_sources import PictureSource, SourceKind
from draem_jax.errors import UserError


class PicturePairs(NamedTuple):
    """The pictures that a batch of samples is made of.

    Attributes:
        normal: the normal pictures, RGB.
        textures: the texture of each; black where the device makes it itself.
        parts: index of the part of the anomaly source that each texture is from.
        planes: true where to look in the normal pictures, see `draem_jax.data.roi`; None for
            everywhere.
        lost: indices of the normal picture and of the texture that could not be read, so that
            others stand in their places, -1 for none; None where such a one is an error.
    """

    normal: UInt8[np.ndarray, "*batch H W 3"]
    textures: UInt8[np.ndarray, "*batch H W 3"]
    parts: Int[np.ndarray, "*batch"]
    planes: Bool[np.ndarray, "*batch H W"] | None = None
    lost: Int[np.ndarray, "*batch 2"] | None = None


class CropChoices(NamedTuple):
    """Where the crops of samples lie.

    Attributes:
        size: (height, width) of all.
        bits: random bits for the corners in the normal picture and in the texture, row and column
            of each, see `draem_jax.data.crops`; a row for each sample.
    """

    size: tuple[int, int]
    bits: UInt32[np.ndarray, "rows 4"]


@dataclass(frozen=True)
class PairReader:
    """Reads the pictures of samples, each by its row in a table of choices.

    Attributes:
        normal: where normal pictures are read from.
        textures: where textures are read from.
        kinds: the kinds of the parts of the anomaly source.
        choices: normal picture, part of the anomaly source and texture of each sample.
        planes: where to look in normal pictures; None for everywhere.
        crops: where the crops lie; None where samples see whole pictures.
        skips_lost: put the next picture that can be read in the place of one that cannot.
    """

    normal: PictureSource
    textures: PictureSource
    kinds: tuple[SourceKind, ...]
    choices: Int[np.ndarray, "rows 3"]
    planes: PlaneSource | None = None
    crops: CropChoices | None = None
    skips_lost: bool = False

    def __len__(self) -> int:
        return len(self.choices)

    def __getitem__(self, row: int) -> PicturePairs:
        normal, part, texture = (int(choice) for choice in self.choices[row])
        bits = (None, None) if self.crops is None else self.crops.bits[row].reshape(2, 2)
        lost = np.full(2, -1, np.int32)
        (picture, plane), lost[0] = self._read_or_next(self.normal, normal, bits[0])
        match self.kinds[part]:
            case "pictures":
                (source, _), lost[1] = self._read_or_next(self.textures, texture, bits[1])
            case "self":
                # As a normal picture, it is counted with those.
                (source, _), gone = self._read_or_next(self.normal, texture, bits[1])
                lost[0] = max(lost[0], gone)
            case _:
                source = np.zeros_like(picture)
        index = np.array(part, np.int32)
        return PicturePairs(picture, source, index, plane, lost if self.skips_lost else None)

    def place(self, row: int) -> tuple[int, Window]:
        """Which normal picture a sample is made of, and which window of its canvas."""
        index = int(self.choices[row, 0])
        if self.crops is None:
            return index, window_at((0, 0), self.normal.canvas_size(index))
        return index, self._window(
            self.normal, index, self._plane(self.normal, index), self.crops.bits[row, :2]
        )

    def _read_or_next(
        self, source: PictureSource, index: int, bits: UInt32[np.ndarray, " 2"] | None
    ) -> tuple[tuple[UInt8[np.ndarray, "H W 3"], Plane | None], int]:
        """What `_read` gives, of the next that can be read; and `index` if that is another, or -1.

        Raises:
            UserError: it cannot be read, and is not to be skipped, or no other can.
        """
        try:
            return self._read(source, index, bits), -1
        except UserError:
            if self.skips_lost:
                for further in range(1, len(source)):
                    with suppress(UserError):
                        return self._read(source, (index + further) % len(source), bits), index
            raise

    def _read(
        self, source: PictureSource, index: int, bits: UInt32[np.ndarray, " 2"] | None
    ) -> tuple[UInt8[np.ndarray, "H W 3"], Plane | None]:
        """A picture, or the crop of it that bits choose; and where to look in a normal one."""
        plane = self._plane(source, index)
        if bits is None:
            return source[index], plane
        window = self._window(source, index, plane, bits)
        return source.read_window(index, window), None if plane is None else plane[window]

    def _window(
        self,
        source: PictureSource,
        index: int,
        plane: Plane | None,
        bits: UInt32[np.ndarray, " 2"],
    ) -> Window:
        assert self.crops is not None
        ranges = corner_range(source.canvas_size(index), self.crops.size, plane)
        return window_at(corners_of(bits, ranges), self.crops.size)

    def _plane(self, source: PictureSource, index: int) -> Plane | None:
        """Where to look in a normal picture; None for everywhere, and of textures."""
        planes = self.planes if source is self.normal else None
        return None if planes is None else planes[index]


def stream_pairs(
    reader: PairReader, *, batch_size: int, workers: int
) -> Generator[PicturePairs, None, None]:
    """Reads a table's rows in their order, some batches ahead of the one that is asked for.

    Args:
        reader: with the table.
        batch_size: rows of a batch, which divides the table's.
        workers: processes that read; 0 for threads of this process. The order of the batches does
            not depend on it.

    Yields:
        The batches, as many as the table holds.

    Raises:
        UserError: a picture cannot be read.
    """
    import grain
    from absl import flags

    batches = grain.MapDataset.source(reader).batch(batch_size, batch_fn=stack)
    # One thread a worker: more would compete with the other workers for the same cores.
    threads = grain.ReadOptions(num_threads=1 if workers else 4, prefetch_buffer_size=4)
    stream = batches.to_iter_dataset(threads)
    if workers:
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()  # Grain's workers ask for absl's flags, unused here
        stream = stream.mp_prefetch(
            grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=4),
            worker_init_fn=_end_with_parent,
        )
    try:
        yield from stream
    except UserError as error:
        # Grain writes about its own frames into the message, behind a line.
        raise UserError(str(error).partition("\n--------")[0]) from error
    except Exception as error:
        # A worker's exception comes as text within another one.
        marker = f"{UserError.__name__}: "
        if (at := str(error).rfind(marker)) < 0:
            raise
        raise UserError(str(error)[at + len(marker) :].splitlines()[0]) from error


def _end_with_parent(worker: int, workers: int) -> None:
    """Sees to it that a worker does not outlive a parent that was killed."""
    del worker, workers
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def stack(pairs: Sequence[PicturePairs]) -> PicturePairs:
    """Puts the pictures of samples one behind the other."""
    normal, textures, parts, planes, lost = zip(*pairs, strict=True)
    return PicturePairs(
        np.stack(normal),
        np.stack(textures),
        np.stack(parts),
        None if planes[0] is None else np.stack(planes),
        None if lost[0] is None else np.stack(lost),
    )
