"""The losses of DRÆM and their weighted sum (paper, equations 1 to 3).

A term is one entry of `RECONSTRUCTION_TERMS`, `MAP_TERMS` or `AUXILIARY_TERMS`, and has a field of
its name in `LossWeights` and one in `Losses`.
"""

import dataclasses
import functools
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from draem_jax.errors import UserError
from draem_jax.similarity import halved, ssim_map

_COARSE_SIZES = 3

_T = TypeVar("_T")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class LossWeights:
    """What each term of the loss is multiplied by; traced, so other numbers run the same program.

    The paper sums squared error, structure and focal loss, each with weight 1. L1 takes the
    squared error's place with `l1=1.0, l2=0.0`. A weight that is None leaves its term out of the
    program, where 0 computes it for the log. Those of `AUXILIARY_TERMS` matter where the networks
    make what they are of.
    """

    l2: Any = 1.0
    l1: Any = 0.0
    ssim: Any = 1.0
    coarse_ssim: Any = None
    frequency: Any = None
    focal: Any = 1.0
    deep: Any = 0.5
    sspcab: Any = 0.1


PAPER_WEIGHTS = LossWeights()

COSTLY_TERMS = ("coarse_ssim", "frequency")
"""Terms that are computed only where they are asked for: nobody waits for them at a weight of 0."""


class Losses(NamedTuple):
    """The loss and its terms before they are weighted, each a scalar float32.

    A term of something that the networks do not make is 0, and so is one that is left out.

    Attributes:
        total: the weighted sum, which training minimises.
        l2: mean squared error of the reconstruction.
        l1: mean absolute error of the reconstruction.
        ssim: 1 − SSIM of the reconstruction.
        coarse_ssim: the same at a half, a quarter and an eighth of its size, their mean.
        frequency: focal frequency loss of the reconstruction.
        focal: focal loss of the anomaly map.
        deep: focal loss of the maps at coarser scales.
        sspcab: what the predictive block gets wrong.
    """

    total: Float[Array, ""]
    l2: Float[Array, ""]
    l1: Float[Array, ""]
    ssim: Float[Array, ""]
    coarse_ssim: Float[Array, ""]
    frequency: Float[Array, ""]
    focal: Float[Array, ""]
    deep: Float[Array, ""]
    sspcab: Float[Array, ""]


def draem_losses(
    *,
    images: Float[Array, "B H W 3"],
    masks: Float[Array, "B H W 1"],
    reconstruction: Float[Array, "B H W 3"] | None,
    logits: Float[Array, "B H W 2"] | None,
    auxiliary: Mapping[str, tuple[Array, ...]] | None = None,
    weights: LossWeights = PAPER_WEIGHTS,
    data_range: float = 1.0,
) -> Losses:
    """Computes what DRÆM minimises: reconstruction as the normal picture, map as the mask.

    Args:
        images: the normal pictures, float in [0, 1].
        masks: 1 where an anomaly was simulated, else 0.
        reconstruction: what is made of the augmented pictures; None if none is made.
        logits: the logits of normal (channel 0) and anomalous (channel 1); None if none are
            learned.
        auxiliary: what the networks make for the loss alone, by the name of its term.
        weights: the weights of the terms.
        data_range: the data range of the pictures, for SSIM.

    Returns:
        The total and its terms, means over the batch.
    """
    terms = dict.fromkeys(Losses._fields[1:], jnp.zeros((), images.dtype))
    if reconstruction is not None:
        for name, of_reconstruction in _asked(RECONSTRUCTION_TERMS, weights):
            terms[name] = of_reconstruction(reconstruction, images, data_range)
    if logits is not None:
        for name, of_map in _asked(MAP_TERMS, weights):
            terms[name] = of_map(logits, masks)
    for name, of_made in _asked(AUXILIARY_TERMS, weights):
        if auxiliary and name in auxiliary:
            terms[name] = of_made(auxiliary[name], masks)
    weighted = (getattr(weights, name) * term for name, term in _asked(terms, weights))
    return Losses(total=functools.reduce(operator.add, weighted), **terms)


def _asked(of_terms: Mapping[str, _T], weights: LossWeights) -> Iterator[tuple[str, _T]]:
    """Those of some terms that are not left out."""
    return ((name, of) for name, of in of_terms.items() if getattr(weights, name) is not None)


def check_weights(weights: LossWeights, *, reconstructs: bool, discriminates: bool) -> None:
    """Raises UserError unless there is something to learn for each network that there is.

    Args:
        weights: the weights of the terms, as `config.losses` gives them.
        reconstructs: whether there is a reconstructive network.
        discriminates: whether there is a discriminative one.
    """
    for name, weight in dataclasses.asdict(weights).items():
        if weight is not None and not 0 <= weight < float("inf"):
            raise UserError(f"config.losses.{name} must be 0 or more, not {weight:g}")
    for exists, terms, otherwise in (
        (reconstructs, RECONSTRUCTION_TERMS, "nothing is reconstructed"),
        (discriminates, MAP_TERMS, "no anomaly map is learned"),
    ):
        if exists and not any(getattr(weights, name) for name in terms):
            raise UserError(f"{_one_of(terms)} must be above 0, or {otherwise}")


def _one_of(terms: Iterable[str]) -> str:
    *others, last = terms
    if not others:
        return f"config.losses.{last}"
    return f"config.losses: one of {', '.join(others)} and {last}"


def l2_loss(a: Float[Array, "B H W C"], b: Float[Array, "B H W C"]) -> Float[Array, ""]:
    """Mean squared difference over all pixels and channels."""
    return jnp.mean(jnp.square(a - b))


