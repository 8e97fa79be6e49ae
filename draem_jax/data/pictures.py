"""Pictures from files, whatever their mode, as (H, W, 3) uint8 arrays in RGB order."""

import re
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image, ImageOps

from draem_jax.errors import UserError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
"""Suffixes, in lower case, of the files that count as pictures in a folder."""


def read_picture(path: str | Path) -> UInt8[np.ndarray, "H W 3"]:
    """Reads one picture as RGB.

    The rotation that a camera notes in the file (EXIF) is applied. Grey, palette, 1-bit and CMYK
    pictures become RGB; 16-bit grey is scaled by 255 / 65535, not cut off; transparent pixels are
    laid over white. Of a file with several pages the first is read.

    Args:
        path: the file, in any format that Pillow reads.

    Returns:
        The picture, values 0 to 255.

    Raises:
        UserError: there is no such file, it is no picture or a damaged one, it has more pixels
            than Pillow takes for safe, or its pixels have no fixed range (32-bit).
    """
    path = Path(path)
    try:
        with Image.open(path) as picture:
            return _to_rgb(ImageOps.exif_transpose(picture))
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except FileNotFoundError as error:
        raise UserError(f"there is no file {path}; check the path") from error
    except IsADirectoryError as error:
        raise UserError(f"{path} is a folder; give the path of one picture") from error
    except PermissionError as error:
        raise UserError(f"{path} may not be read; check its permissions") from error
    except Image.DecompressionBombError as error:
        raise UserError(
            f"{path} has too many pixels to be read safely; cut it into tiles first"
        ) from error
    except Exception as error:  # what a decoder raises on damaged bytes is not documented
        raise UserError(
            f"{path} is not a picture that can be read, or is damaged; remove or replace it"
        ) from error


def list_pictures(path: str | Path, *, recursive: bool = False) -> list[Path]:
    """Lists the pictures of a folder in natural order: 2.png stands before 10.png.

    Args:
        path: a folder, or one file, which is then the whole list, whatever its suffix.
        recursive: whether to look into the folders within, too.

    Returns:
        The files whose suffix is in `SUFFIXES`, in either case; hidden ones are left out.

    Raises:
        UserError: there is nothing at `path`, or the folder holds no pictures.
    """
    path = Path(path)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise UserError(f"there is no file or folder {path}; check the path")
    found = [
        file
        for file in path.glob("**/*" if recursive else "*")
        if file.suffix.lower() in SUFFIXES
        and not any(part.startswith(".") for part in file.relative_to(path).parts)
        and file.is_file()
    ]
    if not found:
        raise UserError(
            f"the folder {path} holds no pictures; looked for files ending in {', '.join(SUFFIXES)}"
        )
    return sorted(found, key=lambda file: natural_key(file.relative_to(path).as_posix()))


def natural_key(name: str) -> list[tuple[int, str]]:
    """Sorting key by which numbers within names stand in order of their value."""
    return [
        (int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)
    ]


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


def resize_mask(mask: Bool[np.ndarray, "h w"], size: tuple[int, int]) -> Bool[np.ndarray, "H W"]:
    """Resizes a mask to (height, width): each pixel takes the value of the nearest one."""
    if mask.shape == size:
        return mask
    height, width = size
    picture = Image.fromarray(mask.astype(np.uint8)).resize(
        (width, height), Image.Resampling.NEAREST
    )
    return np.asarray(picture).astype(bool)


def _to_rgb(picture: Image.Image) -> UInt8[np.ndarray, "H W 3"]:
    if picture.mode in ("I", "F") or picture.mode.startswith("I;"):
        return _grey_to_rgb(np.asarray(picture))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    return np.array(picture.convert("RGB"))


def _grey_to_rgb(grey: np.ndarray) -> UInt8[np.ndarray, "H W 3"]:
    """Scales 16-bit grey; Pillow hands some of it over in 32-bit integers."""
    if grey.dtype.kind == "f" or grey.min() < 0 or grey.max() > 65535:
        raise UserError("its pixels have 32 bits and no fixed range; convert it to 8 or 16 bits")
    scaled = np.rint(grey.astype(np.float64) * (255 / 65535)).astype(np.uint8)
    return np.repeat(scaled[..., None], 3, axis=-1)
