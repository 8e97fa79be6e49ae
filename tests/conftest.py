"""Shapes are checked at run time, ranks must match, and the CPU shows itself as four devices."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

import jax
import numpy as np
import pytest
from jaxtyping import install_import_hook

install_import_hook("draem_jax", "beartype.beartype")

# Compiling takes most of the tests' time, so it optimises nothing, and programs that several tests
# and their subprocesses run are compiled once. The cache lives no longer than the tests, or than
# what gives them one: elsewhere it might be stale.
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.5"
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="draem_jax_compiled_")
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)
compiling = ["--xla_backend_optimization_level=0", "--xla_cpu_prefer_vector_width=128"]
if jax.__version_info__ < (0, 11):  # newer ones know no other emitters
    compiling.append("--xla_cpu_use_fusion_emitters=false")
os.environ.setdefault("XLA_FLAGS", " ".join(compiling))
jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_numpy_rank_promotion", "raise")
assert jax.device_count() == 4  # JAX runs from here on, so that no test can change the number


@pytest.hookimpl(tryfirst=True)  # before xdist looks at the groups
def pytest_collection_modifyitems(items):
    for item in items:
        # What runs the tiny config's programs stays with one worker, which compiles them once.
        if "trained" in item.fixturenames or item.get_closest_marker("tiny_programs"):
            item.add_marker(pytest.mark.xdist_group("tiny_programs"))
    # Long tests first, so that no worker is left alone with one at the end.
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


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
        config.optimizer.milestones = ()  # so that runs of any length are one program
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
