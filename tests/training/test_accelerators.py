"""What is known of accelerators: that devices are recognised, and that the figures are right."""

import pytest
from jax.experimental.pallas import tpu as pallas_tpu

from draem_jax.training.accelerators import ACCELERATORS, find_accelerator


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA H100 PCIe", "h100-pcie"),
        ("NVIDIA H200", "h200"),
        ("NVIDIA A100-SXM4-40GB", "a100"),
        ("A100-SXM4-40GB", "a100"),
        ("NVIDIA A100-SXM4-80GB", "a100-80gb"),
        ("NVIDIA A100 80GB PCIe", "a100-pcie"),
        ("NVIDIA L4", "l4"),
        ("NVIDIA GeForce RTX 4090", "rtx4090"),
        ("TPU v4", "v4"),
        ("TPU v5 lite", "v5e"),
        ("TPU v5p", "v5p"),
        ("TPU v5", "v5p"),
        ("TPU v6 lite", "v6e"),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", None),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("TPU v4 lite", None),
        ("cpu", None),
        ("", None),
    ],
)
def test_devices_are_recognised(kind, name):
    found = find_accelerator(kind)
    assert (found and found.name) == name


def test_every_kind_is_that_of_one_accelerator():
    kinds = [kind for known in ACCELERATORS for kind in known.kinds]
    assert len(set(kinds)) == len(kinds)
    assert len({known.name for known in ACCELERATORS}) == len(ACCELERATORS)


@pytest.mark.parametrize(
    ("name", "chip", "cores"),
    [("v4", "TPU_V4", 2), ("v5e", "TPU_V5E", 1), ("v5p", "TPU_V5P", 2), ("v6e", "TPU_V6E", 1)],
)
def test_tpus_are_those_that_jax_knows(name, chip, cores):
    info = pallas_tpu.get_tpu_info_for_chip(pallas_tpu.ChipVersion[chip], cores)
    (known,) = (known for known in ACCELERATORS if known.name == name)
    assert known.bfloat16 == pytest.approx(cores * info.bf16_ops_per_second, rel=0.01)
    # Of a v5p's bandwidth JAX knows what can be had, less than the maker promises.
    assert known.bandwidth == pytest.approx(cores * info.mem_bw_bytes_per_second, rel=0.15)
    assert known.memory == pytest.approx(cores * info.hbm_capacity_bytes, rel=0.01)


def test_float32_convolutions_run_slower_on_gpus_alone():
    for known in ACCELERATORS:
        share = known.peak("float32") / known.peak("bfloat16")
        assert share == pytest.approx(1 if known.title.startswith("TPU") else 0.5, rel=0.02)
