"""What makers promise of their accelerators, and which of them is at hand."""

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp

_TERA = 1e12
_GIGA = 1e9
_GIB = 2**30

# Devices of these kinds say their maker's name before their own, or do not, by the driver's age.
_MAKER = "NVIDIA "


@dataclass(frozen=True)
class Accelerator:
    """One kind of accelerator.

    The rates are the maker's for dense matrices, without sparsity: nothing runs faster, and real
    programs run slower.

    Attributes:
        name: short, as `draem-jax plan --device` takes it.
        title: what the maker calls it.
        kinds: what `jax.Device.device_kind` may say of it; of NVIDIA's without the maker's name.
        bfloat16: operations a second of bfloat16 matrices, summed in float32; a multiplication and
            an addition are two.
        float32: operations a second of float32 matrices, multiplied as JAX does by default: as TF32
            on NVIDIA's, in one pass of bfloat16 on TPUs.
        bandwidth: bytes a second between its memory and its processors.
        memory: bytes of its memory.
        source: where the maker says so.
    """

    name: str
    title: str
    kinds: tuple[str, ...]
    bfloat16: float
    float32: float
    bandwidth: float
    memory: int
    source: str

    def peak(self, dtype: Any) -> float:
        """The most operations a second of convolutions in `dtype`, bfloat16 or float32."""
        return self.bfloat16 if jnp.dtype(dtype) == jnp.bfloat16 else self.float32


_H100 = "NVIDIA, H100 Tensor Core GPU, product page (half of the figures with sparsity)"
_A100 = "NVIDIA, A100 Tensor Core GPU, datasheet"
_L4 = "NVIDIA, L4 Tensor Core GPU, product page (half of the figures with sparsity)"
_ADA = "NVIDIA, Ada GPU Architecture, whitepaper"
_TPU = "https://docs.cloud.google.com/tpu/docs/"


def _nvidia(
    name: str,
    kinds: tuple[str, ...],
    teraflops: tuple[float, float],
    gigabytes_a_second: float,
    gigabytes: int,
    source: str,
) -> Accelerator:
    # TF32 and bfloat16; what their makers call a GB of memory has 2^30 bytes.
    float32, bfloat16 = teraflops
    return Accelerator(
        name=name,
        title=_MAKER + kinds[0],
        kinds=kinds,
        bfloat16=bfloat16 * _TERA,
        float32=float32 * _TERA,
        bandwidth=gigabytes_a_second * _GIGA,
        memory=gigabytes * _GIB,
        source=source,
    )


def _tpu(
    name: str, kinds: tuple[str, ...], teraflops: float, gigabytes_a_second: float, gigabytes: int
) -> Accelerator:
    return Accelerator(
        name=name,
        title=f"TPU {name}",
        kinds=kinds,
        bfloat16=teraflops * _TERA,
        float32=teraflops * _TERA,
        bandwidth=gigabytes_a_second * _GIGA,
        memory=gigabytes * _GIB,
        source=_TPU + name,
    )


ACCELERATORS: tuple[Accelerator, ...] = (
    _nvidia("h100", ("H100 80GB HBM3",), (494.7, 989.4), 3350.0, 80, _H100),
    _nvidia("h100-pcie", ("H100 PCIe",), (378.0, 756.0), 2000.0, 80, _H100),
    _nvidia(
        "h200",
        ("H200",),
        (494.7, 989.4),
        4800.0,
        141,
        "NVIDIA, H200 Tensor Core GPU, product page (half of the figures with sparsity)",
    ),
    _nvidia("a100", ("A100-SXM4-40GB", "A100-PCIE-40GB"), (156.0, 312.0), 1555.0, 40, _A100),
    _nvidia("a100-80gb", ("A100-SXM4-80GB", "A100-PCIE-80GB"), (156.0, 312.0), 2039.0, 80, _A100),
    _nvidia("a100-pcie", ("A100 80GB PCIe",), (156.0, 312.0), 1935.0, 80, _A100),
    _nvidia("l4", ("L4",), (60.0, 121.0), 300.0, 24, _L4),
    _nvidia("l40s", ("L40S",), (183.0, 362.0), 864.0, 48, "NVIDIA, L40S, datasheet"),
    _nvidia("rtx4090", ("GeForce RTX 4090",), (82.6, 165.2), 1008.0, 24, _ADA),
    _tpu("v4", ("TPU v4",), 275.0, 1200.0, 32),
    _tpu("v5e", ("TPU v5 lite", "TPU v5e"), 197.0, 819.0, 16),
    _tpu("v5p", ("TPU v5p", "TPU v5"), 459.0, 2765.0, 95),
    _tpu("v6e", ("TPU v6 lite", "TPU v6e"), 918.0, 1638.0, 32),
)
"""All that are known. A multi-instance slice of one, and one of another size, is another kind."""


def find_accelerator(device_kind: str) -> Accelerator | None:
    """The accelerator that a device is, by what `jax.Device.device_kind` says; None if unknown."""
    kind = device_kind.removeprefix(_MAKER)
    return next((known for known in ACCELERATORS if kind in known.kinds), None)
