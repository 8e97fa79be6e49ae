"""Pictures from files, whatever their mode, as (H, W, 3) uint8 arrays in RGB order."""

import contextlib
import io
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image, TiffImagePlugin

from draem_jax.errors import UserError


def read_picture(path: str | Path) -> UInt8[np.ndarray, "H W 3"]:
    """Reads one picture as RGB.

    The rotation that a camera notes in the file (EXIF) is applied. Grey, palette, 1-bit and CMYK
    pictures become RGB; 16-bit values are scaled by 255 / 65535, not cut off; transparent pixels
    are laid over white. Of a file with several pages the first is read.

    Args:
        path: the file, in any format that Pillow reads.

    Returns:
        The picture, values 0 to 255.

    Raises:
        UserError: there is no such file, it is no picture or a damaged one, it has more pixels
            than Pillow takes for safe, or its pixels have no fixed range (32-bit).
    """
    with _told(Path(path)):
        return decode_picture(Path(path).read_bytes())


def read_mask(path: str | Path) -> Bool[np.ndarray, "H W"]:
    """Reads a mask: True on defects, which is every pixel above 0.

    Masks may be of any format and bit depth, and hold 0 and 1, 0 and 255, or numbers of classes.
    A transparent pixel is no defect. In a JPEG, whose values waver around edges, a defect is what
    lies above half of the highest value.

    Raises:
        UserError: as in `read_picture`.
    """
    with _told(Path(path)):
        return _decode_mask(Path(path).read_bytes())


def picture_size(path: str | Path) -> tuple[int, int]:
    """The (height, width) that `read_picture` would return; reads no pixels.

    Raises:
        UserError: as in `read_picture`, as far as can be seen without decoding.
    """
    with _told(Path(path)), Image.open(path) as picture:
        # Of TIFF, the size may be that of the turned picture already, by Pillow's version.
        width = _tiff_tag(picture, 256, picture.width)
        height = _tiff_tag(picture, 257, picture.height)
        turned = picture.getexif().get(_ORIENTATION, 1) >= 5
        return (width, height) if turned else (height, width)


def store_picture(path: str | Path) -> tuple[bytes, tuple[int, int]]:
    """The file of a picture that any reader decodes to what `read_picture` returns.

    That is the file itself, untouched, where it is an 8-bit RGB picture in PNG or JPEG without
    transparency and rotation, and has been decoded to its end; else a lossless PNG.

    Returns:
        The bytes of the file, and (height, width).

    Raises:
        UserError: as in `read_picture`.
    """
    with _told(Path(path)):
        content = Path(path).read_bytes()
        rgb, plain = _decode(content)
        return (content if plain else encode_png(rgb)), rgb.shape[:2]


def decode_picture(content: bytes) -> UInt8[np.ndarray, "H W 3"]:
    """Decodes the bytes of a picture's file as `read_picture` does; raises what Pillow raises."""
    return _decode(content)[0]


def encode_png(array: UInt8[np.ndarray, "H W *channels"]) -> bytes:
    """A picture or mask as PNG, packed quickly: photographs hardly repeat anything but runs."""
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, format="png", compress_level=1, compress_type=zlib.Z_RLE)
    return buffer.getvalue()


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turns what goes wrong with a file into a line that names it."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except FileNotFoundError as error:
        if path.is_symlink():
            raise UserError(
                f"{path} is a link to {path.readlink()}, which is not there; mend or delete it"
            ) from error
        raise UserError(f"there is no file {path}; check the path") from error
    except IsADirectoryError as error:
        raise UserError(f"{path} is a folder; give the path of one picture") from error
    except PermissionError as error:
        raise UserError(f"{path} may not be read; check its permissions") from error
    except Image.DecompressionBombError as error:
        raise UserError(
            f"{path} has too many pixels to be read safely; cut it into tiles first"
        ) from error
    except MemoryError as error:
        raise UserError(f"{path} does not fit in memory; cut it into tiles first") from error
    except Exception as error:  # what a decoder raises on damaged bytes is not documented
        raise UserError(
            f"{path} is not a picture that can be read, or is damaged; remove or replace it"
        ) from error


