"""Drawing samples to fine-tune on: simulated, accepted and labelled ones, mixed on the device."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key, UInt8
from ml_collections import ConfigDict

from draem_jax.anomalies import AnomalyParams
from draem_jax.data.examples import Examples
from draem_jax.training.pictures import Chosen
from draem_jax.training.samples import Draw, Samples, make_samples


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class TuningParams:
    """How given pictures are mixed and varied; traced numbers, see `config.finetune`.

    Attributes:
        accepted_share: the share of samples that are made of accepted pictures.
        defect_share: the share of samples that are labelled defects.
        flip: whether pictures are mirrored, upright and sideways.
        turn: whether square pictures are turned by quarters.
        brightness: by how large a share they are made brighter or darker at most.
    """

    accepted_share: Any
    defect_share: Any
    flip: Any
    turn: Any
    brightness: Any


class TuningPictures(NamedTuple):
    """The pictures that were given; they stay on the device.

    Attributes:
        accepted: on which nothing is a defect, RGB; one black one where none was given.
        defects: with defects, RGB; one black one where none was given.
        masks: the masks of the defects, of what is looked at.
        planes: true where to look in the accepted pictures; None for everywhere.
    """

    accepted: UInt8[Array, "A H W 3"]
    defects: UInt8[Array, "D H W 3"]
    masks: Bool[Array, "D H W 1"]
    planes: Bool[Array, "A H W 1"] | None = None


def tuning_params(config: ConfigDict, examples: Examples) -> TuningParams:
    """The config's numbers; the share of a kind that was not given is 0."""
    finetune = config.finetune
    return TuningParams(
        accepted_share=finetune.accepted_share * bool(len(examples.accepted)),
        defect_share=finetune.defect_share * bool(len(examples.defects)),
        flip=float(finetune.flip),
        turn=float(finetune.turn),
        brightness=finetune.brightness,
    )


def tuning_pictures(examples: Examples) -> TuningPictures:
    """Lays out given pictures for `make_tuning_samples`."""

    def at_least_one(array: np.ndarray) -> Array:
        return jnp.asarray(array if len(array) else np.zeros((1, *array.shape[1:]), array.dtype))

    planes = examples.accepted_planes
    return TuningPictures(
        at_least_one(examples.accepted),
        at_least_one(examples.defects),
        at_least_one(examples.masks[..., None]),
        None if planes is None else at_least_one(planes[..., None]),
    )


def make_tuning_samples(
    draw: Draw,
    chosen: Chosen,
    given: TuningPictures,
    params: AnomalyParams,
    tuning: TuningParams,
) -> Samples:
    """Makes samples that depend on nothing but the run's key, the step and each sample's index.

    Each sample is one of three kinds, by the shares of `tuning`: made as in training of a normal
    picture; made likewise of an accepted one, so that nothing is marked on it but the anomaly that
    is simulated, if one is; or a labelled defect with its mask. Given pictures are drawn with
    replacement, and varied.

    Args:
        draw: which samples to make.
        chosen: the pictures for those that are made as in training, from `take_pictures`.
        given: accepted pictures and defects.
        params: what the anomaly generator does.
        tuning: how given pictures are mixed and varied.

    Returns:
        The samples; of a labelled defect, whose normal picture nobody knows, `normal` is the
        picture itself.
    """

    def one(
        keys: Key[Array, " 4"], normal: UInt8[Array, "H W 3"], plane: Bool[Array, "H W"] | None
    ) -> tuple[Array, Array, Array, Array, Array | None]:
        kind_key, which_key, vary_key = jax.random.split(jax.random.fold_in(keys[0], 1), 3)
        kind = jax.random.uniform(kind_key)
        is_accepted = kind < tuning.accepted_share
        is_defect = kind >= 1 - tuning.defect_share
        which_accepted = jax.random.randint(which_key, (), 0, len(given.accepted))
        accepted = given.accepted[which_accepted]
        which = jax.random.randint(which_key, (), 0, len(given.defects))
        picture = jnp.where(is_defect, given.defects[which], accepted)
        mask = given.masks[which]
        if given.planes is not None:
            # Where to look in an accepted picture is varied in the place of a mask.
            mask = jnp.where(is_defect, mask, given.planes[which_accepted])
        picture, mask = _vary(vary_key, picture, mask, tuning)
        if plane is not None:
            plane = jnp.where(is_accepted, mask[..., 0] > 0, plane)
        return jnp.where(is_accepted, picture, normal), is_defect, picture, mask, plane

    inside = chosen.inside
    planes = None if inside is None else inside.planes
    backgrounds, is_defect, pictures, masks, planes = jax.vmap(one)(
        draw.sample_keys(), chosen.normal, planes
    )
    if inside is not None:
        inside = inside.replace(planes=planes)
    samples = make_samples(draw, chosen._replace(normal=backgrounds, inside=inside), params)
    is_defect = is_defect[:, None, None, None]
    labelled = pictures.astype(jnp.float32) / 255
    if inside is not None and inside.on_object:
        share = params.shapes.foreground_border
        masks = masks * inside.replace(planes=None).of(labelled, border_share=share)
    return Samples(
        jnp.where(is_defect, labelled, samples.normal),
        jnp.where(is_defect, labelled, samples.augmented),
        jnp.where(is_defect, masks, samples.mask),
    )


def _vary(
    key: Key[Array, ""],
    image: UInt8[Array, "H W 3"],
    mask: Bool[Array, "H W 1"],
    tuning: TuningParams,
) -> tuple[UInt8[Array, "H W 3"], Float[Array, "H W 1"]]:
    """Mirrors, turns and brightens an image, and mirrors and turns its mask alike."""
    keys = jax.random.split(key, 4)
    both = jnp.concatenate([image, mask.astype(jnp.uint8)], axis=-1)
    for axis in (0, 1):
        mirrored = jax.random.uniform(keys[axis]) < 0.5 * tuning.flip
        both = jnp.where(mirrored, jnp.flip(both, axis), both)
    if both.shape[0] == both.shape[1]:
        # Mirrored at the diagonal, which makes quarter turns of the other two.
        turned = jax.random.uniform(keys[2]) < 0.5 * tuning.turn
        both = jnp.where(turned, jnp.swapaxes(both, 0, 1), both)
    factor = 1 + tuning.brightness * jax.random.uniform(keys[3], minval=-1.0)
    brightened = jnp.clip(jnp.rint(both[..., :3] * factor), 0, 255).astype(jnp.uint8)
    return brightened, both[..., 3:].astype(jnp.float32)
