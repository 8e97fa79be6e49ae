"""Counting pixels by their margin, on the device: one pass, constant memory.

The margin logit₁ − logit₀ orders pixels as the softmax does, without its ties at 0 and 1. Every
pixel metric follows from histograms of it, if the bins are fine enough where margins lie.

There are 65,536 bins, cut from the order-preserving pattern of float32: with |margin| in [2⁻⁵, 2⁷)
each octave is split into 2,048 bins, elsewhere, up to infinity, into 32. (The leading 16 bits of
the pattern split each octave into 128 and spend most bins on numbers that no network gives; on
heavy-tailed margins they put average precision off by up to 5e-4, these bins by up to 3e-5.)
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float, Float32, Int, Int32

BINS = 65536
COARSE_BINS = 1024
"""Bins of the bootstrap's replicates: 64 neighbouring bins are one."""

NAN_BIN = BINS - 1

_HALF = BINS // 2
_LOW, _HIGH = (127 - 5) << 23, (127 + 7) << 23  # patterns of 2⁻⁵ and 2⁷
_FINE_SHIFT, _OUTER_SHIFT = 12, 18
_BELOW = _LOW >> _OUTER_SHIFT
_WITHIN = (_HIGH - _LOW) >> _FINE_SHIFT
_INFINITY = 0x7F800000
_FIXED_POINT = 2.0**29


class PictureCounts(NamedTuple):
    """Histograms of each picture of a batch.

    Attributes:
        pixels: counts of normal pixels, then of defect pixels, by bin, ascending.
        regions: sums of 1 / size of its region over defect pixels, by bin.
    """

    pixels: Int32[Array, "B 2 65536"]
    regions: Float32[Array, "B 65536"]


class GroupCounts(NamedTuple):
    """Sums over the pictures of one group: the normal ones, or those of one defect type.

    Attributes:
        pixels: counts of normal pixels, then of defect pixels.
        regions: sums of 1 / size of its region over defect pixels.
        rates: sums over pictures of each picture's normal pixels' shares.
        pictures: how many pictures have pixels that count.
        replicates: normal pixels, defect pixels and regions in coarse bins, each picture taken as
            often as the replicate drew it.
        draws: how many pictures each replicate drew.
    """

    pixels: Int[Array | np.ndarray, "*D 2 65536"]
    regions: Float[Array | np.ndarray, "*D 65536"]
    rates: Float[Array | np.ndarray, "*D 65536"]
    pictures: Int[Array | np.ndarray, "*D"]
    replicates: Float[Array | np.ndarray, "*D R 3 1024"]
    draws: Float[Array | np.ndarray, "*D R"]


def bin_of(margins: Float32[Array, "*shape"]) -> Int32[Array, "*shape"]:
    """The bins that margins fall into, in [0, 65536), monotone; `NAN_BIN` for NaN."""
    pattern = lax.bitcast_convert_type(margins, jnp.int32)
    size = pattern & 0x7FFFFFFF
    index = (
        (jnp.minimum(size, _LOW) >> _OUTER_SHIFT)
        + ((jnp.clip(size, _LOW, _HIGH) - _LOW) >> _FINE_SHIFT)
        + ((jnp.maximum(size, _HIGH) - _HIGH) >> _OUTER_SHIFT)
    )
    is_negative = (pattern < 0) & (size > 0)  # −0.0 is 0.0
    bins = _HALF + jnp.where(is_negative, ~index, index)
    return jnp.where(size > _INFINITY, NAN_BIN, bins)


def lowest_in_bin() -> Float32[np.ndarray, " 65536"]:
    """The lowest margin of each bin: a margin of at least this lies in the bin or above it."""
    index = np.arange(_HALF + 1)
    size = np.where(
        index < _BELOW,
        index << _OUTER_SHIFT,
        np.where(
            index < _BELOW + _WITHIN,
            _LOW + ((index - _BELOW) << _FINE_SHIFT),
            _HIGH + ((index - _BELOW - _WITHIN) << _OUTER_SHIFT),
        ),
    )
    positive = np.minimum(size[:-1], _INFINITY).astype(np.int32).view(np.float32)
    negative = -np.minimum(size[1:] - 1, _INFINITY).astype(np.int32).view(np.float32)
    return np.concatenate([negative[::-1], positive])


