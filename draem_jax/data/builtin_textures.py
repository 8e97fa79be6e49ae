"""Built-in textures for anomalies, which need no download and no files of the user's."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, UInt8
from scipy import ndimage
from skimage import color, data

from draem_jax.data.pictures import resize

CROPS = 4
"""Crops of each photograph among the built-in textures."""

VARIANTS = 5
"""Variants of each procedural pattern among the built-in textures."""

PHOTOGRAPHS: dict[str, Callable[[], np.ndarray]] = {
    "astronaut": data.astronaut,
    "camera": data.camera,
    "cell": data.cell,
    "chelsea": data.chelsea,
    "coffee": data.coffee,
    "hubble_deep_field": data.hubble_deep_field,
    "immunohistochemistry": data.immunohistochemistry,
    "retina": data.retina,
    "rocket": data.rocket,
    "text": data.text,
}
"""Photographs within scikit-image's wheel that are CC0, in the public domain, or under no known
restriction; those that `surfaces` draws on (brick, grass, gravel, coins) are left out."""


def builtin_textures(size: tuple[int, int]) -> UInt8[np.ndarray, "N H W 3"]:
    """Textures that need no download and no files of the user's.

    They are crops of the photographs that scikit-image carries, save those that the data set
    `surfaces` draws on, and procedural patterns in random colours.

    Args:
        size: (height, width) of the textures.

    Returns:
        `CROPS` of each photograph and then `VARIANTS` of each pattern, the same on every call.
    """
    textures = []
    for name, photograph in PHOTOGRAPHS.items():
        picture = _as_rgb(photograph())
        rng = np.random.default_rng(list(name.encode()))
        textures += [_crop(rng, picture, size) for _ in range(CROPS)]
    for name, pattern in _PATTERNS.items():
        rng = np.random.default_rng(list(name.encode()))
        textures += [_pattern_texture(rng, pattern, size) for _ in range(VARIANTS)]
    return np.stack(textures)


def _as_rgb(picture: np.ndarray) -> UInt8[np.ndarray, "H W 3"]:
    if picture.ndim == 2:
        picture = np.repeat(picture[..., None], 3, axis=-1)
    return np.ascontiguousarray(picture[..., :3])


def _crop(
    rng: np.random.Generator, picture: UInt8[np.ndarray, "h w 3"], size: tuple[int, int]
) -> UInt8[np.ndarray, "H W 3"]:
    """Cuts a random window of the proportions of `size`, brought to `size`."""
    height, width = picture.shape[:2]
    largest = min(height / size[0], width / size[1])
    scale = largest * rng.uniform(0.4, 0.9)
    rows, columns = int(size[0] * scale), int(size[1] * scale)
    top = rng.integers(0, height - rows + 1)
    left = rng.integers(0, width - columns + 1)
    return resize(picture[top : top + rows, left : left + columns], size)


Field = Float[np.ndarray, "H W"]
Grid = tuple[Field, Field]


def _pattern_texture(
    rng: np.random.Generator,
    pattern: Callable[[np.random.Generator, Grid], Field],
    size: tuple[int, int],
) -> UInt8[np.ndarray, "H W 3"]:
    """Colours a pattern by three random colours, for its lows, middles and highs."""
    # The longer side has unit length, so that a pattern keeps its scale at every size.
    longer = max(size)
    rows, columns = np.mgrid[: size[0], : size[1]] / longer
    angle = rng.uniform(0, 2 * np.pi)
    along = columns * np.cos(angle) + rows * np.sin(angle)
    across = rows * np.cos(angle) - columns * np.sin(angle)
    values = pattern(rng, (along, across))
    low, high = values.min(), values.max()
    values = (values - low) / max(high - low, 1e-9)
    hues = (rng.uniform(0, 1) + rng.normal(0, 0.15, 3)) % 1
    saturations = rng.uniform(0.1, 0.8, 3)
    lightness = rng.permuted(np.array([0.25, 0.55, 0.9]) + rng.uniform(-0.1, 0.1, 3))
    colours = color.hsv2rgb(np.stack([hues, saturations, lightness], axis=-1))
    channels = [np.interp(values, [0, 0.5, 1], colours[:, c]) for c in range(3)]
    return np.rint(255 * np.stack(channels, axis=-1)).astype(np.uint8)


def _stripes(rng: np.random.Generator, grid: Grid) -> Field:
    along, _ = grid
    return (along * rng.uniform(4, 24) % 1 < rng.uniform(0.2, 0.8)).astype(float)


def _checks(rng: np.random.Generator, grid: Grid) -> Field:
    along, across = grid
    count = rng.uniform(4, 20)
    return (np.floor(along * count) + np.floor(across * count)) % 2


def _gratings(rng: np.random.Generator, grid: Grid) -> Field:
    along, across = grid
    waves = np.sin(2 * np.pi * rng.uniform(3, 20) * along)
    return waves + np.sin(2 * np.pi * rng.uniform(3, 20) * across)


def _gradients(rng: np.random.Generator, grid: Grid) -> Field:
    along, across = grid
    return along + rng.uniform(-1, 1) * across**2 + 0.02 * rng.normal(0, 1, along.shape)


def _blotches(rng: np.random.Generator, grid: Grid) -> Field:
    noise = _noise(rng, grid, rng.uniform(0.015, 0.06))
    return np.tanh(rng.uniform(1, 4) * noise)


def _grain(rng: np.random.Generator, grid: Grid) -> Field:
    return _noise(rng, grid, rng.uniform(0.002, 0.008))


def _marble(rng: np.random.Generator, grid: Grid) -> Field:
    along, _ = grid
    bend = rng.uniform(0.5, 1.5) * _noise(rng, grid, 0.05)
    return np.abs(np.sin(2 * np.pi * rng.uniform(2, 6) * along + 2 * bend))


def _rings(rng: np.random.Generator, grid: Grid) -> Field:
    along, across = grid
    radius = np.hypot(along - rng.uniform(-1, 1), rng.uniform(1, 4) * (across - rng.uniform(0, 1)))
    return np.sin(2 * np.pi * rng.uniform(5, 15) * radius + 0.7 * _noise(rng, grid, 0.03))


def _dots(rng: np.random.Generator, grid: Grid) -> Field:
    along, across = grid
    count = rng.uniform(5, 18)
    return np.minimum(np.hypot(along * count % 1 - 0.5, across * count % 1 - 0.5), 0.35)


def _weave(rng: np.random.Generator, grid: Grid) -> Field:
    along, across = grid
    count = rng.uniform(8, 24)
    over = (np.floor(along * count) + np.floor(across * count)) % 2
    return np.where(over, np.sin(np.pi * (along * count % 1)), np.sin(np.pi * (across * count % 1)))


def _cells(rng: np.random.Generator, grid: Grid) -> Field:
    """Distance to the nearest of some random points, as between pebbles or scales."""
    shape = grid[0].shape
    marks = np.ones(shape, bool)
    count = int(rng.integers(40, 200))
    marks[rng.integers(0, shape[0], count), rng.integers(0, shape[1], count)] = False
    return ndimage.distance_transform_edt(marks)


_PATTERNS: dict[str, Callable[[np.random.Generator, Grid], Field]] = {
    "stripes": _stripes,
    "checks": _checks,
    "gratings": _gratings,
    "gradients": _gradients,
    "blotches": _blotches,
    "grain": _grain,
    "marble": _marble,
    "rings": _rings,
    "dots": _dots,
    "weave": _weave,
    "cells": _cells,
}


def _noise(rng: np.random.Generator, grid: Grid, reach: float) -> Field:
    """Gaussian-filtered white noise of mean 0 and deviation 1; `reach` is in longer sides."""
    shape = grid[0].shape
    noise = ndimage.gaussian_filter(rng.normal(0, 1, shape), reach * max(shape), mode="wrap")
    return (noise - noise.mean()) / max(noise.std(), 1e-9)
