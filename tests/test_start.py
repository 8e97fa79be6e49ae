"""The command line imports what a verb needs, so that it starts soon: names count, not seconds."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from draem_jax.detector import Draem
from draem_jax.evaluation.calibration import calibrated

# Of computing, and of what only some verbs do.
COMPUTES = {"jax", "flax", "orbax", "numpy", "scipy", "skimage", "PIL", "matplotlib"}
OTHERS_NEED = {
    *("grain", "tensorflow_datasets", "tensorboardX", "jinja2", "pandas"),
    *("sklearn", "scipy.optimize", "scipy.stats", "matplotlib.figure", "matplotlib.pyplot"),
}

PROGRAM = """
import sys
from draem_jax.cli import main
status = main(sys.argv[1:])
print(*sys.modules)
sys.exit(status)
"""


def imported(*arguments):
    """The modules that a process has imported once the command line is done."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, arguments)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return set(done.stdout.splitlines()[-1].split())


@pytest.mark.parametrize("arguments", [["--help"], ["predict", "--help"]])
def test_help_imports_nothing_that_computes(arguments):
    assert not imported(*arguments) & (COMPUTES | OTHERS_NEED)


@pytest.mark.slow
@pytest.mark.tiny_programs
def test_predict_imports_nothing_that_reads_data_sets_plots_or_fits(trained, tmp_path):
    calibrated(Draem.load(trained))  # so that thresholds are kept
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(tmp_path / "a.png")
    modules = imported(
        "predict", f"--workdir={trained}", f"--images={tmp_path}", f"--out={tmp_path / 'out'}"
    )
    assert "jax" in modules
    assert not modules & OTHERS_NEED
