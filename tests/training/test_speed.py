"""The speed that is told: images, operations, and the share of what the maker promises."""

import jax.numpy as jnp
import pytest

from draem_jax.training.accelerators import find_accelerator
from draem_jax.training.speed import Computation, computation_of


def test_a_machine_at_its_peak_has_a_share_of_one():
    peak = find_accelerator("NVIDIA H100 80GB HBM3").bfloat16
    four = Computation(1e12, jnp.bfloat16, "NVIDIA H100 80GB HBM3", devices=4)
    assert four.speed(4 * peak / 1e12) == pytest.approx(
        {"tflops": 4 * peak / 1e12, "share_of_peak": 1.0}
    )


@pytest.mark.parametrize(
    ("dtype", "kind", "told"),
    [
        # 100 images of 1.2 TFLOP are 120 TFLOP a second, of makers' 989.4 and 494.7.
        (jnp.bfloat16, "NVIDIA H100 80GB HBM3", {"tflops": 120.0, "share_of_peak": 120 / 989.4}),
        (jnp.float32, "NVIDIA H100 80GB HBM3", {"tflops": 120.0, "share_of_peak": 120 / 494.7}),
        (jnp.bfloat16, "an accelerator of tomorrow", {"tflops": 120.0}),
        (jnp.float32, "cpu", {}),
    ],
)
def test_what_is_told_goes_by_the_device(dtype, kind, told):
    assert Computation(1.2e12, dtype, kind, devices=1).speed(100.0) == pytest.approx(told)


def test_an_image_at_full_width_takes_what_is_known_of_it(tiny_config):
    config = tiny_config(**{"data.image_size": (256,)})
    config.model.update(reconstructive_width=128, discriminative_width=64)
    computation = computation_of(config)
    assert computation.flops == pytest.approx(1.19e12, rel=0.01)
    assert (computation.device_kind, computation.devices) == ("cpu", 4)
