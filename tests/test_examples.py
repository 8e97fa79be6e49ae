"""What is shown to newcomers runs, and does what it says."""

import runpy
from pathlib import Path

import jax
import numpy as np
import pytest

_EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.mark.long
def test_training_on_a_mask_of_ones_own_lowers_the_loss(capsys):
    example = runpy.run_path(str(_EXAMPLES / "custom_mask.py"))
    losses = example["totals"]
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:10])
    assert capsys.readouterr().out.count("loss") == len(losses) // 10
    share = np.mean([example["scratch"](jax.random.key(i)) for i in range(50)])
    assert 0.01 < share < 0.1  # thin, and there
