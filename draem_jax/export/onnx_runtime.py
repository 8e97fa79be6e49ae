"""Running ONNX models in onnxruntime."""

from __future__ import annotations

import onnxruntime

from draem_jax.export.contract import Look


def open_onnx(model: str | bytes) -> Look:
    """Loads a model from a file or its content, to run it on the CPU.

    Args:
        model: the path of the file, or what it holds.
    """
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def look(pictures):
        return dict(zip(names, session.run(names, {"pictures": pictures}), strict=True))

    return look
