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
        dtype: of the activations, as `config.model.dtype` has it.
        remat: whether activations are computed again in the backward pass.
    """

    reconstructive_width: int
    discriminative_width: int
    size: int
    batch: int
    dtype: str = "auto"
    remat: bool = False

    @classmethod
    def parse(cls, text: str) -> "Setting":
        """Reads what `str` writes, such as 16/16:128:8 for both widths, size and batch.

        A dtype and remat may follow, as in 128/64:256:8:float32 and 128/64:256:8:remat.

        Raises:
            ValueError: it is none.
        """
        match = re.fullmatch(r"(\d+)/(\d+):(\d+):(\d+)(:float32|:bfloat16)?(:remat)?", text)
        if match is None:
            raise ValueError(f"{text!r} is not of the form 16/16:128:8 (widths, size, batch)")
        reconstructive, discriminative, size, batch = map(int, match.groups()[:4])
        dtype, remat = match.groups()[4:]
        return cls(
            reconstructive, discriminative, size, batch, (dtype or ":auto")[1:], remat is not None
        )

    def __str__(self) -> str:
        text = f"{self.reconstructive_width}/{self.discriminative_width}:{self.size}:{self.batch}"
        return text + f":{self.dtype}" * (self.dtype != "auto") + ":remat" * self.remat


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
