"""From a map of margins to regions, each with its size, direction and severity.

Pixels are unit squares. A region is a set of pixels whose margin lies above a threshold. Its area
counts them. Its length and width are those of its outline, which runs between the centres of a
pixel inside and a neighbour outside where the margin, interpolated linearly, crosses the threshold:
halfway for a margin that jumps, and halfway out at the picture's border. So a single pixel and a
line one pixel wide are one pixel wide. Regions grow or shrink by parts of a pixel with the margin.
"""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import ConvexHull
from scipy.spatial.distance import pdist
from scipy.special import expit
from skimage.measure import regionprops
from skimage.morphology import skeletonize

_TOUCHING = np.ones((3, 3))  # pixels that touch at a corner belong together
_LEAST_STEP = 0.01  # the outline keeps this far from pixel centres, so that it encloses something


@dataclass(frozen=True, eq=False)
class Region:
    """A region of a picture, in pixels of that picture.

    Attributes:
        label: its number in the picture; 1 is the largest.
        bbox: (top, left, bottom, right) of the smallest rectangle around it; the row `bottom` and
            the column `right` are the first ones outside.
        mask: which pixels of that rectangle belong to it.
        area: the number of its pixels.
        length: the greatest distance across the outline (maximum Feret diameter), at least 1.
        width: the least distance between two parallel lines that hold the outline between them
            (minimum Feret diameter), at least 1.
        skeleton_length: the length of the region's middle lines, all branches together, to the
            outline at their ends. It follows bends; of a ring it is the way around. It goes from
            pixel to pixel, which makes a line between the eight directions longer, by up to 8 %.
        skeleton_width: `area / skeleton_length`, the mean width along the middle lines.
        orientation: that of the axis along which its pixels spread most, in degrees from
            −90 to 90: 0 for a level region, 90 for an upright one, above 0 where it rises to the
            right. None if it spreads alike in all directions, as a square does.
        mean_score: the mean of the anomaly map in it, in [0, 1].
        peak_score: the greatest value there.
        touches_border: whether it has pixels at the picture's border, beyond which it may go on.
        covers_picture: whether it is the whole picture.
    """

    label: int
    bbox: tuple[int, int, int, int]
    mask: Bool[np.ndarray, "h w"]
    area: int
    length: float
    width: float
    skeleton_length: float
    skeleton_width: float
    orientation: float | None
    mean_score: float
    peak_score: float
    touches_border: bool
    covers_picture: bool

    @property
    def window(self) -> tuple[slice, slice]:
        """Rows and columns of the bounding box: `picture[region.window]` is what `mask` is of."""
        top, left, bottom, right = self.bbox
        return slice(top, bottom), slice(left, right)

    @property
    def start(self) -> tuple[int, int]:
        """The row and column of the first pixel in its first row."""
        top, left, _, _ = self.bbox
        return top, left + int(self.mask[0].argmax())

    def full_mask(self, shape: tuple[int, int]) -> Bool[np.ndarray, "H W"]:
        """The mask in a picture of `shape`, which must be the picture's own (height, width)."""
        full = np.zeros(shape, bool)
        full[self.window] = self.mask
        return full


def find_regions(
    margin: Float[np.ndarray, "H W"],
    *,
    threshold: float = 0.0,
    anomaly_map: Float[np.ndarray, "H W"] | None = None,
    join_gap: int | float = 0,
    min_area: int | float = 0,
) -> list[Region]:
    """Finds and measures the regions where the margin lies above a threshold.

    Args:
        margin: of each pixel, finite; higher is more anomalous. Bring it to the picture's own size
            before, by interpolation. For a mask, give 1 inside and −1 outside, and 0 as threshold.
        threshold: pixels above it belong to a region. Pixels that touch, at a corner too, are of
            one region.
        anomaly_map: in [0, 1], what severity is read from; the margin's sigmoid where None.
        join_gap: regions with fewer pixels than this between them become one; infinity makes one
            of all. The pixels between are the distance of the nearest two pixel centres, less one.
        min_area: regions of fewer pixels are left out, after joining.

    Returns:
        The regions, the largest first; none where no pixel is above the threshold.

    Raises:
        ValueError: the margin or the threshold is not finite, or an option is below 0.
    """
    if not (join_gap >= 0 and min_area >= 0 and math.isfinite(threshold)):
        raise ValueError(
            f"the gap ({join_gap:g}) and the least area ({min_area:g}) must not be below 0, and "
            f"the threshold ({threshold:g}) must be finite"
        )
    if not np.isfinite(margin).all():
        raise ValueError("a margin is not finite")
    severity = expit(margin) if anomaly_map is None else anomaly_map
    margin = margin.astype(np.float64)
    labels = _joined(ndimage.label(margin > threshold, _TOUCHING)[0], join_gap)
    areas = np.bincount(labels.ravel())
    kept = np.flatnonzero((areas >= min_area) & (areas > 0))
    kept = kept[kept > 0]
    kept = kept[np.argsort(-areas[kept], kind="stable")]
    numbers = np.zeros(len(areas), int)
    numbers[kept] = np.arange(1, len(kept) + 1)
    return [
        _measured(properties, margin, threshold)
        for properties in regionprops(numbers[labels], severity)
    ]


