"""Shapes are checked at run time, ranks must match, and the CPU shows itself as four devices."""

import jax
import pytest
from jaxtyping import install_import_hook

install_import_hook("draem_jax", "beartype.beartype")

jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="session")
def golden():
    """Loads an .npz of numbers that the authors' code computed, by its name."""
    from pathlib import Path

    import numpy as np

    def load(name: str) -> dict[str, np.ndarray]:
        with np.load(Path(__file__).parent / "golden" / f"{name}.npz") as archive:
            return dict(archive)

    return load
