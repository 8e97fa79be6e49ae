"""The metrics of a stream of pictures: counted on the devices, in constant memory, in one pass."""

from __future__ import annotations

import functools
import pickle
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Float, Int

from draem_jax.evaluation.aupimo import BOUNDS, overlap_weights
from draem_jax.evaluation.bootstrap import poisson_draws
from draem_jax.evaluation.pixel_counts import (
    BINS,
    GroupCounts,
    add_pictures,
    count_pixels,
    mean_over_defects,
    zero_counts,
)
from draem_jax.evaluation.truth import GOOD
from draem_jax.hosts.talking import gathered
from draem_jax.metrics.table import LIMIT
from draem_jax.training.parallel import local_devices

FLUSH_PIXELS = 2**27
"""Pixels after which counts leave the devices: int32 must not overflow, nor float32 round."""

_IN_FLIGHT = 2  # batches: enough that the device never waits, and memory stays bounded
# Where none is wanted, the devices count one all the same: compiling arrays without elements over
# several devices ends some releases of XLA (jaxlib 0.11.2) with a segmentation fault.
_LEAST_REPLICATES = 1


@dataclass(frozen=True)
class MetricOptions:
    """What is measured, and how.

    Attributes:
        aupro_limits: the false-positive rates up to which the per-region overlap is integrated.
        aupimo_bounds: the false-positive rates between which the per-image overlap is integrated.
        replicates: draws of the bootstrap; 0 for no intervals.
        confidence: how sure the intervals are, in (0, 1).
        seed: the seed of the bootstrap.
        exact: keep every pixel and sort, instead of counting in bins.
    """

    aupro_limits: tuple[float, ...] = (LIMIT,)
    aupimo_bounds: tuple[float, float] = BOUNDS
    replicates: int = 200
    confidence: float = 0.95
    seed: int = 0
    exact: bool = False

    def __post_init__(self):
        if not all(0 < limit <= 1 for limit in self.aupro_limits):
            raise ValueError(f"aupro_limits must lie in (0, 1], not {self.aupro_limits}")
        if not 0 < self.aupimo_bounds[0] < self.aupimo_bounds[1] <= 1:
            raise ValueError(f"aupimo_bounds must be 0 < lower < upper <= 1: {self.aupimo_bounds}")
        if self.replicates < 0 or not 0 < self.confidence < 1:
            raise ValueError("replicates must be at least 0, and confidence lie in (0, 1)")


@dataclass(frozen=True)
class PictureRow:
    """What is kept of a picture.

    Attributes:
        index: among all pictures of all hosts.
        defect_type: "good" for a normal one.
        score: the score of the picture.
        aupimo: its area under the per-image overlap curve, in [0, 1]; None for a picture without
            defect pixels, or without normal pictures to take the false-positive rate from.
    """

    index: int
    defect_type: str
    score: float
    aupimo: float | None


class Totals(NamedTuple):
    """All that a stream knows, on the host.

    Attributes:
        groups: counts by defect type, int64 and float64.
        rows: the rows of the pictures.
        kept: with `exact`, each picture's margins and truth by its index, else empty.
    """

    groups: dict[str, GroupCounts]
    rows: list[PictureRow]
    kept: dict[int, tuple[np.ndarray, np.ndarray]]


