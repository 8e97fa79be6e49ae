"""Drawing training samples on the device: which picture, which texture, which anomaly."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Int, Key, UInt8

from draem_jax.anomalies import (
    AnomalyParams,
    TextureParams,
    rotate_normals_with_keys,
    simulate_with_keys,
)
from draem_jax.anomalies.samples import map_samples
from draem_jax.anomalies.sources import MAKERS
from draem_jax.data.texture_sources import SourceKind
from draem_jax.training.pictures import Parts, Pictures, StreamedPictures, TextureMix

# Kinds of sources whose textures are pictures; those of all others are made.
_LOOKED_UP = frozenset({"pictures", "self"})


class Choices(NamedTuple):
    """Which pictures the samples of a batch are made of.

    Attributes:
        normal: index of the normal picture.
        part: index of the part of the anomaly source.
        texture: index of the texture: among the normal pictures where the part is of kind "self",
            among the textures where it is of kind "pictures", of no meaning elsewhere.
    """

    normal: Int[Array, " B"]
    part: Int[Array, " B"]
    texture: Int[Array, " B"]


class Samples(NamedTuple):
    """A batch to train on.

    Attributes:
        normal: what the reconstruction shall be, float in [0, 1].
        augmented: what the network sees, float in [0, 1].
        mask: 1 where an anomaly was simulated, else 0, float.
    """

    normal: Float[Array, "B H W 3"]
    augmented: Float[Array, "B H W 3"]
    mask: Float[Array, "B H W 1"]


def draw_samples(
    key: Key[Array, ""],
    step: Int[Array, ""],
    sample_indices: Int[Array, " B"],
    pictures: Pictures,
    params: AnomalyParams,
) -> Samples:
    """Draws samples that depend on nothing but the run's key, the step and each sample's index.

    So a run goes on from any step as if it had never stopped, and a batch holds the same samples
    on any number of devices. Pictures are drawn with replacement, as in the authors' code.

    Args:
        key: the run's key for samples.
        step: the step that the samples are for.
        sample_indices: the samples' places in the batch over all devices and hosts.
        pictures: what to draw from.
        params: what the anomaly generator does.

    Returns:
        The samples.
    """
    chosen = take_pictures(0, key, step, sample_indices, pictures)
    return make_samples(key, step, sample_indices, *chosen, params)


def take_pictures(
    i: Int[ArrayLike, ""],
    key: Key[Array, ""],
    step: Int[ArrayLike, ""],
    sample_indices: Int[ArrayLike, " B"],
    pictures: Pictures | StreamedPictures,
) -> tuple[UInt8[Array, "B H W 3"], UInt8[Array, "B H W 3"], Parts]:
    """The normal picture, texture and part of each sample of a step; see `draw_samples`.

    Args:
        i: number of the step within the call, by which streamed pictures are ordered.
        key: the run's key for samples.
        step: the step that the samples are for.
        sample_indices: their places in the batch.
        pictures: to choose from, or, where they stream, chosen already.
    """
    if isinstance(pictures, StreamedPictures):
        parts = pictures.parts.replace(indices=pictures.parts.indices[i])
        return pictures.normal[i], pictures.textures[i], parts
    choices = choose(key, step, sample_indices, len(pictures.normal), pictures.mix)
    textures = pictures.textures[choices.texture]
    if "self" in pictures.mix.kinds:
        itself = _is_kind(choices.part, pictures.mix, "self")[:, None, None, None]
        textures = jnp.where(itself, pictures.normal[choices.texture], textures)
    parts = Parts(choices.part, pictures.mix.kinds)
    return pictures.normal[choices.normal], textures, parts


def choose(
    key: Key[Array, ""],
    step: Int[ArrayLike, ""],
    sample_indices: Int[ArrayLike, " B"],
    normal_count: int,
    mix: TextureMix,
) -> Choices:
    """Chooses the pictures of samples, with replacement; see `draw_samples`."""

    def one(keys: Key[Array, " 4"]) -> Choices:
        normal = jax.random.randint(keys[0], (), 0, normal_count)
        part = _choose_part(keys[1], mix)
        texture = mix.starts[part] + jax.random.randint(keys[1], (), 0, mix.counts[part])
        return Choices(normal, part, texture)

    mix = jax.tree.map(jnp.asarray, mix)
    return Choices(*jax.vmap(one)(sample_keys(key, step, sample_indices)))


def make_samples(
    key: Key[Array, ""],
    step: Int[Array, ""],
    sample_indices: Int[Array, " B"],
    normal: UInt8[Array, "B H W 3"],
    textures: UInt8[Array, "B H W 3"],
    parts: Parts,
    params: AnomalyParams,
) -> Samples:
    """Makes the samples of `draw_samples` from the pictures that `choose` chose for them."""
    keys = sample_keys(key, step, sample_indices)
    images = normal.astype(jnp.float32) / 255
    sources = textures.astype(jnp.float32) / 255
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
    images = rotate_normals_with_keys(keys[:, 2], images, params)
    simulated = simulate_with_keys(keys[:, 3], images, sources, params)
    return Samples(images, simulated.augmented, simulated.mask)


def sample_keys(
    key: Key[Array, ""], step: Int[ArrayLike, ""], sample_indices: Int[ArrayLike, " B"]
) -> Key[Array, "B 4"]:
    """What each sample's draws depend on: its picture, its texture, its turn and its anomaly."""
    step_key = jax.random.fold_in(key, step)
    return jax.vmap(lambda index: jax.random.split(jax.random.fold_in(step_key, index), 4))(
        sample_indices
    )


def _choose_part(key: Key[Array, ""], mix: TextureMix) -> Int[Array, ""]:
    if len(mix.kinds) == 1:
        return jnp.zeros((), jnp.int32)
    weights = jnp.log(jnp.asarray(mix.weights))
    return jax.random.categorical(jax.random.fold_in(key, 1), weights).astype(jnp.int32)


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
