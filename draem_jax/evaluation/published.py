"""Figures that the paper reports, in [0, 1], to stand beside measured ones."""

from collections.abc import Mapping

Figures = Mapping[str, float]

_MVTEC_AD = """
bottle 99.2 99.1 86.5
cable 91.8 94.7 52.4
capsule 98.5 94.3 49.4
carpet 97.0 95.5 53.5
grid 99.9 99.7 65.7
hazelnut 100 99.7 92.9
leather 100 98.6 75.3
metal_nut 98.7 99.5 96.3
pill 98.9 97.6 48.5
screw 93.9 97.6 58.2
tile 99.6 99.2 92.3
toothbrush 100 98.1 44.7
transistor 93.1 90.9 50.7
wood 99.1 96.4 77.7
zipper 100 98.8 81.5
mean 98.0 97.3 68.4
"""


def paper_figures(data: str) -> dict[str, Figures]:
    """What the paper reports for a data set (Zavrtanik et al., ICCV 2021, tables 1 and 2).

    Args:
        data: the data set's name.

    Returns:
        Category, or "mean", → `image_auroc`, `pixel_auroc` and `pixel_ap`; empty where the paper
        says nothing. Its pixel figures follow the authors' evaluation: at 256 × 256, a pixel of
        the reduced mask counting as defect only where it is fully white.
    """
    if data != "mvtec_ad":
        return {}
    names = ("image_auroc", "pixel_auroc", "pixel_ap")
    rows = (line.split() for line in _MVTEC_AD.strip().splitlines())
    return {
        category: {name: round(float(v) / 100, 6) for name, v in zip(names, values, strict=True)}
        for category, *values in rows
    }
