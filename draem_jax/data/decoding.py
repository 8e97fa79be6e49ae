"""From the bytes of a picture's file to arrays: modes, depths, opacity, pages and rotations.

Whatever mode Pillow opens a picture in, it comes out in one form. On damaged bytes Pillow's own
errors are raised, of which `draem_jax.data.pictures` makes lines that name the file.
"""

import contextlib
import io
import re
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image, TiffImagePlugin, UnidentifiedImageError

from draem_jax.data.labels import lowest_label
from draem_jax.errors import UserError

# Pillow warns of large pictures and of odd metadata by lines of its code. The former are counted
# and told by `draem_jax.data.facts`; of the latter, what matters raises when pixels are decoded.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")

QUARTERS = (5, 6, 7, 8)
"""The EXIF numbers of orientations that swap height and width."""

_ORIENTATION = 0x0112  # EXIF
# TIFF tags.
_SUBFILE, _WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 254, 256, 257, 258, 259, 262
_SAMPLE_FORMAT = 339
_REDUCED, _MASK = 1, 4  # of _SUBFILE: a page at a lower resolution, or the mask of another page

# Of masks in lossy formats: up to where black comes back from WebP, and from where on values are
# told from it.
_LOSSY_BLACK, _LEAST_LOSSY = 2, 8

_MOST_PAGES = 2000
"""Of a TIFF that are gone through: each takes longer than the one before."""

_PROGRAMS = ("EPS",)
"""Formats, as Pillow names them, that are programs, which Pillow would give to another to run."""

_DEEP = re.compile(r"(?<!BGR);16")  # BGR;16 has 16 bits a pixel, not a channel


class Header(NamedTuple):
    """What can be seen of a picture without decoding it.

    Attributes:
        size: (height, width) once the camera's rotation is undone.
        deep: whether it has more than 8 bits a channel.
        pages: how many pictures the file holds, of TIFF up to 2000; previews and masks of pages do
            not count.
    """

    size: tuple[int, int]
    deep: bool
    pages: int


class Decoded(NamedTuple):
    """A decoded picture, and what was found on the way.

    Attributes:
        picture: in RGB.
        plain: whether any reader would decode the same bytes to the same picture.
        highest: the highest value in the file where it has more than 8 bits a channel, else None.
        opacity_ignored: whether it was transparent everywhere, and read as if it were opaque.
    """

    picture: UInt8[np.ndarray, "H W 3"]
    plain: bool
    highest: int | None
    opacity_ignored: bool


def read_header(path: Path, *, turn: bool = True) -> Header:
    """Looks at the head of a picture's file.

    Args:
        path: the path of the file.
        turn: whether the size is that of the turned picture, for which Pillow reads a PNG to its
            end. If false, it is that of the picture as it lies in the file.
    """
    with _opened(path) as picture:
        deep = _is_deep(picture, _raw_modes(picture))  # first: EXIF may stand behind the pixels
        # Of TIFF, the size may be that of the turned picture already, by Pillow's version.
        width = _tiff_tag(picture, _WIDTH, picture.width)
        height = _tiff_tag(picture, _HEIGHT, picture.height)
        turned = turn and _orientation(picture) in QUARTERS
        size = (width, height) if turned else (height, width)
        return Header(size, deep, _count_pages(picture))


def read_orientation(content: bytes) -> int:
    """The EXIF number of how a picture's file says that it is turned; 1 if it is not."""
    with _opened(io.BytesIO(content)) as picture:
        return _orientation(picture)


def decode(content: bytes, *, full_scale: int | None = None) -> Decoded:
    """Decodes a picture's file.

    Args:
        content: the content of the file.
        full_scale: which value is white in a picture with more than 8 bits a channel; what its
            type can hold where None.
    """
    with _opened(io.BytesIO(content)) as picture:
        raw_modes = _raw_modes(picture)
        picture.load()
        orientation = _orientation(picture)
        if _is_deep(picture, raw_modes):
            deep = _read_deep(picture, raw_modes, content)
            highest, ignored = int(deep.values.max()), _is_transparent(deep.opacity)
            rgb, plain = _scale(deep, full_scale), False
        else:
            highest = None
            rgb, ignored = _to_rgb(picture, raw_modes, content)
            plain = (
                picture.format in ("PNG", "JPEG")
                and picture.mode == "RGB"
                and not picture.has_transparency_data
                and orientation == 1
                and getattr(picture, "n_frames", 1) == 1
            )
        return Decoded(turn(rgb, orientation), plain, highest, ignored)


def highest_value(content: bytes) -> int:
    """The highest value in a picture of more than 8 bits a channel."""
    with _opened(io.BytesIO(content)) as picture:
        raw_modes = _raw_modes(picture)
        picture.load()
        return int(_read_deep(picture, raw_modes, content).values.max())


