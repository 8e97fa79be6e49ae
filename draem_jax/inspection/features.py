"""What tells one kind of defect from another: figures of a region, the same for every picture size.

Three groups, by the beginnings of their names:

- `shape`: of the region, in shares of the picture or without a unit.
- `contrast`: of the picture against the reconstruction, which shows what should have been there, in
  CIE L*a*b* (lightness from 0 to 100; a* from green to red, b* from blue to yellow).
- `network`: means over the region of what the discriminative network computes, one a channel.

Contrasts and network features are measured at the size that the networks see pictures at, so that
a photograph taken with more pixels has the same.
"""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage
from skimage.color import rgb2lab
from skimage.measure import regionprops

from draem_jax.data.pictures import resize_plane
from draem_jax.detector import AtNetworkSize, Inspection
from draem_jax.regions.find import Region

SHAPE = (
    "shape_area",
    "shape_elongation",
    "shape_thickness",
    "shape_solidity",
    "shape_compactness",
)
"""The logarithms of the area as a share of the picture, of length over width, and of four times the
mean distance to the outline, a bar's width, as a share of the picture's side; the area as a share
of the convex hull's; and 4π area / perimeter²."""

CONTRAST = (
    "contrast_lightness",
    "contrast_red",
    "contrast_yellow",
    "contrast_colour",
    "contrast_darkest",
    "contrast_core",
    "contrast_slope",
    "contrast_spread",
    "contrast_hues",
    "contrast_grain",
    "contrast_fine_grain",
    "contrast_edge",
)
"""Of the difference between picture and reconstruction, always less what it is around the region:
the medians of L*, a* and b* well inside, and the length of the latter two together; the 10th
percentile of L*; the mean L* well inside less that along the outline; how much L* rises from one
side to the other; and the spreads of L* and of the hue well inside. Of picture against
reconstruction, as ratios: the gradients of L* well inside, its detail there, and the gradients
along the outline. What cannot be below 0 is logarithmic."""

_TOUCHING = np.ones((3, 3))
_NEAR, _FAR = 1, 6
"""Between so many pixels from a region lies what its contrast is told from."""
_INSIDE = 2.0
"""From so many pixels from the outline on, a place is well inside; less in thin regions."""
_EVEN = 1.0
"""A gradient or a spread of L* and hue that nobody sees. It is added before a logarithm is taken,
so that smaller ones make no difference."""
_DETAIL = 1.5
"""What is blurred away by so many pixels is detail."""
_NETWORK_SHARE = 0.5


def feature_names(channels: int) -> tuple[str, ...]:
    """Names of the figures, in their order.

    Args:
        channels: the channels of the network's features; 0 for a detector that has none.
    """
    return (*SHAPE, *CONTRAST, *(f"network_{channel}" for channel in range(channels)))


def feature_weights(names: Sequence[str]) -> Float[np.ndarray, " F"]:
    """How much each figure counts where regions are compared: 1, if it is one of a few.

    The network's features, of which there are many, count half as much as the others do together.

    Args:
        names: the names of the figures, see `feature_names`.
    """
    many = np.array([name.startswith("network_") for name in names])
    weights = np.ones(len(many))
    if many.any():
        weights[many] = _NETWORK_SHARE * max(1, (~many).sum()) / many.sum()
    return weights


def region_features(inspection: Inspection) -> Float[np.ndarray, "R F"]:
    """Measures the features of all regions of a picture.

    Args:
        inspection: the inspection of a picture, with the network's features.

    Returns:
        A row for each region, in their order; columns as in `feature_names`, all finite.
    """
    seen, size = inspection.at_network_size, inspection.margin.shape
    channels = 0 if seen.features is None else seen.features.shape[-1]
    rows = []
    for region in inspection.regions:
        mask = region.full_mask(size).astype(np.float32)
        rows.append(
            [*_shape(region, math.prod(size)), *_contrast(seen, mask), *_network(seen, mask)]
        )
    return np.array(rows, float).reshape(-1, len(feature_names(channels)))


