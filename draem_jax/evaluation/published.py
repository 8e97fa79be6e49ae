"""Figures that the paper reports, in [0, 1], to stand beside measured ones."""

from collections.abc import Mapping

from draem_jax.data.layouts import LAYOUTS

Figures = Mapping[str, float]

_NAMES = ("image_auroc", "pixel_auroc", "pixel_ap")


def paper_figures(data: str) -> dict[str, Figures]:
    """What the paper reports for a data set (Zavrtanik et al., ICCV 2021, tables 1 and 2).

    Args:
        data: the data set's name.

    Returns:
        Category, or "mean", → `image_auroc`, `pixel_auroc` and `pixel_ap`; empty where the paper
        says nothing. Its pixel figures follow the authors' evaluation: at 256 × 256, a pixel of
        the reduced mask counting as defect only where it is fully white.
    """
    reported = LAYOUTS[data].paper if data in LAYOUTS else {}
    return {
        category: {name: round(v / 100, 6) for name, v in zip(_NAMES, values, strict=True)}
        for category, values in reported.items()
    }
