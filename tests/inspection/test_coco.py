"""COCO's own tools read the regions back as the masks that they came from."""

import numpy as np
import pytest
from pycocotools.coco import COCO
from scipy import ndimage

from draem_jax.inspection import coco
from draem_jax.regions.find import find_regions


def masks():
    rng = np.random.default_rng(0)
    noise = ndimage.gaussian_filter(rng.normal(size=(40, 57)), 1.5)
    special = np.zeros((40, 57), bool)
    special[0, 0] = special[39, 56] = special[20, 20] = True  # single pixels, in corners too
    special[5:12, 5:12] = True
    special[7:10, 7:9] = False  # a hole
    special[np.arange(25, 35), np.arange(25, 35)] = True  # touching at corners only
    special[3, 30:50] = True
    return [special, noise > 0.1, noise < 0, np.ones((40, 57), bool), np.zeros((40, 57), bool)]


@pytest.fixture(scope="module")
def pictures():
    return [(mask, find_regions(np.where(mask, 1.0, -1.0))) for mask in masks()]


def read(pictures, path, segmentation):
    images, annotations = [], []
    for mask, regions in pictures:
        images.append(coco.image_entry(len(images) + 1, f"{len(images)}.png", mask.shape))
        for region in regions:
            made = segmentation(region, mask.shape)
            number = len(annotations) + 1
            annotations.append(coco.annotation(region, made, number=number, image=len(images)))
    coco.write_dataset(path, images, annotations)
    return COCO(path)


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # pycocotools' own
@pytest.mark.parametrize("kind", ["polygons", "run lengths"])
def test_pycocotools_reads_the_same_masks(pictures, kind, tmp_path):
    def segmentation(region, shape):
        filled = kind == "polygons"
        return coco.polygons(region) if filled else coco.run_lengths(region, shape)

    dataset = read(pictures, tmp_path / "regions.json", segmentation)
    assert len(dataset.getImgIds()) == len(pictures)
    count = 0
    for image, (mask, regions) in zip(dataset.getImgIds(), pictures, strict=True):
        annotations = dataset.loadAnns(dataset.getAnnIds(image))
        assert len(annotations) == len(regions)
        for annotation, region in zip(annotations, regions, strict=True):
            expected = region.full_mask(mask.shape)
            if kind == "polygons":
                expected = ndimage.binary_fill_holes(expected)
            np.testing.assert_array_equal(dataset.annToMask(annotation), expected)
            left, top, width, height = annotation["bbox"]
            assert (top, left, top + height, left + width) == region.bbox
            assert annotation["area"] == region.area
            count += 1
    assert count > 15


def test_polygons_have_corners_only_where_the_outline_turns():
    mask = np.zeros((9, 9), bool)
    mask[2:5, 3:8] = True
    (region,) = find_regions(np.where(mask, 1.0, -1.0))
    (polygon,) = coco.polygons(region)
    assert sorted(zip(polygon[::2], polygon[1::2], strict=True)) == [(3, 2), (3, 5), (8, 2), (8, 5)]
