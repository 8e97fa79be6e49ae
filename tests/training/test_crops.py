"""Crops of pictures: which there are, that all ways of reading give the same, and what is not."""

import hashlib

import jax
import numpy as np
import pytest
import tifffile
from PIL import Image

from draem_jax.anomalies import AnomalyParams
from draem_jax.cli import main
from draem_jax.config import anomaly_params, fitting
from draem_jax.data import texture_sources
from draem_jax.data.examples import read_examples
from draem_jax.data.fitting import Fitting
from draem_jax.data.pictures import read_picture
from draem_jax.data.texture_sources import Joined, PictureArray, PictureFiles, TextureSource
from draem_jax.errors import UserError
from draem_jax.training.feed import make_feed, read_pictures, read_samples, sample_places
from draem_jax.training.loop import train
from draem_jax.training.pictures import TrainingPictures, data_warnings, make_mix, open_pictures
from draem_jax.training.plan import count_pictures
from draem_jax.training.samples import Draw, take_pictures
from draem_jax.training.tuning_samples import make_tuning_samples, tuning_params, tuning_pictures

TILE = (32, 64)
SIZES = ((40, 70), (36, 66), (32, 64), (34, 50), (44, 68))
"""Of the normal pictures; the fourth is narrower than a tile."""

BOXES = ((0, 30, 0, 70), (2, 36, 0, 66), (0, 32, 0, 64), (10, 20, 5, 45), (5, 44, 60, 68))
"""What the masks of the pictures mark: rows and columns, from and to."""


def picture(size, number):
    """A picture that tells of each pixel its row, its column, and which picture it is of."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    return np.stack([rows, columns, np.full(size, number)], axis=-1).astype(np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Normal pictures, masks of them, and textures, of many sizes; one texture is a tiled TIFF."""
    root = tmp_path_factory.mktemp("crops")
    for name in ("normal/good", "masks/good", "textures"):
        (root / name).mkdir(parents=True)
    for i, (size, (top, bottom, left, right)) in enumerate(zip(SIZES, BOXES, strict=True)):
        Image.fromarray(picture(size, i)).save(root / "normal" / "good" / f"{i}.png")
        mask = np.zeros(size, np.uint8)
        mask[top:bottom, left:right] = 255
        Image.fromarray(mask).save(root / "masks" / "good" / f"{i}.png")
    for i, size in enumerate(((64, 128), (33, 65), (20, 30))):
        Image.fromarray(picture(size, 100 + i)).save(root / "textures" / f"{i}.png")
    tifffile.imwrite(root / "textures" / "3.tif", picture((48, 80), 103), tile=(16, 16))
    return root


@pytest.fixture
def crops_config(folder, tiny_config):
    def make(**changes):
        return tiny_config(
            **{
                "data.name": "folder",
                "data.category": "",
                "data.root": str(folder / "normal"),
                "data.texture_source": f"{folder / 'textures'}:2,self,noise",
                "data.tile": TILE,
            }
            | changes
        )

    return make


def draw_of(count):
    return Draw(jax.random.key(5), np.int32(3), np.arange(count, dtype=np.int32))


def allowed(axis, size, box):
    """The corners along one axis: within what is looked at, or around it; and in the picture."""
    begin, end = box[2 * axis : 2 * axis + 2]
    for corner in range(max(1, size[axis] - TILE[axis] + 1)):
        stop = corner + TILE[axis]
        if (begin <= corner and stop <= end) or (corner <= begin and end <= stop):
            yield corner


@pytest.mark.parametrize("with_roi", [False, True])
def test_crops_lie_everywhere_where_they_may_and_nowhere_else(with_roi, folder, crops_config):
    roi = {"data.roi": str(folder / "masks")} if with_roi else {}
    pictures = open_pictures(crops_config(**roi))
    chosen = jax.jit(take_pictures)(0, draw_of(6000), pictures.read())
    normal = np.asarray(chosen.normal)
    planes = np.asarray(chosen.inside.planes)
    expected = set()
    for i, size in enumerate(SIZES):
        box = BOXES[i] if with_roi else (0, size[0], 0, size[1])
        canvas = np.pad(picture(size, i), [(0, 0), (0, max(0, 64 - size[1])), (0, 0)], "symmetric")
        plane = np.zeros(canvas.shape[:2], bool)
        plane[box[0] : box[1], box[2] : box[3]] = True
        for top in allowed(0, size, box):
            for left in allowed(1, size, box):
                expected.add((i, top, left))
        for crop, inside in zip(normal, planes, strict=True):
            if crop[0, 0, 2] == i:
                top, left = crop[0, 0, :2]
                window = slice(top, top + 32), slice(left, left + 64)
                np.testing.assert_array_equal(crop, canvas[window])
                np.testing.assert_array_equal(inside, plane[window])
    assert {(int(n), int(top), int(left)) for top, left, n in normal[:, 0, 0]} == expected
    # Of textures likewise, such as the smallest that is not enlarged.
    textures = np.asarray(chosen.textures)[np.asarray(chosen.parts.indices) == 0]
    corners = {(int(top), int(left)) for top, left, n in textures[:, 0, 0] if n == 101}
    assert corners == {(0, 0), (0, 1), (1, 0), (1, 1)}