class MetricStream:
    """Takes batches of pictures, the normal ones first, and holds what the metrics need of them.

    Normal pictures come first since they give the shared false-positive rate, which says what each
    later defect pixel adds to its picture's AUPIMO.

    Memory: 1 MB and 12 kB a replicate for each defect type on each device, the double on the
    host, and some numbers a picture. With `options.exact`, every pixel.
    """

    def __init__(self, options: MetricOptions = MetricOptions()):
        self.options = options
        devices = local_devices()
        self._devices = len(devices)
        self._programs = _programs(Mesh(np.array(devices), (_AXIS,)))
        self._key = jax.random.key(options.seed)
        self._on_device: dict[str, GroupCounts] = {}
        self._totals: dict[str, GroupCounts] = {}
        self._rows: list[PictureRow] = []
        self._kept: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._pending: deque = deque()
        self._pixels = 0
        self._count = 0
        self._normal_is_closed = False
        self._has_weights = False
        self._weights = self._programs.replicate(np.zeros(BINS, np.float32))

    def update(
        self,
        margins: Float[np.ndarray | jax.Array, "B H W"],
        truth: Float[np.ndarray | jax.Array, "B H W"],
        scores: Float[np.ndarray | jax.Array, " B"],
        types: Sequence[str],
        *,
        indices: Int[np.ndarray, " n"] | None = None,
    ) -> None:
        """Adds a batch; returns before the devices are done with it.

        Each new shape is compiled anew. Pictures of many sizes are best padded to one, with the
        padding left out in `truth`.

        Args:
            margins: logit₁ − logit₀, float32, on the host or spread over the local devices, of
                which B must be a multiple.
            truth: as of `draem_jax.evaluation.truth`.
            scores: the scores of the pictures.
            types: their defect types, "good" for normal ones. It may be shorter than B: the last
                pictures are padding then.
            indices: the pictures' numbers among all pictures of all hosts, which the bootstrap
                draws by; counted on if None, which is right for one host.

        Raises:
            ValueError: a normal picture comes after a defective one, or shapes do not fit.
        """
        batch, count = margins.shape[0], len(types)
        if margins.shape != truth.shape or scores.shape != (batch,) or count > batch:
            raise ValueError(
                f"margins {margins.shape}, truth {truth.shape}, scores {scores.shape} and "
                f"{count} types do not fit together"
            )
        if batch % self._devices:
            raise ValueError(f"{self._devices} devices do not divide a batch of {batch}")
        if self._normal_is_closed and GOOD in types:
            raise ValueError("normal pictures must come before all defective ones")
        if indices is None:
            indices = np.arange(self._count, self._count + count)
        self._count += count
        if self.options.exact:
            self._keep(margins, truth, indices)
        if self._pixels + margins.size > FLUSH_PIXELS:
            self._flush()
        self._pixels += margins.size

        programs = self._programs
        padded = np.zeros(batch, np.int32)
        padded[:count] = indices
        margins, truth = (plane.astype(np.float32, copy=False) for plane in (margins, truth))
        margins, truth, padded = programs.spread((margins, truth, padded))
        pictures = programs.count(margins, truth)
        for kind in sorted(set(types), key=lambda kind: (kind != GOOD, kind)):
            if kind != GOOD and not self._normal_is_closed:
                self.close_normal()
            is_member = np.zeros(batch, bool)
            is_member[:count] = [one == kind for one in types]
            before = self._on_device.get(kind)
            if before is None:
                before = programs.zeros(max(self.options.replicates, _LEAST_REPLICATES))
            self._on_device[kind] = programs.add(
                before, pictures, programs.spread(is_member), padded, self._key
            )
        measured = programs.measure(pictures, self._weights)
        self._pending.append((indices, list(types), scores, *measured))
        while len(self._pending) > _IN_FLIGHT:
            self._collect()

    def close_normal(self, merge: Callable[[Totals], Totals] | None = None) -> None:
        """Ends the part of the normal pictures, and works out the shared false-positive rate.

        With one host there is no need to call it: the first defective picture ends that part. Of
        several hosts each calls it once it has given all its normal pictures, with
        `merge=gather_totals`, so that the rate is the same on all.

        Args:
            merge: brings the totals of all hosts together.
        """
        totals = self.totals() if merge is None else merge(self.totals())
        self._normal_is_closed = True
        weights = normal_weights(totals, self.options)
        if weights is not None:
            self._has_weights = True
            self._weights = self._programs.replicate(weights.astype(np.float32))

    def totals(self) -> Totals:
        """All that has been counted so far. It waits for the devices."""
        while self._pending:
            self._collect()
        self._flush()
        return Totals(dict(self._totals), list(self._rows), dict(self._kept))

    def _collect(self) -> None:
        indices, types, scores, overlaps, defects = jax.device_get(self._pending.popleft())
        for i, (index, kind) in enumerate(zip(indices, types, strict=True)):
            is_defined = self._has_weights and kind != GOOD and defects[i] > 0
            self._rows.append(
                PictureRow(
                    int(index), kind, float(scores[i]), float(overlaps[i]) if is_defined else None
                )
            )

    def _flush(self) -> None:
        for kind, counts in self._on_device.items():
            new = GroupCounts(*(_on_host(part) for part in counts))
            new = new._replace(
                replicates=new.replicates[: self.options.replicates],
                draws=new.draws[: self.options.replicates],
            )
            self._totals[kind] = _add(self._totals[kind], new) if kind in self._totals else new
        self._on_device.clear()
        self._pixels = 0

    def _keep(self, margins, truth, indices) -> None:
        margins, truth = np.array(margins, np.float32), np.array(truth, np.float32)
        for i, index in enumerate(indices):
            self._kept[int(index)] = (margins[i], truth[i])


