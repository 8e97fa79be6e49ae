"""The gradient-domain blend against a direct solver, and what it is for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage, sparse
from scipy.sparse.linalg import spsolve

from draem_jax.anomalies.blending import poisson_blend

SHAPE = (72, 100)
blend = jax.jit(poisson_blend)


def solved_directly(image, source, inside):
    """Pérez et al., equation 7, one row for each pixel of the mask, in float64."""
    number = np.full(inside.shape, -1)
    ys, xs = np.nonzero(inside)
    number[ys, xs] = np.arange(len(ys))
    matrix = sparse.lil_matrix((len(ys), len(ys)))
    side = np.zeros((len(ys), 3))
    for p, (y, x) in enumerate(zip(ys, xs, strict=True)):
        for ny, nx in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
            if 0 <= ny < inside.shape[0] and 0 <= nx < inside.shape[1]:
                matrix[p, p] += 1
                side[p] += source[y, x].astype(float) - source[ny, nx]
                if inside[ny, nx]:
                    matrix[p, number[ny, nx]] -= 1
                else:
                    side[p] += image[ny, nx]
    result = image.astype(float)
    result[ys, xs] = spsolve(matrix.tocsc(), side)
    return result


def a_mask(kind):
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    match kind:
        case "blobs":
            noise = ndimage.gaussian_filter(np.random.default_rng(2).normal(size=SHAPE), 4)
            return noise > 0.02
        case "thin":
            return np.abs(x - y - 3 * np.sin(x / 5)) < 1.5
        case "wide":  # touches the picture's border on three sides
            return (x > 3) & (y >= 0)


def pictures(seed=0, low=0.35, high=0.65):
    image, source = np.random.default_rng(seed).uniform(low, high, (2, *SHAPE, 3))
    return image.astype(np.float32), source.astype(np.float32)


def blended(image, source, inside):
    return np.asarray(blend(image, source, jnp.asarray(inside, jnp.float32)[..., None]))


@pytest.mark.parametrize("kind", ["blobs", "thin", "wide"])
def test_it_is_what_a_direct_solver_finds(kind):
    (image, source), inside = pictures(), a_mask(kind)
    expected = solved_directly(image, source, inside)
    assert expected[inside].min() > 0.05  # nothing is clipped
    assert expected[inside].max() < 0.95
    found = blended(image, source, inside)
    np.testing.assert_allclose(found, expected, atol=1e-3)
    np.testing.assert_array_equal(found[~inside], image[~inside])


def test_it_keeps_the_gradients_of_a_source_that_is_merely_brighter():
    (_, source), inside = pictures(), a_mask("blobs")
    image = np.where(inside[..., None], 0.5, source - 0.2).astype(np.float32)
    np.testing.assert_allclose(blended(image, source, inside), source - 0.2, atol=1e-5)


def test_it_meets_the_picture_where_the_mask_ends():
    # A source without gradients takes on what is around it: of a slope, the slope itself.
    slope = np.broadcast_to(np.linspace(0.2, 0.8, SHAPE[1])[None, :, None], (*SHAPE, 3))
    image, inside = slope.astype(np.float32), np.zeros(SHAPE, bool)
    inside[20:60, 30:80] = True
    image[inside] = 0.0
    found = blended(image, np.full_like(image, 0.9), inside)
    np.testing.assert_allclose(found, slope, atol=1e-3)


def test_it_is_clipped():
    image, source = pictures(low=0.0, high=1.0)
    found = blended(image, source, a_mask("blobs"))
    expected = solved_directly(image, source, a_mask("blobs"))
    assert expected.max() > 1.1
    np.testing.assert_allclose(found, np.clip(expected, 0, 1), atol=3e-3)


def test_masks_without_a_border_or_an_inside():
    image, source = pictures()
    np.testing.assert_array_equal(blended(image, source, np.zeros(SHAPE, bool)), image)
    np.testing.assert_array_equal(blended(image, source, np.ones(SHAPE, bool)), source)


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_lowers_for_accelerators(platform):
    mask = jnp.asarray(a_mask("blobs"), jnp.float32)[..., None]
    assert blend.trace(*pictures(), mask).lower(lowering_platforms=(platform,)).as_text()
