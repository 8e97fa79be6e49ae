"""Shapes are checked at run time, ranks must match, and the CPU shows itself as four devices."""

from pathlib import Path

import jax
import numpy as np
import pytest
from jaxtyping import install_import_hook

install_import_hook("draem_jax", "beartype.beartype")

jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(scope="session")
def golden():
    """Loads an .npz of numbers that the authors' code computed, by its name."""

    def load(name: str) -> dict[str, np.ndarray]:
        with np.load(Path(__file__).parent / "golden" / f"{name}.npz") as archive:
            return dict(archive)

    return load


@pytest.fixture(scope="session", autouse=True)
def data_dir(tmp_path_factory):
    """Keeps prepared data sets out of the user's cache, and shares them among the tests."""
    folder = tmp_path_factory.mktemp("data_sets")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DRAEM_JAX_DATA", str(folder))
        yield folder


@pytest.fixture(scope="session")
def tiny_config():
    """The smallest run that goes through everything."""
    from draem_jax.config import default_config

    def make(**changes):
        config = default_config()
        config.data.image_size = (32,)
        config.model.reconstructive_width = 4
        config.model.discriminative_width = 4
        config.optimizer.learning_rate = 1e-3
        config.train.batch_size = 4
        config.train.steps = 4
        config.train.log_every = 1
        config.train.sample_every = 4
        config.train.checkpoint_every = 2
        config.train.validation_pictures = 4
        config.update_from_flattened_dict(changes)
        return config

    return make


@pytest.fixture(scope="session")
def trained(tmp_path_factory, tiny_config):
    """The work directory of a tiny finished run."""
    from draem_jax.training.loop import train

    workdir = tmp_path_factory.mktemp("trained") / "run"
    train(tiny_config(), workdir, quiet=True)
    return workdir
