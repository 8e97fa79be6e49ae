"""Pictures beside what networks see of them: tiles, padding, and how large a defect is there."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from draem_jax.reports.pictures import dim_outside

Window = tuple[slice, slice]

_BOX = (640, 900)  # (height, width) that a picture is brought into
_GAP = 16
_TEXT_SIZE = 15
_LINE = 22  # from one line of text to the next
_RING = 20  # its radius around a defect, so that a small one is found
_PAPER, _INK = (250, 250, 249), (41, 41, 46)
_FRAME = (64, 255, 200)
_DEFECT = (255, 45, 85)
_BLACK = (0, 0, 0)
_FAINT = 0.45  # opacity of the frames of all tiles but the first
_DENSE = 48  # tiles that are drawn smaller have fainter frames, or these would hide the picture


class Box(NamedTuple):
    """A rectangle on a picture, in pixels that need not be whole."""

    top: float
    left: float
    height: float
    width: float

    def scaled(self, factor: float) -> tuple[int, int, int, int]:
        """(left, top, right, bottom) once the picture is scaled: the first and last pixels."""
        top, left = round(self.top * factor), round(self.left * factor)
        height, width = (max(1, round(side * factor)) for side in (self.height, self.width))
        return left, top, left + width - 1, top + height - 1


class Panel(NamedTuple):
    """A picture to be drawn.

    Attributes:
        title: what it is.
        image: the picture, RGB.
        inside: the part of it that is not padding, which is darkened.
        tiles: windows of it that are framed, the first one brightly.
        defect: where a defect lies; None where there is none.
        is_painted: whether the picture shows the defect already; else it is drawn.
    """

    title: str
    image: UInt8[np.ndarray, "H W 3"]
    inside: Window = (slice(None), slice(None))
    tiles: Sequence[Window] = ()
    defect: Box | None = None
    is_painted: bool = False


def paint_defect(image: UInt8[np.ndarray, "H W 3"], defect: Box) -> UInt8[np.ndarray, "H W 3"]:
    """Paints a defect into a copy of a picture, in one colour."""
    painted = image.copy()
    left, top, right, bottom = defect.scaled(1.0)
    painted[top : bottom + 1, left : right + 1] = _DEFECT
    return painted


def side_by_side(
    panels: Sequence[Panel], notes: Sequence[str] = ()
) -> UInt8[np.ndarray, "height width 3"]:
    """Puts pictures side by side, with their titles above, and lines of text below.

    Args:
        panels: the pictures, each brought to a size that can be looked at.
        notes: the lines.
    """
    font = ImageFont.load_default(_TEXT_SIZE)
    drawn = [draw_panel(panel) for panel in panels]
    widths = [
        max(picture.shape[1], round(font.getlength(panel.title)))
        for picture, panel in zip(drawn, panels, strict=True)
    ]
    below = _GAP + _LINE + max(len(picture) for picture in drawn) + _GAP
    across = sum(widths) + _GAP * (len(widths) + 1)
    longest = max((round(font.getlength(note)) for note in notes), default=0)
    size = max(across, longest + 2 * _GAP), below + len(notes) * _LINE + _GAP * bool(notes)
    sheet = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(sheet)
    left = _GAP
    for picture, panel, width in zip(drawn, panels, widths, strict=True):
        draw.text((left, _GAP), panel.title, _INK, font)
        sheet.paste(Image.fromarray(picture), (left, _GAP + _LINE))
        left += width + _GAP
    for number, note in enumerate(notes):
        draw.text((_GAP, below + number * _LINE), note, _INK, font)
    return np.asarray(sheet)


def draw_panel(
    panel: Panel, *, room: tuple[int, int] = _BOX
) -> UInt8[np.ndarray, "height width 3"]:
    """Draws a picture with its padding, its tiles and the defect.

    Args:
        panel: what to draw.
        room: (height, width) that it is brought into: shrunk if it is larger; enlarged by a whole
            factor, each pixel a square, if it is smaller.
    """
    shrunk, factor = _bring_into(panel.image, room)
    inside = np.zeros((shrunk.height, shrunk.width), bool)
    left, top, right, bottom = _box(panel.inside, panel.image.shape[:2]).scaled(factor)
    inside[top : bottom + 1, left : right + 1] = True
    view = Image.fromarray(dim_outside(np.asarray(shrunk), inside))
    boxes = [_box(tile, panel.image.shape[:2]).scaled(factor) for tile in panel.tiles]
    if boxes:
        _frame(view, boxes)
    if panel.defect:
        box = panel.defect.scaled(factor)
        if not panel.is_painted:
            ImageDraw.Draw(view).rectangle(box, _DEFECT)
        # A ring must not hide what it is in.
        if max(_sides(box)) < _RING and min(_sides(boxes[0]) if boxes else view.size) > 2 * _RING:
            _ring(view, box)
    return np.asarray(view)


def _frame(view: Image.Image, boxes: Sequence[tuple[int, int, int, int]]) -> None:
    """Draws the frames of tiles just within them, the first one brightly."""
    faint = view.copy()
    for box in boxes[1:]:
        ImageDraw.Draw(faint).rectangle(box, outline=_FRAME)
    opacity = _FAINT * min(1.0, min(_sides(boxes[0])) / _DENSE)
    view.paste(Image.blend(view, faint, opacity))
    draw = ImageDraw.Draw(view)
    draw.rectangle(boxes[0], outline=_BLACK, width=4)
    draw.rectangle(boxes[0], outline=_FRAME, width=3)


def _ring(view: Image.Image, box: tuple[int, int, int, int]) -> None:
    """Draws a ring around a small box."""
    left, top, right, bottom = box
    middle = (left + right) / 2, (top + bottom) / 2
    for radius, colour, width in ((_RING + 1, _BLACK, 4), (_RING, _DEFECT, 2)):
        ImageDraw.Draw(view).circle(middle, radius, outline=colour, width=width)


def _sides(box: tuple[int, int, int, int]) -> tuple[int, int]:
    left, top, right, bottom = box
    return right - left + 1, bottom - top + 1


def _bring_into(
    image: UInt8[np.ndarray, "H W 3"], room: tuple[int, int]
) -> tuple[Image.Image, float]:
    """A picture at a size that can be looked at, and by what it was multiplied."""
    factor = min(to / of for to, of in zip(room, image.shape[:2], strict=True))
    factor = float(int(factor)) if factor >= 1 else factor
    height, width = (max(1, round(factor * side)) for side in image.shape[:2])
    resampling = Image.Resampling.NEAREST if factor >= 1 else Image.Resampling.LANCZOS
    return Image.fromarray(image).resize((width, height), resampling), factor


def _box(window: Window, size: tuple[int, int]) -> Box:
    """A window of a picture of a (height, width)."""
    (top, bottom, _), (left, right, _) = (
        part.indices(length) for part, length in zip(window, size, strict=True)
    )
    return Box(top, left, bottom - top, right - left)
