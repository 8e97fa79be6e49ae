"""The whole detector as an ONNX model: from pictures of 8 bits to map and score."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import onnx
from onnx import TensorProto

import draem_jax
from draem_jax.export.architecture import PICTURE, Architecture
from draem_jax.export.contract import Detection
from draem_jax.export.onnx_graph import BATCH, Graph
from draem_jax.export.onnx_layers import EMITTERS
from draem_jax.flips import FLIPS
from draem_jax.scores import parse_score

_AXES = {1: 2, 2: 3}  # of height and width: here in NCHW
_LEAST_INT64 = -(2**63)


def make_onnx(
    architecture: Architecture,
    arrays: Mapping[str, np.ndarray],
    detection: Detection,
    *,
    dtype: type[np.floating] = np.float32,
    about: str = "",
) -> onnx.ModelProto:
    """Makes the model.

    Args:
        architecture: the networks.
        arrays: their weights by name.
        detection: what is said of their logits.
        dtype: in which the networks compute, float32 or float16; all around them is float32.
        about: a note in the model.

    Returns:
        A model from `pictures`, uint8 (batch, height, width, 3), to `score` (batch), `anomaly_map`
        and `margin` (batch, height, width), and `reconstruction` (batch, height, width, 3).
    """
    graph = Graph(dtype)
    height, width = detection.size
    pictures = graph.input("pictures", np.uint8, (BATCH, height, width, 3))
    x = graph.op("Cast", pictures, to=TensorProto.FLOAT)
    x = graph.op("Transpose", x, perm=[0, 3, 1, 2])
    x = graph.op("Div", x, graph.constant(np.float32(255)))
    axes = FLIPS[detection.flips]
    if axes:
        x = graph.op("Concat", x, *(_flip(graph, x, of) for of in axes), axis=0)
    reconstruction, margin = add_networks(graph, architecture, arrays, x, detection.size)
    if axes:
        looks = 1 + len(axes)
        reconstruction = graph.ops(
            "Split", reconstruction, outputs=looks, axis=0, num_outputs=looks
        )[0]
        margin = _mean_margin(graph, margin, axes)
    anomaly_map = graph.op("Sigmoid", margin)
    plane = (BATCH, height, width)
    graph.output("score", _score(graph, anomaly_map, detection), (BATCH,))
    one = graph.constant([1])
    graph.output("anomaly_map", graph.op("Squeeze", anomaly_map, one), plane)
    graph.output("margin", graph.op("Squeeze", margin, one), plane)
    bounds = (graph.constant(np.float32(n)) for n in (0, 1))
    clipped = graph.op("Clip", reconstruction, *bounds)
    graph.output("reconstruction", graph.op("Transpose", clipped, perm=[0, 2, 3, 1]), (*plane, 3))
    return graph.model(producer_version=draem_jax.__version__, about=about)


def add_networks(
    graph: Graph,
    architecture: Architecture,
    arrays: Mapping[str, np.ndarray],
    pictures: str,
    size: tuple[int, int],
) -> tuple[str, str]:
    """Adds the networks to a graph.

    Args:
        graph: that holds `pictures`.
        architecture: the networks.
        arrays: their weights by name.
        pictures: the name of pictures in [0, 1], float32 (batch, 3, height, width).
        size: (height, width) of them.

    Returns:
        The names of reconstruction (batch, 3, height, width) and margin (batch, 1, height, width),
        float32.
    """
    made = {PICTURE: graph.in_dtype(pictures)}
    for layer in architecture.layers:
        own = {part: arrays[name] for part, name in layer.arrays.items()}
        inputs = [made[name] for name in layer.inputs]
        made[layer.name] = EMITTERS[layer.operation](graph, layer, inputs, own, size)
    reconstruction = graph.float32(made[architecture.reconstruction])
    if architecture.logits is None:
        assert architecture.margin is not None
        return reconstruction, made[architecture.margin]
    logits = graph.float32(made[architecture.logits])
    normal, anomalous = graph.ops("Split", logits, outputs=2, axis=1, num_outputs=2)
    return reconstruction, graph.op("Sub", anomalous, normal)


def _flip(graph: Graph, x: str, axes: tuple[int, ...]) -> str:
    backwards, end = (graph.constant([n] * len(axes)) for n in (-1, _LEAST_INT64))
    over = graph.constant([_AXES[axis] for axis in axes])
    return graph.op("Slice", x, backwards, end, over, backwards)


def _mean_margin(graph: Graph, margins: str, axes: tuple[tuple[int, ...], ...]) -> str:
    """As `draem_jax.flips.mean_margin`, of all looks behind each other along the batch."""
    looks = 1 + len(axes)
    first, *others = graph.ops("Split", margins, outputs=looks, axis=0, num_outputs=looks)
    restored = [_flip(graph, other, of) for other, of in zip(others, axes, strict=True)]
    together = graph.op("Concat", first, *restored, axis=1)
    channels = graph.constant([1])
    # The logarithm of the sigmoid of x is −softplus(−x).
    opposite = graph.op("Neg", together)
    anomalous = graph.op("Neg", graph.op("Softplus", opposite))
    normal = graph.op("Neg", graph.op("Softplus", together))
    return graph.op(
        "Sub",
        graph.op("ReduceLogSumExp", anomalous, channels),
        graph.op("ReduceLogSumExp", normal, channels),
    )


def _score(graph: Graph, anomaly_map: str, detection: Detection) -> str:
    """As `draem_jax.scores.score_by_name`."""
    kind = parse_score(detection.score)
    if not kind.window:
        pixels = math.prod(detection.size)
        count = min(kind.pixels or math.ceil(kind.share * pixels), pixels)
        flat = graph.op("Reshape", anomaly_map, graph.constant([-1, pixels]))
        largest, _ = graph.ops("TopK", flat, graph.constant([count]), outputs=2, axis=1)
        return graph.op("ReduceMean", largest, graph.constant([1]), keepdims=0)
    window, pad = kind.window, kind.window // 2
    if window > 1:
        # Rows and columns one after the other: a tenth of the additions.
        for shape, pads in (([window, 1], [pad, 0, pad, 0]), ([1, window], [0, pad, 0, pad])):
            anomaly_map = graph.op(
                "AveragePool", anomaly_map, kernel_shape=shape, pads=pads, count_include_pad=1
            )
    return graph.op("ReduceMax", anomaly_map, graph.constant([1, 2, 3]), keepdims=0)
