"""A sheet of simulated anomalies, so that a recipe can be judged before training."""

import dataclasses
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from ml_collections import ConfigDict

from draem_jax.config import anomaly_params, check_config
from draem_jax.reports.pictures import dim_outside, sheet
from draem_jax.training.feed import read_samples
from draem_jax.training.pictures import open_pictures
from draem_jax.training.samples import Draw
from draem_jax.training.state import run_keys


class Preview(NamedTuple):
    """What a recipe makes.

    Attributes:
        sheet: a row for each sample: normal picture, what is looked at of it, unless that is all,
            augmented picture, mask, and what changed.
        looked_at: the mean share of the pictures that is looked at.
    """

    sheet: UInt8[np.ndarray, "H W 3"]
    looked_at: float


def preview_samples(config: ConfigDict, *, rows: int = 8) -> Preview:
    """Draws the first samples of a run, each with an anomaly: none is left untouched.

    Args:
        config: the config of the run.
        rows: samples on the sheet.

    Raises:
        UserError: the config is wrong, or its data set cannot be had.
    """
    check_config(config)
    params = dataclasses.replace(anomaly_params(config), untouched_share=0.0)
    _, key = run_keys(config)
    draw = Draw(key, 0, np.arange(rows, dtype=np.int32))
    samples = read_samples(open_pictures(config), draw, params)
    normal, augmented, mask = (np.asarray(part) for part in samples[:3])
    columns = {"normal": normal}
    looked_at = 1.0
    if samples.inside is not None:
        inside = np.asarray(samples.inside)[..., 0]
        looked_at = float(inside.mean())
        columns["looked at"] = np.stack(list(map(dim_outside, normal, inside)))
    columns |= {"augmented": augmented, "mask": mask, "difference": np.abs(augmented - normal)}
    return Preview(sheet(columns), looked_at)
