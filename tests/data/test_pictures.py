import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from draem_jax.data.pictures import (
    decode_picture,
    picture_size,
    read_mask,
    read_picture,
    resize,
    resize_mask,
    store_picture,
)
from draem_jax.data.windows import open_windows
from draem_jax.errors import UserError

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (9, 14, 3), np.uint8)
GREY = RNG.integers(0, 256, (9, 14), np.uint8)


def as_grey_rgb(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[..., None], 3, axis=-1)


def write_deep_png(path: Path, deep: np.ndarray, *, transparent: bytes = b"") -> None:
    """Writes a PNG of 16 bits and one to four channels, which Pillow cannot."""
    height, width = deep.shape[:2]
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[1 if deep.ndim == 2 else deep.shape[2]]
    # Every second row as the difference to the one above, by bytes: two of PNG's filters.
    rows = deep.astype(">u2").reshape(height, -1).view(np.uint8)
    up = np.diff(rows, axis=0, prepend=rows[:1] * 0)
    lines = [b"\2" + up[r].tobytes() if r % 2 else b"\0" + rows[r].tobytes() for r in range(height)]

    def chunk(name: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(name + data))
        return struct.pack(">I", len(data)) + name + data + checksum

    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0))
        + (chunk(b"tRNS", transparent) if transparent else b"")
        + chunk(b"IDAT", zlib.compress(b"".join(lines)))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "tiff", "webp"])
def test_reads_rgb(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    options = {"lossless": True} if suffix == "webp" else {}
    Image.fromarray(COLOUR).save(path, **options)
    np.testing.assert_array_equal(read_picture(path), COLOUR)


@pytest.mark.parametrize("mode", ["L", "P", "1", "CMYK", "LA", "RGBA", "YCbCr"])
def test_reads_as_pillow_converts(tmp_path, mode):
    path = tmp_path / ("a.tif" if mode in ("CMYK", "YCbCr") else "a.png")
    Image.fromarray(COLOUR).convert(mode).save(path)
    try:
        Image.open(path).load()
    except OSError:
        pytest.skip("this release of Pillow cannot read what it has written")
    picture = read_picture(path)
    assert picture.shape == (9, 14, 3)
    assert picture.dtype == np.uint8
    np.testing.assert_array_equal(picture, Image.open(path).convert("RGB"))


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_scales_16_bit_grey(tmp_path, suffix):
    deep = np.array([[0, 128, 257], [32768, 65278, 65535]], np.uint16)
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(deep).save(path)
    expected = np.rint(deep / 257).astype(np.uint8)
    np.testing.assert_array_equal(read_picture(path), as_grey_rgb(expected))


DEEP = RNG.integers(0, 65536, (9, 14, 4), np.uint16)


def as_8_bits(deep: np.ndarray) -> np.ndarray:
    """Colours over white, scaled by definition."""
    colours, opacity = deep[..., :-1] / 65535, deep[..., -1:] / 65535
    return np.rint(255 * (colours * opacity + 1 - opacity)).astype(np.uint8)


def test_scales_16_bit_colour_in_png(tmp_path):
    path = tmp_path / "a.png"
    write_deep_png(path, DEEP[..., :3])
    np.testing.assert_array_equal(read_picture(path), np.rint(DEEP[..., :3] / 257))
    write_deep_png(path, DEEP)
    np.testing.assert_array_equal(read_picture(path), as_8_bits(DEEP))
    write_deep_png(path, DEEP[..., 2:])
    np.testing.assert_array_equal(read_picture(path), as_8_bits(DEEP[..., [2, 2, 2, 3]]))
    write_deep_png(path, DEEP[..., :3], transparent=DEEP[4, 5, :3].astype(">u2").tobytes())
    assert read_picture(path)[4, 5].tolist() == [255, 255, 255]
    np.testing.assert_array_equal(read_picture(path)[5:], np.rint(DEEP[5:, :, :3] / 257))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"byteorder": ">"},
        {"compression": "zlib"},
        {"compression": "zlib", "byteorder": ">", "predictor": True},
        {"tile": (16, 16)},
    ],
)
def test_scales_16_bit_colour_in_tiff(tmp_path, options):
    deep = RNG.integers(0, 65536, (30, 40, 3), np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", deep, photometric="rgb", **options)
    np.testing.assert_array_equal(read_picture(tmp_path / "a.tif"), np.rint(deep / 257))


def test_refuses_16_bit_colour_that_pillow_would_spoil(tmp_path):
    planes = np.moveaxis(DEEP[..., :3], -1, 0)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, planes, photometric="rgb", planarconfig="separate")
    with pytest.raises(UserError, match=r"a\.tif: its 16-bit pixels .* without loss"):
        read_picture(path)


