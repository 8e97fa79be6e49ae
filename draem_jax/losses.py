"""The losses of DRÆM and their weighted sum (paper, equations 1 to 3).

A term is one entry of `RECONSTRUCTION_TERMS` or `MAP_TERMS`, and has a field of its name in
`LossWeights` and one in `Losses`.
"""

import dataclasses
import functools
import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from draem_jax.errors import UserError
from draem_jax.similarity import halved, ssim_map

_COARSE_SIZES = 3


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class LossWeights:
    """What each term of the loss is multiplied by; traced, so other numbers run the same program.

    The paper sums squared error, structure and focal loss, each with weight 1. L1 takes the
    squared error's place with `l1=1.0, l2=0.0`. Weights that are not traced belong to terms that
    are not computed where their weight is 0; another one is another program.
    """

    l2: Any = 1.0
    l1: Any = 0.0
    ssim: Any = 1.0
    coarse_ssim: float = dataclasses.field(default=0.0, metadata={"static": True})
    focal: Any = 1.0


PAPER_WEIGHTS = LossWeights()


class Losses(NamedTuple):
    """The loss and its terms before they are weighted, each a scalar float32.

    A term of something that the networks do not make is 0.

    Attributes:
        total: the weighted sum, which training minimises.
        l2: mean squared error of the reconstruction.
        l1: mean absolute error of the reconstruction.
        ssim: 1 − SSIM of the reconstruction.
        coarse_ssim: the same at a half, a quarter and an eighth of its size, their mean.
        focal: focal loss of the anomaly map.
    """

    total: Float[Array, ""]
    l2: Float[Array, ""]
    l1: Float[Array, ""]
    ssim: Float[Array, ""]
    coarse_ssim: Float[Array, ""]
    focal: Float[Array, ""]


def draem_losses(
    *,
    images: Float[Array, "B H W 3"],
    masks: Float[Array, "B H W 1"],
    reconstruction: Float[Array, "B H W 3"] | None,
    logits: Float[Array, "B H W 2"] | None,
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
        weights: the weights of the terms.
        data_range: the data range of the pictures, for SSIM.

    Returns:
        The total and its terms, means over the batch.
    """
    terms = dict.fromkeys((*RECONSTRUCTION_TERMS, *MAP_TERMS), jnp.zeros((), images.dtype))
    left_out = {name for name in _not_traced() if not getattr(weights, name)}
    if reconstruction is not None:
        for name, of_reconstruction in RECONSTRUCTION_TERMS.items():
            if name not in left_out:
                terms[name] = of_reconstruction(reconstruction, images, data_range)
    if logits is not None:
        for name, of_map in MAP_TERMS.items():
            terms[name] = of_map(logits, masks)
    weighted = (
        getattr(weights, name) * term for name, term in terms.items() if name not in left_out
    )
    return Losses(total=functools.reduce(operator.add, weighted), **terms)


def _not_traced() -> set[str]:
    fields = dataclasses.fields(LossWeights)
    return {field.name for field in fields if field.metadata.get("static")}


def check_weights(weights: LossWeights, *, reconstructs: bool, discriminates: bool) -> None:
    """Raises UserError unless there is something to learn for each network that there is.

    Args:
        weights: the weights of the terms, as `config.losses` gives them.
        reconstructs: whether there is a reconstructive network.
        discriminates: whether there is a discriminative one.
    """
    for name, weight in dataclasses.asdict(weights).items():
        if not 0 <= weight < float("inf"):
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


RECONSTRUCTION_TERMS: Mapping[str, Callable[[Array, Array, float], Array]] = {
    "l2": lambda reconstruction, images, _: l2_loss(reconstruction, images),
    "l1": lambda reconstruction, images, _: l1_loss(reconstruction, images),
    "ssim": lambda reconstruction, images, data_range: (
        1 - ssim(reconstruction, images, data_range=data_range)
    ),
    "coarse_ssim": lambda reconstruction, images, data_range: (
        1 - coarse_ssim(reconstruction, images, data_range=data_range)
    ),
}
"""What a reconstruction costs: from (reconstruction, normal pictures, their range)."""

MAP_TERMS: Mapping[str, Callable[[Array, Array], Array]] = {"focal": focal_loss}
"""What an anomaly map costs: from (logits, masks)."""
