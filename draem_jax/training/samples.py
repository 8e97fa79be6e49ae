"""Drawing training samples on the device: which picture, which texture, which anomaly."""

import enum
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Bool, Float, Int, Key, Shaped, UInt32

from draem_jax.anomalies import (
    AnomalyParams,
    TextureParams,
    brighten_normals_with_keys,
    rotate_normals_with_keys,
    simulate_with_keys,
)
from draem_jax.anomalies.samples import map_samples
from draem_jax.anomalies.sources import MAKERS
from draem_jax.data.crops import corners_of
from draem_jax.data.texture_sources import SourceKind
from draem_jax.training.pictures import Chosen, Parts, Pictures, TextureMix

# Kinds of sources whose textures are pictures; those of all others are made.
_LOOKED_UP = frozenset({"pictures", "self"})


@enum.unique
class ReservedStep(enum.IntEnum):
    """Steps that no run is long enough to reach, so that their samples are never trained on.

    Each has a purpose of its own, whose samples no other purpose sees either.
    """

    VALIDATION = 2**31 - 1
    """By whose loss the best checkpoint of a training run is chosen."""

    CALIBRATION = 2**31 - 2
    """With simulated anomalies, by which thresholds and the image score are chosen."""

    TUNING_VALIDATION = 2**31 - 3
    """By whose loss the best checkpoint of a fine-tuning is chosen."""

    ROLLBACK = 2**31 - 4
    """From which come the keys of runs that went back, see `draem_jax.training.rollbacks`."""


class Draw(NamedTuple):
    """Which samples to draw: all that their random numbers depend on.

    Attributes:
        key: the run's key for samples.
        step: the step that the samples are for; int.
        indices: the samples' places in the batch over all devices and hosts; int (B,).
    """

    key: Key[Array, ""]
    step: Any
    indices: Any

    def sample_keys(self) -> Key[Array, "B 4"]:
        """Keys for each sample's choice of pictures, its texture, its turn and its anomaly."""
        step_key = jax.random.fold_in(self.key, self.step)
        return jax.vmap(lambda index: jax.random.split(jax.random.fold_in(step_key, index), 4))(
            self.indices
        )


class Choices(NamedTuple):
    """Which pictures the samples of a batch are made of, by their places.

    Attributes:
        normal: index of the normal picture.
        part: index of the part of the anomaly source.
        texture: index of the texture: among the normal pictures where the part is of kind "self",
            among the textures where it is of kind "pictures", of no meaning elsewhere.
        bits: random bits for the corners of crops, see `draem_jax.data.crops`: row and column in
            the normal picture, then in the texture; None where samples see whole pictures.
    """

    normal: Int[Array, " B"]
    part: Int[Array, " B"]
    texture: Int[Array, " B"]
    bits: UInt32[Array, "B 4"] | None = None


class Samples(NamedTuple):
    """A batch to train on.

    Attributes:
        normal: what the reconstruction shall be, float in [0, 1].
        augmented: what the network sees, float in [0, 1].
        mask: 1 where an anomaly was simulated, else 0, float.
        inside: true where anomalies may be, turned as the picture is; None for everywhere.
    """

    normal: Float[Array, "B H W 3"]
    augmented: Float[Array, "B H W 3"]
    mask: Float[Array, "B H W 1"]
    inside: Bool[Array, "B H W 1"] | None = None


def draw_samples(
    draw: Draw, pictures: Pictures | Chosen, params: AnomalyParams, *, i: Int[ArrayLike, ""] = 0
) -> Samples:
    """Draws samples that depend on nothing but the run's key, the step and each sample's index.

    So a run goes on from any step as if it had never stopped, and a batch holds the same samples
    on any number of devices. Pictures are drawn with replacement, as in the authors' code.

    Args:
        draw: which samples to draw.
        pictures: what to draw from, or, where they stream, what was drawn for each step of a call.
        params: what the anomaly generator does.
        i: number of the step within the call.

    Returns:
        The samples.
    """
    return make_samples(draw, take_pictures(i, draw, pictures), params)


def take_pictures(i: Int[ArrayLike, ""], draw: Draw, pictures: Pictures | Chosen) -> Chosen:
    """The pictures that a step's samples are made of; see `draw_samples`.

    Args:
        i: number of the step within the call, by which streamed pictures are ordered.
        draw: which samples they are for.
        pictures: to choose from, or, where they stream, chosen already for each step of the call.
    """
    if isinstance(pictures, Chosen):
        return jax.tree.map(lambda of_steps: of_steps[i], pictures)
    crops = pictures.crops
    choices = choose(draw, len(pictures.normal), pictures.mix, in_crops=crops is not None)
    bits: Any = (None, None)
    ranges: Any = (None, None)
    if crops is not None and choices.bits is not None:
        bits = choices.bits[:, :2], choices.bits[:, 2:]
        ranges = crops.normal, crops.textures

    def take(stack: Array, indices: Array, ranges: Any, bits: Any) -> Array:
        if crops is None:
            return stack[indices]
        return cut_crops(stack, indices, corners_of(bits, ranges[indices]), crops.size)

    normal = take(pictures.normal, choices.normal, ranges[0], bits[0])
    textures = take(pictures.textures, choices.texture, ranges[1], bits[1])
    if "self" in pictures.mix.kinds:
        itself = _is_kind(choices.part, pictures.mix, "self")[:, None, None, None]
        of_normal = take(pictures.normal, choices.texture, ranges[0], bits[1])
        textures = jnp.where(itself, of_normal, textures)
    parts = Parts(choices.part, pictures.mix.kinds)
    inside = jax.tree.map(
        lambda planes: take(planes, choices.normal, ranges[0], bits[0]), pictures.inside
    )
    return Chosen(normal, textures, parts, inside)


