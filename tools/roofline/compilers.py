"""The compilers for accelerators, which work without one: finding them, and installing them."""

import importlib.metadata
import importlib.util
import os
import sys
from pathlib import Path

from draem_jax.errors import UserError
from tools.roofline.devices import Device

_MODULES = {"cuda": ("jax_plugins.xla_cuda13", "jax_plugins.xla_cuda12"), "tpu": ("libtpu",)}


def use_compilers(device: Device, folder: Path | None) -> None:
    """Prepares this process to compile for a device; must be called before JAX is imported.

    Args:
        device: what to compile for.
        folder: where pip has put the compilers; None where they are part of the environment.

    Raises:
        UserError: they are not there.
    """
    if folder:
        sys.path.append(str(folder.absolute()))
    if not any(map(_is_there, _MODULES[device.platform])):
        raise UserError(
            f"the compiler for {device.title} is not {f'in {folder}' if folder else 'installed'}; "
            f"{_install_command(device)} installs it for compiling alone, then --compilers=DIR"
        )
    # The programs are compiled for the accelerator, and run on nothing.
    os.environ["JAX_PLATFORMS"] = "cpu"
    if device.platform == "tpu":
        os.environ.update(
            TPU_SKIP_MDS_QUERY="1",
            TPU_WORKER_HOSTNAMES="localhost",
            TPU_ACCELERATOR_TYPE="v5litepod-4",
        )
        return
    # Without a device to try them on, XLA of JAX 0.10 cannot choose among Triton's products.
    flags = [os.environ.get("XLA_FLAGS", ""), "--xla_gpu_enable_triton_gemm=false"]
    if folder:
        toolkit = folder.absolute() / "nvidia" / "cu13"
        flags.append(f"--xla_gpu_cuda_data_dir={toolkit}")
        os.environ["PATH"] = f"{toolkit / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"
    os.environ["XLA_FLAGS"] = " ".join(flags).strip()


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _install_command(device: Device) -> str:
    if device.platform == "tpu":
        packages = "libtpu"
    else:
        version = importlib.metadata.version("jax")
        packages = (
            f"jax-cuda13-plugin=={version} jax-cuda13-pjrt=={version} nvidia-cuda-nvcc nvidia-nvvm"
        )
    return f"`pip install --no-deps --target DIR {packages}`"
