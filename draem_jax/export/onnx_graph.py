"""A graph of ONNX operators as it grows: NCHW, one call an operator."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 18
IR_VERSION = 8
"""Those that came with the opset, so that no newer runtime is asked for than it takes."""

BATCH = "batch"
"""The name of the dimension that may be of any size."""

_TYPES = {
    np.dtype(np.float32): TensorProto.FLOAT,
    np.dtype(np.float16): TensorProto.FLOAT16,
    np.dtype(np.uint8): TensorProto.UINT8,
}


class Graph:
    """Operators and constants so far. Values are known by name.

    Attributes:
        dtype: in which the networks compute, float32 or float16.
    """

    def __init__(self, dtype: type[np.floating] = np.float32):
        self.dtype = np.dtype(dtype)
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []

    def op(self, kind: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """Adds an operator; returns the name of what it makes."""
        (output,) = self.ops(kind, *inputs, outputs=1, name=name, **attributes)
        return output

    def ops(
        self, kind: str, *inputs: str, outputs: int, name: str = "", **attributes: Any
    ) -> list[str]:
        """Adds an operator that makes several values; returns their names."""
        name = name or f"{kind}_{len(self._nodes)}"
        made = [name if outputs == 1 else f"{name}:{i}" for i in range(outputs)]
        self._nodes.append(helper.make_node(kind, inputs, made, name=name, **attributes))
        return made

    def constant(self, values: Any, *, name: str = "") -> str:
        """Adds a constant: integers as int64, the rest in the dtype that it comes in."""
        array = np.asarray(values)
        if array.dtype.kind == "i":
            array = array.astype(np.int64)
            name = "integers_" + "_".join(map(str, [*array.shape, ":", *array.ravel()]))
        name = name or f"constant_{len(self._constants)}"
        if name not in self._constants:
            self._constants[name] = numpy_helper.from_array(array, name)
        return name

    def weights(self, values: np.ndarray, *, name: str) -> str:
        """Adds a constant of the networks, in `dtype`."""
        return self.constant(values.astype(self.dtype), name=name)

    def float32(self, value: str) -> str:
        """A value that the networks made, as float32."""
        if self.dtype == np.float32:
            return value
        return self.op("Cast", value, to=TensorProto.FLOAT)

    def in_dtype(self, value: str) -> str:
        """A value of float32 as the networks take it."""
        if self.dtype == np.float32:
            return value
        return self.op("Cast", value, to=_TYPES[self.dtype])

    def input(self, name: str, dtype: type, shape: tuple[int | str, ...]) -> str:
        """Declares what is given to the graph."""
        self._inputs.append(helper.make_tensor_value_info(name, _type(dtype), shape))
        return name

    def output(self, name: str, value: str, shape: tuple[int | str, ...]) -> None:
        """Declares a float32 value as one that the graph returns."""
        self.op("Identity", value, name=name)
        self._outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))

    def model(self, *, producer_version: str, about: str) -> onnx.ModelProto:
        """The graph as a model, checked."""
        graph = helper.make_graph(
            self._nodes,
            "draem",
            self._inputs,
            self._outputs,
            list(self._constants.values()),
            doc_string=about,
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="draem_jax",
            producer_version=producer_version,
        )
        onnx.checker.check_model(model, full_check=True)
        return model


def _type(dtype: type) -> int:
    return _TYPES[np.dtype(dtype)]
