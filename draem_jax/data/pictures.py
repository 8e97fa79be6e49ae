"""Pictures from files, whatever their mode, as (H, W, 3) uint8 arrays in RGB order."""

import contextlib
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image

from draem_jax.data.decoding import (
    Decoded,
    Header,
    decode,
    decode_mask,
    highest_value,
    read_header,
)
from draem_jax.errors import UserError

TOO_LARGE = "cut it into tiles first"
"""What to do with a picture that has too many pixels, unless there is something better."""


def read_picture(path: str | Path, *, full_scale: int | None = None) -> UInt8[np.ndarray, "H W 3"]:
    """Reads one picture as RGB.

    The rotation that a camera notes in the file (EXIF) is applied. Grey, palette, 1-bit and CMYK
    pictures become RGB; values of more than 8 bits are scaled, not cut off; transparent pixels
    are laid over white, unless all are transparent: then the opacity means nothing, and is ignored.
    Of a file with several pages the first is read, see `pages`.

    Args:
        path: the file, in any format that Pillow reads.
        full_scale: the value that is white in a picture with more than 8 bits a channel, as it was
            found for a data set (`StoredPictures.full_scale`); higher ones are white as well. What
            the file's type can hold where None.

    Returns:
        The picture, values 0 to 255.

    Raises:
        UserError: there is no such file, it is no picture or a damaged one, it has more pixels
            than Pillow takes for safe, or its pixels have no fixed range (floating-point numbers,
            or 32 bits without a `full_scale`).
    """
    return read_decoded(path, full_scale=full_scale).picture


def read_decoded(
    path: str | Path, *, full_scale: int | None = None, too_large: str = TOO_LARGE
) -> Decoded:
    """Reads a picture as `read_picture` does, and says what was found on the way.

    Args:
        path: the file.
        full_scale: see `read_picture`.
        too_large: see `told`.
    """
    with told(Path(path), too_large=too_large):
        return decode(Path(path).read_bytes(), full_scale=full_scale)


def read_mask(path: str | Path) -> Bool[np.ndarray, "H W"]:
    """Reads a mask: True on defects, which is every pixel above 0.

    Masks may be of any format and bit depth, and hold 0 and 1, 0 and 255, or numbers of classes.
    They are decoded as pictures are: what is black in the picture is 0. Of a palette whose first
    colour is black, the numbers count, not the colours. A transparent pixel is no defect. In a
    lossy format, whose values waver around edges, a pixel is a defect if it is nearer to the
    lowest label than to 0.

    Raises:
        UserError: as in `read_picture`.
    """
    with told(Path(path)):
        return decode_mask(Path(path).read_bytes())


def picture_size(path: str | Path) -> tuple[int, int]:
    """The (height, width) that `read_picture` would return; reads no pixels.

    Raises:
        UserError: as in `read_picture`, as far as can be seen without decoding.
    """
    return picture_header(path).size


def pages(path: str | Path) -> int:
    """How many pages a file holds, of which `read_picture` reads the first; reads no pixels.

    The frames of an animation are pages; previews and masks of a page are not.

    Raises:
        UserError: as in `read_picture`, as far as can be seen without decoding.
    """
    return picture_header(path).pages


def picture_header(path: str | Path, *, turn: bool = True) -> Header:
    """What can be seen of a picture without reading its pixels.

    Args:
        path: the path of the file.
        turn: see `draem_jax.data.decoding.read_header`.

    Raises:
        UserError: as in `read_picture`, as far as can be seen without decoding.
    """
    with told(Path(path)):
        return read_header(Path(path), turn=turn)


def stored_size(content: bytes) -> tuple[int, int]:
    """The (height, width) of a picture as `store_picture` keeps it; reads no pixels."""
    with Image.open(io.BytesIO(content)) as picture:
        return picture.height, picture.width


def read_highest(path: str | Path) -> int:
    """The highest value in a picture of more than 8 bits a channel.

    Raises:
        UserError: as in `read_picture`.
    """
    with told(Path(path)):
        return highest_value(Path(path).read_bytes())


class Stored(NamedTuple):
    """A picture as it is kept in a prepared data set.

    Attributes:
        content: a file that any reader decodes to what `read_picture` returns: the picture's own,
            untouched, where it is an 8-bit RGB picture in PNG or JPEG without transparency and
            rotation, and has been decoded to its end; else a lossless PNG.
        decoded: what lies in it.
        nbytes: the size in bytes of the picture's own file.
    """

    content: bytes
    decoded: Decoded
    nbytes: int


def store_picture(path: str | Path, *, full_scale: int | None = None) -> Stored:
    """Reads a picture to be kept.

    Args:
        path: the file.
        full_scale: see `read_picture`.

    Raises:
        UserError: as in `read_picture`.
    """
    with told(Path(path)):
        content = Path(path).read_bytes()
        decoded = decode(content, full_scale=full_scale)
        kept = content if decoded.plain else encode_png(decoded.picture)
        return Stored(kept, decoded, len(content))


def decode_picture(content: bytes, *, full_scale: int | None = None) -> UInt8[np.ndarray, "H W 3"]:
    """Decodes the bytes of a picture's file as `read_picture` does; raises what Pillow raises."""
    return decode(content, full_scale=full_scale).picture


def encode_png(array: UInt8[np.ndarray, "H W *channels"]) -> bytes:
    """A picture or mask as PNG, packed quickly: photographs hardly repeat anything but runs."""
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, format="png", compress_level=1, compress_type=zlib.Z_RLE)
    return buffer.getvalue()


@contextlib.contextmanager
def told(path: Path, *, too_large: str = TOO_LARGE) -> Iterator[None]:
    """Turns what goes wrong with a picture's file into a line that names it.

    Args:
        path: the path of the file.
        too_large: what to do if it has too many pixels, or does not fit in memory.
    """
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
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0) / 1e6
        raise UserError(
            f"{path} has too many pixels to be read safely, more than {limit:.3g} million; "
            f"{too_large}"
        ) from error
    except MemoryError as error:
        raise UserError(f"{path} does not fit in memory; {too_large}") from error
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