def cut_crops(
    stack: Shaped[Array, "N H W *channels"],
    indices: Int[Array, " B"],
    corners: Int[Array, "B 2"],
    size: tuple[int, int],
) -> Shaped[Array, "B h w *channels"]:
    """Cuts a crop of each of some pictures; see `cut_crop`."""
    return jax.vmap(lambda index, corner: cut_crop(stack, index, corner, size))(indices, corners)


def cut_crop(
    stack: Shaped[Array, "N H W *channels"],
    index: Int[Array, ""],
    corner: Int[Array, " 2"],
    size: tuple[int, int],
) -> Shaped[Array, "h w *channels"]:
    """Cuts a crop of a picture.

    Args:
        stack: pictures, or planes, among which it is.
        index: which it is.
        corner: the first row and column of the crop.
        size: (height, width) of the crop.
    """
    channels = stack.shape[3:]
    start = [index, *corner, *[0] * len(channels)]
    return lax.dynamic_slice(stack, start, (1, *size, *channels))[0]


def choose(draw: Draw, normal_count: int, mix: TextureMix, *, in_crops: bool = False) -> Choices:
    """Chooses the pictures of samples, with replacement; see `draw_samples`.

    Args:
        draw: which samples to choose for.
        normal_count: how many normal pictures there are.
        mix: the parts of the anomaly source.
        in_crops: choose crops of them as well, which changes nothing in the other choices.
    """

    def one(keys: Key[Array, " 4"]) -> Choices:
        normal = jax.random.randint(keys[0], (), 0, normal_count)
        part = _choose_part(keys[1], mix)
        texture = mix.starts[part] + jax.random.randint(keys[1], (), 0, mix.counts[part])
        if not in_crops:
            return Choices(normal, part, texture)
        bits = [_corner_bits(keys[0], 2), _corner_bits(keys[1], 3)]
        return Choices(normal, part, texture, jnp.concatenate(bits))

    mix = jax.tree.map(jnp.asarray, mix)
    return jax.vmap(one)(draw.sample_keys())


def make_samples(draw: Draw, chosen: Chosen, params: AnomalyParams) -> Samples:
    """Makes the samples of `draw_samples` from the pictures that `choose` chose for them."""
    keys, parts = draw.sample_keys(), chosen.parts
    images = chosen.normal.astype(jnp.float32) / 255
    sources = chosen.textures.astype(jnp.float32) / 255
    if not _LOOKED_UP.issuperset(parts.kinds):
        sources = map_samples(
            lambda key, part, texture, image: _made_texture(
                key, part, texture, image, parts.kinds, params.texture
            ),
            keys[:, 1],
            parts.indices,
            sources,
            images,
        )
    inside = None
    if chosen.inside is not None:
        inside = chosen.inside.of(images, border_share=params.shapes.foreground_border)
        # By the same keys, so that it turns as the picture does.
        turned = rotate_normals_with_keys(keys[:, 2], inside.astype(jnp.float32), params)
        inside = turned >= 0.5
    images = brighten_normals_with_keys(keys[:, 2], images, params)
    images = rotate_normals_with_keys(keys[:, 2], images, params)
    simulated = simulate_with_keys(keys[:, 3], images, sources, params, inside=inside)
    return Samples(images, simulated.augmented, simulated.mask, inside)


def _choose_part(key: Key[Array, ""], mix: TextureMix) -> Int[Array, ""]:
    if len(mix.kinds) == 1:
        return jnp.zeros((), jnp.int32)
    weights = jnp.log(jnp.asarray(mix.weights))
    return jax.random.categorical(jax.random.fold_in(key, 1), weights).astype(jnp.int32)


def _corner_bits(key: Key[Array, ""], number: int) -> UInt32[Array, " 2"]:
    """Bits for a corner; `number` is one by which nothing else is drawn from the key."""
    return jax.random.bits(jax.random.fold_in(key, number), (2,), jnp.uint32)


def _is_kind(part: Int[Array, "..."], mix: TextureMix, kind: str) -> Array:
    return jnp.array([known == kind for known in mix.kinds])[part]


def _made_texture(
    key: Key[Array, ""],
    part: Int[Array, ""],
    texture: Float[Array, "H W 3"],
    image: Float[Array, "H W 3"],
    kinds: tuple[SourceKind, ...],
    params: TextureParams,
) -> Float[Array, "H W 3"]:
    """The texture that was looked up, or one made; of the image before it is turned."""
    key = jax.random.fold_in(key, 2)

    def branch(kind: SourceKind) -> Callable[[], Float[Array, "H W 3"]]:
        if kind in _LOOKED_UP:
            return lambda: texture
        return lambda: MAKERS[kind](key, image, params=params)

    return jax.lax.switch(part, [branch(kind) for kind in kinds])
