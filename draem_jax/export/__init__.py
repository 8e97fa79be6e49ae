"""Detectors for programs that know nothing of this package: ONNX, StableHLO and safetensors."""
