"""Maps and scores by their definitions."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.special import softmax

from draem_jax.errors import UserError
from draem_jax.scores import (
    CANDIDATE_SCORES,
    ScoreOfRows,
    anomaly_map,
    image_score,
    score_by_name,
)


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


@pytest.mark.parametrize("name", CANDIDATE_SCORES)
def test_named_scores_by_definition_and_jitted(name):
    maps = np.random.default_rng(1).random((3, 40, 26)).astype(np.float32) ** 4
    kind, number = re.fullmatch(r"(mean|top)(\d+)%?", name).groups()
    if kind == "mean":
        size = int(number)
        expected = [ndimage.uniform_filter(m, size, mode="constant").max() for m in maps]
    else:
        count = 11 if name == "top1%" else int(number)  # 1 % of 1040 pixels is 10.4
        expected = [np.mean(sorted(m.ravel())[-count:]) for m in maps]
    score = score_by_name(name)
    np.testing.assert_allclose(score(jnp.asarray(maps)), expected, rtol=1e-4)
    np.testing.assert_allclose(jax.jit(score)(jnp.asarray(maps)), expected, rtol=1e-4)


def test_top_scores_count_whole_pixels():
    maps = jnp.arange(100.0).reshape(1, 10, 10) / 100
    # 7 % of 100 is 7, although 0.07 · 100 is more than that in floating point.
    for name, count in (("top7%", 7), ("top7.5%", 8), ("top0.001%", 1), ("top100%", 100)):
        expected = np.mean(np.arange(100)[-count:]) / 100
        np.testing.assert_allclose(score_by_name(name)(maps), [expected], rtol=1e-6)
    np.testing.assert_allclose(score_by_name("top500")(maps), [0.495], rtol=1e-6)


@pytest.mark.parametrize("name", [*CANDIDATE_SCORES, "top7%"])
def test_what_is_not_looked_at_is_not_scored(name):
    rng = np.random.default_rng(2)
    maps = rng.random((4, 40, 26)).astype(np.float32)
    inside = np.zeros(maps.shape, bool)
    inside[0], inside[1, 5:30, 3:23], inside[2, 7:9, 7:12] = True, True, True
    kind, number, share = re.fullmatch(r"(mean|top)(\d+)(%?)", name).groups()
    expected = []
    for plane, within in zip(maps, inside, strict=True):
        if kind == "mean":
            kept = np.where(within, plane, 0)
            expected.append(ndimage.uniform_filter(kept, int(number), mode="constant").max())
        else:
            values = np.sort(plane[within])[::-1]
            count = -(-int(number) * len(values) // 100) if share else int(number)
            expected.append(values[:count].mean() if len(values) else 0.0)
    score = jax.jit(score_by_name(name))
    found = score(jnp.asarray(maps), jnp.asarray(inside))
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    np.testing.assert_allclose(found[:1], score(jnp.asarray(maps), None)[:1], rtol=1e-6)
    loud = np.where(inside, maps, 1.0)
    np.testing.assert_array_equal(found, score(jnp.asarray(loud), jnp.asarray(inside)))


@pytest.mark.parametrize(
    "name", ["", "mean", "mean20", "mean0", "top0", "top0%", "top101%", "max", "mean21 ", "top²"]
)
def test_unknown_scores_are_named(name):
    with pytest.raises(UserError, match=r"no image score .*mean21.*top100.*top1%"):
        score_by_name(name)


@settings(deadline=None)
@given(data=st.data())
def test_scores_of_maps_that_come_by_rows_are_those_of_whole_ones(data):
    # Few shapes, since each is compiled.
    height, width = data.draw(st.sampled_from([(1, 1), (7, 40), (40, 26)]))
    name = data.draw(st.sampled_from((*CANDIDATE_SCORES, "top7.5%", "mean33")))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    plane = rng.random((height, width), np.float32) ** 4
    inside = None
    if data.draw(st.booleans()):
        inside = rng.random((height, width)) < data.draw(st.sampled_from((0.0, 0.1, 0.9)))
    of_rows = ScoreOfRows(name, looked_at=plane.size if inside is None else int(inside.sum()))
    ends = sorted(data.draw(st.sets(st.integers(1, height))) | {height})
    for top, bottom in zip((0, *ends), ends, strict=False):
        of_rows.add(plane[top:bottom], None if inside is None else inside[top:bottom])
    whole = score_by_name(name)(
        jnp.asarray(plane[None]), None if inside is None else jnp.asarray(inside[None])
    )
    np.testing.assert_allclose(of_rows.value(), whole[0], rtol=2e-5, atol=1e-7)
