"""Masks in any form: what was drawn comes back."""

import io
import itertools

import numpy as np
import pytest
import tifffile
from PIL import Image
from scipy import ndimage

from draem_jax.data.pictures import read_mask, read_picture
from draem_jax.errors import UserError
from tests.data.test_pictures import write_deep_png

MASK = np.zeros((40, 64), bool)
MASK[20:32, 16:44] = True
MASK[3:14, 2:12] = True

MODES = (
    *("1", "L", "P", "PA", "LA", "La", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr"),
    *("I", "I;16", "I;16B", "F"),
)
FORMATS = {
    "png": {},
    "bmp": {},
    "gif": {},
    "tga": {},
    "tif": {"compression": "tiff_lzw"},
    "tiff": {},
    "webp": {"lossless": True},
}
LOSSY = {"jpg": {"quality": 75}, "webp": {"quality": 60}, "tif": {"compression": "jpeg"}}


def draw(mask, mode):
    """White on black in a mode of Pillow."""
    grey = Image.fromarray(mask.astype(np.uint8) * 255)
    steps = {"La": ("LA", "La"), "RGBa": ("RGBA", "RGBa"), "PA": ("P", "PA")}
    match mode:
        case "I" | "I;16" | "F":
            kind = {"I": np.int32, "I;16": np.uint16, "F": np.float32}[mode]
            return Image.fromarray(mask.astype(kind) * kind(65535 if mode != "F" else 255))
        case "I;16B":
            return Image.frombytes(mode, grey.size, (mask.astype(">u2") * 65535).tobytes())
    for step in steps.get(mode, (mode,)):
        grey = grey.convert(step)
    return grey


def can_write(picture, suffix, options):
    """Whether Pillow can, and can read it back: of YCbCr in TIFF, its older releases cannot."""
    kind, file = Image.registered_extensions()[f".{suffix}"], io.BytesIO()
    try:
        picture.save(file, format=kind, **options)
        Image.open(file).load()
    except (OSError, KeyError, ValueError):
        return False
    return True


@pytest.mark.parametrize("mask", [MASK, ~MASK[:0:-1], MASK & False], ids=["two", "most", "none"])
def test_lossless_formats_give_back_what_was_drawn(tmp_path, mask):
    tried = 0
    for mode, (suffix, options) in itertools.product(MODES, FORMATS.items()):
        picture = draw(mask, mode)
        if can_write(picture, suffix, options):
            tried += 1
            path = tmp_path / f"{mode.replace(';', '')}.{suffix}"
            picture.save(path, **options)
            np.testing.assert_array_equal(read_mask(path), mask, err_msg=path.name)
    assert tried > 50


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("levels", [(255,), (128, 255), (85, 170)])
@pytest.mark.parametrize("suffix", LOSSY)
def test_lossy_formats_agree_but_for_a_fringe(tmp_path, suffix, levels):
    labels = np.where(MASK, levels[0], 0).astype(np.uint8)
    labels[3:14, 2:12] = levels[-1]
    inside, outside = (ndimage.distance_transform_edt(m) for m in (MASK, ~MASK))
    modes = ("L", "RGB", "CMYK") if suffix != "webp" else ("L", "RGB")
    for mode in modes:
        path = tmp_path / f"{mode}.{suffix}"
        Image.fromarray(labels).convert("RGB").convert(mode).save(path, **LOSSY[suffix])
        wrong = read_mask(path) != MASK
        assert not (wrong & (inside > 2) | wrong & (outside > 2)).any(), path.name
    Image.fromarray(labels * 0).save(path, **LOSSY[suffix])
    assert not read_mask(path).any()


def test_labels_that_lossy_formats_spoil_are_refused(tmp_path):
    Image.fromarray(MASK.astype(np.uint8) * 5).save(tmp_path / "a.jpg", quality=95)
    with pytest.raises(UserError, match=r"a\.jpg: its values, up to \d, are too low"):
        read_mask(tmp_path / "a.jpg")


def test_0_may_be_white(tmp_path):
    for dtype, white in ((np.uint8, 255), (np.uint16, 65535), (np.float32, 1)):
        values = np.where(MASK, 0, white).astype(dtype)  # as they lie in the file
        tifffile.imwrite(tmp_path / "a.tif", values, photometric="miniswhite")
        np.testing.assert_array_equal(read_mask(tmp_path / "a.tif"), MASK, err_msg=str(dtype))


def test_values_of_16_bits_are_not_cut_off(tmp_path):
    labels = MASK.astype(np.uint16)[..., None] * np.array([0, 3, 1], np.uint16)
    write_deep_png(tmp_path / "a.png", labels)
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png"), MASK)


def test_classes_in_a_palette(tmp_path):
    classes = Image.fromarray(MASK.astype(np.uint8) * 2).convert("P")
    classes.putpalette([0, 0, 0, 0, 0, 0, 9, 9, 9])
    for transparent in (None, 0):
        options = {} if transparent is None else {"transparency": transparent}
        classes.save(tmp_path / "a.png", **options)
        np.testing.assert_array_equal(read_mask(tmp_path / "a.png"), MASK)
    # What a palette shows as black is no defect, whatever its number.
    classes.putpalette([200, 0, 0, 0, 0, 0, 0, 0, 0])
    classes.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png"), ~MASK)


def test_opacity_of_0_everywhere_means_nothing(tmp_path):
    grey = MASK.astype(np.uint8) * 255
    nothing = np.zeros_like(grey)
    path = tmp_path / "a.png"
    Image.fromarray(np.dstack([grey] * 3 + [nothing])).save(path)
    np.testing.assert_array_equal(read_mask(path), MASK)
    # But of an even colour it means that nothing is drawn.
    Image.fromarray(np.dstack([nothing + 255] * 3 + [nothing])).save(path)
    assert not read_mask(path).any()


COLOUR = np.random.default_rng(3).integers(0, 256, (9, 14, 3), np.uint8)


@pytest.mark.parametrize("name", ["rgba.png", "rgba.tif", "rgba.tga", "premultiplied.tif"])
def test_pictures_with_unused_opacity(tmp_path, name):
    rgba = np.dstack([COLOUR, np.zeros(COLOUR.shape[:2], np.uint8)])
    if name == "premultiplied.tif":
        tifffile.imwrite(tmp_path / name, rgba, photometric="rgb", extrasamples=["assocalpha"])
    else:
        Image.fromarray(rgba).save(tmp_path / name)
    np.testing.assert_array_equal(read_picture(tmp_path / name), COLOUR)


def test_deep_and_grey_pictures_with_unused_opacity(tmp_path):
    path = tmp_path / "a.png"
    grey = np.dstack([COLOUR[..., 0], np.zeros(COLOUR.shape[:2], np.uint8)])
    expected = np.repeat(COLOUR[..., :1], 3, axis=-1)
    channels = [Image.fromarray(np.ascontiguousarray(grey[..., i])) for i in range(2)]
    Image.merge("LA", channels).save(path)
    np.testing.assert_array_equal(read_picture(path), expected)
    write_deep_png(path, grey.astype(np.uint16) * 257)
    np.testing.assert_array_equal(read_picture(path), expected)
    deep = np.dstack([COLOUR, grey[..., 1]]).astype(np.uint16) * 257
    write_deep_png(path, deep)
    np.testing.assert_array_equal(read_picture(path), COLOUR)