def test_white_may_be_zero(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", DEEP[..., 0], photometric="miniswhite")
    np.testing.assert_array_equal(
        read_picture(tmp_path / "a.tif"), as_grey_rgb(255 - np.rint(DEEP[..., 0] / 257))
    )


@pytest.mark.parametrize("orientation", [*range(1, 9), 0, 20])
def test_turns_as_pillow_does(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    for name in ("a.png", "a.tif"):
        path = tmp_path / name
        Image.fromarray(COLOUR).save(path, exif=exif)
        with Image.open(path) as picture:
            picture.load()
            expected = np.asarray(ImageOps.exif_transpose(picture))
        np.testing.assert_array_equal(read_picture(path), expected)
        assert picture_size(path) == expected.shape[:2]


def test_reads_jpeg_with_exif_rotation(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned; shown right, it is a quarter turn clockwise
    smooth = np.zeros((16, 32, 3), np.uint8)
    smooth[:, 16:] = 200
    Image.fromarray(smooth).save(tmp_path / "a.jpg", exif=exif, quality=95)
    picture = read_picture(tmp_path / "a.jpg")
    assert picture.shape == (32, 16, 3)
    np.testing.assert_allclose(picture, np.rot90(smooth, -1), atol=6)


def test_lays_transparency_over_white(tmp_path):
    pixels = np.dstack([COLOUR, np.full(GREY.shape, 255, np.uint8)])
    pixels[0, 0, 3] = 0
    pixels[0, 1] = (0, 0, 0, 128)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    picture = read_picture(tmp_path / "a.png")
    assert picture[0, 0].tolist() == [255, 255, 255]
    assert picture[0, 1].tolist() == [127, 127, 127]
    np.testing.assert_array_equal(picture[1:], COLOUR[1:])


def test_reads_transparent_palette(tmp_path):
    picture = Image.fromarray(np.array([[0, 1]], np.uint8)).convert("P")
    picture.putpalette([10, 20, 30, 40, 50, 60])
    picture.save(tmp_path / "a.png", transparency=0)
    assert read_picture(tmp_path / "a.png").tolist() == [[[255, 255, 255], [40, 50, 60]]]


@pytest.mark.parametrize("read", [read_picture, open_windows])
def test_what_is_no_picture(tmp_path, read):
    with pytest.raises(UserError, match="there is no file"):
        read(tmp_path / "none.tif")
    with pytest.raises(UserError, match="is a folder"):
        read(tmp_path)
    (tmp_path / "text.tif").write_text("no picture")
    with pytest.raises(UserError, match=r"text\.tif is not a picture"):
        read(tmp_path / "text.tif")


def test_what_cannot_be_read(tmp_path, monkeypatch):
    Image.fromarray(np.full((4, 4), 0.5, np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(UserError, match=r"float\.tif: its pixels are floating-point"):
        read_picture(tmp_path / "float.tif")
    Image.fromarray(COLOUR).save(tmp_path / "large.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
    with pytest.raises(UserError, match=r"large\.png has too many pixels"):
        read_picture(tmp_path / "large.png")


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of TIFF files
@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif", "webp"])
def test_damaged_files_give_a_user_error(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(RNG.integers(0, 256, (40, 40, 3), np.uint8)).save(path)
    content = path.read_bytes()
    for length in (0, 1, 10, 30, 60, len(content) // 2):
        path.write_bytes(content[:length])
        with pytest.raises(UserError, match=f"a.{suffix}"):
            read_picture(path)


def test_resize():
    assert resize(COLOUR, (9, 14)) is COLOUR
    assert resize(COLOUR, (20, 10)).shape == (20, 10, 3)
    # Antialiased: fine checks shrink to an even grey.
    checks = as_grey_rgb((np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8))
    assert np.ptp(resize(checks, (16, 16))[2:-2, 2:-2].astype(int)) <= 2


def test_resize_mask():
    mask = np.zeros((4, 4), bool)
    mask[:2, :2] = True
    assert resize_mask(mask, (2, 2)).tolist() == [[True, False], [False, False]]
    np.testing.assert_array_equal(resize_mask(mask, (8, 8)), np.kron(mask, np.ones((2, 2), bool)))
    assert resize_mask(mask, (4, 4)) is mask


MASK = np.zeros((9, 14), bool)
MASK[2:5, 3:9] = True


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "webp"])
@pytest.mark.parametrize("value", [1, 7, 255])
def test_reads_masks(tmp_path, suffix, value):
    options = {"lossless": True} if suffix == "webp" else {}
    Image.fromarray(MASK.astype(np.uint8) * value).save(tmp_path / f"a.{suffix}", **options)
    np.testing.assert_array_equal(read_mask(tmp_path / f"a.{suffix}"), MASK)


def test_reads_masks_of_other_modes(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(MASK).save(path)
    np.testing.assert_array_equal(read_mask(path), MASK)
    Image.fromarray(MASK.astype(np.uint16)).save(path)
    np.testing.assert_array_equal(read_mask(path), MASK)
    classes = Image.fromarray(MASK.astype(np.uint8) * 2).convert("P")
    for palette in ([0] * 9, [0, 0, 0, 9, 9, 9, 200, 0, 0]):
        classes.putpalette(palette)
        classes.save(path)
        np.testing.assert_array_equal(read_mask(path), MASK)
    classes.putpalette([255, 255, 255, 0, 0, 0, 0, 0, 0])  # drawn black on white
    classes.save(path)
    np.testing.assert_array_equal(read_mask(path), ~MASK)
    white = np.full((9, 14, 4), 255, np.uint8)
    white[..., 3] = MASK * 255
    Image.fromarray(white).save(path)
    np.testing.assert_array_equal(read_mask(path), MASK)


def test_reads_masks_from_jpeg(tmp_path):
    mask = np.zeros((32, 48), np.uint8)
    mask[8:17, 8:29] = 255
    Image.fromarray(mask).save(tmp_path / "a.jpg", quality=75)
    np.testing.assert_array_equal(read_mask(tmp_path / "a.jpg"), mask > 0)
    Image.fromarray(mask * 0).save(tmp_path / "a.jpg")
    assert not read_mask(tmp_path / "a.jpg").any()


def test_stores_files_that_need_no_change(tmp_path):
    for name in ("a.png", "a.jpg"):
        Image.fromarray(COLOUR).save(tmp_path / name)
        stored = store_picture(tmp_path / name)
        assert stored.content == (tmp_path / name).read_bytes()
        assert stored.decoded.picture.shape == (9, 14, 3)
    for name, mode in (("a.bmp", "RGB"), ("a.png", "L"), ("b.png", "RGBA"), ("b.jpg", "L")):
        Image.fromarray(COLOUR).convert(mode).save(tmp_path / name)
        content = store_picture(tmp_path / name).content
        with Image.open(io.BytesIO(content)) as stored:
            assert (stored.format, stored.mode) == ("PNG", "RGB")
        np.testing.assert_array_equal(decode_picture(content), read_picture(tmp_path / name))