@pytest.mark.slow
@pytest.mark.parametrize("scale", [1.0, 1.5])
@pytest.mark.parametrize("with_roi", [False, True])
def test_what_streams_is_what_would_be_cut_on_the_device(with_roi, scale, folder, crops_config):
    roi = {"data.roi": str(folder / "masks")} if with_roi else {}
    config = crops_config(**{"data.scale": scale, "data.resident_gib": 0.0} | roi)
    config.data.workers = int(with_roi and scale == 1)
    pictures = open_pictures(config)
    assert (pictures.planes is None) == (scale == 1.5 and not with_roi)
    resident = jax.jit(take_pictures)(0, draw_of(32), pictures.read())
    feed = make_feed(
        config, pictures, draw_of(32).key,
        sample_indices=np.arange(32, dtype=np.int32).reshape(4, 8), steps=range(3, 4), max_steps=1,
    )  # fmt: skip
    streamed = jax.tree.map(lambda a: a.reshape(32, *a.shape[3:]), feed.take(1))
    looked_up = np.asarray(resident.parts.indices) < 2
    assert 0 < looked_up.sum() < 32
    for other in (streamed, read_pictures(pictures, draw_of(32))):
        for kind in ("normal", "parts", "inside"):
            jax.tree.map(
                np.testing.assert_array_equal, getattr(resident, kind), getattr(other, kind)
            )
        np.testing.assert_array_equal(
            np.asarray(resident.textures)[looked_up], np.asarray(other.textures)[looked_up]
        )


@pytest.mark.parametrize("changes", [{}, {"data.tile": (0,)}])
def test_places_tell_where_samples_come_from(changes, folder, crops_config):
    pictures = open_pictures(crops_config(**{"data.roi": str(folder / "masks")} | changes))
    chosen = read_pictures(pictures, draw_of(16))
    for i, (number, window) in enumerate(sample_places(pictures, draw_of(16))):
        np.testing.assert_array_equal(chosen.normal[i], pictures.normal[number][window])
        np.testing.assert_array_equal(chosen.inside.planes[i], pictures.planes[number][window])


def test_of_a_tiff_in_blocks_the_window_alone_is_read(folder, monkeypatch):
    paths = tuple(sorted((folder / "textures").iterdir()))
    window = slice(7, 39), slice(12, 76)
    for scale in (1.0, 0.9):
        way = Fitting(TILE, "cover", scale)
        files = PictureFiles(paths, way)
        for i, path in enumerate(paths):
            canvas = way.fit(read_picture(path))
            assert files.canvas_size(i) == canvas.shape[:2]
            np.testing.assert_array_equal(files.read_window(i, window), canvas[window])
    monkeypatch.delattr(texture_sources, "read_picture")
    assert PictureFiles(paths, Fitting(TILE, "cover")).read_window(3, window).shape == (32, 64, 3)


def test_whole_pictures_are_what_they_were_before_there_were_crops():
    def gradients(count, first):
        rows, columns = np.mgrid[:32, :32]
        return np.stack(
            [
                np.stack(
                    [rows * 7 + i * 13 + first, columns * 5 + i, rows + columns + i * 3], axis=-1
                )
                for i in range(count)
            ]
        ).astype(np.uint8)

    sources = [TextureSource("photos", 2.0), TextureSource("self"), TextureSource("noise")]
    pictures = TrainingPictures(
        PictureArray(gradients(5, 0)),
        Joined([PictureArray(gradients(7, 100))]),
        make_mix(sources, [7, 5, 5]),
        (32, 32),
    )
    resident = jax.jit(take_pictures)(0, draw_of(64), pictures.read())
    for chosen in (resident, read_pictures(pictures, draw_of(64))):
        parts, normal, textures = (
            np.asarray(a) for a in (chosen.parts.indices, chosen.normal, chosen.textures)
        )
        digest = hashlib.sha256()
        for array in (parts, normal, textures[parts < 2]):
            digest.update(array.tobytes())
        assert digest.hexdigest().startswith("147bc24303f053e1")


