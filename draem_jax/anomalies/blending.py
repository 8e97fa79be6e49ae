"""Ways to put an anomaly on an image: as it is, or so that no edge shows; see `BLENDS`.

For the latter the anomaly keeps its gradients and meets the picture at its border. Poisson image
editing (Pérez, Gangnet, Blake, SIGGRAPH 2003, equation 7) asks for the values f inside a mask whose
differences between neighbours are the source's, with f equal to the picture outside. With f =
source + u, the correction u is harmonic inside the mask and equals picture − source around it, so
it is smooth and can be solved for from coarse to fine.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from draem_jax.anomalies.params import Blend

ITERATIONS = 64
"""Steps of conjugate gradients on each grid."""

_COARSEST = 8

Image = Float[Array, "H W 3"]
Mask = Float[Array, "H W 1"]
Plane = Float[Array, "H W"]
Field = Float[Array, "C H W"]


class _Grid(NamedTuple):
    """The equations diagonal · u − Σ weight · neighbour = side on one grid.

    Pixels outside the mask have no weights and a diagonal of 0.

    Attributes:
        right: weight between a pixel and the one to its right, H × W.
        down: weight between a pixel and the one below it, H × W.
        fixed: weight of the known values around it, H × W.
        side: the sum of those known values, each times its weight, C × H × W.
    """

    right: Plane
    down: Plane
    fixed: Plane
    side: Field


def alpha_blend(image: Image, source: Image, mask: Mask) -> Image:
    """Puts a source on an image as it is.

    Args:
        image: float in [0, 1].
        source: what to put on it: the texture, mixed with the image by the opacity.
        mask: 1 where the source goes, else 0.

    Returns:
        The source inside the mask, the image outside.
    """
    return jnp.where(mask > 0, source, image)


def poisson_blend(image: Image, source: Image, mask: Mask) -> Image:
    """Puts a source on an image so that no edge shows where the mask ends.

    Inside the mask, values between neighbours differ as the source's do, and differences to the
    pixels around the mask are the source's as well; then values are clipped to [0, 1]. Where the
    mask touches the picture's border, nothing is asked there. A mask over the whole picture leaves
    the source as it is.

    A texture that has no gradients of its own leaves next to no trace. The equations are solved by
    a fixed number of conjugate-gradient steps on a pyramid of grids, each started from the coarser
    one's solution. Against a direct solver, for white noise on white noise over all of [0, 1],
    values under Perlin masks and under one that leaves out only the border were off by at most
    0.002 at 128 × 128 and 0.006 at 256 × 256; a level of 8 bits is 0.004.

    Args:
        image: float in [0, 1].
        source: what to put on it, float in [0, 1].
        mask: 1 where the source goes, else 0.

    Returns:
        The blend in [0, 1]; the image itself outside the mask.
    """
    inside = mask[..., 0]
    gap = jnp.moveaxis(image - source, -1, 0)
    correction = jnp.moveaxis(_harmonic(inside, gap), 0, -1)
    return jnp.where(mask > 0, jnp.clip(source + correction, 0, 1), image)


BLENDS: Mapping[Blend, Callable[[Image, Image, Mask], Image]] = {
    "alpha": alpha_blend,
    "poisson": poisson_blend,
}
"""How `AnomalyParams.blend` puts an anomaly on an image: from (image, source, mask)."""


def _harmonic(inside: Plane, values: Field) -> Field:
    """Harmonic where `inside` is 1, from the values around it."""
    height, width = inside.shape
    halvings = 0
    while max(height, width) > _COARSEST << halvings:
        halvings += 1
    grids = [_finest_grid(inside, values, multiple=1 << halvings)]
    for _ in range(halvings):
        grids.append(_coarser(grids[-1]))
    solution = jnp.zeros_like(grids[-1].side)
    for grid in reversed(grids):
        if solution.shape != grid.side.shape:
            solution = jnp.repeat(jnp.repeat(solution, 2, axis=1), 2, axis=2)
        solution = _conjugate_gradients(grid, solution)
    return solution[:, :height, :width]


def _finest_grid(inside: Plane, values: Field, *, multiple: int) -> _Grid:
    """Each pixel's four neighbours weigh the same; sides are padded to a multiple."""
    rows, columns = (-n % multiple for n in inside.shape)

    def padded(x: Array) -> Array:
        return jnp.pad(x, [(0, 0)] * (x.ndim - 2) + [(0, rows), (0, columns)])

    def around(x: Array) -> Array:
        above, below = (_neighbour(x, axis=-2, by=by) for by in (-1, 1))
        left, right = (_neighbour(x, axis=-1, by=by) for by in (-1, 1))
        return above + below + left + right

    return _Grid(
        right=padded(inside * _neighbour(inside, axis=-1, by=1)),
        down=padded(inside * _neighbour(inside, axis=-2, by=1)),
        fixed=padded(inside * around(1 - inside)),
        side=padded(inside[None] * around((1 - inside)[None] * values)),
    )


