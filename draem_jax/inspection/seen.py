"""What the networks see of a picture, drawn, and how large the smallest defect is in it."""

import numpy as np
from jaxtyping import UInt8
from ml_collections import ConfigDict

from draem_jax.config import check_config, data_set, fitting, image_size, tile_overlap
from draem_jax.data.fitting import Fitting, pad_mirrored
from draem_jax.data.loading import StoredPictures
from draem_jax.data.pictures import decode_picture
from draem_jax.data.scale import Advice, advise, kept_text
from draem_jax.data.tiles import lay_tiles
from draem_jax.reports.seen import Box, Panel, paint_defect, side_by_side

Picture = UInt8[np.ndarray, "_ _ 3"]


def advise_on(config: ConfigDict, smallest_defect: float) -> Advice:
    """Works out what the networks see of the smallest defect in the normal pictures of a config.

    Args:
        config: the config of a run.
        smallest_defect: how large it is across in pictures as they were taken, in pixels.

    Raises:
        UserError: the config is wrong, its data set cannot be had, or see
            `draem_jax.data.scale.advise`.
    """
    normal = _open_normal(config)
    sizes = [normal.own_size(index) for index in range(len(normal))]
    return advise(sizes, smallest_defect, configured=normal.fitting, overlap=tile_overlap(config))


def draw_seen(config: ConfigDict, *, smallest_defect: float | None = None) -> Picture:
    """Draws a normal picture beside what the networks see of it: the whole of it, or a tile.

    Args:
        config: the config of a run.
        smallest_defect: how large the smallest defect is across in pictures as they were taken, in
            pixels; a square of this size is drawn. None for no square.

    Raises:
        UserError: the config is wrong, or its data set cannot be had.
    """
    normal = _open_normal(config)
    picture, way = decode_picture(normal.record(0)["image"]), normal.fitting
    if way.is_tiled:
        return _draw_tiles(picture, way, tile_overlap(config), smallest_defect)
    return _draw_whole(picture, way, smallest_defect)


def _draw_whole(picture: Picture, way: Fitting, smallest_defect: float | None) -> Picture:
    own = picture.shape[:2]
    defect = _square(own, smallest_defect)
    taken = Panel(f"A normal picture as it was taken: {_size(own)} pixels", picture, defect=defect)
    seen = Panel(
        f"What the networks see, {_HOW[way.way]}: {_size(way.size)} pixels",
        way.fit(_painted(picture, defect)),
        way.content_of(own),
        defect=_fitted(defect, way, own),
        is_painted=True,
    )
    notes = _defect_notes(smallest_defect, way, own)
    if way.pads(own):
        notes.append(_PADDING)
    return side_by_side([taken, seen], notes)


def _draw_tiles(
    picture: Picture, way: Fitting, overlap: int, smallest_defect: float | None
) -> Picture:
    own = picture.shape[:2]
    height, width = way.content_size(own)
    grid = lay_tiles(way.canvas_size(own), way.size, overlap=overlap)
    windows = [tile.window for tile in grid]
    high, wide = (min(side, round(to / way.scale)) for side, to in zip(own, way.size, strict=True))
    defect = _square((high, wide), smallest_defect)  # in what the first tile shows
    whole = Panel(
        f"A normal picture of {_size(own)} pixels, "
        + (f"in {len(windows)} tiles" if len(windows) > 1 else "in one tile"),
        pad_mirrored(way.fit(picture), grid.covered),
        way.content_of(own),
        windows,
        _fitted(defect, way, own),
    )
    first = pad_mirrored(way.fit(_painted(picture, defect)), grid.covered)[windows[0]]
    seen = Panel(
        f"What the networks see of the first tile: {_size(way.size)} pixels",
        first,
        way.content_of(own),
        windows[:1],
        _fitted(defect, way, own),
        is_painted=True,
    )
    notes = []
    if len(windows) > 1:
        notes.append("Bright frame: the first tile. Thin lines: the other tiles, which overlap.")
    if way.scale != 1:
        notes.append(
            f"Scale {way.scale:g}: the picture is brought to {_size((height, width))} pixels, and "
            "then seen in tiles."
        )
    notes += _defect_notes(smallest_defect, way, own)
    if grid.covered != (height, width):
        notes.append(_PADDING)
    return side_by_side([whole, seen], notes)


_HOW = {"squeeze": "squeezed", "letterbox": "letterboxed"}
_PADDING = "Dark: padding, the picture mirrored, where nobody looks."


def _defect_notes(smallest_defect: float | None, way: Fitting, own: tuple[int, int]) -> list[str]:
    if smallest_defect is None:
        return []
    kept = smallest_defect * min(way.scales(own))
    return [
        f"Red square: as large as the smallest defect, {smallest_defect:g} pixels across in "
        f"the picture as it was taken; the networks see {kept_text(kept)} pixels of it."
    ]


def _square(around: tuple[int, int], side: float | None) -> Box | None:
    """A defect in the middle of an area that begins at the upper left, as far as it has room."""
    if side is None:
        return None
    top, left = (max(0.0, (length - side) / 2) for length in around)
    return Box(top, left, side, side)


def _painted(picture: Picture, defect: Box | None) -> Picture:
    return picture if defect is None else paint_defect(picture, defect)


def _fitted(defect: Box | None, way: Fitting, own: tuple[int, int]) -> Box | None:
    """Where a defect lies once its picture is brought to the networks."""
    if defect is None:
        return None
    down, across = way.scales(own)
    return Box(defect.top * down, defect.left * across, defect.height * down, defect.width * across)


def _open_normal(config: ConfigDict) -> StoredPictures:
    check_config(config)
    normal = data_set(config).training_pictures(
        size=image_size(config), holdout=config.data.holdout
    )
    return normal.fitted(fitting(config))


def _size(size: tuple[int, int]) -> str:
    return f"{size[1]} x {size[0]}"
