"""A sheet of simulated anomalies, so that a recipe can be judged before training."""

import dataclasses

import numpy as np
from jaxtyping import UInt8
from ml_collections import ConfigDict

from draem_jax.config import anomaly_params, check_config
from draem_jax.reports.pictures import sheet
from draem_jax.training.feed import read_samples
from draem_jax.training.pictures import open_pictures
from draem_jax.training.samples import Draw
from draem_jax.training.state import run_keys


def preview_sheet(config: ConfigDict, *, rows: int = 8) -> UInt8[np.ndarray, "H W 3"]:
    """Draws the first samples of a run, each with an anomaly: none is left untouched.

    Args:
        config: the config of the run.
        rows: samples on the sheet.

    Returns:
        A row for each sample: normal picture, augmented picture, mask, and what changed.

    Raises:
        UserError: the config is wrong, or its data set cannot be had.
    """
    check_config(config)
    params = dataclasses.replace(anomaly_params(config), untouched_share=0.0)
    _, key = run_keys(config)
    draw = Draw(key, 0, np.arange(rows, dtype=np.int32))
    samples = read_samples(open_pictures(config), draw, params)
    normal, augmented, mask = (np.asarray(part) for part in samples)
    return sheet(
        {
            "normal": normal,
            "augmented": augmented,
            "mask": mask,
            "difference": np.abs(augmented - normal),
        }
    )
