"""Defects drawn on photographs of surfaces, each with the exact mask of what it changed.

Every defect is a pure function of one contract: `(rng, image) -> (image, mask)`, where `image` is
(H, W, 3) uint8 and `mask` is (H, W) bool. Each draws a coverage in [0, 1] from lines, discs,
outlines or photographed coins, with antialiased edges. A pixel belongs to the mask where the
coverage is at least `EDGE`, and every other pixel keeps its value, so the mask is exact. Sizes are
meant for pictures of about 96 × 96 pixels.

Nothing here is shared with the generator that anomalies are trained on: no Perlin noise, and no
blending of textures.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
from jaxtyping import Bool, Float, UInt8
from scipy import ndimage
from skimage import data, filters, measure, segmentation

EDGE = 0.25
"""Coverage from which on a pixel counts as changed."""

Image = UInt8[np.ndarray, "H W 3"]
Mask = Bool[np.ndarray, "H W"]
Coverage = Float[np.ndarray, "H W"]
Points = Float[np.ndarray, "K 2"]


def crack(rng: np.random.Generator, image: Image) -> tuple[Image, Mask]:
    """Draws a dark crack, 1 to 3 pixels wide, that wanders, branches and tapers."""
    height, width = image.shape[:2]
    length = int(rng.uniform(0.5, 0.95) * min(height, width))
    start = rng.uniform(0.2, 0.8, 2) * (height, width)
    heading = rng.uniform(0, 2 * np.pi)
    widest = rng.uniform(0.85, 1.2)
    # Grown from its middle to both ends, so that the widest part lies within the picture.
    arms = [(start, heading, length // 2), (start, heading + np.pi, length - length // 2)]
    points, radii = [], []
    for arm_start, arm_heading, steps in arms:
        trunk, trunk_radii = _crack_arm(rng, arm_start, arm_heading, steps, widest)
        points.append(trunk)
        radii.append(trunk_radii)
        for _ in range(rng.integers(0, 3)):
            fork = int(rng.uniform(0.1, 0.7) * len(trunk))
            turn = rng.choice([-1, 1]) * rng.uniform(0.4, 1.1)
            ahead = trunk[min(fork + 5, len(trunk) - 1)] - trunk[fork]
            branch, branch_radii = _crack_arm(
                rng,
                trunk[fork],
                np.arctan2(ahead[0], ahead[1]) + turn,
                int((len(trunk) - fork) * rng.uniform(0.2, 0.45)) + 5,
                0.8 * trunk_radii[fork],
            )
            points.append(branch)
            radii.append(branch_radii)
    coverage = _strokes((height, width), np.concatenate(points), np.concatenate(radii))
    depth = rng.uniform(0.35, 0.55)
    # A crack is evenly dark, whatever it runs through, and never lighter than the surface.
    ground = ndimage.gaussian_filter(image.astype(np.float64), (3, 3, 0))
    return _blend(image, depth * np.minimum(ground, image), coverage)


def scratch(rng: np.random.Generator, image: Image) -> tuple[Image, Mask]:
    """Draws a long thin scratch, nearly straight, pale or dark, pressed unevenly."""
    height, width = image.shape[:2]
    length = rng.uniform(0.5, 0.95) * min(height, width)
    middle = rng.uniform(0.35, 0.65, 2) * (height, width)
    heading = rng.uniform(0, np.pi)
    along = np.array([np.sin(heading), np.cos(heading)])
    across = along[::-1] * (1, -1)
    t = np.linspace(-1, 1, 2 * int(length))
    bend = rng.normal(0, 0.04) * length
    points = middle + 0.5 * length * t[:, None] * along + bend * (1 - t**2)[:, None] * across
    radius = rng.uniform(0.5, 0.9) * (1 - 0.4 * np.abs(t) ** 3)
    if rng.random() < 0.3:  # the tool had two points
        gap = rng.uniform(3, 5) * across
        points = np.concatenate([points, points[len(t) // 4 :] + gap])
        radius = np.concatenate([radius, radius[len(t) // 4 :]])
    coverage = _strokes((height, width), points, radius)
    pressure = _smooth_noise(rng, (height, width), 8.0)
    if rng.random() < 0.6:
        opacity = np.clip(0.5 + 0.1 * pressure, 0.35, 0.7)
        ground = np.array([238.0, 234.0, 226.0])
    else:
        opacity = np.clip(0.55 + 0.1 * pressure, 0.4, 0.75)
        ground = np.array([18.0, 16.0, 15.0])
    layer = image + opacity[..., None] * (ground - image)
    return _blend(image, layer, coverage)


def corrosion(rng: np.random.Generator, image: Image) -> tuple[Image, Mask]:
    """Draws a cluster of reddish specks with a faint stain where they stand close together.

    The stain fills the gaps between close specks, so the mask is the stained patch as a whole,
    with the outlying specks as spots of their own.
    """
    height, width = image.shape[:2]
    centre = rng.uniform(0.2, 0.8, 2) * (height, width)
    count = int(rng.integers(50, 110))
    angle = rng.uniform(0, np.pi)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    spread = rng.uniform(4, 8) * np.array([1.0, rng.uniform(0.5, 0.9)])
    offsets = rng.normal(0, 1, (count, 2)) * spread
    points = centre + offsets @ turn.T
    nearness = np.exp(-0.5 * ((offsets / spread) ** 2).sum(-1))
    radii = rng.uniform(0.4, 0.9, count) + nearness * rng.lognormal(-0.6, 0.5, count)
    specks = _strokes((height, width), points, np.minimum(radii, 2.6))
    density = ndimage.gaussian_filter(specks, 2.0)
    stain = np.clip((density - 0.1) / 0.2, 0, 1)
    hue = np.array([124.0, 68.0, 42.0]) * rng.uniform(0.85, 1.15)
    grain = 1 + 0.15 * _smooth_noise(rng, (height, width), 0.8)[..., None]
    opacity = np.maximum(rng.uniform(0.6, 0.8) * specks, rng.uniform(0.25, 0.4) * stain)[..., None]
    layer = image + opacity * (hue * grain - image)
    coverage = np.maximum(specks, stain)
    # The opacity already holds the soft edges.
    return _blend(image, layer, (coverage >= EDGE).astype(np.float64))


def paint(rng: np.random.Generator, image: Image) -> tuple[Image, Mask]:
    """Draws a thin film of paint, a splash or a stroke: smooth of edge and low of contrast."""
    height, width = image.shape[:2]
    if rng.random() < 0.6:
        centre = rng.uniform(0.25, 0.75, 2) * (height, width)
        distance = _outline(rng, (height, width), centre, rng.uniform(8, 14), roughness=0.16)
        coverage = np.clip(0.5 - distance / 2.5, 0, 1)
    else:
        middle = rng.uniform(0.35, 0.65, 2) * (height, width)
        heading = rng.uniform(0, np.pi)
        along = np.array([np.sin(heading), np.cos(heading)])
        t = np.linspace(-1, 1, 120)[:, None]
        reach, bend = rng.uniform(15, 28), rng.normal(0, 6)
        points = middle + reach * t * along + bend * (1 - t**2) * along[::-1] * (1, -1)
        swell = 1 + 0.2 * np.sin(np.linspace(0, rng.uniform(3, 7), 120) + rng.uniform(0, 6))
        coverage = _strokes((height, width), points, rng.uniform(3.5, 6) * swell, soft=1.25)
    films = np.array([[205, 214, 230], [52, 62, 88], [206, 190, 120], [44, 92, 66]], np.float64)
    film = films[rng.integers(len(films))]
    thickness = 1 + 0.08 * _smooth_noise(rng, (height, width), 5.0)[..., None]
    opacity = rng.uniform(0.22, 0.32) * thickness
    return _blend(image, image + opacity * (film - image), coverage)


def hole(rng: np.random.Generator, image: Image) -> tuple[Image, Mask]:
    """Draws a small dark hole, deepest below the lit edge, with a slightly lighter rim."""
    height, width = image.shape[:2]
    centre = rng.uniform(0.12, 0.88, 2) * (height, width)
    distance = _outline(rng, (height, width), centre, rng.uniform(3.5, 7.5), roughness=0.08)
    rim = rng.uniform(1.0, 1.6)
    inside = np.clip(0.5 - distance, 0, 1)[..., None]
    coverage = np.clip(0.5 - (distance - rim), 0, 1)
    rows, columns = np.mgrid[:height, :width]
    light = rng.uniform(0, 2 * np.pi)
    reach = max(-distance.min(), 1.0)
    lit = ((rows - centre[0]) * np.sin(light) + (columns - centre[1]) * np.cos(light)) / reach
    lit = np.clip(lit, -1.2, 1.2)[..., None]
    floor = image * np.clip(rng.uniform(0.3, 0.45) + 0.2 * lit, 0.1, 0.7)
    edge = image * np.clip(1.0 + 0.18 * lit + 0.07 * np.sign(lit), 0.7, 1.25)
    return _blend(image, inside * floor + (1 - inside) * edge, coverage)


def foreign_object(rng: np.random.Generator, image: Image) -> tuple[Image, Mask]:
    """Lays a coin on the surface: turned, tinted, worn, with the shadow that it casts.

    The shadow belongs to the mask.
    """
    height, width = image.shape[:2]
    coins = _coins()
    coin, shape = coins[rng.integers(len(coins))]
    diameter = rng.uniform(14, 22)
    scale = max(coin.shape) / diameter
    # The coin must not alias when it shrinks.
    blur = 0.3 * scale
    coin = ndimage.gaussian_filter(coin, blur)
    shape = ndimage.gaussian_filter(shape, blur)
    centre = rng.uniform(0.15, 0.85, 2) * (height, width)
    angle = rng.uniform(0, 2 * np.pi)
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    offset = (np.array(coin.shape) - 1) / 2 - turn @ centre

    def place(source: np.ndarray) -> np.ndarray:
        return ndimage.affine_transform(source, turn, offset, (height, width), order=1)

    cover = place(shape)
    relief = place(coin * shape) / np.maximum(cover, 1e-3)
    metals = np.array([[150, 112, 78], [138, 132, 122], [156, 132, 84]], np.float64)
    metal = metals[rng.integers(len(metals))] * rng.uniform(0.8, 1.05)
    contrast = relief - np.average(relief, weights=cover)
    face = metal * np.clip(1 + 1.8 * contrast, 0.3, 1.6)[..., None]
    drop = rng.uniform(1.0, 2.2) * np.array([np.sin(angle), np.cos(angle)])
    shadow = ndimage.gaussian_filter(ndimage.shift(cover, drop, order=1), 0.7)
    shaded = image * (1 - 0.5 * np.clip(shadow, 0, 1))[..., None]
    layer = cover[..., None] * face + (1 - cover[..., None]) * shaded
    coverage = np.clip(np.maximum(cover, shadow), 0, 1)
    # Face and shadow already hold the soft edges.
    return _blend(image, layer, (coverage >= EDGE).astype(np.float64))


DEFECTS: dict[str, Callable[[np.random.Generator, Image], tuple[Image, Mask]]] = {
    "corrosion": corrosion,
    "crack": crack,
    "foreign_object": foreign_object,
    "hole": hole,
    "paint": paint,
    "scratch": scratch,
}
"""The defects by the name of their type, which is also the name of their folder."""


def _blend(
    image: Image, layer: Float[np.ndarray, "H W 3"], coverage: Coverage
) -> tuple[Image, Mask]:
    """Lays `layer` over `image` where it covers enough to count; the rest stays as it is."""
    mask = coverage >= EDGE
    mixed = image + coverage[..., None] * (layer - image)
    drawn = np.clip(np.rint(mixed), 0, 255).astype(np.uint8)
    return np.where(mask[..., None], drawn, image), mask


def _strokes(
    shape: tuple[int, int],
    points: Points,
    radii: Float[np.ndarray, " K"],
    *,
    soft: float = 0.5,
) -> Coverage:
    """Covers discs around (row, column) `points`; their edges are 2 `soft` pixels wide."""
    height, width = shape
    coverage = np.zeros(shape)
    for (row, column), radius in zip(points, radii, strict=True):
        reach = radius + soft + 1
        top, bottom = max(int(row - reach), 0), min(int(row + reach) + 2, height)
        left, right = max(int(column - reach), 0), min(int(column + reach) + 2, width)
        if top >= bottom or left >= right:
            continue
        rows, columns = np.ogrid[top:bottom, left:right]
        distance = np.hypot(rows - row, columns - column)
        window = coverage[top:bottom, left:right]
        np.maximum(window, np.clip((radius + soft - distance) / (2 * soft), 0, 1), out=window)
    return coverage


def _crack_arm(
    rng: np.random.Generator,
    start: Float[np.ndarray, " 2"],
    heading: float,
    steps: int,
    widest: float,
) -> tuple[Points, Float[np.ndarray, " K"]]:
    """Walks in steps of half a pixel: it wanders slowly, and kinks now and then."""
    count = 2 * steps
    wander = ndimage.gaussian_filter1d(rng.normal(0, 1, count), 4) * 1.6
    kinks = np.cumsum((rng.random(count) < 0.06) * rng.normal(0, 0.5, count))
    # Kinks add up; bounded, they cannot lead the crack back into itself.
    headings = heading + wander + np.clip(kinks, -0.9, 0.9)
    walk = 0.5 * np.cumsum(np.stack([np.sin(headings), np.cos(headings)], -1), axis=0)
    roughness = 1 + 0.2 * ndimage.gaussian_filter1d(rng.normal(0, 1, count), 2) * 2
    taper = 1 - 0.55 * np.linspace(0, 1, count) ** 1.5
    return start + walk, np.clip(widest * taper * roughness, 0.45, 1.25)


def _outline(
    rng: np.random.Generator,
    shape: tuple[int, int],
    centre: Float[np.ndarray, " 2"],
    radius: float,
    *,
    roughness: float,
) -> Float[np.ndarray, "H W"]:
    """Distance to the outline of a round, uneven shape; negative inside."""
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    rows, columns = rows - centre[0], columns - centre[1]
    squeeze = rng.uniform(0.75, 1.0)
    turn = rng.uniform(0, np.pi)
    along = columns * np.cos(turn) + rows * np.sin(turn)
    across = (rows * np.cos(turn) - columns * np.sin(turn)) / squeeze
    angle = np.arctan2(across, along)
    edge = np.full(shape, radius)
    for waves in range(2, 7):
        swing = rng.normal(0, roughness) / (waves - 1)
        edge += radius * swing * np.cos(waves * angle + rng.uniform(0, 2 * np.pi))
    return np.hypot(along, across) - np.maximum(edge, 0.4 * radius)


def _smooth_noise(
    rng: np.random.Generator, shape: tuple[int, int], sigma: float
) -> Float[np.ndarray, "H W"]:
    """White noise through a Gaussian filter, at mean 0 and standard deviation 1."""
    noise = ndimage.gaussian_filter(rng.normal(0, 1, shape), sigma)
    return (noise - noise.mean()) / noise.std()


@cache
def _coins() -> tuple[tuple[Float[np.ndarray, "h w"], Float[np.ndarray, "h w"]], ...]:
    """Cuts the coins out of scikit-image's photograph: (grey in [0, 1], shape) of each."""
    photograph = data.coins()
    markers = np.select([photograph < 30, photograph > 150], [1, 2])
    regions = segmentation.watershed(filters.sobel(photograph), markers) == 2
    labels, _ = ndimage.label(ndimage.binary_fill_holes(regions))
    grey = np.pad(photograph / 255, 2, mode="edge")
    coins = []
    for region in measure.regionprops(np.pad(labels, 2)):
        if region.area < 1000 or region.solidity < 0.96:
            continue
        top, left, bottom, right = region.bbox
        window = slice(top - 2, bottom + 2), slice(left - 2, right + 2)
        # One pixel off the border, where the photograph's dark ground shines through.
        shape = ndimage.binary_erosion(np.pad(region.image, 2)).astype(np.float64)
        coins.append((grey[window], shape))
    return tuple(coins)
