"""Pictures, masks, and regions of interest: whatever Pillow opens, and TIFF by our own reader."""

import contextlib
import io
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from tools.fuzz.promise import Target

_MOST_PIXELS = 1 << 18  # so that a run is quick; what is larger is refused as in life


def _prepare() -> None:
    from draem_jax.data import pictures, roi, windows  # noqa: F401

    Image.init()


@contextlib.contextmanager
def _few_pixels() -> Iterator[None]:
    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, _MOST_PIXELS
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def _refusing(*calls: Callable[[], object]) -> None:
    """Makes calls of which each may refuse the file; raises the last refusal."""
    from draem_jax.errors import UserError

    refused = None
    for call in calls:
        try:
            call()
        except UserError as error:
            refused = error
    if refused is not None:
        raise refused


@_few_pixels()
def _read(content: bytes, folder: Path) -> None:
    from draem_jax.data import pictures

    path = folder / "picture.png"
    path.write_bytes(content)

    def read() -> None:
        picture = pictures.read_picture(path)
        assert picture.dtype == np.uint8
        assert picture.ndim == 3
        assert picture.shape[2] == 3
        assert picture.shape[:2] == pictures.picture_size(path)

    def header() -> None:
        if pictures.picture_header(path).deep:
            pictures.read_highest(path)

    _refusing(
        header,
        lambda: pictures.read_picture(path, full_scale=4095),
        lambda: pictures.store_picture(path),
        read,
    )


@_few_pixels()
def _read_mask(content: bytes, folder: Path) -> None:
    from draem_jax.data import pictures
    from draem_jax.data.roi import Roi

    path = folder / "mask.png"
    path.write_bytes(content)

    mask = pictures.read_mask(path)
    assert mask.dtype == bool
    size, name = (mask.shape[0], mask.shape[1]), "train/good/1"
    roi = Roi(str(path), ignore_border=1)
    roi.digest([name])
    roi.plane_at(name, size, at=(4, 4))


@_few_pixels()
def _read_windows(content: bytes, folder: Path) -> None:
    from draem_jax.data import windows

    path = folder / "large.tif"
    path.write_bytes(content)

    def read() -> None:
        with windows.open_windows(path, cache_bytes=1 << 22) as opened:
            height, width = opened.size
            opened.read(0, 0, 40, 40)
            opened.read(max(height - 20, 0), max(width - 20, 0), 40, 40)
            if height * width < _MOST_PIXELS:
                opened.highest()
                opened.opacity_ignored()
                windows.read_overview(opened, largest_side=32)

    _refusing(read, lambda: windows.count_pixels(path))


