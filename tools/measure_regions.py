"""Measures how well a run's regions match the true masks of its test pictures.

    python tools/measure_regions.py --workdir=runs/quickstart

For each defect type: how many defects a region touches; of these, the median error of the area
(all regions that touch the mask, against the mask), relative; and the median error of length and
width in pixels (of the region with most of the mask's pixels, against the mask measured the same
way), with the share of defects for which both are within 2 pixels. Regions are found as
`draem-jax predict` finds them by default.
"""

import argparse

import numpy as np

from draem_jax import Draem
from draem_jax.config import data_set
from draem_jax.data.features import GOOD
from draem_jax.evaluation.calibration import calibrated
from draem_jax.regions.find import find_regions
from draem_jax.regions.rule import RegionRule
from draem_jax.training.parallel import use_cpu_devices


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", required=True)
    parser.add_argument("--checkpoint", default="latest")
    parser.add_argument("--pixel_threshold", default="best_f1", choices=["best_f1", "conformal"])
    parser.add_argument("--join_gap", type=float, default=RegionRule.join_gap)
    parser.add_argument("--min_area", type=float, default=RegionRule.min_area)
    options = parser.parse_args()

    use_cpu_devices()
    detector = calibrated(Draem.load(options.workdir, checkpoint=options.checkpoint))
    rule = detector.region_rule(
        pixel_rule=options.pixel_threshold, join_gap=options.join_gap, min_area=options.min_area
    )
    source = data_set(detector.config).test_pictures(size=detector.image_size)
    pictures = [source[i] for i in range(len(source))]
    inspections = detector.inspect_pictures((picture.image for picture in pictures), rule=rule)
    found: dict[str, list] = {kind: [] for kind in sorted({p.defect_type for p in pictures})}
    for picture, inspection in zip(pictures, inspections, strict=True):
        found[picture.defect_type].append(_errors(picture, inspection.regions))

    print(f"regions begin at a margin of {rule.threshold.margin:.4f} ({rule.threshold.rule})")
    normal = [count for count, _ in found.pop(GOOD, [])]
    if normal:
        share = np.mean(np.array(normal) > 0)
        print(f"normal pictures with a region: {share:.3f} of {len(normal)}")
    print(
        f"{'type':16} {'found':>7} {'area':>6} {'signed':>7} {'length':>7} {'width':>6} within 2 px"
    )
    every = []
    for kind, results in found.items():
        errors = [error for _, error in results if error is not None]
        every += errors
        print(_line(kind, len(results), errors))
    print(_line("all", sum(map(len, found.values())), every))


def _errors(picture, regions):
    """The number of regions; and errors of area (relative), length and width, if it is found."""
    mask = picture.mask
    shared = [np.sum(mask[r.window] & r.mask) for r in regions]
    if not np.any(shared):
        return len(regions), None
    area = sum(r.area for r, pixels in zip(regions, shared, strict=True) if pixels)
    best = regions[int(np.argmax(shared))]
    (true,) = find_regions(np.where(mask, 1.0, -1.0), join_gap=np.inf)
    errors = area / true.area - 1, best.length - true.length, best.width - true.width
    return len(regions), errors


def _line(kind: str, count: int, errors: list) -> str:
    if not errors:
        return f"{kind:16} {0:3} /{count:3}"
    area, length, width = np.array(errors).T
    within = np.mean((np.abs(length) <= 2) & (np.abs(width) <= 2))
    return (
        f"{kind:16} {len(errors):3} /{count:3} {np.median(np.abs(area)):6.3f} "
        f"{np.median(area):+7.3f} {np.median(np.abs(length)):7.2f} "
        f"{np.median(np.abs(width)):6.2f} {within:.2f}"
    )


if __name__ == "__main__":
    main()
