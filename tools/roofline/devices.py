"""The accelerators that there are figures for."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Device:
    """An accelerator: what compiles for it, and how fast it is at best.

    Attributes:
        title: what it is called.
        platform: JAX's name for what it runs programs by.
        topology: by which its compiler knows it, one chip or the fewest that it comes in.
        bandwidth: bytes a second to and from its main memory.
        bfloat16: floating point operations a second in matrix products and convolutions.
        float32: the same of float32 arguments, at the precision that JAX takes by default.
        source: where the rates are from.
    """

    title: str
    platform: str
    topology: str
    bandwidth: float
    bfloat16: float
    float32: float
    source: str

    def flops(self, dtype: str) -> float:
        """Floating point operations a second for arguments of an HLO dtype."""
        return self.bfloat16 if dtype in ("bf16", "f16") else self.float32


_MEASURED = "as large copies and matrix products reach it; the maker says {} TB/s and 989 TFLOP/s"
_STATED = "as the maker states it; what programs reach is less"


def _hopper(title: str, *, bandwidth: float, stated: float) -> Device:
    return Device(title, "cuda", "1x1x1", bandwidth, 790e12, 400e12, _MEASURED.format(stated))


def _tpu(title: str, topology: str, *, bandwidth: float, flops: float) -> Device:
    # A float32 argument takes one pass in bfloat16 by default.
    return Device(title, "tpu", topology, bandwidth, flops, flops, _STATED)


DEVICES: Mapping[str, Device] = {
    "h100": _hopper("NVIDIA H100", bandwidth=3.0e12, stated=3.35),
    "h200": _hopper("NVIDIA H200", bandwidth=4.3e12, stated=4.8),
    "v5e": _tpu("TPU v5e", "v5e:2x2", bandwidth=819e9, flops=197e12),
    "v5p": _tpu("TPU v5p", "v5p:2x2x1", bandwidth=2765e9, flops=459e12),
    "v6e": _tpu("TPU v6e", "v6e:2x2", bandwidth=1640e9, flops=918e12),
}
