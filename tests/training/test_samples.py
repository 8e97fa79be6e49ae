"""Samples of the default recipe are what they have always been."""

import jax
import jax.numpy as jnp
import numpy as np

from draem_jax.anomalies import AnomalyParams
from draem_jax.data.texture_sources import TextureSource
from draem_jax.training.pictures import Pictures, make_mix
from draem_jax.training.samples import Draw, draw_samples


def test_the_default_recipe_draws_the_recorded_samples(golden):
    """Equal to the bit where they were recorded; elsewhere up to rounding."""
    recorded = golden("samples")
    rng = np.random.default_rng(7)
    coarse = rng.integers(0, 256, (2, 4, 4, 4, 3), np.uint8)
    fine = coarse.repeat(8, axis=2).repeat(8, axis=3)
    fine = (fine // 2 + rng.integers(0, 128, fine.shape, np.uint8)).astype(np.uint8)
    sources = [
        TextureSource("builtin", 2.0),
        TextureSource("solid"),
        TextureSource("self"),
        TextureSource("noise"),
    ]
    pictures = Pictures(jnp.asarray(fine[0]), jnp.asarray(fine[1]), make_mix(sources, [4, 4, 4, 4]))
    params = AnomalyParams.from_dict({"untouched_share": 0.2, "threshold": (0.2, 0.5)})
    draw = Draw(jax.random.key(11), jnp.int32(3), jnp.arange(12))
    samples = jax.jit(draw_samples)(draw, pictures, params)
    assert np.mean(recorded["mask"]) > 0.05
    assert np.mean(recorded["mask"] != (samples.mask > 0)) <= 1e-4
    same = (recorded["mask"] == (samples.mask > 0))[..., 0]
    off = np.abs(samples.augmented - recorded["augmented"])[same]
    # Operations on textures round to levels: the last place may tip a value to the next one.
    assert np.mean(off > 1e-5) < 0.02
    assert off.max() < 1 / 255
