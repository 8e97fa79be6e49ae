"""How fast a run computes, beside the most that its accelerators can."""

from dataclasses import dataclass
from typing import Any

from ml_collections import ConfigDict

from draem_jax.config import image_size
from draem_jax.training import parallel
from draem_jax.training.accelerators import find_accelerator
from draem_jax.training.forecast import work_of
from draem_jax.training.state import create_network

_TERA = 1e12
_CPU = "cpu"


@dataclass(frozen=True)
class Computation:
    """What training computes, and on what.

    Attributes:
        flops: operations of the networks' convolutions for an image, forward and backward; a
            multiplication and an addition are two. What rematerialisation computes again does not
            count.
        dtype: of the activations.
        device_kind: what `jax.Device.device_kind` says of each device.
        devices: how many share a batch.
    """

    flops: float
    dtype: Any
    device_kind: str
    devices: int

    def speed(self, images_per_second: float) -> dict[str, float]:
        """What is told of the speed of all devices together.

        Args:
            images_per_second: that all of them train on.

        Returns:
            `tflops`, 10¹² operations a second; and `share_of_peak`, in [0, 1], how much that is of
            what the maker promises, where the devices are known. Nothing on CPUs.
        """
        if self.device_kind == _CPU:
            return {}
        tflops = self.flops * images_per_second / _TERA
        accelerator = find_accelerator(self.device_kind)
        if accelerator is None:
            return {"tflops": tflops}
        peak = self.devices * accelerator.peak(self.dtype) / _TERA
        return {"tflops": tflops, "share_of_peak": tflops / peak}


def computation_of(config: ConfigDict) -> Computation:
    """What a run with this config computes on the devices at hand."""
    network = create_network(config)
    return Computation(
        flops=work_of(network, (1, *image_size(config), 3)).flops,
        dtype=network.dtype,
        device_kind=parallel.local_devices()[0].device_kind,
        devices=parallel.device_count(),
    )