@pytest.mark.long
@pytest.mark.parametrize("changes", [{}, {"data.tile": (0,), "data.fit": "letterbox"}])
def test_nothing_is_simulated_on_padding(changes, folder, crops_config):
    changes = {"data.image_size": TILE, "data.texture_source": str(folder / "textures")} | changes
    pictures = open_pictures(crops_config(**changes))
    params = AnomalyParams(untouched_share=0.0, threshold=(-9.0, -9.0), normal_rotation_share=0.0)
    samples = read_samples(pictures, draw_of(16), params)
    masks, inside = np.asarray(samples.mask), np.asarray(samples.inside)
    np.testing.assert_array_equal(masks > 0, inside)
    which = np.rint(np.asarray(samples.normal)[:, 0, 0, 2] * 255).astype(int)
    assert set(which) == set(range(len(SIZES)))
    for i, size in enumerate(SIZES):
        height, width = pictures.normal.fitting.content_size(size)
        looked_at = np.zeros(pictures.size, bool)
        looked_at[:height, :width] = True
        assert (inside[which == i, ..., 0] == looked_at).all()


def test_what_streams_goes_on_from_any_step(crops_config):
    config = crops_config(**{"data.resident_gib": 0.0, "data.workers": 0})
    pictures = open_pictures(config)

    def feed_from(step):
        return make_feed(
            config, pictures, draw_of(1).key,
            sample_indices=np.arange(4, dtype=np.int32).reshape(4, 1), steps=range(step, 5),
            max_steps=1,
        )  # fmt: skip

    straight, resumed = feed_from(0), feed_from(3)
    first = [straight.take(1) for _ in range(3)]
    assert len({np.asarray(taken.normal).tobytes() for taken in first}) == 3
    for _ in range(2):
        jax.tree.map(np.testing.assert_array_equal, straight.take(1), resumed.take(1))


@pytest.mark.long
@pytest.mark.parametrize("streams", [False, True])
def test_a_stopped_run_goes_on_bit_for_bit(streams, tmp_path, folder, crops_config):
    changes = {"data.resident_gib": 0.0, "data.workers": 0} if streams else {}
    # One network is compiled in two thirds of the time.
    few = {
        "data.texture_source": f"{folder / 'textures'},self",
        "model.variant": "reconstruction_ssim",
    }
    config = crops_config(**changes, **few)
    expected = train(config, tmp_path / "straight", quiet=True)
    stopped = train(config, tmp_path / "run", quiet=True, watch=lambda step: step == 1)
    assert (int(stopped.step), int(expected.step)) == (1, 4)
    found = train(config, tmp_path / "run", quiet=True)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.long
def test_crops_of_given_pictures_hold_what_was_given(tmp_path, folder, crops_config):
    sizes, defects = ((50, 90), (40, 60)), (((5, 7), (30, 80), (31, 80)), ((39, 59), (0, 0)))
    masks = [np.zeros(size, bool) for size in sizes]
    for i, (size, pixels) in enumerate(zip(sizes, defects, strict=True)):
        for kind in ("accepted", "hole"):
            (tmp_path / kind).mkdir(exist_ok=True)
            number = {"accepted": 200, "hole": 210}[kind] + i
            Image.fromarray(picture(size, number)).save(tmp_path / kind / f"{i}.png")
        masks[i][tuple(np.transpose(pixels))] = True
        Image.fromarray(masks[i]).save(tmp_path / "hole" / f"{i}_mask.png")
    config = crops_config(
        **{
            "data.texture_source": str(folder / "textures"),
            "anomalies.untouched_share": 1.0,
            "anomalies.normal_rotation_share": 0.0,
        }
    )
    config.finetune.update(accepted_share=0.4, defect_share=0.4, brightness=0.0)
    config.finetune.update(flip=False, turn=False)
    examples = read_examples(
        tmp_path / "accepted", tmp_path / "hole", size=TILE, fitting=fitting(config)
    )
    chosen = read_pictures(open_pictures(config), draw_of(400))
    samples = jax.jit(make_tuning_samples)(
        draw_of(400), chosen, tuning_pictures(examples, crop=TILE), anomaly_params(config),
        tuning_params(config, examples),
    )  # fmt: skip
    augmented = np.rint(np.asarray(samples.augmented) * 255).astype(np.uint8)
    seen = {}
    for crop, mask in zip(augmented, np.asarray(samples.mask)[..., 0] > 0, strict=True):
        top, left, number = map(int, crop[0, 0])
        seen.setdefault(number, set()).add((top, left))
        assert mask.any() == (number >= 210)
        if number < 200:
            continue
        (height, width), marked = sizes[number % 10], masks[number % 10] & (number >= 210)
        beyond = ((0, 0), (0, max(0, 64 - width)))
        window = slice(top, top + 32), slice(left, left + 64)
        # The padding mirrors the picture, but no defect.
        np.testing.assert_array_equal(mask, np.pad(marked, beyond)[window])
        canvas = np.pad(picture((height, width), number), (*beyond, (0, 0)), "symmetric")
        np.testing.assert_array_equal(crop, canvas[window])
    assert {number for number in seen if number < 200} == set(range(len(SIZES)))
    # Both ends of the canvas are reached in the second picture, where a defect lies at each.
    assert seen[211] >= {(0, 0), (8, 0)}
    assert {len(seen[number]) > 30 for number in (200, 210)} == {True}


