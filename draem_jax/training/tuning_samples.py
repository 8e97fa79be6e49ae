"""Drawing samples to fine-tune on: simulated, accepted and labelled ones, mixed on the device."""

import dataclasses
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, UInt8, UInt32
from ml_collections import ConfigDict

from draem_jax.anomalies import AnomalyParams
from draem_jax.anomalies.inside import Inside
from draem_jax.data.crops import corner_range, corners_of
from draem_jax.data.examples import Examples
from draem_jax.training.pictures import Chosen
from draem_jax.training.samples import Draw, Samples, cut_crop, make_samples

# Of a defect, so many pixels are known at most by which crops of it are drawn.
_PIXELS = 1024


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


class TuningCrops(flax.struct.PyTreeNode):
    """Where crops of given pictures may lie, see `draem_jax.data.crops`.

    A crop of a defect holds a pixel of it that is drawn first, so that no sample is without.

    Attributes:
        accepted: the range of corners in each accepted picture; int32 (A, 4).
        defects: the last corner in each defect's picture; int32 (D, 2).
        pixels: pixels of each defect, by row and column: all, or so many evenly taken; int32
            (D, P, 2), behind them zeros.
        counts: how many pixels there are of each; int32 (D,).
        size: (height, width) of all crops; another one is another program.
    """

    accepted: Any
    defects: Any
    pixels: Any
    counts: Any
    size: tuple[int, int] = flax.struct.field(pytree_node=False)

    def accepted_corner(self, index: Any, bits: UInt32[Array, " 2"]) -> Int[Array, " 2"]:
        """The corner of a crop of an accepted picture, by random bits."""
        return corners_of(bits, self.accepted[index])

    def defect_corner(self, index: Any, bits: UInt32[Array, " 3"]) -> Int[Array, " 2"]:
        """The corner of a crop that holds a pixel of a defect, by random bits."""
        count = self.counts[index].astype(jnp.uint32)
        pixel = self.pixels[index, (bits[0] % count).astype(jnp.int32)]
        firsts = jnp.maximum(pixel + 1 - jnp.array(self.size), 0)
        lasts = jnp.minimum(pixel, self.defects[index])
        return corners_of(bits[1:], jnp.concatenate([firsts, lasts + 1 - firsts]))


class TuningPictures(NamedTuple):
    """The pictures that were given; they stay on the device.

    Attributes:
        accepted: on which nothing is a defect, RGB; one black one where none was given.
        defects: with defects, RGB; one black one where none was given.
        masks: the masks of the defects, of what is looked at.
        planes: true where to look in the accepted pictures; None for everywhere.
        crops: where crops of them may lie; None where samples see whole pictures.
    """

    accepted: UInt8[Array, "A H W 3"]
    defects: UInt8[Array, "D h w 3"]
    masks: Bool[Array, "D h w 1"]
    planes: Bool[Array, "A H W 1"] | None = None
    crops: TuningCrops | None = None


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


def tuning_pictures(examples: Examples, *, crop: tuple[int, int] | None = None) -> TuningPictures:
    """Lays out given pictures for `make_tuning_samples`.

    Args:
        examples: the pictures.
        crop: (height, width) of crops; None where samples see whole pictures.
    """

    def at_least_one(array: np.ndarray) -> Array:
        return jnp.asarray(array if len(array) else np.zeros((1, *array.shape[1:]), array.dtype))

    planes = examples.accepted_planes
    return TuningPictures(
        at_least_one(examples.accepted),
        at_least_one(examples.defects),
        at_least_one(examples.masks[..., None]),
        None if planes is None else at_least_one(planes[..., None]),
        None if crop is None else _tuning_crops(examples, crop),
    )


def _tuning_crops(examples: Examples, size: tuple[int, int]) -> TuningCrops:
    sizes, planes = examples.accepted_sizes, examples.accepted_planes
    assert sizes is not None
    assert examples.defect_sizes is not None
    # Of a kind that was not given, no crop is looked at, but one must be cut.
    accepted: list[Any] = []
    lasts: list[Any] = []
    pixels: list[np.ndarray] = []
    for i, (height, width) in enumerate(sizes.tolist()):
        plane = None if planes is None else planes[i, :height, :width]
        accepted.append(corner_range((height, width), size, plane))
    for mask, canvas in zip(examples.masks, examples.defect_sizes, strict=True):
        marked = np.argwhere(mask)
        evenly = np.linspace(0, len(marked) - 1, min(len(marked), _PIXELS)).astype(int)
        pixels.append(marked[evenly])
        lasts.append(canvas - size)
    counts = [len(some) for some in pixels] or [1]
    listed = np.zeros((len(counts), max(counts), 2), np.int32)
    for to, some in zip(listed, pixels, strict=False):
        to[: len(some)] = some
    return TuningCrops(
        jnp.asarray(np.array(accepted or [(0, 0, 1, 1)], np.int32)),
        jnp.asarray(np.array(lasts or [(0, 0)], np.int32)),
        jnp.asarray(listed),
        jnp.asarray(np.array(counts, np.int32)),
        size,
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
    replacement, and varied; where they are seen in tiles, samples are crops of them.

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
    crops, inside = given.crops, chosen.inside
    if given.planes is not None and (inside is None or inside.planes is None):
        everywhere = jnp.ones(chosen.normal.shape[:3], bool)
        inside = (Inside() if inside is None else inside).replace(planes=everywhere)

    def look_up(stack: Array, index: Array, corner: Any) -> Array:
        return stack[index] if crops is None else cut_crop(stack, index, corner, crops.size)

    def one(
        keys: Key[Array, " 4"], normal: UInt8[Array, "H W 3"], plane: Bool[Array, "H W"] | None
    ) -> tuple[Array, Array, Array, Array, Array | None]:
        kind_key, which_key, vary_key = jax.random.split(jax.random.fold_in(keys[0], 1), 3)
        kind = jax.random.uniform(kind_key)
        is_accepted = kind < tuning.accepted_share
        is_defect = kind >= 1 - tuning.defect_share
        which_accepted = jax.random.randint(which_key, (), 0, len(given.accepted))
        which = jax.random.randint(which_key, (), 0, len(given.defects))
        corner = corner_accepted = None
        if crops is not None:
            bits = jax.random.bits(jax.random.fold_in(keys[0], 3), (5,), jnp.uint32)
            corner_accepted = crops.accepted_corner(which_accepted, bits[:2])
            corner = crops.defect_corner(which, bits[2:])
        accepted = look_up(given.accepted, which_accepted, corner_accepted)
        picture = jnp.where(is_defect, look_up(given.defects, which, corner), accepted)
        mask = look_up(given.masks, which, corner)
        if plane is not None:
            # Where to look in an accepted picture is varied in the place of a mask.
            looked_at = jnp.ones_like(mask)
            if given.planes is not None:
                looked_at = look_up(given.planes, which_accepted, corner_accepted)
            mask = jnp.where(is_defect, mask, looked_at)
        picture, mask = _vary(vary_key, picture, mask, tuning)
        if plane is not None:
            plane = jnp.where(is_accepted, mask[..., 0] > 0, plane)
        return jnp.where(is_accepted, picture, normal), is_defect, picture, mask, plane

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