def l1_loss(a: Float[Array, "B H W C"], b: Float[Array, "B H W C"]) -> Float[Array, ""]:
    """Mean absolute difference over all pixels and channels."""
    return jnp.mean(jnp.abs(a - b))


def ssim(
    a: Float[Array, "B H W C"], b: Float[Array, "B H W C"], *, data_range: float = 1.0
) -> Float[Array, ""]:
    """Mean structural similarity (paper, equation 1); see `similarity.ssim_map`."""
    return jnp.mean(ssim_map(a, b, data_range=data_range))


def coarse_ssim(
    a: Float[Array, "B H W C"], b: Float[Array, "B H W C"], *, data_range: float = 1.0
) -> Float[Array, ""]:
    """Mean structural similarity at a half, a quarter and an eighth of the size, their mean.

    Pictures are halved by means of 2 × 2. At each size the window is 11 × 11, so that what it sees
    is twice, four and eight times as large.

    Args:
        a: float, nominally in [0, 1]; height and width divisible by 8.
        b: the same shape.
        data_range: largest minus smallest possible value.

    References:
        Wang, Simoncelli, Bovik: Multi-scale structural similarity, Asilomar 2003, for the sizes.
    """
    found = []
    for _ in range(_COARSE_SIZES):
        a, b = halved(a), halved(b)
        found.append(ssim(a, b, data_range=data_range))
    return functools.reduce(operator.add, found) / _COARSE_SIZES


def focal_loss(logits: Float[Array, "B H W 2"], masks: Float[Array, "B H W 1"]) -> Float[Array, ""]:
    """Focal loss of softmax(logits) against the mask, γ = 2, both classes weighted 1.

    As in the authors' code, the one-hot target is clamped to [1e-5, 1 − 1e-5] and 1e-5 is added to
    the target's probability, which keeps the logarithm finite.

    Args:
        logits: the logits of normal (channel 0) and anomalous (channel 1).
        masks: 1 for anomalous, 0 for normal.

    Returns:
        The mean over all pixels.

    References:
        Lin et al.: Focal loss for dense object detection, ICCV 2017, equation 4.
    """
    smooth = 1e-5
    target = jnp.concatenate([1 - masks, masks], axis=-1)
    target = jnp.clip(target, smooth, 1 - smooth)
    p_t = jnp.sum(target * jax.nn.softmax(logits), axis=-1) + smooth
    return jnp.mean(-jnp.square(1 - p_t) * jnp.log(p_t))


def frequency_loss(a: Float[Array, "B H W C"], b: Float[Array, "B H W C"]) -> Float[Array, ""]:
    """Squared difference of the spectra, the more weighted the more a frequency is off.

    A picture's squared error is small where fine texture is replaced by its mean. Here each
    frequency counts by its share of the largest error among a plane's frequencies (α = 1), through
    which no gradient flows.

    Returns:
        The mean over all frequencies, channels and pictures; at most `l2_loss`.

    References:
        Jiang, Dai, Wu, Loy: Focal frequency loss for image reconstruction and synthesis, ICCV 2021,
        equations 8 and 9.
    """
    spectrum = jnp.fft.fft2(a - b, axes=(1, 2), norm="ortho")
    power = jnp.square(spectrum.real) + jnp.square(spectrum.imag)
    error = jnp.sqrt(jax.lax.stop_gradient(power))
    largest = jnp.max(error, axis=(1, 2), keepdims=True)
    weight = error / jnp.maximum(largest, jnp.finfo(error.dtype).tiny)
    return jnp.mean(weight * power)


def coarse_focal_loss(
    logits: tuple[Float[Array, "B _H _W 2"], ...], masks: Float[Array, "B H W 1"]
) -> Float[Array, ""]:
    """Mean of the focal losses of maps at coarser scales.

    At each a block of the mask is anomalous if a pixel of it is: by its mean, a defect smaller than
    half of a block would be learned as normal.

    Args:
        logits: see `focal_loss`; of each map, whose sides divide the mask's by the same number.
        masks: 1 for anomalous, 0 for normal.

    References:
        Lee et al.: Deeply-supervised nets, AISTATS 2015.
    """
    losses = [focal_loss(one, _at_scale(masks, one)) for one in logits]
    return functools.reduce(operator.add, losses) / len(losses)


def _at_scale(masks: Float[Array, "B H W 1"], logits: Array) -> Float[Array, "B _H _W 1"]:
    batch, height, width, _ = logits.shape
    blocks = masks.reshape(
        batch, height, masks.shape[1] // height, width, masks.shape[2] // width, 1
    )
    return blocks.max((2, 4))


RECONSTRUCTION_TERMS: Mapping[str, Callable[[Array, Array, float], Array]] = {
    "l2": lambda reconstruction, images, _: l2_loss(reconstruction, images),
    "l1": lambda reconstruction, images, _: l1_loss(reconstruction, images),
    "ssim": lambda reconstruction, images, data_range: (
        1 - ssim(reconstruction, images, data_range=data_range)
    ),
    "coarse_ssim": lambda reconstruction, images, data_range: (
        1 - coarse_ssim(reconstruction, images, data_range=data_range)
    ),
    "frequency": lambda reconstruction, images, _: frequency_loss(reconstruction, images),
}
"""What a reconstruction costs: from (reconstruction, normal pictures, their range)."""

MAP_TERMS: Mapping[str, Callable[[Array, Array], Array]] = {"focal": focal_loss}
"""What an anomaly map costs: from (logits, masks)."""

AUXILIARY_TERMS: Mapping[str, Callable[[tuple[Array, ...], Array], Array]] = {
    "deep": coarse_focal_loss,
    "sspcab": lambda errors, _: functools.reduce(operator.add, errors),
}
"""What is made for the loss alone costs: from (all that was made, masks)."""