def _shape(region: Region, pixels: int) -> list[float]:
    (properties,) = regionprops(region.mask.astype(np.uint8))
    perimeter = max(properties.perimeter_crofton, 1.0)
    depth = ndimage.distance_transform_edt(np.pad(region.mask, 1))[1:-1, 1:-1][region.mask] - 0.5
    return [
        math.log(region.area / pixels),
        math.log(region.length / region.width),
        math.log(4 * depth.mean() / math.sqrt(pixels)),
        properties.solidity,
        min(1.0, 4 * math.pi * region.area / perimeter**2),
    ]


def _contrast(seen: AtNetworkSize, mask: Float[np.ndarray, "H W"]) -> list[float]:
    share = resize_plane(mask, seen.image.shape[:2])
    region = share >= 0.5 * share.max()
    window = _around(region, 2 * _FAR)
    region = region[window]
    image = rgb2lab(seen.image[window])
    reconstruction = rgb2lab(seen.reconstruction[window].astype(np.float64))
    difference = image - reconstruction
    lightness = [image[..., 0], reconstruction[..., 0]]
    gradients = [_gradient(plane) for plane in lightness]
    details = [plane - ndimage.gaussian_filter(plane, _DETAIL) for plane in lightness]

    depth = ndimage.distance_transform_edt(np.pad(region, 1))[1:-1, 1:-1]
    inside = region & (depth >= min(_INSIDE, np.median(depth[region])))
    rim = region & ~inside
    outline = ndimage.binary_dilation(region) & ~ndimage.binary_erosion(region)
    near, far = (ndimage.binary_dilation(region, _TOUCHING, by) for by in (_NEAR, _FAR))
    around = np.median(difference[far & ~near], axis=0) if (far & ~near).any() else np.zeros(3)

    colour = np.median(difference[inside], axis=0) - around
    lighter = difference[..., 0]
    return [
        *colour,
        math.hypot(*colour[1:]),
        np.percentile(lighter[region], 10) - around[0],
        lighter[inside].mean() - lighter[rim].mean() if rim.any() else 0.0,
        math.log(_rise(lighter, region) + _EVEN),
        math.log(lighter[inside].std() + _EVEN),
        math.log(np.sqrt(difference[inside, 1:].var(axis=0).sum()) + _EVEN),
        _log_ratio(*(gradient[inside].mean() for gradient in gradients)),
        _log_ratio(*(detail[inside].std() for detail in details)),
        _log_ratio(*(gradient[outline].mean() for gradient in gradients)),
    ]


def _network(seen: AtNetworkSize, mask: Float[np.ndarray, "H W"]) -> Float[np.ndarray, " C"]:
    if seen.features is None:
        return np.zeros(0)
    share = resize_plane(mask, seen.features.shape[:2])
    return np.tensordot(share / share.sum(), seen.features, axes=2)


def _around(mask: Bool[np.ndarray, "H W"], margin: int) -> tuple[slice, slice]:
    """Rows and columns of the rectangle around a mask, wider by a margin."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return (
        slice(max(0, rows[0] - margin), rows[-1] + 1 + margin),
        slice(max(0, columns[0] - margin), columns[-1] + 1 + margin),
    )


def _rise(plane: Float[np.ndarray, "h w"], region: Bool[np.ndarray, "h w"]) -> float:
    """How much the plane that fits best rises over the side of a square of the region's area."""
    places = np.argwhere(region) - np.argwhere(region).mean(axis=0)
    level = plane[region] - plane[region].mean()
    slope = np.linalg.lstsq(places, level, rcond=None)[0]
    return float(np.linalg.norm(slope) * math.sqrt(len(places)))


def _gradient(plane: Float[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """How much the plane rises from pixel to pixel, in the direction where it rises most."""
    return np.hypot(ndimage.sobel(plane, 0), ndimage.sobel(plane, 1)) / 8


def _log_ratio(value: float, reference: float) -> float:
    return math.log((value + _EVEN) / (reference + _EVEN))
