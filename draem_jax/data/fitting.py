"""How a picture of any size is brought to the size that the networks see.

Whole, it is squeezed to that size, or letterboxed: kept in shape, with something around it. Or it
is seen in tiles of that size, at a scale that is chosen, so that small defects are not lost in
large pictures.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, UInt8

from draem_jax.data.pictures import resize, resize_channels, resize_mask, resize_plane
from draem_jax.errors import UserError

Way = Literal["squeeze", "letterbox", "tile", "cover"]

LEAST_SIDE = 32
"""Pixels that a picture must have along each side once it is scaled."""


@dataclass(frozen=True)
class Fitting:
    """How pictures are brought to the networks.

    What a picture becomes is a canvas. Its content is the picture, at its upper left; what is
    below it and to its right is padding, the picture mirrored, where nobody looks.

    Attributes:
        size: (height, width) of what the networks see: the whole canvas, or a tile of it.
        way: "squeeze", to the size, whatever the shape; "letterbox", as large as it has room, the
            shape kept; "tile", at `scale`, however large that is; or "cover", as "tile" but
            enlarged where it is smaller than a tile, which suits textures.
        scale: by which pictures that are tiled are multiplied along each side.
    """

    size: tuple[int, int]
    way: Way = "squeeze"
    scale: float = 1.0

    @property
    def is_tiled(self) -> bool:
        """Whether the networks see a canvas in tiles."""
        return self.way in ("tile", "cover")

    @property
    def of_textures(self) -> "Fitting":
        """How textures are brought to the size that these pictures are."""
        return replace(self, way="cover" if self.is_tiled else "squeeze")

    def scales(self, own: tuple[int, int]) -> tuple[float, float]:
        """By which a picture is multiplied along its height and its width, before it is rounded.

        Args:
            own: (height, width) of the picture.
        """
        shares = self.size[0] / own[0], self.size[1] / own[1]
        if self.way == "squeeze":
            return shares
        if self.way == "letterbox":
            scale = min(shares)
        else:
            scale = max(self.scale, *shares) if self.way == "cover" else self.scale
        return scale, scale

    def content_size(self, own: tuple[int, int]) -> tuple[int, int]:
        """The (height, width) that a picture is resized to.

        Args:
            own: (height, width) of the picture.

        Raises:
            UserError: too little would be left of it.
        """
        if self.way == "squeeze":
            return self.size
        scales = self.scales(own)
        height, width = (max(1, round(side * by)) for side, by in zip(own, scales, strict=True))
        if self.way == "letterbox":  # what rounds up must not stand out
            return min(height, self.size[0]), min(width, self.size[1])
        if min(height, width) < LEAST_SIDE:
            raise UserError(
                f"the picture has {own[0]} x {own[1]} pixels, of which config.data.scale="
                f"{self.scale:g} leaves {height} x {width}; tiles need {LEAST_SIDE} along each side"
            )
        return height, width

    def canvas_size(self, own: tuple[int, int]) -> tuple[int, int]:
        """The (height, width) of a picture's canvas: at least those of what the networks see.

        Args:
            own: (height, width) of the picture.

        Raises:
            UserError: see `content_size`.
        """
        height, width = self.content_size(own)
        return max(height, self.size[0]), max(width, self.size[1])

    def content_of(self, own: tuple[int, int]) -> tuple[slice, slice]:
        """The rows and columns of a canvas that are the picture's own, not padding."""
        height, width = self.content_size(own)
        return slice(height), slice(width)

    def pads(self, own: tuple[int, int]) -> bool:
        """Whether a picture of this size does not fill its canvas."""
        return self.content_size(own) != self.canvas_size(own)

    def fit(self, image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "H W 3"]:
        """A picture's canvas.

        Raises:
            UserError: see `content_size`.
        """
        own = image.shape[:2]
        return pad_mirrored(resize(image, self.content_size(own)), self.canvas_size(own))

    def fit_plane(
        self, plane: Bool[np.ndarray, "h w"] | None, own: tuple[int, int]
    ) -> Bool[np.ndarray, "H W"] | None:
        """Where to look in a picture's canvas, of which the padding is no part.

        Args:
            plane: true where to look in the picture, see `draem_jax.data.roi`; None for everywhere.
            own: (height, width) of the picture.

        Returns:
            True where to look in the canvas; None for everywhere.
        """
        if plane is None and not self.pads(own):
            return None
        canvas = np.zeros(self.canvas_size(own), bool)
        height, width = self.content_size(own)
        canvas[:height, :width] = True if plane is None else resize_mask(plane, (height, width))
        return canvas

    def restore(
        self, canvas: Float[np.ndarray, "H W *channels"], own: tuple[int, int]
    ) -> Float[np.ndarray, "h w *channels"]:
        """Brings what was computed of a canvas back to the size of the picture.

        Args:
            canvas: a plane, or three of them, of the canvas's content at least.
            own: (height, width) of the picture.
        """
        height, width = self.content_size(own)
        content = canvas[:height, :width]
        return resize_plane(content, own) if content.ndim == 2 else resize_channels(content, own)

    def restore_mask(
        self, canvas: Bool[np.ndarray, "H W"], own: tuple[int, int]
    ) -> Bool[np.ndarray, "h w"]:
        """The same for a mask."""
        height, width = self.content_size(own)
        return resize_mask(canvas[:height, :width], own)

    def network_pixel(self, own: tuple[int, int]) -> float:
        """How many pixels of a picture one that the networks see stands for, along a side."""
        return math.sqrt(math.prod(own) / math.prod(self.content_size(own)))


def pad_mirrored(
    image: UInt8[np.ndarray, "h w 3"], size: tuple[int, int]
) -> UInt8[np.ndarray, "H W 3"]:
    """Continues a picture downwards and to the right by its mirror image.

    Args:
        image: the picture.
        size: (height, width) to bring it to, at least its own.
    """
    below, right = (to - of for to, of in zip(size, image.shape[:2], strict=True))
    if not below and not right:
        return image
    return np.pad(image, [(0, below), (0, right), (0, 0)], mode="symmetric")
