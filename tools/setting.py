"""What the tools that measure a step measure: networks, pictures and a batch of noise."""

import dataclasses
import re
from typing import Any, NamedTuple

import numpy as np


@dataclasses.dataclass(frozen=True)
class Setting:
    """What is measured.

    Attributes:
        reconstructive_width: channels of that network's first block.
        discriminative_width: channels of that network's first block.
        size: height and width of the pictures.
        batch: pictures of a step, on all devices together.
    """

    reconstructive_width: int
    discriminative_width: int
    size: int
    batch: int

    @classmethod
    def parse(cls, text: str) -> "Setting":
        """Reads what `str` writes, such as 16/16:128:8 for both widths, size and batch.

        Raises:
            ValueError: it is none.
        """
        if not re.fullmatch(r"\d+/\d+:\d+:\d+", text):
            raise ValueError(f"{text!r} is not of the form 16/16:128:8 (widths, size, batch)")
        return cls(*map(int, re.split("[/:]", text)))

    def __str__(self) -> str:
        return f"{self.reconstructive_width}/{self.discriminative_width}:{self.size}:{self.batch}"


DEFAULT = (Setting(16, 16, 128, 8), Setting(32, 16, 128, 4))


class Batch(NamedTuple):
    """Samples to learn from, float32 in [0, 1].

    Attributes:
        normal: what shall be reconstructed, (B, H, W, 3).
        augmented: what the networks see, (B, H, W, 3).
        mask: 1 where an anomaly is, else 0, (B, H, W, 1).
    """

    normal: Any
    augmented: Any
    mask: Any


def noise(setting: Setting) -> Batch:
    """A batch of noise, the same at every call."""
    rng = np.random.default_rng(0)
    shape = (setting.batch, setting.size, setting.size)
    normal, augmented = (rng.random((*shape, 3), np.float32) for _ in range(2))
    return Batch(normal, augmented, (rng.random((*shape, 1)) < 0.1).astype(np.float32))
