"""What a run would take, against what is known of the authors' networks and recipe."""

import itertools

import numpy as np
import pytest
from PIL import Image

from draem_jax.config import default_config
from draem_jax.data.dataset import DataSet
from draem_jax.errors import UserError
from draem_jax.training.accelerators import ACCELERATORS
from draem_jax.training.plan import count_pictures


def units(*channels):
    """Parameters of units one behind the other: 3 x 3 convolution with bias, scale and shift."""
    return sum(9 * i * o + 3 * o for i, o in itertools.pairwise(channels))


def authors_parameters():
    b = 128
    widths = (b, 2 * b, 4 * b, 8 * b, 8 * b)
    reconstructive = sum(units(i, c, c) for i, c in itertools.pairwise((3, *widths)))
    ends = (4 * b, 2 * b, b, b)
    for i, o in itertools.pairwise((8 * b, *ends)):
        reconstructive += units(i, i, i, o)
    b = 64
    widths = (b, 2 * b, 4 * b, 8 * b, 8 * b, 8 * b)
    discriminative = sum(units(i, c, c) for i, c in itertools.pairwise((6, *widths)))
    below = 8 * b
    for c, skip in zip((8 * b, 4 * b, 2 * b, b, b), reversed(widths[:-1]), strict=True):
        discriminative += units(below, c) + units(c + skip, c, c)
        below = c
    outputs = (9 * 128 * 3 + 3, 9 * 64 * 2 + 2)
    return {
        "reconstructive": reconstructive + outputs[0],
        "discriminative": discriminative + outputs[1],
    }


@pytest.mark.long
@pytest.mark.xdist_group("authors_plan")
def test_the_authors_run_on_data_that_are_not_here(authors_plan):
    plan = authors_plan
    assert plan.parameters == authors_parameters()
    assert sum(plan.parameters.values()) == pytest.approx(97.4e6, rel=1e-3)
    assert plan.state["optimizer"] == pytest.approx(2 * plan.state["parameters"], rel=1e-3)
    assert plan.state["parameters"] == 4 * sum(plan.parameters.values())
    # 700 epochs of the published 209 pictures.
    assert plan.config.train.steps == 18288
    assert "not prepared here" in plan.data.assumed
    assert plan.config.model.dtype == "bfloat16"
    # Measured of the authors' networks: 396 GFLOP forward, three times as much for a step.
    assert plan.step_flops / 8 == pytest.approx(3 * 396e9, rel=0.01)
    assert plan.step_flops / 8 == pytest.approx(1.19e12, rel=0.01)


@pytest.mark.long
@pytest.mark.xdist_group("authors_plan")
def test_what_fits_and_how_long_it_takes(authors_plan):
    plan = authors_plan
    for remat in (False, True):
        most = plan.most_samples(60 * 2**30, remat=remat)
        assert plan.nbytes(most, remat=remat) <= 60 * 2**30 < plan.nbytes(most + 1, remat=remat)
    assert plan.most_samples(2**30, remat=True) == 0
    (h100,) = (known for known in ACCELERATORS if known.name == "h100")
    whole = plan.seconds_per_step(h100, devices=1, utilisation=1.0)
    assert whole == pytest.approx(8 * 1.19e12 / 989.4e12, rel=0.01)
    assert plan.seconds_per_step(h100, devices=4, utilisation=0.5) == pytest.approx(whole / 2)


def test_pictures_are_counted_as_training_finds_them(tmp_path, data_dir):
    rng = np.random.default_rng(0)
    for folder, count in (("good", 11), ("test/hole", 2)):
        (tmp_path / folder).mkdir(parents=True)
        for i in range(count):
            picture = rng.integers(0, 256, (40, 40, 3), np.uint8)
            Image.fromarray(picture).save(tmp_path / folder / f"{i}.png")
    config = default_config()
    before = sorted(data_dir.rglob("*"))
    config.data.update(name="folder", category="", root=str(tmp_path), holdout=0.2)
    counted = count_pictures(config)
    assert sorted(data_dir.rglob("*")) == before  # nothing was prepared
    data = DataSet("folder", "", root=tmp_path)
    normal = data.training_pictures(size=(32, 32), holdout=0.2)
    assert (counted.normal, counted.assumed) == (len(normal), "")
    for root in (None, tmp_path / "gone"):
        with pytest.raises(UserError):
            DataSet("folder", "", root=root).count_normal()
    with pytest.raises(UserError, match="no file or folder"):
        DataSet("mvtec_ad", "bottle", root=tmp_path / "gone").count_normal()
    with pytest.raises(UserError, match="no category"):
        DataSet("surfaces", "glass").count_normal()


def test_built_in_pictures_are_counted():
    config = default_config()
    data = DataSet("surfaces", "brick")
    counted = count_pictures(config)
    assert counted.normal == len(data.training_pictures(size=(32, 32)))
    assert counted.nbytes == (counted.normal + counted.textures) * 256 * 256 * 3
    assert not counted.streams
    config.data.resident_gib = 0.01
    assert count_pictures(config, 5).streams
    assert count_pictures(config, 5).normal == 5
