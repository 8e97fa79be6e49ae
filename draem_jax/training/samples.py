"""Drawing training samples on the device: which picture, which texture, which anomaly."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, UInt8
from ml_collections import ConfigDict

from draem_jax.anomalies import AnomalyParams, rotate_normals_with_keys, simulate_with_keys
from draem_jax.config import image_size
from draem_jax.data.loading import load_training_set
from draem_jax.data.textures import builtin_textures, folder_textures


class Pictures(NamedTuple):
    """What samples are drawn from; it stays in device memory as uint8.

    Attributes:
        normal: the normal pictures, RGB.
        textures: the anomaly source, RGB, of the same height and width.
    """

    normal: UInt8[Array, "N H W 3"]
    textures: UInt8[Array, "T H W 3"]


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


def load_pictures(config: ConfigDict) -> Pictures:
    """Loads the pictures that the config names, onto the default device.

    Raises:
        UserError: data set, category or texture folder do not do.
    """
    size = image_size(config)
    normal = load_training_set(config.data.name, config.data.category, size=size).images
    if config.data.texture_source == "folder":
        textures = folder_textures(config.data.texture_folder, size)
    else:
        textures = builtin_textures(size)
    return Pictures(jnp.asarray(normal), jnp.asarray(textures))


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
        params: the anomaly generator's numbers.

    Returns:
        The samples.
    """
    step_key = jax.random.fold_in(key, step)
    keys = jax.vmap(lambda index: jax.random.split(jax.random.fold_in(step_key, index), 4))(
        sample_indices
    )
    normal = _draw(keys[:, 0], pictures.normal)
    textures = _draw(keys[:, 1], pictures.textures)
    normal = rotate_normals_with_keys(keys[:, 2], normal, params)
    simulated = simulate_with_keys(keys[:, 3], normal, textures, params)
    return Samples(normal, simulated.augmented, simulated.mask)


def _draw(keys: Key[Array, " B"], pictures: UInt8[Array, "N H W 3"]) -> Float[Array, "B H W 3"]:
    indices = jax.vmap(lambda key: jax.random.randint(key, (), 0, pictures.shape[0]))(keys)
    return pictures[indices].astype(jnp.float32) / 255
