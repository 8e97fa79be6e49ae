"""Pictures that stream give the same samples as pictures on the device, from any step on."""

import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from draem_jax.anomalies import AnomalyParams
from draem_jax.config import default_config
from draem_jax.data.fitting import Fitting
from draem_jax.data.texture_sources import Joined, PictureArray, TextureSource, open_textures
from draem_jax.errors import UserError
from draem_jax.training.feed import make_feed
from draem_jax.training.pictures import TrainingPictures, make_mix
from draem_jax.training.samples import Draw, choose, draw_samples

SIZE = (32, 32)
ALWAYS = AnomalyParams(
    untouched_share=0.0, opacity=(1.0, 1.0), threshold=(-9.0, -9.0), normal_rotation_share=0.0
)


def pictures_of(sources, *, normal=3, parts=(4, 2)):
    """Normal pictures of the levels 100, 101, …, and textures of 0, 1, … in the first part, 50,
    51, … in the second."""

    def flat(first, count):
        levels = np.arange(first, first + count, dtype=np.uint8)
        return PictureArray(np.broadcast_to(levels[:, None, None, None], (count, *SIZE, 3)))

    pictured = [flat(50 * i, count) for i, count in enumerate(parts)]
    taken = iter(parts)
    counts = [next(taken) if source.kind == "pictures" else normal for source in sources]
    return TrainingPictures(flat(100, normal), Joined(pictured), make_mix(sources, counts), SIZE)


def config_of(*, steps, gib, workers=0):
    config = default_config()
    config.train.steps = steps
    config.data.update(resident_gib=gib, workers=workers)
    return config


MIXED = pictures_of(
    [
        TextureSource("builtin", 2.0),
        TextureSource("solid", 1.0),
        TextureSource("self", 1.0),
        TextureSource("photos", 3.0),
        TextureSource("noise", 1.0),
        TextureSource("blocks", 1.0),
        TextureSource("elsewhere", 1.0),
    ]
)


def test_parts_are_drawn_by_their_weights():
    draw = Draw(jax.random.key(0), 0, jnp.arange(8000))
    choices = jax.jit(choose, static_argnums=1)(draw, 3, MIXED.mix)
    shares = np.bincount(choices.part, minlength=7) / 8000
    np.testing.assert_allclose(shares, np.array([2, 1, 1, 3, 1, 1, 1]) / 10, atol=0.02)
    assert set(np.asarray(choices.normal)) == {0, 1, 2}
    for part, expected in ((0, range(4)), (2, range(3)), (3, range(4, 6))):
        assert set(np.asarray(choices.texture)[np.asarray(choices.part) == part]) == set(expected)


@pytest.mark.long
def test_each_part_gives_what_it_says():
    # Without operations and fully opaque, a sample inside its mask is its texture.
    weights = dict.fromkeys(AnomalyParams().texture.weights.__dataclass_fields__, 0.0)
    params = AnomalyParams.from_dict({"texture": {"weights": weights}}, base=ALWAYS)
    draw = Draw(jax.random.key(1), 0, jnp.arange(64))
    samples = jax.jit(draw_samples)(draw, MIXED.read(), params)
    choices = choose(draw, 3, MIXED.mix)
    assert set(np.asarray(choices.part)) == set(range(7))
    assert (np.asarray(samples.mask) == 1).all()
    colours = set()
    for i in range(64):
        levels = np.rint(np.asarray(samples.augmented[i]) * 255).astype(int)
        texture = int(choices.texture[i])
        match int(choices.part[i]):
            case 0:
                assert (levels == texture).all()
            case 1:
                assert np.ptp(levels, axis=(0, 1)).max() == 0
                colours.add(tuple(levels[0, 0]))
            case 2:
                assert (levels == 100 + texture).all()
            case 3:
                assert (levels == 50 + texture - 4).all()
            case 4:
                assert 70 < levels.std() < 78  # 255 / √12 is 73.6
                assert np.unique(levels).size > 200
            case 5 | 6:
                assert (levels == 100 + int(choices.normal[i])).all()
    assert len(colours) > 1


