import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import draem_jax
from draem_jax.config import data_set, default_config
from draem_jax.data import prepared
from draem_jax.data.dataset import DataSet
from draem_jax.data.pictures import resize, resize_mask
from draem_jax.data.surface_defects import DEFECTS
from draem_jax.errors import UserError
from tests.data import fixtures

LOAD = """
import sys
from draem_jax.data.dataset import DataSet
DataSet("surfaces", "brick", data_dir=sys.argv[1]).test_pictures(size=(96, 96))[0]
assert "tensorflow" not in sys.modules
"""

PREPARE_AND_DIE = """
import os, sys
from draem_jax.data import surfaces
from draem_jax.data.dataset import DataSet
draw, count = surfaces.draw_sample, 0
def draw_some(**options):
    global count
    count += 1
    if count == 210:
        os._exit(9)
    return draw(**options)
surfaces.draw_sample = draw_some
DataSet("surfaces", "brick", data_dir=sys.argv[1]).prepare()
"""


def start(code: str, folder: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", code, str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(draem_jax.__file__).parents[1])},
    )


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """Prepared and read by two processes at once, without a word and without TensorFlow."""
    folder = tmp_path_factory.mktemp("data")
    for process in [start(LOAD, folder) for _ in range(2)]:
        assert process.communicate() == ("", "")
        assert process.returncode == 0
    return folder


def load(data_dir):
    """Both halves of a category."""
    data = DataSet("surfaces", "brick", data_dir=data_dir)
    return fixtures.read_training(data, size=(96, 96)), fixtures.read_test(data, size=(96, 96))


def test_loads_counts_and_types(data_dir):
    train, test = load(data_dir)
    assert train.images.shape == (200, 96, 96, 3)
    assert train.names == [f"good/{i:03d}" for i in range(200)]
    assert test.images.shape == (124, 96, 96, 3)
    assert test.masks.shape == (124, 96, 96, 1)
    assert Counter(test.defect_types) == {"good": 40} | dict.fromkeys(DEFECTS, 14)
    assert set(np.unique(test.masks)) == {0, 1}
    for name, defect_type, mask in zip(test.names, test.defect_types, test.masks, strict=True):
        assert name.startswith(f"{defect_type}/")
        assert mask.any() == (defect_type != "good")


def test_loaded_pictures_are_the_drawn_ones(data_dir):
    from draem_jax.data.surfaces import draw_sample

    test = fixtures.read_test(DataSet("surfaces", "brick", data_dir=data_dir), size=(96, 96))
    index = test.names.index("crack/003")
    sample = draw_sample(category="brick", split="test", defect_type="crack", index=3)
    np.testing.assert_array_equal(test.images[index], sample.image)
    np.testing.assert_array_equal(test.masks[index, ..., 0], sample.mask)


def test_resizes(data_dir):
    whole = fixtures.read_test(DataSet("surfaces", "brick", data_dir=data_dir), size=(96, 96))
    small = fixtures.read_test(DataSet("surfaces", "brick", data_dir=data_dir), size=(64, 80))
    np.testing.assert_array_equal(small.images[5], resize(whole.images[5], (64, 80)))
    mask = resize_mask(whole.masks[5, ..., 0].astype(bool), (64, 80))
    np.testing.assert_array_equal(small.masks[5, ..., 0], mask)


def test_labels_agree_with_types(data_dir):
    builder = DataSet("surfaces", "brick", data_dir=data_dir).prepare()
    for example in builder.as_data_source("test"):
        assert example["label"] == (example["defect_type"] != b"good")
        assert set(np.unique(example["mask"])) <= {0, 255}
    for example in builder.as_data_source("stain"):
        assert (example["label"], example["defect_type"]) == (0, b"stain")


def test_killed_half_way_then_prepared_again_gives_the_same(data_dir, tmp_path):
    process = start(PREPARE_AND_DIE, tmp_path)
    process.communicate()
    assert process.returncode == 9
    (finished,) = (data_dir / "surfaces" / "brick").iterdir()
    assert not (tmp_path / "surfaces" / "brick" / finished.name).exists()
    # What an earlier version prepared neither serves nor disturbs.
    shutil.copytree(finished, tmp_path / "surfaces" / "brick" / "1.1.0")
    again, first = load(tmp_path), load(data_dir)
    for ours, theirs in zip(again, first, strict=True):
        assert ours.names == theirs.names
        np.testing.assert_array_equal(ours.images, theirs.images)
    np.testing.assert_array_equal(again[1].masks, first[1].masks)
    stains = DataSet("surfaces", "brick", data_dir=tmp_path).test_pictures(
        size=(96, 96), split="stain"
    )
    assert len(stains) == 40
    assert stains[7].name == "stain/007"
    assert not stains[7].mask.any()


def test_damaged_data(data_dir, tmp_path):
    shutil.copytree(data_dir, tmp_path, dirs_exist_ok=True)
    (shard,) = tmp_path.glob("surfaces/brick/*/*test.array_record*")
    shard.write_bytes(b"short")
    with pytest.raises(UserError, match=r"damaged; delete that folder"):
        fixtures.read_test(DataSet("surfaces", "brick", data_dir=tmp_path), size=(96, 96))
    shard.unlink()
    with pytest.raises(UserError, match=r"damaged; delete that folder"):
        fixtures.read_test(DataSet("surfaces", "brick", data_dir=tmp_path), size=(96, 96))


def test_description_says_what_it_cannot_tell(data_dir):
    info = DataSet("surfaces", "brick", data_dir=data_dir).prepare().info
    assert "demonstration" in info.description
    assert "cannot rank methods" in " ".join(info.description.split())


def test_unknown_names():
    with pytest.raises(UserError, match=r"unknown data set 'mvtec'; choose one of: surfaces"):
        DataSet("mvtec", "brick").prepare()
    with pytest.raises(UserError, match=r"'sand'; choose one of: brick, grass, gravel"):
        DataSet("surfaces", "sand").prepare()
    assert prepared.categories("surfaces") == ("brick", "grass", "gravel")


def test_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write data sets"):
        DataSet("surfaces", "brick", data_dir=tmp_path / "file").prepare()
    with pytest.raises(UserError, match="cannot write data sets"):
        DataSet("surfaces", "brick", data_dir=tmp_path / "file" / "below").prepare()


def test_the_data_set_that_a_config_names():
    config = default_config()
    assert data_set(config) == DataSet("surfaces", "brick")
    own = {"root": "photos", "skip_bad": True, "depth": "12"}
    config.data.update(name="folder", category="left", **own)
    assert data_set(config) == DataSet("folder", "left", **own)
    assert data_set(config, full_scale=1023) == DataSet("folder", "left", **own, full_scale=1023)


def test_default_folder(monkeypatch, tmp_path):
    monkeypatch.delenv(prepared.DATA_DIR_VARIABLE, raising=False)
    assert prepared.default_data_dir() == Path.home() / ".cache" / "draem_jax"
    monkeypatch.setenv(prepared.DATA_DIR_VARIABLE, str(tmp_path))
    assert prepared.default_data_dir() == tmp_path
