"""Anomalies that hardly differ from the picture, against what their numbers promise."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage

from draem_jax.anomalies import AnomalyParams
from draem_jax.anomalies.borders import soften
from draem_jax.anomalies.contrast import plain_contrast, subtle_contrast

SIZE = 200
KEYS = jax.random.split(jax.random.key(0), SIZE)
MASK = jnp.zeros((24, 20, 1)).at[6:18, 4:16].set(1)


@jax.jit
def put_on(images, textures, params):
    def one(key, image, texture):
        return subtle_contrast(key, image, texture, MASK, params=params)

    return jax.vmap(one)(KEYS, images, textures)


def simulated(**subtle):
    """The augmented images and the labels, and the images and textures that they are made of."""
    # Far enough from black and white that nothing is clipped.
    images, textures = np.random.default_rng(0).integers(80, 176, (2, SIZE, 24, 20, 3)) / 255
    params = AnomalyParams.from_dict({"contrast": "subtle", "opacity": (1, 1), "subtle": subtle})
    images, textures = jnp.asarray(images, jnp.float32), jnp.asarray(textures, jnp.float32)
    augmented, labels = put_on(images, textures, params)
    outside = np.asarray(MASK == 0)[None]
    np.testing.assert_array_equal(augmented * outside, images * outside)
    return augmented, labels, images, textures


def mean_inside(values):
    return np.asarray(values)[:, 6:18, 4:16].mean((1, 2))


def test_its_defaults_are_the_plain_contrast():
    augmented, labels, _, textures = simulated()
    np.testing.assert_array_equal(mean_inside(augmented), mean_inside(textures))
    np.testing.assert_array_equal(labels, np.broadcast_to(MASK, labels.shape))


def test_its_defaults_change_nothing_in_a_poisson_blend():
    image, texture = jnp.asarray(np.random.default_rng(0).random((2, 24, 20, 3), np.float32))
    plain, subtle = (
        AnomalyParams.from_dict({"contrast": word, "blend": "poisson", "opacity": (0.7, 0.7)})
        for word in ("plain", "subtle")
    )
    expected, _ = jax.jit(plain_contrast)(KEYS[0], image, texture, MASK, params=plain)
    found, _ = jax.jit(subtle_contrast)(KEYS[0], image, texture, MASK, params=subtle)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_low_opacities_are_log_uniform_and_a_share():
    augmented, _, images, textures = simulated(opacity_share=0.4, opacity=(0.05, 0.2))
    change, whole = (np.asarray(a - images)[:, 6:18, 4:16] for a in (augmented, textures))
    opacity = np.sum(change * whole, axis=(1, 2, 3)) / np.sum(whole**2, axis=(1, 2, 3))
    is_low = opacity < 0.5
    assert abs(is_low.mean() - 0.4) < 0.1
    np.testing.assert_allclose(opacity[~is_low], 1, atol=1e-4)
    assert opacity[is_low].min() >= 0.0499
    assert opacity[is_low].max() <= 0.2001
    assert abs(np.median(opacity[is_low]) - 0.1) < 0.02


def test_a_matched_texture_has_the_colour_of_the_picture_but_for_the_shift():
    augmented, _, images, textures = simulated(matched_share=1, matched_shift=(10, 10))
    np.testing.assert_allclose(mean_inside(augmented - images), 10 / 255, atol=1e-5)
    moved = np.asarray(augmented - textures)[:, 6:18, 4:16]
    assert np.ptp(moved, axis=(1, 2)).max() < 1e-5


def test_a_shade_is_the_picture_multiplied_and_shifted():
    augmented, _, images, textures = simulated(
        shaded_share=0.5, shade_factor=(0.8, 0.8), shade_shift=(5, 5)
    )
    of_picture, of_texture = (
        np.abs(np.asarray(augmented - source))[:, 6:18, 4:16].max((1, 2, 3)) < 1e-5
        for source in (0.8 * images + 5 / 255, textures)
    )
    assert (of_picture ^ of_texture).all()
    assert abs(of_picture.mean() - 0.5) < 0.12


def test_only_what_differs_by_the_threshold_is_labelled():
    augmented, labels, images, _ = simulated(label_threshold=29.5)
    change = 255 * np.abs(np.asarray(augmented - images)).max(-1)
    np.testing.assert_array_equal(labels[..., 0] > 0, change >= 29.5)
    assert 0.1 < np.mean(mean_inside(labels)) < 0.95
    _, labels, *_ = simulated(label_threshold=255)
    assert not labels.any()


def test_soft_borders_are_those_of_a_mask_out_of_focus():
    mask = np.zeros((32, 40), np.float32)
    mask[:20, 5:30] = 1
    for width in (1, 2):
        expected = ndimage.uniform_filter(mask, 2 * width + 1, mode="constant")
        # Beyond the picture's border, the mask is taken to go on.
        expected[:width] = expected[width]
        found = np.asarray(soften(jnp.asarray(mask)[..., None], width=float(width)))[..., 0]
        np.testing.assert_allclose(found, expected * mask, atol=1e-6)
    np.testing.assert_array_equal(soften(jnp.asarray(mask)[..., None], width=0.0)[..., 0], mask)


def test_thin_masks_keep_their_weight():
    line = jnp.zeros((32, 32, 1)).at[16, 4:28].set(1)
    found = np.asarray(soften(line, width=2.0))[..., 0]
    np.testing.assert_allclose(found[16, 6:26], 1, atol=1e-6)
    assert found[16, 4] < 0.7
    assert not soften(jnp.zeros((32, 32, 1)), width=2.0).any()


def test_soft_borders_lower_the_opacity():
    augmented, _, images, textures = simulated(feather=(1, 1))
    expected = images + soften(MASK, width=1.0)[None] * (textures - images)
    np.testing.assert_allclose(augmented, expected, atol=1e-6)
