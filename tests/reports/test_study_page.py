import dataclasses

import numpy as np
import pytest

from draem_jax.reports.study_page import (
    Difference,
    Figure,
    StudyPicture,
    StudyReport,
    StudyVariant,
    render_study,
)

HOSTILE = "<script>alert('1')</script>\"><img src=x onerror=alert(2)>"
LONG = "a_name_that_is_far_too_long_for_any_phone_and_that_breaks_nowhere" * 2
METRICS = ("pixel_ap", "image_auroc", "pixel_auroc")
# Variant → the difference to the baseline in pixel AP, in points, and whether it is supported.
VARIANTS = {
    "default": (0.0, False),
    "solid colours": (-9.3, True),
    "noise": (-6.1, True),
    "self": (1.4, False),
    "paper's opacity": (2.6, True),
    HOSTILE: (-0.4, False),
    LONG: (0.9, False),
    "learning rate 100 times": (0.0, False),
}
PAPER = {"pixel_ap": 0.684, "image_auroc": 0.98, "pixel_auroc": 0.973}


def bump(side: int, x: float, y: float, width: float) -> np.ndarray:
    rows, columns = np.mgrid[:side, :side] / side
    return np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / width**2)


def variant(index: int) -> StudyVariant:
    rng = np.random.default_rng(index)
    name = list(VARIANTS)[index]
    points, supported = VARIANTS[name]
    diverged = index == len(VARIANTS) - 1
    figures, differences = {}, {}
    for key, level, share in zip(METRICS, (0.62, 0.951, 0.948), (1, 0.3, 0.2), strict=True):
        shift = points * share / 100
        published = PAPER[key] if index == 0 else None
        figures[key] = Figure(None, None, None)
        if not diverged:
            figures[key] = Figure(level + shift, 0.004 + 0.01 * rng.random(), published)
        if index and not diverged:
            half = 0.006 + 0.012 * rng.random()
            differences[key] = Difference(
                shift,
                shift - half,
                shift + half,
                0.004 if supported else 0.31,
                supported and key == METRICS[0],
            )
    steps = np.arange(0, 10_000, 25)
    curves = []
    for _ in range(3):
        losses = (0.05 + 0.6 * np.exp(-steps / 1500) - points / 500) * rng.lognormal(
            0, 0.12, steps.size
        )
        if diverged:
            losses[60:] = np.nan
        curves.append((steps, losses))
    strip = rng.integers(90, 140, (64, 8 * 64, 3)).astype(np.uint8)
    for tile in range(8):
        shape = bump(64, *rng.uniform(0.2, 0.8, 2), 0.15) > 0.5
        strip[:, 64 * tile : 64 * tile + 64][shape] = rng.integers(0, 256, 3)
    return StudyVariant(
        name=name,
        changes=["data.texture_source = solid", f"anomalies.opacity = {HOSTILE}"][:index],
        figures=figures,
        differences=differences,
        runs=0 if diverged else 3 - (index == 2),
        diverged=[f"seed {seed} at step 1,500" for seed in range(3)] if diverged else [],
        missing=int(index == 2),
        curves=curves,
        strip=None if index == 3 else strip,
    )


def picture(index: int) -> StudyPicture:
    rng = np.random.default_rng(100 + index)
    x, y = rng.uniform(0.25, 0.75, 2)
    defect = bump(64, x, y, 0.15)
    kind = ("good", "crack", LONG)[index % 3]
    image = (110 + 40 * rng.random((64, 64, 1)) - 70 * (index % 3 > 0) * defect[..., None]).repeat(
        3, -1
    )
    maps = {
        name: np.clip(
            defect * (index % 3 > 0) * (0.9 + points / 12) + 0.1 * rng.random((64, 64)), 0, 1
        )
        for name, (points, _) in list(VARIANTS.items())[:-1]
    }
    mask = None if index == 5 else (defect > 0.4) & (index % 3 > 0)
    return StudyPicture(f"{kind}/{index:03}.png", kind, image.astype(np.uint8), mask, maps)


def study() -> StudyReport:
    return StudyReport(
        title="What the textures are worth",
        facts={
            "Base config": "configs/mvtec_ad.py",
            "Categories": "bottle, cable, carpet, screw",
            "Seeds": "0, 1, 2",
            "Steps": "10,000",
        },
        notes=["1 of 24 runs is yet to be made.", HOSTILE],
        baseline="default",
        metrics=METRICS,
        level=0.95,
        variants=[variant(index) for index in range(len(VARIANTS))],
        pictures=[picture(index) for index in range(6)],
    )


@pytest.fixture(scope="module")
def report():
    return study()


def test_bare_studies_are_shown(report):
    bare = dataclasses.replace(report, variants=[], pictures=[], metrics=[], facts={}, notes=[])
    assert "<h1>" in render_study(bare)
