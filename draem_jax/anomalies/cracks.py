"""Masks that look like cracks and scratches: thin lines that wander and branch."""

import functools
import operator
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from draem_jax.anomalies.draws import draw, draw_whole
from draem_jax.anomalies.params import MAX_CRACK_BRANCHES, AnomalyParams
from draem_jax.anomalies.perlin import perlin_noise

# Of both noises the bend grows with the distance over which it comes about, so that lines wander
# at large and are jagged close by, and neighbouring parts of a tree never cross.
_CELLS = (5, 24)
_BEND = 0.3
_LEAST_WIDTH = 1.0

Plane = Float[Array, "H W"]


class _Lines(NamedTuple):
    """Straight lines; positions are (row, column) from the middle of a tree, pixels.

    Attributes:
        start: where each begins.
        radians: where it leads, clockwise from the right.
        length: how long it is; 0 for a line that is not there.
        width: at its start, falling towards its end.
    """

    start: Float[Array, "K 2"]
    radians: Float[Array, " K"]
    length: Float[Array, " K"]
    width: Float[Array, " K"]


class _Places(NamedTuple):
    """Where pixels are displaced to, from the middle of a tree, and how that changes between them.

    Attributes:
        y: their rows.
        x: their columns.
        y_down: how much the row grows from one pixel to the one below.
        y_right: the same to the one to the right.
        x_down: how much the column grows from one pixel to the one below.
        x_right: the same to the one to the right.
    """

    y: Plane
    x: Plane
    y_down: Plane
    y_right: Plane
    x_down: Plane
    x_right: Plane


def crack_mask(
    key: PRNGKeyArray, image: Float[Array, "H W 3"], *, params: AnomalyParams
) -> Float[Array, "H W 1"]:
    """A line with branches, all a few pixels wide at most and thinner towards their ends.

    A tree of straight lines is seen through a field of displacements, which are Perlin noise of two
    scales, so that it bends and hardly ever breaks. Without displacements and branches it is a
    scratch. `shapes.crack_length`, `shapes.crack_width`, `shapes.crack_branches` and
    `shapes.crack_roughness` are used.

    Args:
        key: a random key.
        image: that the mask is for.
        params: the generator's numbers.

    Returns:
        1 on the crack, 0 elsewhere.
    """
    height, width, _ = image.shape
    tree_key, place_key, bend_key, rough_key = jax.random.split(key, 4)
    roughness = draw(rough_key, params.shapes.crack_roughness)
    shift_y, shift_x = _displacements(bend_key, (height, width), roughness)
    middle = jax.random.uniform(place_key, (2,)) * jnp.array([height, width])
    y = jnp.arange(height)[:, None] + 0.5 - middle[0] + shift_y
    x = jnp.arange(width)[None, :] + 0.5 - middle[1] + shift_x
    places = _Places(y, x, *jnp.gradient(y), *jnp.gradient(x))
    lines = _draw_tree(tree_key, min(height, width), params=params)
    # One after the other, which CPUs compute as a single pass.
    covered = [
        _on_line(jax.tree.map(operator.itemgetter(i), lines), places)
        for i in range(lines.length.size)
    ]
    return functools.reduce(operator.or_, covered)[..., None].astype(jnp.float32)


def _displacements(
    key: PRNGKeyArray, shape: tuple[int, int], roughness: Array
) -> tuple[Plane, Plane]:
    """How far each pixel is displaced along the rows' axis and along the columns', pixels."""

    def one(key: PRNGKeyArray) -> Plane:
        total = jnp.zeros(shape)
        for cells, key_of_scale in zip(_CELLS, jax.random.split(key), strict=True):
            angles = draw(key_of_scale, (0.0, 2 * jnp.pi), (cells + 1, cells + 1))
            noise = perlin_noise(angles, shape=shape, resolution=(cells, cells))
            total = total + noise * (_BEND * min(shape) / cells)
        return total * roughness

    down, right = jax.random.split(key)
    return one(down), one(right)


def _draw_tree(key: PRNGKeyArray, side: int, *, params: AnomalyParams) -> _Lines:
    """Two arms from the middle in opposite directions, and branches that leave them."""
    keys = jax.random.split(key, 8)
    most = MAX_CRACK_BRANCHES
    shapes = params.shapes
    heading = draw(keys[0], (0.0, 2 * jnp.pi))
    half = draw(keys[1], shapes.crack_length) * side / 2
    width = draw(keys[2], shapes.crack_width)
    count = draw_whole(keys[3], shapes.crack_branches)
    fork = draw(keys[4], (-0.7, 0.7), (most,)) * half
    turn = jnp.deg2rad(draw(keys[5], (25.0, 70.0), (most,)))
    turn = turn * jnp.where(jax.random.bernoulli(keys[6], shape=(most,)), 1, -1)
    reach = draw(keys[7], (0.3, 0.9), (most,)) * (half - jnp.abs(fork))
    reach = jnp.where(jnp.arange(most) < count, reach, 0)
    along = jnp.stack([jnp.sin(heading), jnp.cos(heading)])
    # A branch leads away from the middle, as its arm does.
    outwards = heading + jnp.where(fork < 0, jnp.pi, 0)
    return _Lines(
        start=jnp.concatenate([jnp.zeros((2, 2)), fork[:, None] * along[None]]),
        radians=jnp.concatenate([jnp.stack([heading, heading + jnp.pi]), outwards + turn]),
        length=jnp.concatenate([jnp.stack([half, half]), reach]),
        width=jnp.concatenate([jnp.stack([width, width]), jnp.broadcast_to(0.7 * width, (most,))]),
    )


def _on_line(line: _Lines, places: _Places) -> Bool[Array, "H W"]:
    """Which pixels lie on a line, by where they are displaced to."""
    sin, cos = jnp.sin(line.radians), jnp.cos(line.radians)
    y, x = places.y - line.start[0], places.x - line.start[1]
    along, across = y * sin + x * cos, y * cos - x * sin
    # By how much it changes from pixel to pixel, distances are brought back to pixels.
    down = places.y_down * cos - places.x_down * sin
    right = places.y_right * cos - places.x_right * sin
    share = along * (1 / jnp.maximum(line.length, 1e-3))
    half = jnp.maximum(line.width * (1 - 0.6 * share * share), _LEAST_WIDTH) / 2
    near = across * across <= half * half * (down * down + right * right)
    return near & (share >= 0) & (share <= 1) & (line.length > 0)