@pytest.mark.long
@pytest.mark.parametrize("workers", [0, 2])
def test_what_streams_is_what_would_be_drawn_on_the_device(workers):
    key = jax.random.key(2)
    options = {
        "sample_indices": np.arange(8, dtype=np.int32).reshape(4, 2),
        "steps": range(3, 8),
        "max_steps": 2,
    }
    resident = make_feed(config_of(steps=8, gib=1.0), MIXED, key, **options)
    streaming = make_feed(config_of(steps=8, gib=0.0, workers=workers), MIXED, key, **options)
    assert "stay on the device" in resident.description
    assert "stream" in streaming.description
    pictures = resident.take(1)
    chosen = jax.jit(choose, static_argnums=1)
    step = 3
    for count in (2, 2, 1):
        taken = streaming.take(count)
        assert taken.normal.shape == (4, 2, 2, *SIZE, 3)
        for i in range(count):
            normal, textures, parts = jax.tree.map(
                lambda a, i=i: np.asarray(a)[:, i].reshape(8, *a.shape[3:]), tuple(taken[:3])
            )
            choices = chosen(Draw(key, step, np.arange(8)), 3, MIXED.mix)
            np.testing.assert_array_equal(parts.indices, choices.part)
            np.testing.assert_array_equal(normal, pictures.normal[choices.normal])
            for kind, source in (("pictures", pictures.textures), ("self", pictures.normal)):
                own = np.array([MIXED.mix.kinds[part] == kind for part in choices.part])
                np.testing.assert_array_equal(textures[own], source[choices.texture[own]])
            step += 1
    assert step == 8


@pytest.mark.long
def test_each_host_reads_its_own_share():
    key = jax.random.key(3)

    def pictures_of_host(first, count):
        indices = np.arange(first, first + count, dtype=np.int32).reshape(4, -1)
        feed = make_feed(
            config_of(steps=2, gib=0.0), MIXED, key,
            sample_indices=indices, steps=range(2), max_steps=1,
        )  # fmt: skip
        return np.concatenate([np.asarray(feed.take(1).normal).reshape(count, -1)])

    whole = pictures_of_host(0, 16)
    np.testing.assert_array_equal(pictures_of_host(0, 8), whole[:8])
    np.testing.assert_array_equal(pictures_of_host(8, 8), whole[8:])


class Damaged(PictureArray):
    def __getitem__(self, index):
        raise UserError(f"picture {index} is damaged; replace it")


@pytest.mark.parametrize("workers", [0, 1])
def test_a_damaged_picture_is_named_by_whoever_reads_it(workers):
    damaged = TrainingPictures(
        Damaged(np.zeros((3, *SIZE, 3), np.uint8)), MIXED.textures, MIXED.mix, SIZE
    )
    feed = make_feed(
        config_of(steps=2, gib=0.0, workers=workers), damaged, jax.random.key(0),
        sample_indices=np.arange(4, dtype=np.int32).reshape(4, 1), steps=range(2), max_steps=1,
    )  # fmt: skip
    with pytest.raises(UserError) as caught:
        feed.take(1)
    assert re.fullmatch(r"picture \d is damaged; replace it", str(caught.value))


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.long)])
def test_what_vanishes_or_changes_while_it_streams_stops_or_is_skipped(workers, tmp_path, caplog):
    for level in range(4):
        Image.new("RGB", SIZE, (level,) * 3).save(tmp_path / f"{level}.png")
    source = TextureSource(str(tmp_path))
    textures = Joined([open_textures(source, fitting=Fitting(SIZE))])
    pictures = TrainingPictures(MIXED.normal, textures, make_mix([source], [4]), SIZE)
    key, indices = jax.random.key(0), np.arange(8, dtype=np.int32).reshape(4, 2)

    def feed(policy):
        config = config_of(steps=4, gib=0.0, workers=workers)
        config.data.on_lost_picture = policy
        return make_feed(
            config, pictures, key, sample_indices=indices, steps=range(4), max_steps=1
        )  # fmt: skip

    (tmp_path / "1.png").unlink()
    Image.new("RGB", SIZE, (99, 0, 0)).save(tmp_path / "2.png")
    instead = np.array([0, 3, 3, 3])
    skipping, samples = feed("skip"), 0
    for step in range(4):
        taken = np.asarray(skipping.take(1).textures)[:, 0].reshape(8, -1)
        choices = np.asarray(choose(Draw(key, step, np.arange(8)), 3, pictures.mix).texture)
        samples += np.isin(choices, (1, 2)).sum()
        np.testing.assert_array_equal(
            taken, np.broadcast_to(instead[choices][:, None], taken.shape)
        )
    assert sorted(caplog.messages, reverse=True) == [
        f"there is no file {tmp_path / '1.png'}; check the path; the run goes on with others in "
        "its place",
        f"{tmp_path / '2.png'} has changed since the run was started (its size or its time); "
        "restore it; the run goes on with others in its place",
    ]
    assert skipping.lost.told() == (
        f"2 pictures were lost while the run streamed; {samples} samples were made of others"
    )
    with pytest.raises(UserError, match=r"\d\.png( has changed since the run|; check the path$)"):
        feed("stop").take(1)


def test_a_worker_needs_no_jax():
    program = "import sys, draem_jax.data.streaming; assert 'jax' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)
