"""Pictures inside a page: reduced to what can be seen there, and written as data URIs."""

import base64
import io

import numpy as np
from jaxtyping import Bool, Float, UInt8
from PIL import Image

_LONGEST_SIDE = 512  # of a picture on the page, in pixels
_JPEG_QUALITY = 85


def fit(
    image: np.ndarray,
    resampling: Image.Resampling = Image.Resampling.BOX,
    *,
    longest_side: int = _LONGEST_SIDE,
) -> UInt8[np.ndarray, "..."] | Float[np.ndarray, "..."]:
    """Reduces a picture whose longer side is longer than a page needs.

    Args:
        image: (H, W, 3), (H, W, 1) or (H, W), uint8, or (H, W) float32.
        resampling: how; areas are averaged by default.
        longest_side: in pixels.

    Returns:
        The picture with its axes and type as they came.
    """
    height, width = image.shape[:2]
    factor = longest_side / max(height, width)
    if factor >= 1:
        return image
    size = max(1, round(width * factor)), max(1, round(height * factor))
    grey = image.ndim == 3 and image.shape[-1] == 1
    small = Image.fromarray(image[..., 0] if grey else image).resize(size, resampling)
    return np.asarray(small)[..., None] if grey else np.asarray(small)


def fit_mask(
    mask: np.ndarray, *, longest_side: int = _LONGEST_SIDE
) -> Bool[np.ndarray, "height width"]:
    """Reduces a mask (H, W), whose values above 0 are the region, as `fit` does a picture."""
    region = (mask > 0).astype(np.uint8)
    return fit(region, Image.Resampling.NEAREST, longest_side=longest_side) > 0


def jpeg(image: UInt8[np.ndarray, "H W C"]) -> str:
    """Writes a picture of one or three channels as a JPEG's data URI."""
    data = io.BytesIO()
    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    # Full colour resolution keeps thin outlines and map edges clean.
    picture.save(data, "JPEG", quality=_JPEG_QUALITY, subsampling=0, optimize=True)
    return _data_uri("image/jpeg", data.getvalue())


def png(mask: Bool[np.ndarray, "H W"]) -> str:
    """Writes a mask as a black and white PNG's data URI."""
    data = io.BytesIO()
    Image.fromarray(mask).convert("1").save(data, "PNG", optimize=True)
    return _data_uri("image/png", data.getvalue())


def _data_uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
