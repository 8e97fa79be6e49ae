import hashlib

import numpy as np
import pytest
from scipy import ndimage
from skimage import data
from skimage.morphology import skeletonize

from draem_jax.data.surface_defects import DEFECTS
from draem_jax.data.surfaces import CATEGORIES, COUNTS, PICTURE_SIZE, draw_sample

PHOTOGRAPHS = {"brick": data.brick, "grass": data.grass, "gravel": data.gravel}


def samples(category: str, defect_type: str, *, split: str = "test", count: int = 14):
    return [
        draw_sample(category=category, split=split, defect_type=defect_type, index=index)
        for index in range(count)
    ]


@pytest.mark.parametrize("category", CATEGORIES)
@pytest.mark.parametrize("defect_type", DEFECTS)
def test_mask_is_exact(category, defect_type):
    for sample in samples(category, defect_type):
        changed = (sample.image != sample.undamaged).any(-1)
        assert not changed[~sample.mask].any()
        assert changed[sample.mask].mean() > 0.97
        assert 40 < sample.mask.sum() < 1200


@pytest.mark.parametrize("category", CATEGORIES)
def test_defects_can_be_seen_but_do_not_glare(category):
    for defect_type in DEFECTS:
        change = np.mean(
            [
                np.abs(s.image.astype(int) - s.undamaged)[s.mask].mean()
                for s in samples(category, defect_type)
            ]
        )
        assert 10 < change < 70, defect_type
        if defect_type == "paint":
            assert change < 25


@pytest.mark.parametrize("defect_type", ["crack", "scratch"])
def test_lines_are_one_to_three_pixels_wide(defect_type):
    for sample in samples("brick", defect_type):
        # Across a line of odd width w the distance to the ground peaks at (w + 1) / 2.
        # The sides of the square are no ground; pixels where lines meet are wider than any line.
        distance = ndimage.distance_transform_edt(np.pad(sample.mask, 1, mode="edge"))[1:-1, 1:-1]
        widths = 2 * distance[skeletonize(sample.mask)] - 1
        assert widths.min() >= 1
        assert np.quantile(widths, 0.9) <= 3
        assert widths.mean() < 2.5


def test_cracks_branch():
    neighbours = np.ones((3, 3))
    forks = 0
    for sample in samples("brick", "crack"):
        skeleton = skeletonize(sample.mask)
        degree = ndimage.convolve(skeleton.astype(int), neighbours, mode="constant") - 1
        forks += (skeleton & (degree >= 3)).any()
    assert forks >= 10


def test_paint_is_smooth():
    for sample in samples("brick", "paint"):
        _, count = ndimage.label(sample.mask)
        assert count == 1
        opened = ndimage.binary_opening(sample.mask, np.ones((3, 3)))
        assert opened.sum() > 0.97 * sample.mask.sum()


def test_corrosion_is_reddish():
    for category in CATEGORIES:
        for sample in samples(category, "corrosion"):
            change = (sample.image.astype(int) - sample.undamaged)[sample.mask].mean(0)
            assert change[0] > change[1]
            assert change[0] > change[2]


@pytest.mark.parametrize("category", CATEGORIES)
@pytest.mark.parametrize("split", ["train", "test"])
def test_splits_come_from_their_own_half(category, split):
    photograph = PHOTOGRAPHS[category]()
    middle = photograph.shape[1] // 2
    for sample in samples(category, "good", split=split, count=20):
        row, column = sample.corner
        if split == "train":
            assert column + PICTURE_SIZE <= middle
        else:
            assert column >= middle
        crop = photograph[row : row + PICTURE_SIZE, column : column + PICTURE_SIZE]
        if sample.mirrored:
            crop = crop[:, ::-1]
        grey = sample.undamaged.mean(-1)
        assert np.corrcoef(grey.ravel(), crop.ravel())[0, 1] > 0.97


def test_good_pictures_are_whole():
    for sample in samples("gravel", "good"):
        assert not sample.mask.any()
        np.testing.assert_array_equal(sample.image, sample.undamaged)


def test_pictures_are_in_colour_and_differ():
    digests = set()
    counts = {split: COUNTS[split]["good"] for split in ("train", "test")}
    for split, count in counts.items():
        for sample in samples("brick", "good", split=split, count=count):
            assert sample.image.shape == (PICTURE_SIZE, PICTURE_SIZE, 3)
            assert (sample.image[..., 0].astype(int) - sample.image[..., 2]).mean() > 10
            digests.add(hashlib.sha256(sample.image.tobytes()).digest())
    assert len(digests) == sum(counts.values())


@pytest.mark.parametrize("category", CATEGORIES)
def test_stains_are_soft_patches_of_the_test_half(category):
    middle = PHOTOGRAPHS[category]().shape[1] // 2
    for sample in samples(category, "stain", split="stain", count=20):
        assert sample.corner[1] >= middle
        assert sample.area == 0  # a stain is no defect
        change = sample.undamaged.astype(float) - sample.image
        # It takes light away, with the surface's relief still there.
        assert change.min() >= 0
        darkened = ndimage.gaussian_filter(change.mean(-1), 2)
        stained = darkened > darkened.max() / 2
        assert 200 < stained.sum() < 2500
        assert 20 < change.mean(-1)[stained].mean() < 90
        kept = np.corrcoef(sample.image.mean(-1)[stained], sample.undamaged.mean(-1)[stained])
        assert kept[0, 1] > 0.6
        # From full strength to nothing it takes more than the two pixels of any defect's edge.
        share = sample.image.sum(-1) / np.maximum(sample.undamaged.sum(-1, dtype=float), 1)
        faint = ndimage.gaussian_filter(share, 1)
        edge = (faint < 0.95) & (faint > faint.min() + 0.25 * (1 - faint.min()))
        rim = ndimage.binary_dilation(faint < 0.95) & (faint >= 0.95)
        assert edge.sum() > 2 * rim.sum()


def test_areas_are_exact():
    for sample in samples("gravel", "paint", count=3):
        assert sample.area == (sample.image != sample.undamaged).any(-1).sum() > 0


@pytest.mark.parametrize("defect", DEFECTS.values(), ids=DEFECTS)
@pytest.mark.parametrize("shape", [(96, 96, 3), (80, 160, 3)])
def test_defects_are_pure(defect, shape):
    image = np.full(shape, 120, np.uint8)
    before = image.copy()
    first = defect(np.random.default_rng(3), image)
    second = defect(np.random.default_rng(3), image)
    np.testing.assert_array_equal(image, before)
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])
    assert first[1].any()
