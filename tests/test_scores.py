"""Maps and scores by their definitions."""

import jax.numpy as jnp
import numpy as np
from scipy import ndimage
from scipy.special import softmax

from draem_jax.scores import anomaly_map, image_score


def test_the_map_is_channel_1_of_the_softmax():
    logits = np.random.default_rng(0).normal(0, 5, (2, 4, 6, 2)).astype(np.float32)
    expected = softmax(logits.astype(np.float64), axis=-1)[..., 1]
    np.testing.assert_allclose(anomaly_map(jnp.asarray(logits)), expected, rtol=1e-5)


def test_the_score_is_the_maximum_of_the_zero_padded_mean_filter():
    maps = np.random.default_rng(0).random((3, 40, 26)).astype(np.float32) ** 4
    for window in (1, 5, 21):
        filtered = [ndimage.uniform_filter(m, window, mode="constant") for m in maps]
        np.testing.assert_allclose(
            image_score(jnp.asarray(maps), window=window),
            np.max(filtered, axis=(1, 2)),
            rtol=1e-4,
        )
