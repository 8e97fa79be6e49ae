"""What the recipes in `configs/` share: the words behind the colon, and what each of them sets."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from draem_jax.anomalies import AnomalyParams
from draem_jax.config import default_config
from draem_jax.errors import UserError

# On two CPU cores with AVX-512, `small` is estimated at nine minutes, `medium` at five hours and
# `full`, the authors' size, at two weeks: it wants an accelerator. Scores are means over as large a
# part of the picture as the authors' 21 pixels of 256.
SIZES: Mapping[str, Mapping[str, Any]] = {
    "small": {
        "data.image_size": (128,),
        "model.reconstructive_width": 16,
        "model.discriminative_width": 16,
        "optimizer.learning_rate": 1e-3,
        "train.steps": 1000,
        "train.log_every": 20,
        "train.sample_every": 250,
        "train.checkpoint_every": 250,
        "evaluation.score": "mean11",
    },
    "medium": {
        "data.image_size": (192,),
        "model.reconstructive_width": 32,
        "model.discriminative_width": 32,
        "optimizer.learning_rate": 5e-4,
        "train.steps": 5000,
        "train.sample_every": 500,
        "train.checkpoint_every": 500,
        "evaluation.score": "mean15",
    },
    "full": {},
}
"""What each size changes in a config of the authors' size."""

PLUS: Mapping[str, Any] = {
    "optimizer.name": "muon",
    "optimizer.schedule": "cosine",
    "optimizer.warmup": 0.05,
    "anomalies.untouched_share": 0.0,
    "anomalies.normal_corners": "reflect",
    "anomalies.normal_brightness": (0.9, 1.1),
    "anomalies.threshold": (0.35, 0.65),
    "anomalies.opacity": (0.1, 0.8),
    "anomalies.contrast": "subtle",
    "anomalies.subtle.opacity_share": 0.2,
    "anomalies.subtle.feather": (0.0, 1.5),
    "anomalies.subtle.label_threshold": 10.0,
    "evaluation.flips": "both",
}
"""What the recipe "plus" changes in the authors' code's; docs/better.md says why.

Muon takes the steps of most kernels, and the rate falls all the time. Every sample has an anomaly,
many of them faint, all with soft borders, labelled where the picture really changed. Normal
pictures are turned without black corners and are a little brighter or darker. Maps are averaged
over mirrored pictures, for four times the time of a map.
"""

_SOURCES = ("code", "paper", "plus")


def benchmark_config(data: str, choice: str, *, default: str) -> ConfigDict:
    """The authors' code's recipe for a data set that the field measures itself by.

    Anomalies take the built-in textures. For the paper's, the Describable Textures Dataset:

        draem-jax data prepare dtd --root=DIR_OR_ARCHIVE
        draem-jax train … --config.data.texture_source=dtd

    Args:
        data: the data set's name.
        choice: see `apply_choice`.
        default: the category where none is chosen.
    """
    config = default_config()
    config.data.name = data
    # The authors' length: an epoch has as many samples as there are normal pictures.
    config.train.steps = 0
    config.train.epochs = 700
    return apply_choice(config, choice, default=default)


def apply_choice(config: ConfigDict, choice: str, *, default: str) -> ConfigDict:
    """Sets what stands behind the colon of `--config=configs/NAME.py:CHOICE`.

    Args:
        config: to change.
        choice: words with commas between, at most one of each kind, in any order: a category; a
            source, "code" (as the authors' code has it), "paper" (where the paper differs) or
            "plus" (`PLUS`); and one of `SIZES`.
        default: the category where none is chosen; "" for data without categories.

    Returns:
        The config.

    Raises:
        UserError: a kind is named twice, or a category where there are none.
    """
    words = [word for word in choice.split(",") if word]
    sources = [word for word in words if word in _SOURCES]
    sizes = size_words(choice)
    categories = [word for word in words if word not in (*sources, *sizes)]
    if max(map(len, (sources, sizes, categories))) > 1:
        raise UserError(
            f"{choice!r} names two of a kind; write CATEGORY, and after commas one of "
            f"{', '.join(_SOURCES)} and one of {', '.join(SIZES)}"
        )
    if categories and not default:
        raise UserError(
            f"{categories[0]!r} is unknown behind the colon; choose among "
            f"{', '.join((*SIZES, *_SOURCES))}"
        )
    config.data.category = categories[0] if categories else default
    if sources == ["paper"]:
        config.anomalies.update(dataclasses.asdict(AnomalyParams.paper()))
        # The rate × 0.1 after 400 and again after 600 of 700 epochs.
        config.optimizer.update(milestones=(400 / 700, 600 / 700), factor=0.1)
    if sizes:
        config.update_from_flattened_dict(SIZES[sizes[0]])
    if sources == ["plus"]:
        config.update_from_flattened_dict(PLUS)
    return config


def size_words(choice: str = "") -> list[str]:
    """The words of a choice that name a size."""
    return [word for word in choice.split(",") if word in SIZES]
