"""What an export promises to the programs that use it: what goes in, and what comes out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from draem_jax.detector import Draem
from draem_jax.errors import UserError

FORMATS = ("onnx", "stablehlo", "safetensors")
PRECISIONS = ("float32", "float16", "bfloat16", "int8")

_REFUSED = {
    ("onnx", "bfloat16"): "onnxruntime has no convolutions in bfloat16; take float16",
    ("stablehlo", "float16"): "one file is for cpu, cuda and tpu, and TPUs have no float16; take "
    "bfloat16",
    ("stablehlo", "int8"): "JAX does not quantise; take --format=onnx",
    **{
        ("safetensors", precision): "it is the archive, and keeps the weights bit by bit"
        for precision in PRECISIONS[1:]
    },
}
"""Which precision a format does not have, and why."""

OUTPUTS: Mapping[str, str] = {
    "score": "float32 (batch): of each picture, in [0, 1], higher for more anomalous ones",
    "anomaly_map": "float32 (batch, height, width): how likely a pixel is anomalous, in [0, 1]",
    "margin": "float32 (batch, height, width): the map's logit, which tells pixels apart where "
    "the map is rounded to 1",
    "reconstruction": "float32 (batch, height, width, 3): the pictures as they would be without "
    "defects, RGB in [0, 1]",
}
"""What a model makes of pictures."""

Look = Callable[[UInt8[np.ndarray, "B H W 3"]], Mapping[str, np.ndarray]]
"""An exported model in its runtime: from pictures to `OUTPUTS`."""


@dataclass(frozen=True)
class Detection:
    """What a detector does besides its networks.

    Attributes:
        size: (height, width) of the pictures.
        score: name of the image score, see `draem_jax.scores.score_by_name`.
        flips: a key of `draem_jax.flips.FLIPS`.
    """

    size: tuple[int, int]
    score: str
    flips: str


def detection_of(detector: Draem) -> Detection:
    """What a detector does, if a model can do all of it.

    Raises:
        UserError: it looks in tiles, at letterboxed pictures or within a region, which is done
            around the networks.
    """
    fitting = detector.fitting
    if fitting.is_tiled:
        raise UserError(
            f"{detector.workdir} looks in tiles, which an export cannot hold; train with "
            "config.data.image_size in the place of config.data.tile, or use `draem-jax predict`"
        )
    if fitting.way != "squeeze":
        raise UserError(
            f"{detector.workdir} looks at pictures with config.data.fit={fitting.way}, which an "
            "export cannot hold; train with config.data.fit=squeeze, or use `draem-jax predict`"
        )
    if not detector.roi.is_everything:
        raise UserError(
            f"{detector.workdir} looks within {detector.roi} alone, which an export cannot hold; "
            "train without config.data.roi and config.data.ignore_border, or use `draem-jax "
            "predict`"
        )
    return Detection(detector.image_size, detector.score_name, detector.config.evaluation.flips)


def check_precision(formats: tuple[str, ...], precision: str) -> None:
    """Raises UserError unless all formats have a precision."""
    for name in formats:
        if (name, precision) in _REFUSED:
            raise UserError(
                f"--format={name} has no --precision={precision}: {_REFUSED[name, precision]}"
            )


def input_contract(detection: Detection, *, full_scale: int | None) -> dict[str, object]:
    """What the manifest says of the input.

    Args:
        detection: what the detector does.
        full_scale: what is white in pictures of more than 8 bits a channel.
    """
    height, width = detection.size
    white = "the highest value that the file's type can hold" if full_scale is None else full_scale
    return {
        "name": "pictures",
        "dtype": "uint8",
        "layout": "batch, height, width, channels",
        "shape": ["batch", height, width, 3],
        "channels": "RGB",
        "range": "0 to 255, as decoded; the model divides by 255 itself",
        "full_scale": full_scale,
        "preparation": [
            "turn the picture as its EXIF orientation says",
            "make it RGB: grey three times, transparent pixels laid over white",
            f"of more than 8 bits a channel: value * 255 / {white}, rounded and at most 255",
            f"resize it to {width} x {height} (width x height), whatever its shape: bilinear, and "
            "antialiased where it shrinks (Pillow's Image.resize with BILINEAR)",
        ],
        "back": "resize anomaly_map and margin bilinearly to the picture's own size",
    }
