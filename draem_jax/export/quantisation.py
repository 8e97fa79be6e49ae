"""Quantising ONNX models to 8 bits."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import onnx
from jaxtyping import UInt8
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)

_QUANTISED = ("Conv", "MaxPool", "Resize", "Concat", "Add")
_UNQUANTISED_CONVOLUTIONS = ("reconstructive/output", "discriminative/output")


def quantise(model: Path, out: Path, pictures: Iterable[UInt8[np.ndarray, "H W 3"]]) -> None:
    """Quantises the networks of a model to 8 bits, by what they make of normal pictures.

    Quantised are activations and weights, these channel by channel; what makes pictures and logits
    of the last activations stays float32, and so does all around the networks.

    Args:
        model: the file of a model in float32.
        out: the file to write.
        pictures: normal ones that training never saw.
    """
    nodes = onnx.load(model, load_external_data=False).graph.node
    left = [
        node.name
        for node in nodes
        if node.op_type in _QUANTISED
        and (
            not node.name.startswith(("reconstructive/", "discriminative/"))
            or node.name.startswith(_UNQUANTISED_CONVOLUTIONS)
        )
    ]
    level = logging.root.level
    logging.root.setLevel(logging.ERROR)  # it advises to prepare models that need it
    try:
        quantize_static(
            model,
            out,
            _Reader(pictures),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(_QUANTISED),
            nodes_to_exclude=left,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
    finally:
        logging.root.setLevel(level)


class _Reader(CalibrationDataReader):
    """Hands out pictures one by one."""

    def __init__(self, pictures: Iterable[UInt8[np.ndarray, "H W 3"]]):
        self._pictures: Iterator[UInt8[np.ndarray, "H W 3"]] = iter(pictures)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next one, None after the last."""
        picture = next(self._pictures, None)
        return None if picture is None else {"pictures": picture[None]}
