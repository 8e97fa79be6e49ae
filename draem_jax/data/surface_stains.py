"""A stain on a photographed surface: unusual to look at, and no defect.

It is what damp and algae leave: darker and greenish, soft at its edge, with a faint tide mark along
it, and the surface's relief shows through. It multiplies the light that the surface sends back,
where the defect `paint` lies as a film over it. Sizes are meant for pictures of about 96 × 96
pixels.

As with the defects, nothing here is shared with the generator that anomalies are trained on.
"""

import numpy as np
from jaxtyping import Float, UInt8
from scipy import ndimage

# What the surface keeps of red, green and blue light where algae have soaked it through.
_KEPT = np.array([0.54, 0.62, 0.44])


def stain(
    rng: np.random.Generator, image: UInt8[np.ndarray, "H W 3"]
) -> UInt8[np.ndarray, "H W 3"]:
    """Stains a surface with one irregular patch.

    Args:
        rng: that everything is drawn with.
        image: the surface.

    Returns:
        The stained surface, a new array.
    """
    height, width = image.shape[:2]
    soaked = _soaked(rng, (height, width))
    # It dries from the middle outwards, and leaves the most where it ends.
    tide = rng.uniform(0.15, 0.35) * 4 * soaked * (1 - soaked)
    strength = np.clip(rng.uniform(0.75, 1.0) * soaked + tide, 0, 1)[..., None]
    kept = _KEPT * rng.uniform(0.9, 1.1, 3)
    drawn = image * (1 - strength * (1 - kept))
    return np.clip(np.rint(drawn), 0, 255).astype(np.uint8)


def _soaked(rng: np.random.Generator, shape: tuple[int, int]) -> Float[np.ndarray, "H W"]:
    """How far each pixel is soaked, from 0 to 1: drops that ran into one another."""
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    centre = rng.uniform(0.3, 0.7, 2) * shape
    wet = np.zeros(shape, bool)
    for _ in range(rng.integers(4, 8)):
        row, column = centre + rng.normal(0, 8, 2)
        wet |= np.hypot(rows - row, columns - column) < rng.uniform(6, 13)
    fringe = ndimage.gaussian_filter(rng.normal(0, 1, shape), 3.0)
    field = ndimage.gaussian_filter(wet.astype(np.float64), 3.5) + 0.1 * fringe / fringe.std()
    rise = np.clip((field - 0.2) / 0.6, 0, 1)
    # Flecks that the fringe draws far from the drops do not count.
    near = ndimage.gaussian_filter(wet.astype(np.float64), 6.0) > 0.08
    return ndimage.gaussian_filter(rise * near, 1.8)
