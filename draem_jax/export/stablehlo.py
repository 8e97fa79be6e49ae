"""The whole detector as one StableHLO program for CPUs, CUDA and TPUs, by `jax.export`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from draem_jax.detector.program import make_inspect
from draem_jax.export.contract import OUTPUTS, Detection, Look
from draem_jax.networks import DraemNetwork
from draem_jax.platforms import OTHER, traced_for

PLATFORMS = ("cpu", "cuda", "tpu")

PROMISE = (
    "JAX promises to read StableHLO files for six months after they were written; ONNX and "
    "safetensors are the formats to keep"
)


def make_stablehlo(
    network: DraemNetwork, variables: Any, detection: Detection, *, precision: str
) -> bytes:
    """Makes the program, weights included.

    Args:
        network: the networks.
        variables: their `params` and `batch_stats`.
        detection: what is said of their logits.
        precision: of the activations, float32 or bfloat16.

    Returns:
        The file's content: a program from pictures, uint8 (batch, H, W, 3), to a dictionary with
        the names of `OUTPUTS`. The batch may be of any size.
    """
    network = network.clone(dtype=jnp.dtype(precision), remat=False)
    inspect = make_inspect(network, detection.score, flips=detection.flips)
    held = jax.device_get(variables)
    # Accelerators would round float32 to fewer bits.
    rounding = "highest" if precision == "float32" else None

    def look(pictures):
        with traced_for(OTHER), jax.default_matmul_precision(rounding):
            output = inspect(jax.tree.map(jnp.asarray, held), pictures, None, None)
        return {name: getattr(output, name) for name in OUTPUTS}

    (batch,) = export.symbolic_shape("batch")
    pictures = jax.ShapeDtypeStruct((batch, *detection.size, 3), jnp.uint8)
    return bytes(export.export(jax.jit(look), platforms=PLATFORMS)(pictures).serialize())


def open_stablehlo(path: Path) -> Look:
    """Loads the program from its file, to run it on the default device."""
    program = jax.jit(export.deserialize(bytearray(path.read_bytes())).call)

    def look(pictures):
        return {name: np.asarray(array) for name, array in program(pictures).items()}

    return look
