"""Anomalies are simulated where one looks, and nowhere else, whatever way the pictures come."""

import dataclasses
import json
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from draem_jax.anomalies import AnomalyParams
from draem_jax.anomalies.inside import Inside
from draem_jax.config import default_config, region_of_interest
from draem_jax.data.texture_sources import Joined, PictureArray, TextureSource
from draem_jax.errors import UserError
from draem_jax.training.feed import make_feed, read_pictures
from draem_jax.training.pictures import TrainingPictures, make_mix, open_pictures
from draem_jax.training.samples import Draw, choose, draw_samples, take_pictures
from draem_jax.training.trained_on import TrainedOn, hold_to_data
from draem_jax.training.tuning_samples import (
    TuningParams,
    TuningPictures,
    make_tuning_samples,
)

SIZE = (32, 32)
INDICES = np.arange(8, dtype=np.int32)
PARAMS = AnomalyParams(untouched_share=0.0, threshold=(0.0, 0.0), normal_rotation_share=0.0)
RNG = np.random.default_rng(0)


@dataclasses.dataclass(frozen=True)
class PlaneArray:
    """Planes in memory."""

    planes: np.ndarray

    def __len__(self):
        return len(self.planes)

    def __getitem__(self, index):
        return self.planes[index]


def pictures_of(normal, planes=None, *, on_object=False):
    textures = RNG.integers(0, 256, (2, *SIZE, 3), np.uint8)
    return TrainingPictures(
        PictureArray(normal),
        Joined([PictureArray(textures)]),
        make_mix([TextureSource("photos")], [2]),
        SIZE,
        planes=None if planes is None else PlaneArray(planes),
        on_object=on_object,
    )


def noise(count=3):
    return RNG.integers(0, 256, (count, *SIZE, 3), np.uint8)


def draw():
    return Draw(jax.random.key(5), np.int32(3), INDICES)


@pytest.fixture(scope="module")
def drawn():
    return jax.jit(draw_samples)


