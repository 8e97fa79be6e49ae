"""A test set without defects: normal pictures held out from training, and anomalies simulated."""

import dataclasses

import numpy as np
from ml_collections import ConfigDict

from draem_jax.config import anomaly_params
from draem_jax.data.loading import TestSet
from draem_jax.errors import UserError
from draem_jax.training.feed import read_samples
from draem_jax.training.pictures import TrainingPictures, open_pictures
from draem_jax.training.state import run_keys

SIMULATED = "simulated"
"""The defect type of pictures with a simulated anomaly."""

# A step that no run reaches, and not the one that training validates on.
_STEP = 2**31 - 2
_LEAST_ANOMALOUS = 64


def simulated_test_set(config: ConfigDict) -> TestSet:
    """Makes test pictures of the normal ones that training never saw.

    Each held-out picture is there once as it is, and one or more times with a simulated anomaly by
    the config's recipe; none is rotated. The same config gives the same pictures. What is measured
    on them tells how well the networks learned their task; how well real defects are found, it
    cannot tell.

    Args:
        config: of a run with `data.holdout` above 0.

    Returns:
        The pictures, good ones first; the others are of the type "simulated".

    Raises:
        UserError: no pictures were held out, or they cannot be read.
    """
    if not config.data.holdout:
        raise UserError(
            f"{config.data.root or config.data.name} has no test pictures, and none of its normal "
            "ones were held out; train with --config.data.holdout=0.1 in another --workdir, or add "
            "test pictures"
        )
    pictures = open_pictures(config, held_out=True)
    normal = [pictures.normal[i] for i in range(len(pictures.normal))]
    augmented, masks = _with_anomalies(config, pictures)
    good = len(normal)
    return TestSet(
        images=np.concatenate([np.stack(normal), augmented]),
        masks=np.concatenate([np.zeros((good, *masks.shape[1:]), np.uint8), masks]),
        defect_types=["good"] * good + [SIMULATED] * len(augmented),
        names=[f"good/{i:03d}" for i in range(good)]
        + [f"{SIMULATED}/{i:03d}" for i in range(len(augmented))],
        has_mask=np.ones(good + len(augmented), bool),
    )


def _with_anomalies(
    config: ConfigDict, pictures: TrainingPictures
) -> tuple[np.ndarray, np.ndarray]:
    params = dataclasses.replace(
        anomaly_params(config), untouched_share=0.0, normal_rotation_share=0.0
    )
    count = max(_LEAST_ANOMALOUS, len(pictures.normal))
    # A mask may come out empty; twice as many samples leave enough of the others.
    indices = np.arange(2 * count, dtype=np.int32)
    samples = read_samples(pictures, run_keys(config)[1], _STEP, indices, params)
    masks = np.asarray(samples.mask) > 0
    chosen = np.flatnonzero(masks.any(axis=(1, 2, 3)))[:count]
    if not chosen.size:
        raise UserError(
            "the config's recipe simulates no anomaly at all; see `draem-jax preview`, and lower "
            "config.anomalies.threshold"
        )
    augmented = np.rint(np.asarray(samples.augmented)[chosen] * 255).astype(np.uint8)
    return augmented, masks[chosen].astype(np.uint8)
