"""Pictures to look at: heat maps, overlays, outlines, scales, contact sheets, and their files.

Every function takes NumPy arrays and returns uint8. A picture that goes in is either float with
values in [0, 1], clipped where it leaves that range, or uint8; its last axis is the colour
channels, one or three.
"""

import functools
import math
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, UInt8, UInt16
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from draem_jax.files import atomic_path

Pixels = Float[np.ndarray, "*shape"] | UInt8[np.ndarray, "*shape"] | Bool[np.ndarray, "*shape"]
Picture = Float[np.ndarray, "H W C"] | UInt8[np.ndarray, "H W C"]
Mask = Bool[np.ndarray, "H W"] | UInt8[np.ndarray, "H W"] | Float[np.ndarray, "H W"]
Pictures = Float[np.ndarray, "N H W _"] | UInt8[np.ndarray, "N H W _"] | Bool[np.ndarray, "N H W _"]

_QUIET = 0.05  # map values up to here leave the picture as it is in an overlay
_DIM = 0.35  # what is left of the light where nobody looks
_BRIGHT = np.array([64, 255, 200], np.uint8)
_BLACK = np.array([0, 0, 0], np.uint8)

_TILE = 128  # the least side of a tile in a sheet, in pixels
_GAP = 6
_TEXT_SIZE = 14
_SMALL_TEXT_SIZE = 10
_PAPER = (250, 250, 249)
_INK = (41, 41, 46)


def to_uint8(image: Pixels) -> UInt8[np.ndarray, "*shape"]:
    """Converts pixel values of any shape to uint8.

    Args:
        image: float in [0, 1] (values outside are clipped), bool, or uint8.

    Returns:
        round(255 · image) for float and bool; uint8 as it came, not copied.
    """
    if image.dtype == np.uint8:
        return image
    return np.rint(np.clip(image.astype(np.float32), 0, 1) * 255).astype(np.uint8)


def heat_map(anomaly_map: Float[np.ndarray, "*batch H W"]) -> UInt8[np.ndarray, "*batch H W 3"]:
    """Colours anomaly maps from black (0) through red to pale yellow (1).

    The colours are perceptually uniform: equal steps of the map look equally large, also in grey.

    Args:
        anomaly_map: float in [0, 1]; values outside are clipped.

    Returns:
        The colours, RGB.
    """
    return _heat_colours()[to_uint8(anomaly_map)]


@functools.cache
def _heat_colours() -> UInt8[np.ndarray, "256 3"]:
    from matplotlib import colormaps  # here, since the first step need not wait for it

    return colormaps["inferno"](np.arange(256), bytes=True)[:, :3]


def overlay(
    image: Picture, anomaly_map: Float[np.ndarray, "H W"], *, opacity: float = 0.8
) -> UInt8[np.ndarray, "H W 3"]:
    """Lays an anomaly map over its picture: low values leave the picture, high values glow.

    Args:
        image: the picture, grey or RGB.
        anomaly_map: float in [0, 1]. Up to 0.05 the picture is unchanged; from there the opacity
            of the glow grows in proportion.
        opacity: the opacity of the glow where the map is 1, in [0, 1].

    Returns:
        The picture with the glow, RGB.
    """
    picture = _rgb(image)
    value = np.clip(anomaly_map, 0, 1)
    weight = opacity * np.maximum(value - _QUIET, 0)[..., None] / (1 - _QUIET)
    # Only the middle of the colours glows: the dark end would dim the picture, the pale end
    # hide it.
    glow = heat_map(0.35 + 0.5 * value)
    return np.rint((1 - weight) * picture + weight * glow).astype(np.uint8)


def dim_outside(image: Picture, inside: Bool[np.ndarray, "H W"]) -> UInt8[np.ndarray, "H W 3"]:
    """Darkens what is not looked at in a picture.

    Args:
        image: the picture, grey or RGB.
        inside: true where it is looked at.

    Returns:
        A copy of the picture, as it is inside and dark outside, RGB.
    """
    picture = _rgb(image)
    return np.where(inside[..., None], picture, np.rint(_DIM * picture).astype(np.uint8))


def outline(image: Picture, mask: Mask, *, width: int = 1) -> UInt8[np.ndarray, "H W 3"]:
    """Draws the contour of a mask on a picture, around the mask so that all in it stays visible.

    The contour is two lines: a bright one along the mask and a black one around that, so that it
    stands out on light and dark surfaces alike.

    Args:
        image: the picture, grey or RGB.
        mask: the region; every value above 0 belongs to it. Where it touches the picture's border
            the contour is open.
        width: of each line, in pixels.

    Returns:
        A copy of the picture with the contour, RGB.
    """
    inside = mask > 0
    picture = _rgb(image).copy()
    near = _dilate(inside, width)
    picture[_dilate(near, width) & ~near] = _BLACK
    picture[near & ~inside] = _BRIGHT
    return picture