def merge_totals(parts: Sequence[Totals]) -> Totals:
    """Brings together what several hosts, or several runs over parts of a test set, counted.

    AUPIMO is right only if their normal pictures were merged before defective ones came, see
    `MetricStream.close_normal`.

    Raises:
        ValueError: two parts hold a picture of the same index.
    """
    groups: dict[str, GroupCounts] = {}
    for part in parts:
        for kind, counts in part.groups.items():
            groups[kind] = _add(groups[kind], counts) if kind in groups else counts
    rows = sorted((row for part in parts for row in part.rows), key=lambda row: row.index)
    if len({row.index for row in rows}) < len(rows):
        raise ValueError("several parts hold the same picture; give `indices` over all hosts")
    kept = {index: planes for part in parts for index, planes in part.kept.items()}
    return Totals(groups, rows, kept)


def gather_totals(totals: Totals) -> Totals:
    """Merges the totals of all processes; all of them must call it, and all get the result."""
    if jax.process_count() == 1:
        return totals
    gathered(None)  # the devices would not wait long for those of a process that has more to do
    data = np.frombuffer(pickle.dumps(totals), np.uint8)
    sizes = multihost_utils.process_allgather(np.array(len(data), np.int32))
    padded = np.zeros(sizes.max(), np.uint8)
    padded[: len(data)] = data
    parts = multihost_utils.process_allgather(padded)
    return merge_totals(
        [pickle.loads(row[:size].tobytes()) for row, size in zip(parts, sizes, strict=True)]
    )


def normal_weights(totals: Totals, options: MetricOptions) -> Float[np.ndarray, " 65536"] | None:
    """What a defect pixel in each bin adds to its picture's AUPIMO; None if none is normal."""
    normal = totals.groups.get(GOOD)
    if normal is None or not normal.pictures:
        return None
    rates = np.cumsum(normal.rates[::-1]) / normal.rates.sum()
    return overlap_weights(rates, bounds=options.aupimo_bounds)[::-1]


_AXIS = "batch"
_SPREAD, _WHOLE = PartitionSpec(_AXIS), PartitionSpec()


class _Programs(NamedTuple):
    count: Callable
    add: Callable
    measure: Callable
    zeros: Callable[[int], GroupCounts]
    spread: Callable[[Any], Any]
    replicate: Callable[[Any], Any]


@functools.cache
def _programs(mesh: Mesh) -> _Programs:
    """Compiles once a process what each device does with its part of a batch.

    Each device has counts of its own, so that devices do not wait for each other; they are summed
    when they leave.
    """

    def mapped(body, in_specs, **jit_options):
        return jax.jit(
            jax.shard_map(body, mesh=mesh, in_specs=in_specs, out_specs=_SPREAD, check_vma=False),
            **jit_options,
        )

    def add(counts, pictures, is_member, indices, key):
        local = jax.tree.map(lambda part: part[0], counts)
        draws = poisson_draws(key, indices, local.draws.shape[0])
        added = add_pictures(local, pictures, is_member, draws)
        return jax.tree.map(lambda part: part[None], added)

    def spread(tree):
        return jax.device_put(tree, NamedSharding(mesh, _SPREAD))

    def zeros(replicates):
        return spread(
            jax.tree.map(
                lambda part: np.zeros((mesh.size, *part.shape), part.dtype),
                jax.eval_shape(lambda: zero_counts(replicates)),
            )
        )

    return _Programs(
        count=mapped(count_pixels, _SPREAD),
        add=mapped(add, (_SPREAD, _SPREAD, _SPREAD, _SPREAD, _WHOLE), donate_argnums=0),
        measure=mapped(mean_over_defects, (_SPREAD, _WHOLE)),
        zeros=zeros,
        spread=spread,
        replicate=lambda tree: jax.device_put(tree, NamedSharding(mesh, _WHOLE)),
    )


def _add(one: GroupCounts, other: GroupCounts) -> GroupCounts:
    return GroupCounts(*(a + b for a, b in zip(one, other, strict=True)))


def _on_host(per_device) -> np.ndarray:
    array = np.asarray(per_device)
    wide = np.int64 if np.issubdtype(array.dtype, np.integer) else np.float64
    return np.asarray(array.sum(0, dtype=wide))