def resize(image: UInt8[np.ndarray, "h w 3"], size: tuple[int, int]) -> UInt8[np.ndarray, "H W 3"]:
    """Resizes a picture to (height, width): bilinear, antialiased when it shrinks."""
    if image.shape[:2] == size:
        return image
    height, width = size
    picture = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
    return np.array(picture)


def resize_plane(
    plane: Float[np.ndarray, "h w"], size: tuple[int, int]
) -> Float[np.ndarray, "H W"]:
    """Resizes one plane of floats, such as an anomaly map, as `resize` does pictures."""
    if plane.shape == size:
        return plane
    height, width = size
    picture = Image.fromarray(plane.astype(np.float32))
    return np.array(picture.resize((width, height), Image.Resampling.BILINEAR))


def resize_channels(
    image: Float[np.ndarray, "h w 3"], size: tuple[int, int]
) -> Float[np.ndarray, "H W 3"]:
    """Resizes a picture of floats, such as a reconstruction, channel by channel."""
    return np.stack([resize_plane(image[..., c], size) for c in range(3)], axis=-1)


def resize_mask(mask: Bool[np.ndarray, "h w"], size: tuple[int, int]) -> Bool[np.ndarray, "H W"]:
    """Resizes a mask to (height, width): each pixel takes the value of the nearest one."""
    if mask.shape == size:
        return mask
    height, width = size
    picture = Image.fromarray(mask.astype(np.uint8)).resize(
        (width, height), Image.Resampling.NEAREST
    )
    return np.asarray(picture).astype(bool)


_ORIENTATION = 0x0112  # EXIF


def _decode(content: bytes) -> tuple[UInt8[np.ndarray, "H W 3"], bool]:
    """The picture, and whether any reader would decode these bytes to the same."""
    with Image.open(io.BytesIO(content)) as picture:
        raw_modes = _raw_modes(picture)
        picture.load()
        orientation = picture.getexif().get(_ORIENTATION, 1)
        plain = (
            picture.format in ("PNG", "JPEG")
            and picture.mode == "RGB"
            and not any("16" in raw_mode for raw_mode in raw_modes)
            and not picture.has_transparency_data
            and orientation == 1
            and getattr(picture, "n_frames", 1) == 1
        )
        return _turn(_to_rgb(picture, raw_modes, content), orientation), plain


def _decode_mask(content: bytes) -> Bool[np.ndarray, "H W"]:
    with Image.open(io.BytesIO(content)) as picture:
        picture.load()
        orientation = picture.getexif().get(_ORIENTATION, 1)
        palette = picture.getpalette() or []
        if picture.mode == "P" and palette[:3] == [0, 0, 0]:
            values = np.asarray(picture)  # numbers of classes, whatever their colours
        elif picture.mode == "P" or picture.has_transparency_data:
            values = np.asarray(picture.convert("RGBA"))
            values = values[..., :3] * (values[..., 3:] > 0)
        else:
            values = np.asarray(picture)
        if values.ndim == 3:
            values = values.max(-1)
        return _turn(values > (values.max() / 2 if picture.format == "JPEG" else 0), orientation)


def _turn(array: np.ndarray, orientation: int) -> np.ndarray:
    """Undoes a camera's rotation and mirroring, by the EXIF number for it."""
    if orientation in (5, 7):
        array = np.swapaxes(array, 0, 1)
    quarters = {3: 2, 4: 2, 6: 3, 7: 2, 8: 1}.get(orientation, 0)
    array = np.rot90(array, quarters)
    return np.ascontiguousarray(array[:, ::-1] if orientation in (2, 4) else array)