def decode_mask(content: bytes) -> Bool[np.ndarray, "H W"]:
    """Decodes a mask's file: true on what is marked."""
    with _opened(io.BytesIO(content)) as picture:
        raw_modes = _raw_modes(picture)
        lossy = _is_lossy(picture, content)
        picture.load()
        orientation = _orientation(picture)
        values, opacity = _mask_values(picture, raw_modes, content)
        if opacity is not None and opacity.any():
            values = np.where(opacity > 0, values, 0)
        elif opacity is not None and values.min() == values.max():
            values = np.zeros_like(values)  # transparent and even: nothing is drawn
        return turn(values > (_lossy_threshold(values) if lossy else 0), orientation)


class _Deep(NamedTuple):
    """A picture with more than 8 bits a channel, as it lies in its file.

    Attributes:
        values: (H, W, 1) of grey or (H, W, 3).
        opacity: (H, W), in [0, 1], where there is one.
        top: the highest value that the type can hold; None of 32 bits, which no camera fills.
        inverted: whether 0 is white.
    """

    values: np.ndarray
    opacity: np.ndarray | None
    top: int | None
    inverted: bool


@contextlib.contextmanager
def _opened(source: Path | io.BytesIO) -> Iterator[Image.Image]:
    """Opens a file at its first page that is neither a preview nor a mask of another one."""
    try:
        opened = Image.open(source)
    except UnidentifiedImageError as error:
        if kind := _tiff_kind(source):
            raise UserError(
                f"it is a TIFF of {kind}, which cannot be read; convert it to 8 or 16 bits, grey "
                "or RGB"
            ) from error
        raise
    with opened as picture:
        if picture.format in _PROGRAMS:
            raise UserError("it is a program in PostScript, which is not run; convert it to PNG")
        if not _is_page(picture):
            picture.seek(next((n for n in _go_through(picture) if _is_page(picture)), 0))
        yield picture


def _tiff_kind(source: Path | io.BytesIO) -> str:
    """What the pixels of a TIFF are that Pillow cannot open; "" if it is no TIFF, or damaged."""
    try:
        opened = source.open("rb") if isinstance(source, Path) else io.BytesIO(source.getvalue())
        with opened as file:
            head = file.read(16)
            is_big = head[2] == 43  # a BigTIFF, whose head is longer
            tags = TiffImagePlugin.ImageFileDirectory_v2(head if is_big else head[:8])
            file.seek(tags.next)
            tags.load(file)
        bits = tags[_BITS]
        kind = {2: "signed ", 3: "floating-point "}.get(tags.get(_SAMPLE_FORMAT, (1,))[0], "")
        return f"{len(bits)} {kind}channel{'s' * (len(bits) > 1)} of {bits[0]} bits"
    except Exception:  # what is raised on damaged bytes is not documented
        return ""


def _is_page(picture: Image.Image) -> bool:
    return not _tiff_tag(picture, _SUBFILE, 0) & (_REDUCED | _MASK)


def _count_pages(picture: Image.Image) -> int:
    if isinstance(picture, TiffImagePlugin.TiffImageFile):
        return max(1, sum(_is_page(picture) for _ in _go_through(picture)))
    if picture.format == "MPO":  # what cameras put behind a JPEG are previews
        return 1
    return getattr(picture, "n_frames", 1)


def _go_through(picture: Image.Image) -> Iterator[int]:
    """Goes from page to page of a TIFF, and yields their numbers."""
    for frame in range(_MOST_PAGES):
        try:
            picture.seek(frame)
        except SyntaxError:  # of pixels that Pillow does not know, such as a mask's
            pass
        except Exception:  # at the end, or where the file is damaged
            return
        yield frame


def _is_lossy(picture: Image.Image, content: bytes) -> bool:
    if picture.format == "WEBP":
        return b"VP8 " in content[:4096]  # else VP8L
    if isinstance(picture, TiffImagePlugin.TiffImageFile):
        return _tiff_tag(picture, _COMPRESSION, 1) in (6, 7)  # JPEG, of old and new
    return picture.format in ("JPEG", "MPO", "JPEG2000", "AVIF")


def _lossy_threshold(values: UInt8[np.ndarray, "H W"]) -> float:
    """The value above which a pixel of a mask in a lossy format is marked."""
    highest = int(values.max())
    if _LOSSY_BLACK < highest < _LEAST_LOSSY:
        raise UserError(
            f"its values, up to {highest}, are too low to be told from what lossy compression "
            "leaves; save masks as PNG"
        )
    return max(float(_LOSSY_BLACK), lowest_label(values) / 2)


