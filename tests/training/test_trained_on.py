"""A run is held to the pictures that it was begun with, and finds them from anywhere."""

import json
import logging
import shutil

import numpy as np
import pytest
from PIL import Image

from draem_jax.config import image_size
from draem_jax.data.dataset import DataSet
from draem_jax.data.loading import halves
from draem_jax.detector import Draem
from draem_jax.errors import UserError
from draem_jax.evaluation.calibration import calibrate
from draem_jax.evaluation.evaluate import open_test_pictures
from draem_jax.evaluation.simulated import simulated_pictures
from draem_jax.training import trained_on as module
from draem_jax.training.loop import train
from draem_jax.training.pictures import open_pictures

pytestmark = [pytest.mark.tiny_programs, pytest.mark.long]


def _write(path, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (32, 32, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture(autouse=True)
def _warns_anew():
    module._warn_once.cache_clear()


@pytest.fixture
def run(tmp_path, tiny_config, monkeypatch):
    """A run whose root was given from the folder that it lies in."""
    for i in range(16):
        _write(tmp_path / "photos" / f"{i:03d}.png", i)
    monkeypatch.chdir(tmp_path)
    config = tiny_config(**{"data.name": "folder", "data.category": "", "data.root": "photos"})
    config.data.holdout, config.train.steps = 0.25, 2
    train(config, tmp_path / "run", quiet=True)
    return config, tmp_path / "run", tmp_path / "photos"


def _parts(config, detector):
    """The pixels of each part, as a set of bytes."""
    parts = {}
    for part in ("training", "held_out", "selection", "calibration"):
        source = open_pictures(config, part=part, trained_on=detector.trained_on).normal
        parts[part] = {source[i].tobytes() for i in range(len(source))}
    return parts


def test_what_comes_later_is_in_no_part_and_stops_the_run(run, caplog):
    config, workdir, photos = run
    before = _parts(config, Draem.load(workdir))
    assert [len(part) for part in before.values()] == [12, 4, 2, 2]
    for i in range(16, 33):
        _write(photos / f"{i:03d}.png", i)
    # The share alone would now hold out others, of which some were trained on.
    anew = DataSet("folder", "", root=photos).training_pictures(
        size=image_size(config), holdout=0.25, part="held_out"
    )
    assert {anew[i].tobytes() for i in range(len(anew))} & before["training"]

    detector = Draem.load(workdir)
    with caplog.at_level(logging.WARNING):
        assert _parts(config, detector) == before
    assert [r.message for r in caplog.records] == [
        "17 normal pictures (good/016 and 16 more) came after the run had begun; it was not "
        "trained on what is new, which is left out"
    ]
    shown = simulated_pictures(detector.config, trained_on=detector.trained_on)
    normal = {
        image.tobytes()
        for image, mask in zip(shown.pictures.images, shown.pictures.masks, strict=True)
        if not mask.any()
    }
    assert normal == before["held_out"]
    stored = (workdir / "data.json").read_bytes()
    with pytest.raises(UserError, match=r"17 normal pictures added \(good/016 and 16 more\); rest"):
        train(config, workdir, quiet=True)
    assert (workdir / "data.json").read_bytes() == stored


def test_what_has_changed_or_gone_is_left_out(run, caplog):
    config, workdir, photos = run
    detector = Draem.load(workdir)
    apart = halves(detector.trained_on.held_out)
    assert calibrate(detector).normal_pictures == 2
    files = {part: [photos / f"{n.partition('/')[2]}.png" for n in apart[part]] for part in apart}
    _write(files["calibration"][0], 99)
    files["selection"][0].unlink()
    with caplog.at_level(logging.WARNING):
        assert calibrate(detector).normal_pictures == 1
    assert any("2 normal pictures" in r.message and "left out" in r.message for r in caplog.records)
    with pytest.raises(UserError, match=r"1 normal picture gone .*1 normal picture changed"):
        train(config, workdir, quiet=True)
    files["calibration"][1].unlink()
    with pytest.raises(UserError, match="none of the 2 normal pictures that the run held out"):
        calibrate(detector)


def test_a_test_picture_that_was_trained_on_is_told(run):
    _, workdir, photos = run
    name = next(iter(Draem.load(workdir).trained_on.training)).partition("/")[2]
    shutil.move(photos, photos.with_name("all"))
    shutil.copytree(photos.with_name("all"), photos / "train" / "good")
    _write(photos / "test" / "scratch" / "new.png", 50)
    (photos / "test" / "scratch" / "old.png").write_bytes(
        (photos / "train" / "good" / f"{name}.png").read_bytes()
    )
    said = []
    test, simulated = open_test_pictures(Draem.load(workdir), warn=said.append)
    assert len(test) == 2
    assert not simulated
    assert any(
        line.startswith("1 test pictures are among those that the run was trained on (scratch/old")
        for line in said
    )


def test_a_root_is_found_from_anywhere_however_it_is_spelt(run, monkeypatch, tmp_path):
    config, workdir, photos = run
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for spelling in ("photos/", "./photos", str(photos), "run/../photos"):
        config.data.root = spelling
        assert train(config, workdir, quiet=True).step == 2
    monkeypatch.chdir(elsewhere)
    detector = Draem.load(workdir)
    assert detector.config.data.root == str(photos)
    assert len(open_pictures(detector.config).normal) == 12
    # As it was kept before, from where the run was made.
    stored = json.loads((workdir / "config.json").read_text())
    stored["data"]["root"] = "photos"
    (workdir / "config.json").write_text(json.dumps(stored))
    config.data.root = str(photos)
    monkeypatch.chdir(tmp_path)
    assert train(config, workdir, quiet=True).step == 2


def test_a_run_may_lie_within_its_pictures(tmp_path, tiny_config):
    for i in range(4):
        _write(tmp_path / "good" / f"{i}.png", i)
    config = tiny_config(**{"data.name": "folder", "data.category": "", "data.root": str(tmp_path)})
    config.data.holdout, config.train.steps = 0.25, 2
    train(config, tmp_path / "run", quiet=True)
    assert list((tmp_path / "run" / "samples").iterdir())
    train(config, tmp_path / "run", quiet=True)  # the pictures are still the same
    detector = Draem.load(tmp_path / "run")
    assert len(detector.trained_on.training) == 3
    _, simulated = open_test_pictures(detector)
    assert simulated