def label_places(
    image: Picture, labels: Mapping[tuple[int, int], str]
) -> UInt8[np.ndarray, "H W 3"]:
    """Writes short texts on a picture, bright with a black rim.

    Args:
        image: the picture, grey or RGB.
        labels: (row, column) → the text that ends above it, or below the picture's upper border
            where there is no room.

    Returns:
        A copy of the picture with the texts, RGB.
    """
    canvas = Image.fromarray(_rgb(image))
    draw, size = ImageDraw.Draw(canvas), _text_size(canvas, _SMALL_TEXT_SIZE)
    font, rim = ImageFont.load_default(size), max(1, size // 12)
    for (row, column), text in labels.items():
        left, top, right, bottom = draw.textbbox((0, 0), text, font, "ls", stroke_width=rim)
        x = max(min(column - left, canvas.width - right), -left)
        y = max(min(row - bottom, canvas.height - bottom), -top)
        draw.text(
            (x, y),
            text,
            tuple(_BRIGHT.tolist()),
            font,
            "ls",
            stroke_width=rim,
            stroke_fill=(0,) * 3,
        )
    return np.asarray(canvas)


def scale_bar(
    image: Picture, *, mm_per_pixel: float | None = None, reduction: float = 1.0
) -> UInt8[np.ndarray, "height width 3"]:
    """Puts a strip with a scale bar under a picture, so that it hides nothing.

    The bar is 1, 2 or 5 times a power of ten long, up to two fifths of the picture's width.

    Args:
        image: the picture, grey or RGB.
        mm_per_pixel: how wide a pixel is; where None, the bar is so many pixels long.
        reduction: how many pixels of the original, which these are meant of, one of the picture is.

    Returns:
        The picture, in its place at the top left, and the strip, which is wider than a very
        narrow picture.
    """
    picture = Image.fromarray(_rgb(image))
    unit = (mm_per_pixel or 1.0) * reduction
    length = _round_length(0.4 * picture.width * unit)
    if mm_per_pixel is None:
        length = max(length, 1.0)
    text = f"{length:g} {'px' if mm_per_pixel is None else 'mm'}"
    size = _text_size(picture, _TEXT_SIZE)
    font, gap, bar = ImageFont.load_default(size), size // 2, max(1, round(length / unit))
    width = max(picture.width, round(3 * gap + bar + font.getlength(text)))
    canvas = Image.new("RGB", (width, picture.height + size + gap), _PAPER)
    canvas.paste(picture, (0, 0))
    draw, middle, tick = ImageDraw.Draw(canvas), picture.height + (size + gap) // 2, size // 4
    thick = max(2, size // 7)
    draw.rectangle((gap, middle - thick // 2, gap + bar - 1, middle + (thick - 1) // 2), _INK)
    for end in (gap, gap + bar - 1):
        draw.line((end, middle - tick, end, middle + tick), _INK)
    draw.text((2 * gap + bar, middle), text, _INK, font, anchor="lm")
    return np.asarray(canvas)


def sheet(
    columns: Mapping[str, Pictures],
    row_titles: Sequence[str] | None = None,
    *,
    scale: int | None = None,
) -> UInt8[np.ndarray, "height width 3"]:
    """Puts samples side by side: a column for each entry, a row for each sample.

    Args:
        columns: title → pictures (N, H, W, 3 or 1): float in [0, 1], uint8, or bool for masks. N,
            H and W are the same in all columns.
        row_titles: N texts shown left of the rows.
        scale: whole factor by which the pictures are enlarged, each pixel a square; chosen so
            that the longer side reaches 128 pixels when not given.

    Returns:
        The sheet, RGB.

    Raises:
        ValueError: no columns, columns of different shapes, or not one title for each row.
    """
    tiles = {title: to_uint8(pictures) for title, pictures in columns.items()}
    shapes = {pictures.shape[:3] for pictures in tiles.values()}
    if len(shapes) != 1:
        raise ValueError(f"a sheet needs columns of one shape (N, H, W), got {sorted(shapes)}")
    rows, height, width = shapes.pop()
    if row_titles is not None and len(row_titles) != rows:
        raise ValueError(f"{rows} rows need {rows} titles, got {len(row_titles)}")
    if scale is None:
        scale = max(1, -(-_TILE // max(height, width)))
    height, width = scale * height, scale * width

    font = ImageFont.load_default(_TEXT_SIZE)
    left = max((round(font.getlength(title)) for title in row_titles or ()), default=0)
    left += 2 * _GAP if row_titles else _GAP
    top = _TEXT_SIZE + 2 * _GAP
    size = (left + len(tiles) * (width + _GAP), top + rows * (height + _GAP))
    canvas = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(canvas)
    for column, (title, pictures) in enumerate(tiles.items()):
        x = left + column * (width + _GAP)
        text = _shorten(title, width, font)
        draw.text((x + width / 2, top / 2), text, _INK, font, anchor="mm")
        for row, picture in enumerate(pictures):
            tile = _rgb(picture).repeat(scale, 0).repeat(scale, 1)
            canvas.paste(Image.fromarray(tile), (x, top + row * (height + _GAP)))
    for row, title in enumerate(row_titles or ()):
        y = top + row * (height + _GAP) + height / 2
        draw.text((left - _GAP, y), title, _INK, font, anchor="rm")
    return np.asarray(canvas)


def contact_sheet(
    images: Sequence[UInt8[np.ndarray, "_ _ 3"]],
    captions: Sequence[str],
    *,
    title: str = "",
    per_row: int = 8,
) -> UInt8[np.ndarray, "height width 3"]:
    """Puts pictures of any sizes into a grid, each brought to the same square and captioned.

    Args:
        images: RGB, one at least.
        captions: of each; cut where they are wider than the square.
        title: above all.
        per_row: how many stand in a row at most.

    Returns:
        The sheet, RGB.

    Raises:
        ValueError: there are no pictures, or not one caption for each.
    """
    if not images or len(images) != len(captions):
        raise ValueError(f"{len(images)} pictures cannot have {len(captions)} captions")
    font = ImageFont.load_default(_TEXT_SIZE)
    line = _TEXT_SIZE + _GAP
    top = 2 * _GAP + _TEXT_SIZE if title else _GAP
    columns = min(per_row, len(images))
    rows = -(-len(images) // columns)
    size = (_GAP + columns * (_TILE + _GAP), top + rows * (_TILE + line + _GAP))
    canvas = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(canvas)
    draw.text((_GAP, top / 2), _shorten(title, size[0] - 2 * _GAP, font), _INK, font, anchor="lm")
    for place, (image, caption) in enumerate(zip(images, captions, strict=True)):
        x = _GAP + place % columns * (_TILE + _GAP)
        y = top + place // columns * (_TILE + line + _GAP)
        factor = _TILE / max(image.shape[:2])
        width, height = (max(1, round(factor * side)) for side in image.shape[1::-1])
        resampling = Image.Resampling.NEAREST if factor > 1 else Image.Resampling.LANCZOS
        tile = Image.fromarray(image).resize((width, height), resampling)
        canvas.paste(tile, (x + (_TILE - width) // 2, y + (_TILE - height) // 2))
        text = _shorten(caption, _TILE, font)
        draw.text((x + _TILE / 2, y + _TILE + line / 2), text, _INK, font, anchor="mm")
    return np.asarray(canvas)


def write_png(
    path: str | Path,
    image: UInt8[np.ndarray, "H W"] | UInt8[np.ndarray, "H W 3"] | UInt16[np.ndarray, "H W"],
) -> None:
    """Writes a PNG file without loss, atomically.

    It is packed quickly: zlib's own choice takes six times as long, for files of 10 % less.

    Args:
        path: the file; its name must end in .png.
        image: 8-bit grey or RGB, or 16-bit grey.

    Raises:
        UserError: the folder cannot be written.
    """
    # Photographs and masks hardly repeat anything but runs; maps are smooth, and do.
    packing = zlib.Z_RLE if image.dtype == np.uint8 else zlib.Z_DEFAULT_STRATEGY
    with atomic_path(path) as temporary:
        picture = Image.fromarray(image)
        picture.save(temporary, format="PNG", compress_level=1, compress_type=packing)


def write_map_png(path: str | Path, anomaly_map: Float[np.ndarray, "H W"]) -> None:
    """Writes an anomaly map as a 16-bit grey PNG, atomically.

    Args:
        path: the file; its name must end in .png.
        anomaly_map: float in [0, 1]; values outside are clipped. A pixel's value in the file is
            round(65535 · map), so that the map can be read back to within 1e-5.

    Raises:
        UserError: the folder cannot be written.
    """
    write_png(path, map_levels(anomaly_map))


def map_levels(anomaly_map: Float[np.ndarray, "*shape"]) -> UInt16[np.ndarray, "*shape"]:
    """The values of an anomaly map in a file, see `write_map_png`."""
    # float32 has too few digits to multiply by 65535 and still round as exact arithmetic does.
    return np.rint(np.clip(anomaly_map.astype(np.float64), 0, 1) * 65535).astype(np.uint16)


def _rgb(image: Picture) -> UInt8[np.ndarray, "H W 3"]:
    if image.shape[-1] not in (1, 3):
        raise ValueError(f"a picture has 1 or 3 channels, got {image.shape[-1]}")
    return np.broadcast_to(to_uint8(image), (*image.shape[:2], 3))


def _dilate(mask: Bool[np.ndarray, "H W"], times: int = 1) -> Bool[np.ndarray, "H W"]:
    return ndimage.binary_dilation(mask, iterations=times)


def _text_size(image: Image.Image, least: int) -> int:
    """Text that can be read when the whole picture is looked at."""
    return max(least, min(image.size) // 36)


def _round_length(longest: float) -> float:
    """The greatest of 1, 2 and 5 times powers of ten that is not longer."""
    power = 10.0 ** math.floor(math.log10(longest))
    return max(step * power for step in (1, 2, 5) if step * power <= longest * (1 + 1e-9))


def _shorten(text: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"