def _joined(labels: Int[np.ndarray, "H W"], gap: int | float) -> Int[np.ndarray, "H W"]:
    """Gives one label to regions that lie closer together than `gap`; 0 stays the background."""
    count = int(labels.max(initial=0))
    reach = int(min(math.ceil(min(gap, 1e9)) + 1, max(labels.shape)))
    pairs = []
    for label, window in enumerate(ndimage.find_objects(labels) if gap > 1 else (), start=1):
        around = labels[tuple(slice(max(s.start - reach, 0), s.stop + reach) for s in window)]
        others = (around > 0) & (around != label)
        if others.any():
            between = ndimage.distance_transform_edt(around != label) - 1
            pairs += [(label, other) for other in np.unique(around[others & (between < gap)])]
    first, second = np.array(pairs, int).reshape(-1, 2).T
    graph = coo_array((np.ones(len(pairs)), (first, second)), shape=(count + 1, count + 1))
    group = connected_components(graph, directed=False)[1]
    # The background is node 0, in a group of its own and the first to be numbered.
    return group[labels]


def _measured(properties, margin: Float[np.ndarray, "H W"], threshold: float) -> Region:
    mask = properties.image
    top, left, bottom, right = properties.bbox
    area = int(properties.area)
    length, width = _feret(_outline_points(mask, (top, left), margin, threshold))
    skeleton_length = _skeleton_length(mask)
    height_all, width_all = margin.shape
    return Region(
        label=properties.label,
        bbox=(top, left, bottom, right),
        mask=mask,
        area=area,
        length=max(1.0, length),
        width=max(1.0, width),
        skeleton_length=skeleton_length,
        skeleton_width=area / skeleton_length,
        orientation=_orientation(properties),
        mean_score=float(properties.intensity_mean),
        peak_score=float(properties.intensity_max),
        touches_border=top == 0 or left == 0 or bottom == height_all or right == width_all,
        covers_picture=area == margin.size,
    )


def _outline_points(
    mask: Bool[np.ndarray, "h w"],
    corner: tuple[int, int],
    margin: Float[np.ndarray, "H W"],
    threshold: float,
) -> Float[np.ndarray, "N 2"]:
    """Where the outline crosses from a pixel of the region to a neighbour outside, (row, column).

    The polygon of marching squares has the same corners.
    """
    inside = np.argwhere(mask)
    padded = np.pad(mask, 1)
    own = margin[tuple((inside + corner).T)]
    points = []
    for step in ((-1, 0), (1, 0), (0, -1), (0, 1)):
        leaves = ~padded[tuple((inside + 1 + step).T)]
        start = inside[leaves] + corner
        neighbour = start + step
        within = ((neighbour >= 0) & (neighbour < margin.shape)).all(axis=1)
        share = np.full(len(start), 0.5)
        value = own[leaves][within]
        drop = value - margin[tuple(neighbour[within].T)]
        share[within] = np.maximum((value - threshold) / drop, _LEAST_STEP)
        points.append(start + share[:, None] * step)
    return np.concatenate(points)


def _feret(points: Float[np.ndarray, "N 2"]) -> tuple[float, float]:
    """The greatest and the least diameter of the points' convex hull."""
    corners = points[ConvexHull(points).vertices]
    sides = np.roll(corners, -1, axis=0) - corners
    normals = sides[:, ::-1] * (1, -1) / np.linalg.norm(sides, axis=1, keepdims=True)
    heights = corners @ normals.T
    # The least diameter is that across one of the hull's sides.
    return float(pdist(corners).max()), float(np.ptp(heights, axis=0).min())


def _skeleton_length(mask: Bool[np.ndarray, "h w"]) -> float:
    """The length of the skeleton from pixel to pixel, and from its ends on to the outline."""
    padded = np.pad(mask, 1)
    # Lee's skeletons hardly branch into corners, where others' do.
    skeleton = skeletonize(padded, method="lee") > 0
    links, length = np.zeros(skeleton.shape, int), 0.0
    for rows, columns in ((0, 1), (1, 0), (1, 1), (1, -1)):
        linked = skeleton & np.roll(skeleton, (-rows, -columns), (0, 1))
        if rows and columns:  # no link cuts a corner that the skeleton goes around
            linked &= ~np.roll(skeleton, -rows, 0) & ~np.roll(skeleton, -columns, 1)
        links += linked + np.roll(linked, (rows, columns), (0, 1)).astype(int)
        length += linked.sum() * math.hypot(rows, columns)
    ends = np.where(skeleton, np.maximum(2 - links, 0), 0)
    depth = ndimage.distance_transform_edt(padded)
    return float(length + (ends * (depth - 0.5)).sum())


def _orientation(properties) -> float | None:
    longer, shorter = properties.axis_major_length, properties.axis_minor_length
    if longer - shorter <= 1e-6 * longer:
        return None
    # scikit-image measures from the upright axis, against the clock as the picture is seen.
    degrees = math.degrees(properties.orientation) + 90
    return degrees - 180 if degrees > 90 else degrees
