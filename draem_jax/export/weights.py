"""The networks' weights as safetensors: by name, untouched."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np


def named_arrays(variables: Any) -> dict[str, np.ndarray]:
    """The networks' variables by names such as `params/discriminative/output/kernel`."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(variables)
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): np.asarray(array)
        for path, array in leaves
    }


def write_weights(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays by their names."""
    from safetensors.numpy import save

    whole = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    path.write_bytes(save(whole, metadata={"described_by": "network.json"}))


def read_weights(path: Path) -> dict[str, np.ndarray]:
    """Reads what `write_weights` wrote."""
    from safetensors.numpy import load_file

    read: dict[str, np.ndarray] = load_file(path)
    return read


def same_bits(a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]) -> bool:
    """Whether two sets of arrays have the same names, types, shapes and bits."""
    return a.keys() == b.keys() and all(
        a[name].dtype == b[name].dtype
        and a[name].shape == b[name].shape
        and a[name].tobytes() == b[name].tobytes()
        for name in a
    )