def count_pixels(margins: Float32[Array, "B H W"], truth: Float32[Array, "B H W"]) -> PictureCounts:
    """Counts the pixels of each picture by margin and kind.

    Args:
        margins: logit₁ − logit₀, any float32.
        truth: as of `draem_jax.evaluation.truth.encode_mask`; below 0 a pixel is left out.

    Returns:
        The histograms. Counts are exact. Regions are summed in fixed point, pixels rounded up and
        down by turns: a large region whose pixels share a bin would be off by percents if its many
        small weights were added to a float32.
    """
    batch = margins.shape[0]
    bins = bin_of(margins).reshape(batch, -1)
    truth = truth.reshape(batch, -1)
    is_defect = truth > 0
    picture = jnp.arange(batch)[:, None]
    counted = jnp.zeros((batch * 2 * BINS,), jnp.int32)
    counted = counted.at[(picture * 2 + is_defect) * BINS + bins].add(
        (truth >= 0).astype(jnp.int32), mode="promise_in_bounds"
    )

    def sum_weights(weights):
        scale = _FIXED_POINT / jnp.maximum(weights.sum(1, keepdims=True), 1)
        units = jnp.zeros((batch * BINS,), jnp.int32)
        units = units.at[picture * BINS + bins].add(
            jnp.floor(weights * scale + _turns(weights.shape[1])).astype(jnp.int32),
            mode="promise_in_bounds",
        )
        return units.reshape(batch, BINS) / scale

    regions = lax.cond(
        is_defect.any(),
        sum_weights,
        lambda weights: jnp.zeros((batch, BINS), jnp.float32),
        jnp.maximum(truth, 0),
    )
    return PictureCounts(counted.reshape(batch, 2, BINS), regions)


def _turns(count: int) -> Float32[Array, "1 N"]:
    """Numbers in [0, 1) of which any run is spread evenly: multiples of the golden ratio."""
    multiples = jnp.arange(count, dtype=jnp.uint32) * jnp.uint32(2654435769)
    return ((multiples >> 8) / jnp.float32(2**24))[None]


def zero_counts(replicates: int) -> GroupCounts:
    """Counts of no pictures."""
    return GroupCounts(
        pixels=jnp.zeros((2, BINS), jnp.int32),
        regions=jnp.zeros((BINS,), jnp.float32),
        rates=jnp.zeros((BINS,), jnp.float32),
        pictures=jnp.zeros((), jnp.int32),
        replicates=jnp.zeros((replicates, 3, COARSE_BINS), jnp.float32),
        draws=jnp.zeros((replicates,), jnp.float32),
    )


def add_pictures(
    group: GroupCounts,
    pictures: PictureCounts,
    is_member: Bool[Array, " B"],
    draws: Float32[Array, "B R"],
) -> GroupCounts:
    """Adds pictures to their group's counts.

    An int32 holds 2³¹ pixels of a bin. Before there are more, whoever calls this must take the
    counts off the device and begin anew.

    Args:
        group: the counts so far.
        pictures: the pictures of a batch.
        is_member: which of its pictures belong to the group.
        draws: how often each replicate draws each picture.
    """
    sizes = pictures.pixels.sum((1, 2))
    takes = is_member & (sizes > 0)
    drawn = jnp.where(takes[:, None], draws, 0)
    coarse = jnp.concatenate(
        [coarsen(pictures.pixels).astype(jnp.float32), coarsen(pictures.regions)[:, None]], axis=1
    )

    # Products, since XLA's sums over the first axis are many times slower on CPUs.
    def weighted_sum(weights, parts):
        return jnp.tensordot(weights, parts, axes=(0, 0), precision=lax.Precision.HIGHEST)

    return GroupCounts(
        pixels=group.pixels + jnp.where(takes[:, None, None], pictures.pixels, 0).sum(0),
        regions=group.regions + weighted_sum(takes.astype(jnp.float32), pictures.regions),
        rates=group.rates
        + weighted_sum(takes / jnp.maximum(sizes, 1), pictures.pixels[:, 0].astype(jnp.float32)),
        pictures=group.pictures + takes.sum(dtype=jnp.int32),
        replicates=group.replicates + weighted_sum(drawn, coarse),
        draws=group.draws + drawn.sum(0),
    )


def mean_over_defects(
    pictures: PictureCounts, weights: Float32[Array, " 65536"]
) -> tuple[Float32[Array, " B"], Int32[Array, " B"]]:
    """Weighs each picture's defect pixels by the bin that they fall into.

    Args:
        pictures: histograms of a batch.
        weights: the weights of the bins.

    Returns:
        The mean weight of each picture's defect pixels, 0 if it has none; and how many it has.
    """
    defects = pictures.pixels[:, 1]
    count = defects.sum(1)
    # Not a matrix product: on accelerators that would round the counts.
    return (defects * weights[None]).sum(1) / jnp.maximum(count, 1), count


def coarsen(counts):
    """Brings histograms, on the last axis, to the bins of the bootstrap."""
    return counts.reshape(*counts.shape[:-1], COARSE_BINS, -1).sum(-1)