def _coarser(grid: _Grid) -> _Grid:
    """The equations for squares of 2 × 2 pixels, each with one value.

    Sums of weights between the squares would make the correction stiffer than it is: neighbouring
    squares lie two pixels apart, and a square's middle one and a half from a known pixel beside it.
    """
    height, width = grid.right.shape
    right = grid.right[:, 1::2].reshape(height // 2, 2, width // 2).sum(1)
    down = grid.down[1::2].reshape(height // 2, width // 2, 2).sum(2)
    return _Grid(right / 2, down / 2, _halved(grid.fixed) / 1.5, _halved(grid.side) / 1.5)


def _conjugate_gradients(grid: _Grid, start: Field) -> Field:
    """Steps with the diagonal as preconditioner; a step of no length where all is solved."""
    right, down = grid.right[None], grid.down[None]
    diagonal = grid.fixed + grid.right + grid.down
    diagonal = diagonal + _neighbour(grid.right, axis=-1, by=-1)
    diagonal = (diagonal + _neighbour(grid.down, axis=-2, by=-1))[None]
    inverse = _ratio(jnp.ones_like(diagonal), diagonal)

    def applied(u: Array) -> Array:
        beside = right * _neighbour(u, axis=-1, by=1) + _neighbour(right * u, axis=-1, by=-1)
        above = down * _neighbour(u, axis=-2, by=1) + _neighbour(down * u, axis=-2, by=-1)
        return diagonal * u - beside - above

    def inner(a: Array, b: Array) -> Array:
        return jnp.sum(a * b, axis=(1, 2), keepdims=True)

    def step(_: Array, carry: tuple[Array, ...]) -> tuple[Array, ...]:
        u, residual, direction, size = carry
        image = applied(direction)
        length = _ratio(size, inner(direction, image))
        u, residual = u + length * direction, residual - length * image
        scaled = inverse * residual
        new_size = inner(residual, scaled)
        return u, residual, scaled + _ratio(new_size, size) * direction, new_size

    residual = grid.side - applied(start)
    direction = inverse * residual
    carry = (start, residual, direction, inner(residual, direction))
    return lax.fori_loop(0, ITERATIONS, step, carry)[0]


def _neighbour(x: Float[Array, "*C H W"], *, axis: int, by: int) -> Float[Array, "*C H W"]:
    """The value one pixel further (`by` 1) or one before (−1), 0 beyond the picture."""
    padding = [(0, 0)] * x.ndim
    padding[axis] = (0, 1) if by > 0 else (1, 0)
    size = x.shape[axis]
    first = 1 if by > 0 else 0
    return lax.slice_in_dim(jnp.pad(x, padding), first, first + size, axis=axis % x.ndim)


def _halved(x: Float[Array, "*C H W"]) -> Float[Array, "*C H//2 W//2"]:
    *lead, height, width = x.shape
    return x.reshape(*lead, height // 2, 2, width // 2, 2).sum((-3, -1))


def _ratio(a: Array, b: Array) -> Array:
    """The quotient, 0 where b is not above 0."""
    return jnp.where(b > 0, a / jnp.where(b > 0, b, 1), 0)
