"""Regions as the rows of a CSV file."""

from draem_jax.inspection.types import Named
from draem_jax.regions.find import Region
from draem_jax.regions.rule import PixelThreshold

_LENGTHS = ("length", "width", "skeleton_length", "skeleton_width")

COLUMNS = (
    "picture",
    "region",
    *("top", "left", "bottom", "right"),
    "area_px",
    *(f"{name}_px" for name in _LENGTHS),
    "orientation_degrees",
    "mean_score",
    "peak_score",
    "touches_border",
    "covers_picture",
    "pixel_threshold",
    "pixel_rule",
    "mm_per_pixel",
    "area_mm2",
    *(f"{name}_mm" for name in _LENGTHS),
    "type",
    "type_probability",
    "type_likeness",
)
"""Of the file: see `Region`; `PixelThreshold`, as a value of the anomaly map; and `Named`."""


def row(
    picture: str,
    region: Region,
    threshold: PixelThreshold,
    mm_per_pixel: float | None,
    named: Named | None = None,
) -> tuple[str, ...]:
    """A region's figures as text, in the order of `COLUMNS`.

    Args:
        picture: how the picture is called.
        region: of it.
        threshold: that it was found by.
        mm_per_pixel: how wide its pixels are; what is in millimetres stays empty where None.
        named: its type; what is said of it stays empty where None.
    """
    lengths = [getattr(region, name) for name in _LENGTHS]
    millimetres = [""] * (2 + len(lengths))
    if mm_per_pixel is not None:
        scaled = [region.area * mm_per_pixel**2, *(mm_per_pixel * length for length in lengths)]
        millimetres = [f"{value:.6g}" for value in (mm_per_pixel, *scaled)]
    return (
        picture,
        str(region.label),
        *map(str, region.bbox),
        str(region.area),
        *(f"{length:.2f}" for length in lengths),
        "" if region.orientation is None else f"{region.orientation:.1f}",
        f"{region.mean_score:.6f}",
        f"{region.peak_score:.6f}",
        str(int(region.touches_border)),
        str(int(region.covers_picture)),
        f"{threshold.map_value:.6f}",
        threshold.rule,
        *millimetres,
        *name_cells(named),
    )


def name_cells(named: Named | None) -> tuple[str, str, str]:
    """The cells type, type_probability and type_likeness; empty for what has no type."""
    if named is None:
        return "", "", ""
    return (
        named.defect_type,
        "" if named.probability is None else f"{named.probability:.4f}",
        f"{named.likeness:.4f}",
    )
