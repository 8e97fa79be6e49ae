"""Defects one by one, against what was drawn."""

import math

import numpy as np
import pytest

from draem_jax.data.surfaces import draw_sample
from draem_jax.evaluation.missed import list_defects, recall, threshold_of_normal
from tools.measure_missed import common_runs, table


def test_each_region_has_its_size_contrast_and_margin():
    image = np.full((40, 50, 3), 100, np.uint8)
    mask, margin = np.zeros((40, 50), bool), np.zeros((40, 50), np.float32)
    mask[5:7, 5:7] = mask[7, 7] = True  # a pixel touches a square by its corner
    image[mask] = 110
    margin[7, 7], margin[20, 20] = 2, 5
    mask[30:40, 40:50] = True  # at the sides
    image[30:40, 40:50] = (100, 100, 130)
    small, large = list_defects("crack/0", image, mask, margin, threshold=1.5)
    assert (small.share, small.contrast, small.excess) == (5 / 2000, pytest.approx(10), 0.5)
    assert (large.share, large.contrast, large.excess) == (100 / 2000, pytest.approx(10), -1.5)
    assert (small.is_small, small.is_faint, small.is_found) == (True, True, True)
    assert (large.is_small, large.is_faint, large.is_found) == (False, True, False)
    assert recall([small, large]) == 0.5
    assert math.isnan(recall([]))
    lines = table({"brick": [[large], [small]]}, ["code", "plus"]).splitlines()
    assert lines[1].split() == ["brick", "all", "1", "0.0", "100.0", "+100.0"]


def test_what_is_drawn_is_compared_with_the_undamaged_picture():
    sample = draw_sample(category="gravel", split="test", defect_type="hole", index=0)
    (defect,) = list_defects(
        "hole/000",
        sample.image,
        sample.mask,
        np.zeros(sample.mask.shape, np.float32),
        threshold=0.0,
        undamaged=sample.undamaged,
    )
    change = np.abs(sample.image.astype(float) - sample.undamaged)[sample.mask].mean()
    assert defect.contrast == pytest.approx(change)
    assert defect.share == sample.area / sample.mask.size


def test_a_share_of_normal_pixels_lies_above_the_threshold():
    rng = np.random.default_rng(0)
    margins = [rng.normal(size=(20, 30)).astype(np.float32) for _ in range(5)]
    threshold = threshold_of_normal(margins, exceeded=0.01)
    assert (np.array(margins) > threshold).sum() == 29
    assert (np.array(margins) >= threshold).sum() == 30


def test_runs_are_paired_by_their_place(tmp_path):
    for place in ("a/brick/seed_0", "a/brick/seed_1", "b/brick/seed_1", "b/grass/seed_0"):
        (tmp_path / place / "checkpoints").mkdir(parents=True)
    folders = [tmp_path / "a", tmp_path / "b"]
    assert [str(run) for run in common_runs(folders)] == ["brick/seed_1"]
    with pytest.raises(SystemExit, match="no run in common"):
        common_runs([*folders, tmp_path / "b" / "grass"])
