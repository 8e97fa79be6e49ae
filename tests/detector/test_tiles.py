"""Large pictures, seen in tiles: maps come out whole, as large as the pictures, without seams."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage
from scipy.special import expit

from draem_jax import Draem
from draem_jax.data.pictures import resize
from draem_jax.detector.outputs import BatchOutput
from draem_jax.scores import score_by_name


def with_data(detector, kind=Draem, **fields):
    """The same networks, to which pictures are brought in another way."""
    config = detector.config.copy_and_resolve_references()
    config.data.update(fields)
    parts = {f.name: getattr(detector, f.name) for f in dataclasses.fields(Draem)}
    return kind(**parts | {"config": config})


@pytest.fixture(scope="module")
def detector(trained):
    return Draem.load(trained)


@pytest.fixture(scope="module")
def tiled(detector):
    return with_data(detector, tile=(32,), tile_overlap=0)


@pytest.fixture(scope="module")
def image():
    # Smooth, so that it survives being scaled down.
    rng = np.random.default_rng(0)
    return resize(rng.integers(0, 256, (20, 24, 3), np.uint8), (150, 190))


class Pointwise(Draem):
    """Networks that look at each pixel alone: green is the margin, in eighths."""

    def run_batch(self, images, planes=None, *, with_features=False):
        margin = jnp.asarray(images[..., 1], jnp.float32) / 8 - 16
        features = jnp.asarray(images[:, ::4, ::4], jnp.float32) if with_features else None
        return BatchOutput(
            margin,
            jnp.asarray(expit(margin)),
            jnp.zeros(len(images)),
            jnp.asarray(images, jnp.float32) / 255,
            features,
        )


@pytest.mark.parametrize("overlap", [0, 32])
def test_the_whole_is_what_its_tiles_say(detector, image, overlap):
    pointwise = with_data(detector, Pointwise, tile=(64, 96), tile_overlap=overlap)
    pictures = [image, image[:70, :100], image[:40], image[:, :33]]
    found = list(pointwise.inspect_pictures(pictures, with_features=True))
    for picture, one in zip(pictures, found, strict=True):
        np.testing.assert_allclose(one.margin, picture[..., 1] / 8 - 16, atol=2e-5)
        np.testing.assert_allclose(one.reconstruction, picture / 255, atol=1e-6)
        np.testing.assert_array_equal(one.at_network_size.image, picture)
        features = one.at_network_size.features
        np.testing.assert_allclose(features, picture[::4, ::4], atol=2e-4)
        # The score is that of the whole map, as it is of pictures that are seen whole.
        score = score_by_name(pointwise.score_name)(jnp.asarray(one.anomaly_map[None]))[0]
        assert one.score == pytest.approx(float(score), rel=1e-5)
        alone = pointwise.inspect_picture(picture)
        np.testing.assert_array_equal(alone.anomaly_map, one.anomaly_map)
    maps, scores, _ = pointwise.predict(np.stack([image, image[::-1]]))
    np.testing.assert_array_equal(maps[0], found[0].anomaly_map)
    assert scores[0] == pytest.approx(found[0].score)


def test_maps_at_a_scale_come_back_to_the_size_of_the_picture(detector, image):
    pointwise = with_data(detector, Pointwise, tile=(32,), scale=0.5)
    found = pointwise.inspect_picture(image)
    assert found.margin.shape == image.shape[:2]
    np.testing.assert_array_equal(found.at_network_size.image, resize(image, (75, 95)))
    assert np.abs(found.margin - (image[..., 1] / 8 - 16)).mean() < 0.7


def test_only_what_is_looked_at_raises_anything(detector, image):
    pointwise = with_data(detector, Pointwise, tile=(32,))
    dark = np.full_like(image, 64)
    dark[100:110, 150:160] = 255
    plane = np.ones(dark.shape[:2], bool)
    plane[90:120, 140:170] = False
    seen, looked = pointwise.inspect_picture(dark), pointwise.inspect_picture(dark, plane=plane)
    assert seen.regions
    assert not looked.regions
    assert looked.score < 0.01 < seen.score
    # Neither does what stands beyond a picture that is smaller than a tile.
    small = pointwise.inspect_picture(dark[100:140, 120:160])
    assert small.margin.shape == (40, 40)
    score = score_by_name(pointwise.score_name)(jnp.asarray(small.anomaly_map[None]))[0]
    assert small.score == pytest.approx(float(score), rel=1e-5)


class Shortsighted(Draem):
    """Networks that take what is beyond a tile for black, as those do that pad with zeros."""

    def run_batch(self, images, planes=None, *, with_features=False):
        green, above = images[..., 1] / 8.0, (0, 7, 7)
        around = ndimage.uniform_filter(green, (0, 15, 15), mode="constant", origin=above)
        margin = jnp.asarray(around - 16, jnp.float32)
        return BatchOutput(
            margin,
            jnp.asarray(expit(margin)),
            jnp.zeros(len(images)),
            jnp.asarray(images, jnp.float32) / 255,
        )


def jumps(detector, surface):
    """Of the map's steps from row to row the largest across borders of tiles, and within them."""
    steps = np.abs(np.diff(detector.inspect_picture(surface).margin, axis=0)).max(axis=1)
    grid = detector.tiles(surface.shape[:2])
    starts = set(grid.tops[1:]) | {top + grid.size[0] for top in grid.tops[:-1]}
    borders = [start - 1 for start in starts]
    return steps[borders].max(), np.delete(steps, borders).max()


def test_no_seam_shows(detector):
    surface = np.random.default_rng(1).normal(128, 40, (448, 192, 3)).clip(0, 255).astype(np.uint8)
    shared, bare = (
        with_data(detector, Shortsighted, tile=(128,), tile_overlap=overlap) for overlap in (-1, 0)
    )
    across, within = jumps(shared, surface)
    assert across <= within
    # Where tiles share nothing, it shows: the figures can tell.
    across, within = jumps(bare, surface)
    assert across > within


@pytest.mark.parametrize("shape", [(150, 190), (190, 60), (60, 200)])
def test_letterboxed_pictures_keep_their_shape(detector, shape):
    pointwise = with_data(detector, Pointwise, fit="letterbox")
    rng = np.random.default_rng(0)
    picture = resize(rng.integers(0, 256, (5, 6, 3), np.uint8), shape)
    found = pointwise.inspect_picture(picture, with_features=True)
    assert found.margin.shape == shape
    assert np.abs(found.margin - (picture[..., 1] / 8 - 16)).mean() < 1
    height, width = found.at_network_size.image.shape[:2]
    assert max(height, width) == 32
    assert height / width == pytest.approx(shape[0] / shape[1], rel=0.3)
    assert found.at_network_size.features.shape[:2] == (-(-height // 4), -(-width // 4))
    np.testing.assert_array_equal(
        pointwise.predict(picture[None]).anomaly_map[0], found.anomaly_map
    )