def _raw_modes(picture: Image.Image) -> list[str]:
    """How pixels lie in the file, as Pillow names it; known only until they are loaded."""
    arguments = [tile[3] for tile in getattr(picture, "tile", [])]
    raw_modes = [str(a[0] if isinstance(a, tuple) and a else a) for a in arguments]
    if max(_tiff_tag(picture, 258, (8,))) > 8:
        # Planes that lie one after the other are named as if they had 8 bits.
        raw_modes = [mode if "16" in mode else f"{mode};16?" for mode in raw_modes]
    return raw_modes


def _tiff_tag(picture: Image.Image, number: int, default: Any) -> Any:
    tags = picture.tag_v2 if isinstance(picture, TiffImagePlugin.TiffImageFile) else {}
    return tags.get(number, default)


def _to_rgb(
    picture: Image.Image, raw_modes: list[str], content: bytes
) -> UInt8[np.ndarray, "H W 3"]:
    if picture.mode in ("I", "F") or picture.mode.startswith("I;"):
        full_scale = 4095 if any("I;12" in raw_mode for raw_mode in raw_modes) else 65535
        inverted = _tiff_tag(picture, 262, 1) == 0
        return _grey_to_rgb(np.asarray(picture), full_scale, inverted)
    if any("16" in raw_mode for raw_mode in raw_modes):
        return _deep_to_rgb(content, raw_modes, picture.info.get("transparency"))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    return np.array(picture.convert("RGB"))


def _grey_to_rgb(grey: np.ndarray, full_scale: int, inverted: bool) -> UInt8[np.ndarray, "H W 3"]:
    """Scales 16-bit grey; Pillow hands some of it over in 32-bit integers."""
    if grey.dtype.kind == "f" or grey.min() < 0 or grey.max() > full_scale:
        raise UserError("its pixels have 32 bits and no fixed range; convert it to 8 or 16 bits")
    scaled = np.rint(grey.astype(np.float64) * (255 / full_scale)).astype(np.uint8)
    return np.repeat((255 - scaled if inverted else scaled)[..., None], 3, axis=-1)


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


def _deep_to_rgb(
    content: bytes, raw_modes: list[str], transparent: tuple[int, ...] | None
) -> UInt8[np.ndarray, "H W 3"]:
    """Scales 16-bit colour, and lays what is transparent over white."""
    raw_mode = raw_modes[0]
    if set(raw_modes) == {"LA;16B"}:
        # As bytes: grey high, grey low, alpha high, alpha low.
        grey_high, grey_low, alpha_high, alpha_low = np.moveaxis(_reread(content, "RGBA"), -1, 0)
        high = np.stack([grey_high] * 3 + [alpha_high], axis=-1)
        low = np.stack([grey_low] * 3 + [alpha_low], axis=-1)
    elif len(set(raw_modes)) == 1 and raw_mode in _OTHER_BYTES:
        high = _reread(content, raw_mode)
        low = _reread(content, _OTHER_BYTES[raw_mode])
    else:
        raise UserError(
            f"its 16-bit pixels ({raw_mode}) cannot be read without loss; convert it to 16-bit "
            "RGB or to 8 bits"
        )
    deep = high.astype(np.float64) * 256 + low
    colours = deep[..., :3]
    if deep.shape[-1] == 4:
        opacity = deep[..., 3:] / 65535
        colours = colours * opacity + 65535 * (1 - opacity)
    elif transparent is not None:
        colours[(colours == transparent).all(-1)] = 65535
    return np.rint(colours * (255 / 65535)).astype(np.uint8)


def _reread(content: bytes, raw_mode: str) -> UInt8[np.ndarray, "H W channels"]:
    """Decodes a file as if its pixels lay in it otherwise."""
    with Image.open(io.BytesIO(content)) as picture:
        tiles: list[Any] = []
        for tile in picture.tile:
            args = (raw_mode, *tile[3][1:]) if isinstance(tile[3], tuple) else raw_mode
            tiles.append(
                tile._replace(args=args) if hasattr(tile, "_replace") else (*tile[:3], args)
            )
        picture.tile = tiles
        picture.load()
        return np.asarray(picture)