def _saved(picture: Image.Image, form: str, **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


def _ramp(height: int, width: int, channels: int = 3) -> np.ndarray:
    values = np.arange(height * width * channels) * 37 % 256
    return values.astype(np.uint8).reshape(height, width, channels)


def _tiffs() -> list[bytes]:
    rgb, grey = Image.fromarray(_ramp(20, 24)), Image.fromarray(_ramp(20, 24)[..., 0])
    deep = Image.fromarray(_ramp(20, 24)[..., 0].astype(np.uint16) * 200)
    made = [
        _saved(picture, "TIFF", compression=compression)
        for picture in (rgb, grey)
        for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")
    ]
    made += [_saved(deep, "TIFF"), _saved(rgb.convert("CMYK"), "TIFF"), _saved(grey, "TIFF")]
    made += [_saved(grey.convert("1"), "TIFF", compression="group4")]
    made += [_saved(rgb.quantize(8), "TIFF"), _saved(rgb.convert("RGBA"), "TIFF")]
    made += [_saved(rgb, "TIFF", save_all=True, append_images=[grey])]
    made += [tiled(order, big=big) for order in "<>" for big in (False, True)]
    made += [tiled("<", side=1 << 30, tile=1 << 30)]
    return made


def tiled(order: str, *, big: bool = False, side: int = 40, tile: int = 16) -> bytes:
    """A square TIFF in tiles of 256 bytes, turned, in either byte order; BigTIFF if asked for."""
    number = (-(-side // tile)) ** 2
    start = 16 if big else 8
    offsets = [start + 256 * i for i in range(number)]
    tables = start + 256 * number
    size = "Q" if big else "I"
    lists = struct.pack(f"{order}{number}{size}", *offsets)
    lists += struct.pack(f"{order}{number}{size}", *[256] * number)
    kind = 16 if big else 4
    values = {
        256: (4, 1, side), 257: (4, 1, side), 258: (3, 1, 8), 259: (3, 1, 1), 262: (3, 1, 1),
        274: (3, 1, 6), 277: (3, 1, 1), 322: (4, 1, tile), 323: (4, 1, tile),
        324: (kind, number, tables), 325: (kind, number, tables + len(lists) // 2),
    }  # fmt: skip
    entries = b""
    if number == 1:  # which stands in the entry itself
        values |= {324: (kind, 1, offsets[0]), 325: (kind, 1, 256)}
    for tag, (of, amount, value) in values.items():
        width = {3: "H", 4: "I", 16: "Q"}[of] if amount == 1 else size
        content = struct.pack(order + width, value).ljust(8 if big else 4, b"\0")
        entries += struct.pack(f"{order}HH{size}", tag, of, amount) + content
    where = tables + len(lists)
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}H", 43 if big else 42)
    head += struct.pack(f"{order}HHQ", 8, 0, where) if big else struct.pack(f"{order}I", where)
    entries = struct.pack(f"{order}{'Q' if big else 'H'}", len(values)) + entries
    return head + _ramp(16, 16, 1).tobytes() * number + lists + entries + bytes(8)


def _postscript() -> bytes:
    return (
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n"
        b"0 0 8 8 rectfill\nshowpage\n%%EOF\n"
    )


def _others() -> list[bytes]:
    rgb = Image.fromarray(_ramp(16, 18))
    grey = rgb.convert("L")
    deep = Image.fromarray(_ramp(16, 18)[..., 0].astype(np.uint16) * 200)
    turned, unheard_of = Image.Exif(), Image.Exif()
    turned[0x0112], unheard_of[0x0112] = 6, 20
    clear = rgb.convert("RGBA")
    clear.putalpha(grey)
    made = [_saved(rgb, form) for form in ("PNG", "BMP", "PPM", "GIF", "WEBP", "TGA", "PCX", "ICO")]
    made += [_saved(rgb, "JPEG", exif=turned), _saved(rgb, "PNG", exif=turned)]
    made += [_saved(grey, "JPEG", progressive=True), _saved(rgb.convert("CMYK"), "JPEG")]
    made += [_saved(p, "PNG") for p in (grey, grey.convert("1"), deep, clear, rgb.quantize(16))]
    made += [_saved(rgb.quantize(16), "PNG", transparency=3), _saved(rgb, "PNG", optimize=True)]
    made += [_saved(deep, "PPM"), _saved(clear, "WEBP", lossless=True), _saved(clear, "TGA")]
    made += [_saved(rgb.quantize(4), "BMP"), _saved(rgb, "JPEG2000"), _saved(grey, "MPO")]
    made += [_saved(rgb, "GIF", save_all=True, append_images=[rgb.rotate(90, expand=False)])]
    made += [_postscript(), _saved(deep, "TIFF", exif=unheard_of)]
    return made


def _all() -> list[bytes]:
    return [*_others(), *_tiffs()]


TARGETS = (
    Target("picture", "a file of a picture", _all, _read, prepare=_prepare),
    Target("mask", "a mask, and a region of interest", _all, _read_mask, prepare=_prepare),
    Target("windows", "a large TIFF, by windows", _tiffs, _read_windows, prepare=_prepare),
)
