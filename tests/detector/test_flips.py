"""Averaging over mirrored pictures against the same done by hand."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit

from draem_jax import Draem
from draem_jax.config import check_config, default_config
from draem_jax.errors import UserError
from draem_jax.flips import FLIPS, mean_margin
from draem_jax.scores import score_by_name


@pytest.fixture(scope="module")
def detector(trained):
    return Draem.load(trained)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)


def changed(detector, **fields):
    config = detector.config.copy_and_resolve_references()
    config.update_from_flattened_dict({k.replace("__", "."): v for k, v in fields.items()})
    return dataclasses.replace(detector, config=config)


def test_maps_are_the_mean_over_mirrored_pictures(detector, images):
    found = changed(detector, evaluation__flips="both").predict(images)
    maps = [
        np.flip(detector.predict(np.flip(images, axes)).anomaly_map, axes)
        for axes in ((), *FLIPS["both"])
    ]
    assert np.abs(maps[0] - maps[1]).max() > 1e-3
    np.testing.assert_allclose(found.anomaly_map, np.mean(maps, axis=0), atol=1e-5)
    score = score_by_name(detector.score_name)(jnp.asarray(found.anomaly_map))
    np.testing.assert_allclose(found.score, score, atol=1e-5)
    np.testing.assert_array_equal(found.reconstruction, detector.predict(images).reconstruction)


@pytest.mark.long
def test_regions_and_tiles_see_the_same(detector, images):
    """With all mirrored views, a mirrored picture has the mirrored map."""
    wide = np.concatenate([images[0], images[1]], axis=1)
    tiled = changed(detector, evaluation__flips="both", data__tile=(32,), data__tile_overlap=0)
    (straight, mirrored, one) = tiled.inspect_pictures([wide, wide[::-1, ::-1], images[2]])
    np.testing.assert_allclose(mirrored.margin[::-1, ::-1], straight.margin, atol=1e-4)
    whole = changed(detector, evaluation__flips="both").predict(images[2:3])
    np.testing.assert_allclose(expit(one.margin), whole.anomaly_map[0], atol=1e-5)


def test_the_mean_is_that_of_maps_and_finite():
    margins = np.float32([[3, 200, -200, 200], [-1, 200, -200, -200]])
    found = np.asarray(mean_margin(jnp.asarray(margins)))
    np.testing.assert_allclose(expit(found), expit(margins).mean(0), atol=1e-6)
    np.testing.assert_allclose(found[1:3], [200, -200])


def test_unknown_flips_are_refused():
    config = default_config()
    config.evaluation.flips = "vertical"
    with pytest.raises(UserError, match=r"config.evaluation.flips must be one of none, horiz"):
        check_config(config)
