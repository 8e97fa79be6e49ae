import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from draem_jax.anomalies.rotation import rotate_image


@pytest.fixture
def picture():
    return np.random.default_rng(0).random((31, 44, 2), np.float32)


def test_quarter_turns_are_exact(picture):
    square = picture[:, :31]
    np.testing.assert_allclose(
        rotate_image(jnp.asarray(square), degrees=90.0), np.rot90(square, -1), atol=1e-4
    )
    np.testing.assert_allclose(
        rotate_image(jnp.asarray(picture), degrees=180.0), picture[::-1, ::-1], atol=1e-4
    )


@pytest.mark.parametrize("degrees", [-72.0, 13.0, 45.0])
def test_agrees_with_pillow_inside(picture, degrees):
    turned = rotate_image(jnp.asarray(picture), degrees=degrees)[..., 0]
    # Pillow turns counter-clockwise, and leaves out the border that mixes with the zeros.
    expected = np.asarray(
        Image.fromarray(picture[..., 0]).rotate(-degrees, Image.Resampling.BILINEAR)
    )
    y, x = np.mgrid[:31, :44]
    inside = np.hypot(y - 15, x - 21.5) < 13
    np.testing.assert_allclose(np.asarray(turned)[inside], expected[inside], atol=1e-4)


def test_corners_become_zero():
    turned = np.asarray(rotate_image(jnp.ones((40, 40, 1)), degrees=45.0))
    assert turned[0, 0, 0] == turned[-1, 0, 0] == 0
    np.testing.assert_allclose(turned[20, 20], 1, atol=1e-6)
    assert turned.max() <= 1 + 1e-6


@pytest.mark.parametrize("degrees", [-72.0, 13.0, 45.0])
def test_corners_become_mirror_images(picture, degrees):
    turned = rotate_image(jnp.asarray(picture), degrees=degrees, corners="reflect")
    # The same of a picture that its mirror images surround, of which the centre is looked at.
    ring = ((40, 40), (40, 40), (0, 0))
    mirrored = rotate_image(jnp.asarray(np.pad(picture, ring, mode="reflect")), degrees=degrees)
    np.testing.assert_allclose(turned, mirrored[40:-40, 40:-40], atol=1e-4)