@pytest.mark.long
@pytest.mark.parametrize("padded", ["normal", "accepted"])
def test_padding_counts_by_itself_in_normal_and_in_accepted_pictures(padded, tmp_path, tiny_config):
    levels = {"normal": 50, "accepted": 200}
    for kind, level in levels.items():
        folder = tmp_path / kind / "good"
        folder.mkdir(parents=True)
        size = (32, 64) if kind == padded else (64, 64)
        for i in range(2):
            Image.fromarray(np.full((*size, 3), level, np.uint8)).save(folder / f"{i}.png")
    config = tiny_config(
        **{
            "data.name": "folder",
            "data.category": "",
            "data.root": str(tmp_path / "normal"),
            "data.fit": "letterbox",
            "anomalies.untouched_share": 0.0,
            "anomalies.threshold": (-9.0, -9.0),
            "anomalies.normal_rotation_share": 0.0,
        }
    )
    config.finetune.update(accepted_share=0.5, flip=False, brightness=0.0)
    examples = read_examples(tmp_path / "accepted", None, size=(32, 32), fitting=fitting(config))
    samples = jax.jit(make_tuning_samples)(
        draw_of(16), read_pictures(open_pictures(config), draw_of(16)), tuning_pictures(examples),
        anomaly_params(config), tuning_params(config, examples),
    )  # fmt: skip
    shares = np.asarray(samples.mask).mean(axis=(1, 2, 3))
    seen = np.rint(np.asarray(samples.normal)[:, 0, 0, 0] * 255)
    assert {*zip(seen.tolist(), shares.tolist(), strict=True)} == {
        (level, 0.5 if kind == padded else 1.0) for kind, level in levels.items()
    }


def test_small_pictures_are_told_or_refused(tmp_path, crops_config, capsys):
    (line,) = data_warnings(crops_config())
    assert line.startswith(
        "1 of 5 normal pictures is smaller than a tile of 32 x 64 at config.data"
    )
    too_large = crops_config(**{"data.tile": (64, 96)})
    assert not data_warnings(too_large)
    with pytest.raises(UserError, match=r"all 5 normal .* 64 x 96 at config\.data\.scale=1, the l"):
        open_pictures(too_large)
    flags = [f"--config.{name}={value}" for name, value in (
        ("data.name", "folder"), ("data.category", ""), ("data.root", too_large.data.root),
        ("data.tile", "(32,)"), ("data.scale", "0.5"),
    )]  # fmt: skip
    recipe = tmp_path / "recipe.py"
    recipe.write_text("from draem_jax.config import default_config as get_config\n")
    assert main(["train", f"--config={recipe}", f"--workdir={tmp_path / 'run'}", *flags]) != 0
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert "40 x 70 pixels, of which config.data.scale=0.5 leaves 20 x 35" in said[0]


def test_the_plan_counts_what_training_holds(folder, crops_config, tmp_path, monkeypatch):
    for changes in ({}, {"data.scale": 1.5}, {"data.roi": str(folder / "masks")}):
        config = crops_config(**changes)
        counted = count_pictures(config)
        assert counted.nbytes == open_pictures(config).nbytes
        assert counted.assumed_size == ""
    held = open_pictures(crops_config()).read()
    arrays = (held.normal, held.textures, held.inside.planes)
    assert sum(array.nbytes for array in arrays) == open_pictures(crops_config()).nbytes
    monkeypatch.setenv("DRAEM_JAX_DATA", str(tmp_path))  # Other tests prepare that category.
    unknown = crops_config(**{"data.name": "mvtec_ad", "data.category": "bottle", "data.root": ""})
    assert count_pictures(unknown).assumed_size == "1024 x 1024"
    assert count_pictures(unknown).normal_size == (1024, 1024)