def turn(array: np.ndarray, orientation: int) -> np.ndarray:
    """Undoes a camera's rotation and mirroring, by the EXIF number for it."""
    if orientation in (5, 7):
        array = np.swapaxes(array, 0, 1)
    quarters = {3: 2, 4: 2, 6: 3, 7: 2, 8: 1}.get(orientation, 0)
    array = np.rot90(array, quarters)
    return np.ascontiguousarray(array[:, ::-1] if orientation in (2, 4) else array)


def _orientation(picture: Image.Image) -> int:
    """The EXIF number of how a picture lies; 1 where what stands there is no such number."""
    value = picture.getexif().get(_ORIENTATION, 1)
    return int(value) if value in range(1, 9) else 1


def _raw_modes(picture: Image.Image) -> list[str]:
    """How pixels lie in the file, as Pillow names it; known only until they are loaded."""
    arguments = [tile[3] for tile in getattr(picture, "tile", [])]
    raw_modes = [str(a[0] if isinstance(a, tuple) and a else a) for a in arguments]
    if max(_tiff_tag(picture, _BITS, (8,))) > 8:
        # Planes that lie one after the other are named as if they had 8 bits.
        raw_modes = [mode if "16" in mode else f"{mode};16?" for mode in raw_modes]
    return raw_modes


def _tiff_tag(picture: Image.Image, number: int, default: Any) -> Any:
    tags = picture.tag_v2 if isinstance(picture, TiffImagePlugin.TiffImageFile) else {}
    return tags.get(number, default)


def _is_deep(picture: Image.Image, raw_modes: list[str]) -> bool:
    if picture.mode in ("I", "F") or picture.mode.startswith("I;"):
        return True
    return any(_DEEP.search(raw_mode) for raw_mode in raw_modes)


def _is_transparent(opacity: np.ndarray | None) -> bool:
    return opacity is not None and not opacity.any()


def _to_rgb(
    picture: Image.Image, raw_modes: list[str], content: bytes
) -> tuple[UInt8[np.ndarray, "H W 3"], bool]:
    """A picture of 8 bits over white, and whether its opacity was ignored."""
    if not picture.has_transparency_data:
        return np.array(picture if picture.mode == "RGB" else picture.convert("RGB")), False
    rgba = _to_rgba(picture)
    if rgba.getchannel("A").getextrema() == (0, 0):
        if "RGBa" in raw_modes:  # colours times opacity, which are lost by now
            return np.array(_reread(content, "RGBA")[..., :3]), True
        return np.array(rgba)[..., :3].copy(), True
    white = Image.new("RGBA", rgba.size, "white")
    return np.array(Image.alpha_composite(white, rgba).convert("RGB")), False


def _to_rgba(picture: Image.Image) -> Image.Image:
    return (picture.convert("LA") if picture.mode == "La" else picture).convert("RGBA")


def _mask_values(
    picture: Image.Image, raw_modes: list[str], content: bytes
) -> tuple[np.ndarray, np.ndarray | None]:
    """The highest channel of each pixel, or the number of its class, and its opacity if any."""
    if _is_deep(picture, raw_modes):
        deep = _read_deep(picture, raw_modes, content, floats=True)
        values = deep.values.max(-1)
        if deep.inverted:
            values = (deep.top or values.max()) - values
        return values, deep.opacity
    opacity = None
    if picture.has_transparency_data:
        opacity = np.asarray(_to_rgba(picture))[..., 3]
    if picture.mode in ("P", "PA") and (picture.getpalette() or [])[:3] == [0, 0, 0]:
        values = np.asarray(picture)  # numbers of classes, whatever their colours
        return (values[..., 0] if values.ndim == 3 else values), opacity
    if picture.mode in ("1", "L"):
        return np.asarray(picture), opacity
    if picture.mode == "LAB":
        return np.asarray(picture)[..., 0], opacity
    if _is_transparent(opacity):
        return _to_rgb(picture, raw_modes, content)[0].max(-1), opacity
    colours = _to_rgba(picture) if opacity is not None else picture.convert("RGB")
    return np.asarray(colours)[..., :3].max(-1), opacity


# Of 16-bit colour Pillow keeps the high bytes alone. Reading the same file as if its bytes lay in
# the other order gives the low bytes: (mode to read with, raw mode to read with) for each.
_OTHER_BYTES = {
    "RGB;16B": "RGB;16L",
    "RGB;16L": "RGB;16B",
    "RGB;16N": "RGB;16B" if sys.byteorder == "little" else "RGB;16L",
    "RGBA;16B": "RGBA;16L",
    "RGBA;16L": "RGBA;16B",
    "RGBA;16N": "RGBA;16B" if sys.byteorder == "little" else "RGBA;16L",
}