@pytest.mark.long
def test_nothing_is_there_where_everything_is_looked_at(drawn):
    pictures = pictures_of(noise())
    resident = pictures.read()
    assert resident.inside is None
    assert len(jax.tree.leaves(resident)) == len(jax.tree.leaves(tuple(resident[:3])))
    plain = drawn(draw(), resident, PARAMS)
    assert plain.inside is None
    # A region that leaves nothing out gives the same samples, to the bit.
    whole = Inside(jnp.ones((3, *SIZE), bool))
    same = drawn(draw(), resident._replace(inside=whole), PARAMS)
    for one, other in zip(plain[:3], same[:3], strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_anomalies_are_inside_alone(drawn):
    planes = np.zeros((3, *SIZE), bool)
    planes[0, :, :16], planes[1, 8:], planes[2, 20:, 20:] = True, True, True
    normal = noise()
    pictures = pictures_of(normal, planes)
    assert pictures.nbytes == (5 * 3 + 3) * 32 * 32
    everywhere = drawn(draw(), pictures.read()._replace(inside=None), PARAMS)
    samples = drawn(draw(), pictures.read(), PARAMS)
    np.testing.assert_array_equal(samples.mask, everywhere.mask * samples.inside)
    outside = ~np.asarray(samples.inside)[..., 0]
    np.testing.assert_array_equal(
        np.asarray(samples.augmented)[outside], np.asarray(samples.normal)[outside]
    )
    which = [
        int(np.argmin([np.abs(n / 255 - picture).sum() for n in normal]))
        for picture in np.asarray(samples.normal)
    ]
    assert len(set(which)) == 3
    np.testing.assert_array_equal(samples.inside[..., 0], planes[which])


@pytest.mark.parametrize("workers", [0, 1])
def test_what_streams_is_what_would_be_taken_on_the_device(workers):
    planes = RNG.random((3, *SIZE)) < 0.5
    pictures = pictures_of(noise(), planes)
    resident = jax.jit(take_pictures)(0, draw(), pictures.read())
    np.testing.assert_array_equal(
        resident.inside.planes.mean((1, 2)),
        planes.mean((1, 2))[np.asarray(choose(draw(), 3, pictures.mix).normal)],
    )
    config = default_config()
    config.data.update(resident_gib=0.0, workers=workers)
    feed = make_feed(
        config, pictures, draw().key,
        sample_indices=INDICES.reshape(4, 2), steps=range(3, 4), max_steps=1,
    )  # fmt: skip
    streamed = jax.tree.map(lambda a: a.reshape(8, *a.shape[3:]), feed.take(1))
    for other in (streamed, read_pictures(pictures, draw())):
        jax.tree.map(np.testing.assert_array_equal, resident, other)


@pytest.mark.slow
def test_a_picture_that_turns_takes_its_region_along(drawn):
    planes = np.zeros((3, *SIZE), bool)
    planes[:, 5:20, 3:12] = True
    # The picture shows the region, so that after turning it still does.
    pictures = pictures_of(np.repeat(planes[..., None], 3, -1).astype(np.uint8) * 255, planes)
    params = dataclasses.replace(PARAMS, normal_rotation_share=1.0, normal_rotation=(20.0, 70.0))
    samples = drawn(draw(), pictures.read(), params)
    inside = np.asarray(samples.inside)
    np.testing.assert_array_equal(inside[..., 0], np.asarray(samples.normal)[..., 0] >= 0.5)
    assert not (inside[..., 0] == planes[0]).all()
    assert not np.asarray(samples.mask)[~inside].any()
    assert np.asarray(samples.mask)[inside].any()


def test_the_object_alone_and_within_a_mask():
    normal = np.full((2, *SIZE, 3), 30, np.uint8)
    normal[0, 8:24, 8:24] = 200
    normal[1, 4:12, 6:30] = 200
    planes = np.zeros((2, *SIZE), bool)
    planes[:, :, :20] = True
    on_object = normal[..., 0] > 100
    for given, expected in ((None, on_object), (planes, on_object & planes)):
        inside = pictures_of(normal, given, on_object=True).read().inside
        found = jax.jit(Inside.of)(inside, jnp.asarray(normal / 255, jnp.float32))
        np.testing.assert_array_equal(found[..., 0], expected)


def test_the_object_in_pictures_that_are_seen_in_tiles(tiny_config, tmp_path):
    config = tiny_config(
        **{
            "data.name": "folder",
            "data.category": "",
            "data.root": str(tmp_path / "photos"),
            "data.roi": "foreground",
            "data.tile": (64, 32),
            "data.scale": 0.7,
            "data.texture_source": "noise",
            "data.workers": 0,
        }
    )
    roi, rng = region_of_interest(config), np.random.default_rng(0)
    for folder in ("photos/good", "where/good"):
        (tmp_path / folder).mkdir(parents=True)
    for i, (size, box) in enumerate((((300, 400), (90, 170)), ((420, 130), (40, 380)))):
        image = rng.integers(20, 30, (*size, 3), np.uint8)
        image[box[0] : box[1], 30:110] += 150
        Image.fromarray(image).save(tmp_path / f"photos/good/{i}.png")
        plane = roi.plane_of("", image).astype(np.uint8) * 255
        assert abs((plane > 0).sum() - 80 * (box[1] - box[0])) < 600
        Image.fromarray(plane).save(tmp_path / f"where/good/{i}.png")
    pictures = open_pictures(config)
    resident = jax.jit(take_pictures)(0, draw(), pictures.read())
    # As by the same plane, given as masks; and as it streams.
    by_hand = config.copy_and_resolve_references()
    by_hand.data.roi = str(tmp_path / "where")
    given = jax.jit(take_pictures)(0, draw(), open_pictures(by_hand).read())
    config.data.resident_gib = 0.0
    feed = make_feed(
        config, pictures, draw().key,
        sample_indices=INDICES.reshape(4, 2), steps=range(3, 4), max_steps=1,
    )  # fmt: skip
    streamed = jax.tree.map(lambda a: a.reshape(8, *a.shape[3:]), feed.take(1))
    for other in (given, streamed, read_pictures(pictures, draw())):
        jax.tree.map(np.testing.assert_array_equal, resident, other)
    inside, on_object = resident.inside.planes, resident.normal[..., 0] > 100
    assert (inside != on_object).mean() < 0.05
    assert not on_object.all()
    in_a_worker = pickle.loads(pickle.dumps(pictures.planes))
    np.testing.assert_array_equal(in_a_worker[1], pictures.planes[1])


def test_a_changed_mask_stops_a_run_that_goes_on(tmp_path):
    begun = TrainedOn({"good/0": "a"}, {}, "", roi="of one mask")
    hold_to_data(tmp_path, begun, started=False)
    hold_to_data(tmp_path, begun, started=True)
    with pytest.raises(UserError, match=r"the masks of config\.data\.roi mark has changed"):
        hold_to_data(tmp_path, dataclasses.replace(begun, roi="of another"), started=True)
    # Runs that were begun before there were regions of interest go on without one.
    stored = json.loads((tmp_path / "data.json").read_text())
    del stored["roi"]
    (tmp_path / "data.json").write_text(json.dumps(stored))
    hold_to_data(tmp_path, dataclasses.replace(begun, roi=""), started=True)


@pytest.mark.long
def test_given_pictures_are_looked_at_alike():
    planes = np.zeros((3, *SIZE), bool)
    planes[:, :, :16] = True
    chosen = jax.jit(take_pictures)(0, draw(), pictures_of(noise(), planes).read())
    accepted = np.full((1, *SIZE, 3), 77, np.uint8)
    given = TuningPictures(
        jnp.asarray(accepted), jnp.zeros((1, *SIZE, 3), jnp.uint8),
        jnp.zeros((1, *SIZE, 1), bool), jnp.asarray(planes[:1, ..., None]),
    )  # fmt: skip
    tuning = TuningParams(accepted_share=0.5, defect_share=0.0, flip=1.0, turn=0.0, brightness=0.0)
    samples = jax.jit(make_tuning_samples)(draw(), chosen, given, PARAMS, tuning)
    is_accepted = np.isclose(samples.normal, 77 / 255).all(axis=(1, 2, 3))
    assert 0 < is_accepted.sum() < 8
    halves = np.asarray(samples.mask).reshape(8, 32, 2, 16).any(axis=(1, 3))
    assert (halves.sum(axis=1) == 1).all()  # in one half each
    assert (halves[~is_accepted, 0]).all()
    assert halves[is_accepted, 1].any()  # one of them is mirrored
