"""Each mask shape against its definition."""

import dataclasses
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage
from skimage.morphology import skeletonize

from draem_jax.anomalies import AnomalyParams, MaskShape
from draem_jax.anomalies.foreground import foreground
from draem_jax.anomalies.masks import draw_mask, perlin_mask
from draem_jax.anomalies.rotation import rotate_image

HEIGHT, WIDTH = 64, 96
KEYS = jax.random.split(jax.random.key(0), 64)
PLAIN = jnp.full((HEIGHT, WIDTH, 3), 0.5)
ANYWHERE = ndimage.generate_binary_structure(2, 2)


@jax.jit
def draw_masks(keys, image, params):
    # Not by vmap, which takes twice as long to compile.
    return jax.lax.map(lambda key: draw_mask(key, image, params=params)[..., 0], keys)


@jax.jit
def draw_perlin(keys, params):
    def one(key):
        return perlin_mask(key, PLAIN, params=params)[..., 0]

    return jax.lax.map(one, keys)


def masks_of(shape, image=PLAIN, **values):
    params = AnomalyParams.from_dict({"mask": shape, **values})
    masks = np.asarray(draw_masks(KEYS, image, params))
    assert set(np.unique(masks)) <= {0, 1}
    return masks.astype(bool)


def extent(mask):
    """The bounding box, as (top, bottom, left, right) with the last row and column included."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return rows[0], rows[-1], columns[0], columns[-1]


def test_a_rectangle_is_a_rectangle():
    one = {"rectangles": (1, 1), "rectangle_side": (0.0, 0.25)}
    sides = []
    for mask in masks_of("rectangles", shapes=one):
        top, bottom, left, right = extent(mask)
        assert mask[top : bottom + 1, left : right + 1].all()
        sides.append((bottom - top + 1, right - left + 1))
    heights, widths = np.array(sides).T
    assert (heights.min(), widths.min()) >= (1, 1)
    assert (heights.max(), widths.max()) <= (16, 24)
    assert heights.max() > 12
    assert widths.max() > 18
    assert abs(np.corrcoef(heights, widths)[0, 1]) < 0.4  # drawn apart


def test_there_are_as_many_rectangles_as_said():
    dots = {"rectangle_side": (0.0, 0.0)}
    counts = [masks_of("rectangles", shapes=dots | {"rectangles": (n, n)}) for n in (1, 4, 8)]
    for count, masks in zip((1, 4, 8), counts, strict=True):
        found = masks.sum((1, 2))  # two dots may fall on one pixel
        assert found.max() == count
        assert found.mean() > 0.98 * count
    mixed = masks_of("rectangles", shapes=dots | {"rectangles": (1, 4)}).sum((1, 2))
    assert set(mixed) == {1, 2, 3, 4}


def test_a_scar_is_thin_and_in_one_piece():
    shortest, longest, width = 0.2 * HEIGHT, 0.5 * HEIGHT, 2.0
    shapes = {"scar_length": (0.2, 0.5), "scar_width": (0.0, width / HEIGHT)}
    masks = masks_of("scar", shapes=shapes)
    angles = []
    for mask in masks:
        assert ndimage.label(mask, structure=ANYWHERE)[1] == 1
        points = np.argwhere(mask) - np.argwhere(mask).mean(0)
        axes = np.linalg.svd(points, full_matrices=False)[2]
        length, across = np.ptp(points @ axes.T, axis=0)
        assert across <= width + 0.5
        top, bottom, left, right = extent(mask)
        if top > 0 and left > 0 and bottom < HEIGHT - 1 and right < WIDTH - 1:
            assert shortest - 2 <= length <= longest + 1
            angles.append(np.degrees(np.arctan2(axes[0, 0], axes[0, 1])) % 180)
    assert len(angles) > 20
    assert np.histogram(angles, bins=4, range=(0, 180))[0].min() > 0


def test_a_scar_lies_as_it_is_told():
    flat = masks_of("scar", shapes={"scar_rotation": (0, 0), "scar_width": (0, 0)})
    for mask in flat:
        top, bottom, left, right = extent(mask)
        assert bottom - top <= 1
        assert mask[top : bottom + 1, left : right + 1].all()


def ends_of(mask):
    """How many ends the middle lines of a thin shape have."""
    line = skeletonize(mask)
    neighbours = ndimage.convolve(line.astype(int), np.ones((3, 3), int), mode="constant")
    return np.sum(line & (neighbours == 2))


def lies_inside(mask):
    top, bottom, left, right = extent(mask)
    return top > 0 and left > 0 and bottom < HEIGHT - 1 and right < WIDTH - 1


def test_a_crack_is_thin_and_branches_and_hardly_breaks():
    wild = {"crack_width": (2, 2), "crack_roughness": (1, 1), "crack_length": (0.5, 0.5)}
    one, many = (masks_of("crack", shapes=wild | {"crack_branches": (n, n)}) for n in (0, 4))
    for masks in (one, many):
        depths = [ndimage.distance_transform_edt(mask).max() for mask in masks]
        assert max(depths) <= 3
        assert np.median(depths) <= 2
        pieces = [ndimage.label(mask, structure=ANYWHERE)[1] for mask in masks if lies_inside(mask)]
        assert len(pieces) > 20
        assert np.mean(np.equal(pieces, 1)) > 0.9
    ends = [np.mean([ends_of(m) for m in masks if lies_inside(m)]) for masks in (one, many)]
    assert ends[0] < 2.5
    assert ends[1] > 3.5


def test_a_crack_without_roughness_and_branches_is_a_straight_scratch():
    length = 0.4 * HEIGHT
    shapes = {"crack_roughness": (0, 0), "crack_branches": (0, 0), "crack_width": (1, 2)}
    masks = masks_of("crack", shapes=shapes | {"crack_length": (0.4, 0.4)})
    for mask in filter(lies_inside, masks):
        points = np.argwhere(mask) - np.argwhere(mask).mean(0)
        axes = np.linalg.svd(points, full_matrices=False)[2]
        along, across = np.ptp(points @ axes.T, axis=0)
        assert abs(along - length) <= 2
        assert across <= 2.5
        assert ndimage.label(mask, structure=ANYWHERE)[1] == 1


def test_spots_have_the_areas_that_are_told_and_uneven_outlines():
    round_ones = {"spots": (1, 1), "spot_elongation": (1, 1), "spot_roughness": (0, 0)}
    share = 100 / (HEIGHT * WIDTH)
    masks = masks_of("spots", shapes=round_ones | {"spot_area": (share, share)})
    inside = [mask for mask in masks if lies_inside(mask)]
    assert len(inside) > 30
    assert all(abs(mask.sum() - 100) <= 10 for mask in inside)
    for mask in inside:
        top, bottom, left, right = extent(mask)
        assert bottom - top == right - left
    uneven = masks_of(
        "spots", shapes=round_ones | {"spot_area": (share, share), "spot_roughness": (1, 1)}
    )
    middles = [np.argwhere(mask).mean(0) for mask in inside]
    overlaps = [
        np.sum(mask & other) / np.sum(mask | other)
        for mask, other in zip(masks, uneven, strict=True)
        if lies_inside(mask)
    ]
    assert len(middles) == len(overlaps)
    assert 0.4 < np.mean(overlaps) < 0.9


def test_areas_of_spots_are_log_uniform_and_no_spot_is_empty():
    spots = {"spots": (1, 1), "spot_elongation": (1, 1), "spot_roughness": (0, 0)}
    areas = masks_of("spots", shapes=spots | {"spot_area": (0.001, 0.016)}).mean((1, 2))
    assert 0.3 < np.mean(areas < 0.004) < 0.7
    assert masks_of("spots", shapes={"spot_area": (1e-6, 1e-6)}).any((1, 2)).all()
    dots = spots | {"spot_area": (1e-4, 1e-4)}
    for low, high in ((1, 1), (8, 8), (1, 4)):
        counts = masks_of("spots", shapes=dots | {"spots": (low, high)}).sum((1, 2))
        assert counts.max() == high
        assert counts.min() >= min(low, 6)


def test_mixed_masks_are_of_the_shapes_that_weigh():
    keys = jax.vmap(jax.random.split)(KEYS)[:, 1]
    weights = {"perlin": 1, "crack": 0, "spots": 1}
    mixed = masks_of("mixed", shapes={"weights": weights})
    params = AnomalyParams()
    alone = {}
    for shape in ("perlin", "spots"):
        found = draw_masks(keys, PLAIN, dataclasses.replace(params, mask=shape))
        alone[shape] = np.asarray(found) > 0
    are = {shape: (mixed == masks).all((1, 2)) for shape, masks in alone.items()}
    assert (are["perlin"] | are["spots"]).all()
    assert 0.3 < are["perlin"].mean() < 0.7


@pytest.mark.parametrize("threshold", [(0.2, 0.2), (0.0, 0.6)])
def test_union_and_intersection_are_of_two_perlin_masks(threshold):
    params = AnomalyParams.from_dict({"threshold": threshold})
    others = jax.vmap(jax.random.fold_in, in_axes=(0, None))(KEYS, 1)
    first, second = (np.asarray(draw_perlin(keys, params)) > 0 for keys in (KEYS, others))
    assert (first != second).any()
    shapes = {"intersection_threshold": threshold}
    np.testing.assert_array_equal(masks_of("union", threshold=threshold), first | second)
    np.testing.assert_array_equal(masks_of("intersection", shapes=shapes), first & second)
    np.testing.assert_array_equal(masks_of("perlin", threshold=threshold), first)


def test_magnitude_takes_both_signs_and_little_room():
    def at(low, high):
        return masks_of("magnitude", shapes={"magnitude_threshold": (low, high)})

    half = at(0.5, 0.5)
    above = np.asarray(draw_perlin(KEYS, AnomalyParams())) > 0
    assert not (above & ~half).any()
    assert half.sum() > 1.5 * above.sum()
    assert not (at(0.7, 0.7) & ~half).any()
    drawn = masks_of("magnitude").mean((1, 2))
    assert 0.01 < drawn.mean() < 0.06
    assert np.mean(drawn > 0) > 0.7


def disc_picture(rng, *, background=(0.8, 0.78, 0.75), colour=(0.5, 0.3, 0.1)):
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    disc = (y - 30) ** 2 + (x - 50) ** 2 < 22**2
    picture = np.where(disc[..., None], colour, background)
    return np.clip(picture + rng.normal(0, 0.01, picture.shape), 0, 1).astype(np.float32), disc


@pytest.mark.parametrize("background", [(0.8, 0.78, 0.75), (0.1, 0.1, 0.12)])
def test_the_foreground_is_the_object(background):
    picture, disc = disc_picture(np.random.default_rng(0), background=background)
    np.testing.assert_array_equal(jax.jit(foreground)(jnp.asarray(picture)), disc)


def test_an_object_on_black_loses_no_more_than_its_rim():
    picture, disc = disc_picture(np.random.default_rng(0), background=(0.0, 0.0, 0.0))
    found = np.asarray(jax.jit(foreground)(jnp.asarray(picture)))
    assert not (found & ~disc).any()
    assert found[ndimage.binary_erosion(disc, ANYWHERE)].all()


def test_a_turned_object_is_found_between_black_corners():
    picture, disc = disc_picture(np.random.default_rng(0))
    turned = rotate_image(jnp.asarray(picture), degrees=30.0)
    expected = np.asarray(rotate_image(jnp.asarray(disc, jnp.float32)[..., None], degrees=30.0))
    found = np.asarray(jax.jit(foreground)(turned))
    edge = ndimage.binary_dilation(expected[..., 0] > 0) & ~(expected[..., 0] == 1)
    np.testing.assert_array_equal(found[~edge], expected[..., 0][~edge] > 0)


def test_a_surface_is_all_foreground():
    noise = np.random.default_rng(0).random((HEIGHT, WIDTH, 3), np.float32)
    for picture in (noise, ndimage.gaussian_filter(noise, (3, 3, 0)), np.zeros_like(noise) + 0.3):
        assert np.asarray(jax.jit(foreground)(jnp.asarray(picture))).all()


def test_a_turned_surface_is_all_foreground_between_black_corners():
    # Bright stripes on a darker ground, which a few pixels of the picture's border may miss.
    y = np.arange(HEIGHT)[:, None, None]
    picture = np.broadcast_to(np.where(y % 24 < 6, 0.8, 0.4), (HEIGHT, WIDTH, 3))
    for degrees in (30.0, 60.0):
        turned = rotate_image(jnp.asarray(picture, jnp.float32), degrees=degrees)
        found = np.asarray(jax.jit(foreground)(turned))
        inside = ndimage.binary_erosion(np.asarray(turned[..., 0]) > 0, ANYWHERE)
        assert not found[np.asarray(turned[..., 0]) == 0].any()
        assert found[inside].all()


def test_blobs_stay_in_the_foreground():
    picture, disc = disc_picture(np.random.default_rng(1))
    params = {"threshold": (0.0, 0.3)}
    masks = masks_of("foreground", image=jnp.asarray(picture), **params)
    np.testing.assert_array_equal(masks, masks_of("perlin", **params) & disc[None])
    assert masks.any((1, 2)).mean() > 0.8


def test_a_mask_of_any_shape_can_be_kept_to_the_foreground():
    picture, disc = disc_picture(np.random.default_rng(1))
    image = jnp.asarray(picture)
    kept = masks_of("rectangles", image=image, place="foreground")
    np.testing.assert_array_equal(kept, masks_of("rectangles") & disc[None])
    assert kept.any()


def test_numbers_are_traced_and_words_are_not():
    traces = []

    @jax.jit
    def draw(key, image, params):
        traces.append(params.mask)
        return draw_mask(key, image, params=params)

    shapes = get_args(MaskShape)
    for shape in shapes:
        for number in (0.1, 0.2):
            params = AnomalyParams.from_dict(
                {
                    "mask": shape,
                    "threshold": (number, number),
                    "shapes": {
                        "rectangle_side": (number, number),
                        "scar_width": (number, number),
                        "magnitude_threshold": (number, number),
                        "foreground_border": number,
                    },
                }
            )
            draw.eval_shape(KEYS[0], PLAIN, params)
    assert traces == list(shapes)


@pytest.mark.parametrize("shape", get_args(MaskShape))
def test_lowers_for_accelerators(shape):
    params = dataclasses.replace(AnomalyParams(), mask=shape)
    batch = jax.vmap(lambda key: draw_mask(key, PLAIN, params=params))
    traced = jax.jit(batch).trace(KEYS)
    for platform in ("cuda", "tpu"):
        assert traced.lower(lowering_platforms=(platform,)).as_text()
