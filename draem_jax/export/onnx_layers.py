"""The operations of `draem_jax.export.architecture` in ONNX operators."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from draem_jax.export.architecture import Layer
from draem_jax.export.onnx_graph import Graph
from draem_jax.networks.inputs import LUMA, passed_shares
from draem_jax.networks.pair import LEAST
from draem_jax.similarity import GRADIENT_CONSTANT, K1, K2, SCALES, blur_matrix

Arrays = Mapping[str, np.ndarray]
"""What a layer takes, by its part; kernels are (height, width, in, out)."""

Emit = Callable[[Graph, Layer, list[str], Arrays, tuple[int, int]], str]
"""Adds a layer, given what it reads, its arrays, and the pictures' height and width."""


def _unit(graph: Graph, layer: Layer, inputs: list[str], arrays: Arrays, _) -> str:
    # With running statistics the normalisation is linear: it becomes part of the convolution.
    wide = {part: array.astype(np.float64) for part, array in arrays.items()}
    factor = wide["scale"] / np.sqrt(wide["var"] + layer.attributes["epsilon"])
    folded = {
        "kernel": wide["kernel"] * factor,
        "bias": (wide["bias"] - wide["mean"]) * factor + wide["shift"],
    }
    return graph.op("Relu", _convolve(graph, layer.name, inputs[0], folded, padding=1, dilation=1))


def _convolution(graph: Graph, layer: Layer, inputs: list[str], arrays: Arrays, _) -> str:
    padding, dilation = (int(layer.attributes[name]) for name in ("padding", "dilation"))
    return _convolve(graph, layer.name, inputs[0], arrays, padding=padding, dilation=dilation)


def _convolve(
    graph: Graph, name: str, x: str, arrays: Arrays, *, padding: int, dilation: int
) -> str:
    return graph.op(
        "Conv",
        x,
        graph.weights(arrays["kernel"].transpose(3, 2, 0, 1), name=f"{name}/kernel"),
        graph.weights(arrays["bias"], name=f"{name}/bias"),
        name=f"{name}/convolution",
        kernel_shape=arrays["kernel"].shape[:2],
        pads=[padding] * 4,
        dilations=[dilation] * 2,
    )


def _max_pool(graph: Graph, layer: Layer, inputs: list[str], *_) -> str:
    return graph.op("MaxPool", *inputs, name=layer.name, kernel_shape=[2, 2], strides=[2, 2])


def _upsample(graph: Graph, layer: Layer, inputs: list[str], *_) -> str:
    return graph.op(
        "Resize",
        inputs[0],
        "",
        graph.constant(np.array([1, 1, 2, 2], np.float32), name="doubled"),
        name=layer.name,
        mode="linear",
        coordinate_transformation_mode="align_corners",
    )


def _dense(graph: Graph, layer: Layer, inputs: list[str], arrays: Arrays, _) -> str:
    # As a convolution of one pixel, so that what it reads and makes stays (B, C, 1, 1).
    kernel = arrays["kernel"][None, None]
    of_pixel = {"kernel": kernel, "bias": arrays["bias"]}
    return _convolve(graph, layer.name, inputs[0], of_pixel, padding=0, dilation=1)


def _absolute_difference(graph: Graph, layer: Layer, inputs: list[str], *_) -> str:
    return graph.op("Abs", graph.op("Sub", *inputs))


def _high_frequency(
    graph: Graph, layer: Layer, inputs: list[str], _: Arrays, size: tuple[int, int]
) -> str:
    # The filter is even along both axes, so that Hartley's transform does what Fourier's does,
    # without complex numbers; it is its own inverse, but for a factor.
    height, width = size
    luma = np.array(LUMA, np.float32).reshape(1, 3, 1, 1)
    brightness = graph.op("Conv", graph.float32(inputs[0]), graph.constant(luma, name="luma"))
    down, along = (
        graph.constant(_hartley(n), name=f"{layer.name}/{axis}")
        for n, axis in ((height, "down"), (width, "along"))
    )
    passed = passed_shares(np.fft.fftfreq(height), np.fft.fftfreq(width))
    shares = graph.constant(passed.astype(np.float32), name=f"{layer.name}/shares")
    spectrum = graph.op("MatMul", graph.op("MatMul", down, brightness), along)
    kept = graph.op("Mul", spectrum, shares)
    return graph.in_dtype(graph.op("MatMul", graph.op("MatMul", down, kept), along))


def _hartley(n: int) -> np.ndarray:
    angles = 2 * np.pi * (np.outer(np.arange(n), np.arange(n)) % n) / n
    return ((np.cos(angles) + np.sin(angles)) / np.sqrt(n)).astype(np.float32)