def _read_deep(
    picture: Image.Image, raw_modes: list[str], content: bytes, *, floats: bool = False
) -> _Deep:
    """The values of a picture with more than 8 bits a channel; of floats only if they may be."""
    transparent = picture.info.get("transparency")
    if picture.mode == "F" and not floats:
        raise UserError(
            "its pixels are floating-point numbers, which have no fixed range; convert it to 8 or "
            "16 bits"
        )
    if picture.mode in ("I", "F") or picture.mode.startswith("I;"):
        values = np.asarray(picture)
        inverted = _tiff_tag(picture, _PHOTOMETRIC, 1) == 0
        wide = picture.mode == "F" or any("32" in raw_mode for raw_mode in raw_modes)
        if any(re.search("I;32B?N", raw_mode) for raw_mode in raw_modes):
            values = values.view(np.uint32)  # Pillow's own integers are signed
        if picture.mode != "F" and values.min() < 0:
            raise UserError("some of its pixels are negative; convert it to unsigned 8 or 16 bits")
        twelve = any("I;12" in raw_mode for raw_mode in raw_modes)
        opacity = None if transparent is None else (values != transparent).astype(np.float32)
        return _Deep(
            values[..., None], opacity, None if wide else 4095 if twelve else 65535, inverted
        )
    raw_mode = raw_modes[0]
    if set(raw_modes) == {"LA;16B"}:
        # As bytes: grey high, grey low, alpha high, alpha low.
        grey_high, grey_low, alpha_high, alpha_low = np.moveaxis(_reread(content, "RGBA"), -1, 0)
        values = _join(grey_high, grey_low)[..., None]
        alpha: np.ndarray | None = _join(alpha_high, alpha_low)
    elif len(set(raw_modes)) == 1 and raw_mode in _OTHER_BYTES:
        values = _join(np.asarray(picture), _reread(content, _OTHER_BYTES[raw_mode]))
        alpha = values[..., 3] if values.shape[-1] == 4 else None
        values = values[..., :3]
    else:
        raise UserError(
            f"its 16-bit pixels ({raw_mode}) cannot be read without loss; convert it to 16-bit "
            "RGB or to 8 bits"
        )
    if alpha is not None:
        return _Deep(values, alpha / np.float32(65535), 65535, False)
    opacity = None
    if transparent is not None:
        opacity = (values != transparent).any(-1).astype(np.float32)
    return _Deep(values, opacity, 65535, False)


def _join(high: np.ndarray, low: np.ndarray) -> np.ndarray:
    return high.astype(np.uint16) << 8 | low


def _scale(deep: _Deep, full_scale: int | None) -> UInt8[np.ndarray, "H W 3"]:
    """Brings values to 8 bits: `full_scale`, and what is above, to white."""
    highest = int(deep.values.max())
    if full_scale is None:
        full_scale = deep.top or 65535
        if highest > full_scale:
            raise UserError(
                f"its pixels have 32 bits and values up to {highest}, of which none is white by "
                "itself; set config.data.depth to auto or to a number of bits, or convert it to 8 "
                "or 16 bits"
            )
    if deep.opacity is None or _is_transparent(deep.opacity):
        if deep.values.dtype.itemsize == 2:  # looked up: exact, quick, and little memory
            shades = np.minimum(np.arange(65536), full_scale) * (255 / full_scale)
            table = np.rint(shades).astype(np.uint8)
            scaled: np.ndarray = np.empty(deep.values.shape, np.uint8)
            for row in range(len(scaled)):
                scaled[row] = table[deep.values[row]]
        else:
            clipped = np.minimum(deep.values, full_scale).astype(np.float64)
            scaled = np.rint(clipped * (255 / full_scale)).astype(np.uint8)
        scaled = 255 - scaled if deep.inverted else scaled
    else:
        shares = np.minimum(deep.values, full_scale) / full_scale
        shares = 1 - shares if deep.inverted else shares
        opacity = deep.opacity.astype(np.float64)[..., None]
        scaled = np.rint(255 * (shares * opacity + 1 - opacity)).astype(np.uint8)
    return np.repeat(scaled, 3, axis=-1) if scaled.shape[-1] == 1 else scaled


def _reread(content: bytes, raw_mode: str) -> UInt8[np.ndarray, "H W channels"]:
    """Decodes a file as if its pixels lay in it in another mode."""
    with _opened(io.BytesIO(content)) as opened:
        picture: Any = opened
        tiles: list[Any] = []
        for tile in picture.tile:
            args = (raw_mode, *tile[3][1:]) if isinstance(tile[3], tuple) else raw_mode
            tiles.append(
                tile._replace(args=args) if hasattr(tile, "_replace") else (*tile[:3], args)
            )
        picture.tile = tiles
        picture.load()
        return np.asarray(picture)