def _ssim(graph: Graph, layer: Layer, inputs: list[str], _: Arrays, size: tuple[int, int]) -> str:
    rows, columns = (
        graph.constant(blur_matrix(n, np.float32), name=f"{layer.name}/{axis}")
        for n, axis in zip(size, ("rows", "columns"), strict=True)
    )

    def blur(x: str) -> str:
        return graph.op("MatMul", graph.op("MatMul", rows, x), columns)

    a, b = (graph.float32(x) for x in inputs)
    mean_a, mean_b = blur(a), blur(b)
    squares = blur(graph.op("Add", _square(graph, a), _square(graph, b)))
    means = graph.op("Add", _square(graph, mean_a), _square(graph, mean_b))
    product = graph.op("Mul", mean_a, mean_b)
    covariance = graph.op("Sub", blur(graph.op("Mul", a, b)), product)
    luminance = _ratio(graph, product, means, K1**2)
    structure = _ratio(graph, covariance, graph.op("Sub", squares, means), K2**2)
    similarity = graph.op("Mul", luminance, structure)
    one, half = (graph.constant(np.float32(n)) for n in (1, 0.5))
    return _logit(graph, graph.op("Mul", graph.op("Sub", one, similarity), half))


def _msgms(graph: Graph, layer: Layer, inputs: list[str], _: Arrays, size: tuple[int, int]) -> str:
    # Both filters as one convolution of each channel by itself.
    prewitt = np.outer(np.ones(3), [-1, 0, 1]) / 3
    both = np.stack([prewitt, prewitt.T] * 3)[:, None].astype(np.float32)
    # Squares of both directions are added up, channel by channel.
    summed = np.kron(np.eye(3), np.ones((1, 2)))[:, :, None, None].astype(np.float32)
    filters = graph.constant(both, name=f"{layer.name}/prewitt")
    added = graph.constant(summed, name=f"{layer.name}/added")
    border = graph.constant([0, 0, 1, 1, 0, 0, 1, 1])

    def squared_gradient(x: str) -> str:
        padded = graph.op("Pad", x, border, mode="edge")
        return graph.op("Conv", _square(graph, graph.op("Conv", padded, filters, group=3)), added)

    a, b = (graph.float32(x) for x in inputs)
    maps = []
    for scale in range(SCALES):
        if scale:
            a, b = (graph.op("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2]) for x in (a, b))
        g_a, g_b = squared_gradient(a), squared_gradient(b)
        product = graph.op("Sqrt", graph.op("Mul", g_a, g_b))
        similarity = _ratio(graph, product, graph.op("Add", g_a, g_b), GRADIENT_CONSTANT)
        if scale:
            times = np.array([1, 1, 2**scale, 2**scale], np.float32)
            similarity = graph.op(
                "Resize",
                similarity,
                "",
                graph.constant(times),
                mode="linear",
                coordinate_transformation_mode="half_pixel",
            )
        maps.append(similarity)
    one = graph.constant(np.float32(1))
    return _logit(graph, graph.op("Sub", one, graph.op("Mean", *maps)))


def _square(graph: Graph, x: str) -> str:
    return graph.op("Mul", x, x)


def _ratio(graph: Graph, product: str, total: str, constant: float) -> str:
    """(2 product + constant) / (total + constant)."""
    c, two = (graph.constant(np.float32(n)) for n in (constant, 2))
    above = graph.op("Add", graph.op("Mul", two, product), c)
    return graph.op("Div", above, graph.op("Add", total, c))


def _logit(graph: Graph, dissimilarity: str) -> str:
    """The logit of the mean over the channels."""
    mean = graph.op("ReduceMean", dissimilarity, graph.constant([1]))
    bounds = (graph.constant(np.float32(n)) for n in (LEAST, 1 - LEAST))
    likely = graph.op("Clip", mean, *bounds)
    unlikely = graph.op("Sub", graph.constant(np.float32(1)), likely)
    return graph.op("Sub", graph.op("Log", likely), graph.op("Log", unlikely))


def _plain(kind: str, **attributes: int) -> Emit:
    def emit(graph: Graph, layer: Layer, inputs: list[str], *_) -> str:
        return graph.op(kind, *inputs, name=layer.name, **attributes)

    return emit


EMITTERS: Mapping[str, Emit] = {
    "unit": _unit,
    "convolution": _convolution,
    "max_pool": _max_pool,
    "upsample": _upsample,
    "concatenate": _plain("Concat", axis=1),
    "add": _plain("Add"),
    "absolute_difference": _absolute_difference,
    "multiply": _plain("Mul"),
    "relu": _plain("Relu"),
    "sigmoid": _plain("Sigmoid"),
    "mean": _plain("GlobalAveragePool"),
    "dense": _dense,
    "high_frequency": _high_frequency,
    "ssim": _ssim,
    "msgms": _msgms,
}
"""For each of `OPERATIONS`, what adds it to a graph."""
