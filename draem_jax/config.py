"""The configuration of a run: its defaults, what is made of its fields, and what is refused."""

import difflib
import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from draem_jax import files
from draem_jax.anomalies import AnomalyParams
from draem_jax.data.dataset import DataSet
from draem_jax.data.depth import check_depth
from draem_jax.data.fitting import Fitting
from draem_jax.data.roi import FOREGROUND, Roi
from draem_jax.data.texture_sources import with_absolute_folders
from draem_jax.data.tiles import usual_overlap
from draem_jax.errors import UserError
from draem_jax.fields import GROUPS
from draem_jax.flips import FLIPS
from draem_jax.losses import COSTLY_TERMS, LossWeights, check_weights
from draem_jax.networks import (
    COARSE_STAGES,
    RECONSTRUCTIVE_INPUTS,
    STARTS,
    VARIANTS,
    check_size,
)
from draem_jax.scores import score_by_name

DTYPES = ("auto", "bfloat16", "float32")
OPTIMIZERS = ("adam", "muon")
"""What takes the steps of training; see `draem_jax.training.optimizer`."""
SCHEDULES = ("milestones", "cosine")
"""How the rate of training falls; see `draem_jax.training.optimizer`."""
WAYS = ("squeeze", "letterbox")
"""Of bringing whole pictures to the size that the networks see."""

ELSEWHERE = "tuned_from."
"""Begins the fields that configs of earlier versions have, and `training.tuned_from` keeps now."""

FAULTS: Mapping[str, tuple[str, ...]] = {
    "train.on_full_disk": ("stop", "go_on"),
    "train.on_nan": ("stop", "rollback"),
    "data.on_lost_picture": ("stop", "skip"),
}
"""Fields that say what a run does about a fault, and what they may be."""

WATCHING = frozenset({"train.profile", "train.max_rollbacks", *FAULTS})
"""Fields that change nothing in what a run without faults computes, so that the same run may have
others."""

_LARGEST_SEED = 2**32 - 1
_LARGEST_NUMBER = 2**31 - 1


def default_config() -> ConfigDict:
    """The recipe of the authors' code at full width, on the built-in data set.

    A file in `configs/` starts from here and changes what is its own. `draem_jax.fields` says what
    each field means.
    """
    config = ConfigDict()
    for name, group in GROUPS.items():
        target = config
        for part in filter(None, name.split(".")):
            if part not in target:
                target[part] = ConfigDict()
            target = target[part]
        for field, (default, _) in group.fields.items():
            target[field] = default
    return config


def resolve_steps(config: ConfigDict, *, normal_pictures: int) -> ConfigDict:
    """The config with `train.steps` worked out where the length is given in epochs.

    An epoch has as many samples as there are normal pictures, as in the authors' code.
    """
    if config.train.steps:
        return config
    resolved = config.copy_and_resolve_references()
    samples = config.train.epochs * normal_pictures
    resolved.train.steps = max(1, round(samples / config.train.batch_size))
    return resolved


def with_absolute_paths(config: ConfigDict) -> ConfigDict:
    """The config with folders and files named such that they are found from anywhere.

    So the same folder, spelt otherwise, is the same config.
    """
    resolved = config.copy_and_resolve_references()
    resolved.data.root = absolute_value("data.root", config.data.root)
    resolved.data.texture_source = absolute_value("data.texture_source", config.data.texture_source)
    resolved.data.roi = absolute_value("data.roi", config.data.roi)
    return resolved


def absolute_value(name: str, value: Any) -> Any:
    """The value of the field called `name`, absolute if it is a path: see `with_absolute_paths`."""
    if name == "data.root" and value:
        return files.absolute_path(value)
    if name == "data.texture_source":
        return with_absolute_folders(value)
    if name == "data.roi" and value not in ("", FOREGROUND):
        return files.absolute_path(value)
    return value


def image_size(config: ConfigDict) -> tuple[int, int]:
    """The (height, width) that the networks see: of a tile, or of pictures brought to it."""
    size = tuple(config.data.tile if is_tiled(config) else config.data.image_size)
    return size * 2 if len(size) == 1 else size


def is_tiled(config: ConfigDict) -> bool:
    """Whether the networks see pictures in tiles."""
    return any(config.data.tile)


def fitting(config: ConfigDict) -> Fitting:
    """How pictures are brought to the size that the networks see."""
    if is_tiled(config):
        return Fitting(image_size(config), "tile", config.data.scale)
    return Fitting(image_size(config), config.data.fit)


def tile_overlap(config: ConfigDict) -> int:
    """How many pixels neighbouring tiles share at least."""
    if config.data.tile_overlap >= 0:
        return config.data.tile_overlap
    return usual_overlap(image_size(config))


def data_set(config: ConfigDict, *, full_scale: int | None = None) -> DataSet:
    """The data set that the config names.

    Args:
        config: the config of a run.
        full_scale: the value that is white in its deep pictures for a run that has begun, see
            `DataSet.full_scale`.
    """
    data = config.data
    return DataSet(
        data.name,
        data.category,
        root=data.root or None,
        skip_bad=data.skip_bad,
        depth=data.depth,
        full_scale=full_scale,
    )


def region_of_interest(
    config: ConfigDict, *, source: str | None = None, ignore_border: int | None = None
) -> Roi:
    """Where the config says to look.

    Args:
        config: the config of a run.
        source: takes the place of `config.data.roi` unless None.
        ignore_border: takes the place of `config.data.ignore_border` unless None.
    """
    source = config.data.roi if source is None else source
    border = config.data.ignore_border if ignore_border is None else ignore_border
    overview_border = None
    if source == FOREGROUND and is_tiled(config):
        overview_border = float(config.anomalies.shapes.foreground_border)
    return Roi(absolute_value("data.roi", source), border, overview_border)


def anomaly_params(config: ConfigDict) -> AnomalyParams:
    """What the generator does, checked."""
    return AnomalyParams.from_dict(config.anomalies.to_dict())


def loss_weights(config: ConfigDict) -> LossWeights:
    """The weights of the loss's terms, checked."""
    given = {name: float(value) for name, value in config.losses.items()}
    weights = LossWeights(**given | {name: given[name] or None for name in COSTLY_TERMS})
    variant = VARIANTS[config.model.variant]
    check_weights(weights, reconstructs=variant.reconstructs, discriminates=variant.discriminates)
    return weights


def traced_fields() -> frozenset[str]:
    """Names of the fields whose values compiled programs take as arguments.

    Runs whose configs differ in these alone share their programs.
    """
    trees = {"anomalies": AnomalyParams(), "losses": LossWeights()}
    leaves, _ = jax.tree_util.tree_flatten_with_path(
        trees, is_leaf=lambda value: isinstance(value, tuple)
    )
    names = (jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in leaves)
    return frozenset(("seed", *names))


def check_config(config: ConfigDict) -> None:
    """Raises UserError, naming the field, unless a run can be made with this config."""
    _check_numbers(config)
    _check_sizes(config)
    for path in (
        "model.reconstructive_width",
        "model.discriminative_width",
        "train.batch_size",
        "train.log_every",
        "train.sample_every",
        "train.checkpoint_every",
        "train.keep_checkpoints",
        "train.validation_pictures",
        "train.max_rollbacks",
        "evaluation.batch_size",
        "finetune.steps",
    ):
        if (value := _get(config, path)) < 1:
            raise UserError(f"config.{path} must be at least 1, not {value}")
    if config.train.steps < 0 or config.train.epochs < 0:
        raise UserError("config.train.steps and config.train.epochs must not be negative")
    if not config.train.steps and not config.train.epochs:
        raise UserError("config.train.steps must be at least 1, or 0 with config.train.epochs set")
    if config.train.steps_per_call < 0:
        raise UserError(
            "config.train.steps_per_call must be at least 1, or 0 to choose by platform"
        )
    _check_profile(config.train)
    for name, choices in FAULTS.items():
        _check_choice(config, name, choices)
    if config.evaluation.score != "auto":
        score_by_name(config.evaluation.score)
    _check_optimizer(config)
    _check_choice(config, "evaluation.flips", tuple(FLIPS))
    _check_networks(config)
    check_depth(config.data.depth)
    if not 0 <= config.data.holdout < 1:
        raise UserError(f"config.data.holdout must lie in [0, 1), not {config.data.holdout}")
    if not config.data.resident_gib >= 0:
        raise UserError(
            f"config.data.resident_gib must be 0 or more, not {config.data.resident_gib}"
        )
    if config.data.ignore_border < 0:
        raise UserError(
            f"config.data.ignore_border must be 0 or more pixels, not {config.data.ignore_border}"
        )
    if config.data.workers < -1:
        raise UserError(
            "config.data.workers must be a number of processes, 0 for threads alone, or -1 for "
            f"half of the cores, not {config.data.workers}"
        )
    anomaly_params(config)
    loss_weights(config)
    _check_finetune(config.finetune)


def _check_networks(config: ConfigDict) -> None:
    _check_choice(config, "model.variant", tuple(VARIANTS))
    _check_choice(config, "model.dtype", DTYPES)
    _check_choice(config, "model.initialisation", tuple(STARTS))
    _check_choice(config, "model.reconstructive_input", tuple(RECONSTRUCTIVE_INPUTS))
    for name in ("reconstructive_skips", "deep_supervision"):
        if not 0 <= (value := config.model[name]) <= COARSE_STAGES:
            raise UserError(f"config.model.{name} must lie from 0 to {COARSE_STAGES}, not {value}")
    if not 0 <= (share := config.model.copied_share) <= 1:
        raise UserError(f"config.model.copied_share must lie from 0 to 1, not {share:g}")
    variant, default = VARIANTS[config.model.variant], default_config()
    needed = {
        "difference": (variant.reconstructs and variant.discriminates, "both networks"),
        "copied_share": (variant.reconstructs and variant.discriminates, "both networks"),
        "reconstructive_input": (variant.reconstructs, "a reconstructive network"),
        "reconstructive_skips": (variant.reconstructs, "a reconstructive network"),
        "sspcab": (variant.reconstructs, "a reconstructive network"),
        "deep_supervision": (variant.discriminates, "a discriminative network"),
    }
    for name, (is_there, what) in needed.items():
        if not is_there and config.model[name] != default.model[name]:
            raise UserError(
                f"config.model.{name}={config.model[name]} needs {what}, which "
                f"config.model.variant={config.model.variant} does not have; leave either out"
            )


def _check_sizes(config: ConfigDict) -> None:
    data = config.data
    for name in ("image_size", "tile"):
        size = tuple(data[name])
        if len(size) not in (1, 2) or not all(isinstance(n, int) for n in size):
            raise UserError(f"config.data.{name} must be SIZE or (HEIGHT, WIDTH), not {size}")
    try:
        check_size(*image_size(config))
    except ValueError as error:
        raise UserError(
            f"config.data.{'tile' if is_tiled(config) else 'image_size'}: {error}"
        ) from error
    _check_choice(config, "data.fit", WAYS)
    if not 0 < data.scale < math.inf:
        raise UserError(f"config.data.scale must be above 0, not {data.scale}")
    if not is_tiled(config):
        if data.scale != 1 or data.tile_overlap >= 0:
            raise UserError(
                "config.data.scale and config.data.tile_overlap are of tiles alone; choose "
                "config.data.tile, or leave them out"
            )
        return
    if data.fit != "squeeze":
        raise UserError(
            f"config.data.fit={data.fit} is of whole pictures; leave it or config.data.tile out"
        )
    height, width = image_size(config)
    if tile_overlap(config) >= min(height, width):
        raise UserError(
            f"config.data.tile_overlap={data.tile_overlap} is not smaller than the tile of "
            f"{height} x {width}; choose less, such as {usual_overlap((height, width))}"
        )


def _check_numbers(config: ConfigDict) -> None:
    """Raises UserError for a number that the devices have no room for."""
    if not 0 <= config.seed <= _LARGEST_SEED:
        raise UserError(f"config.seed must lie from 0 to {_LARGEST_SEED}, not {config.seed}")
    for name, value in flat(config):
        for number in value if isinstance(value, (tuple, list)) else (value,):
            if name == "seed" or not isinstance(number, (int, float)):
                continue
            if isinstance(number, int) and abs(number) > _LARGEST_NUMBER:
                raise UserError(
                    f"config.{name}={number} is too large; {_LARGEST_NUMBER} is the most"
                )
            if not math.isfinite(number):
                raise UserError(f"config.{name} must be a finite number, not {number}")


def to_json(config: ConfigDict) -> str:
    """The config as JSON that `from_json` reads back equal."""
    return json.dumps(config.to_dict(), indent=2) + "\n"


def from_json(path: Path) -> ConfigDict:
    """Reads a config that `to_json` wrote.

    Raises:
        UserError: the file cannot be read, is not such a config, or names a field unknown here.
    """
    try:
        stored = files.parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read the config {path}: {error}") from error
    config = default_config()
    known = dict(flat(config))
    for name, value in flat(stored if isinstance(stored, dict) else {"": stored}):
        if name.startswith(ELSEWHERE):
            continue
        if name not in known:
            raise UserError(
                f"{path} has a field {name!r} that this version of draem_jax does not know"
            )
        if not _is_like(value, known[name]):
            raise UserError(
                f"{path} has a field {name!r} that cannot be {value!r}; restore the file"
            )
        group, _, field = name.rpartition(".")
        target = _get(config, group) if group else config
        target[field] = tuple(value) if isinstance(value, list) else value
    return config


def _is_like(value: Any, default: Any) -> bool:
    """Whether a value out of JSON can take the place of a field's default."""
    if isinstance(default, tuple):  # all of them are of numbers
        return isinstance(value, list) and all(_is_like(number, 0.0) for number in value)
    if isinstance(default, float) and type(value) is int:
        return abs(value) <= _LARGEST_NUMBER
    return type(value) is type(default)


def differences(a: ConfigDict, b: ConfigDict) -> list[str]:
    """Names the fields that differ, with both values, `a`'s first; those of `WATCHING` left out."""
    values_a, values_b = dict(flat(a)), dict(flat(b))
    return [
        f"{name}: {values_a.get(name)} → {values_b.get(name)}"
        for name in sorted((values_a.keys() | values_b.keys()) - WATCHING)
        if values_a.get(name) != values_b.get(name)
    ]


def flat(config: Mapping[str, Any] | ConfigDict) -> Iterator[tuple[str, Any]]:
    """Yields each leaf of a nested mapping with its dotted name."""
    waiting = [("", config)]  # no calls within calls: a stranger's may be nested deeply
    while waiting:
        name, value = waiting.pop()
        if isinstance(value, (Mapping, ConfigDict)):
            prefix = f"{name}." if name else ""
            waiting += reversed([(f"{prefix}{inner}", of) for inner, of in value.items()])
        else:
            yield name, value


def unknown_field(config: ConfigDict, name: str) -> UserError:
    """Says that `name` is no field of the config, with those that look like it."""
    known = [known for known, _ in flat(config)]
    last = {path.rpartition(".")[2]: path for path in known}
    close = difflib.get_close_matches(name, known, n=2) or [
        last[match] for match in difflib.get_close_matches(name.rpartition(".")[2], last, n=2)
    ]
    hint = f"did you mean {' or '.join(close)}?" if close else f"the fields are {', '.join(known)}"
    return UserError(f"the config has no field {name!r}; {hint}")


def _check_optimizer(config: ConfigDict) -> None:
    optimizer = config.optimizer
    if not optimizer.learning_rate > 0:
        raise UserError(
            f"config.optimizer.learning_rate must be above 0, not {optimizer.learning_rate}"
        )
    if not all(0 < share <= 1 for share in optimizer.milestones):
        raise UserError(
            "config.optimizer.milestones must be shares of the steps in (0, 1], not "
            f"{optimizer.milestones}"
        )
    _check_choice(config, "optimizer.name", OPTIMIZERS)
    _check_choice(config, "optimizer.schedule", SCHEDULES)
    for name in ("warmup", "b1", "b2", "average"):
        if not 0 <= optimizer[name] < 1:
            raise UserError(f"config.optimizer.{name} must lie in [0, 1), not {optimizer[name]}")


def _check_profile(train: ConfigDict) -> None:
    profile = tuple(train.profile)
    if len(profile) != 2 or not all(isinstance(step, int) for step in profile):
        raise UserError(f"config.train.profile must be FROM,TO, two steps, not {profile}")
    first, last = profile
    if profile != (0, 0) and not 1 <= first <= last:
        raise UserError(
            "config.train.profile must be FROM,TO with 1 <= FROM <= TO, or 0,0 for none, not "
            f"{first},{last}"
        )
    if train.steps and last > train.steps:
        raise UserError(
            f"config.train.profile={first},{last} goes beyond the run's {train.steps} steps; take "
            "steps that it makes"
        )


def _check_finetune(finetune: ConfigDict) -> None:
    for name in ("accepted_share", "defect_share", "brightness"):
        if not 0 <= finetune[name] <= 1:
            raise UserError(f"config.finetune.{name} must lie in [0, 1], not {finetune[name]}")
    if finetune.accepted_share + finetune.defect_share >= 1:
        raise UserError(
            "config.finetune: accepted_share and defect_share must leave a share of simulated "
            "anomalies, or what was learned is forgotten; together they must be below 1"
        )
    if not 0 <= finetune.holdout < 1:
        raise UserError(f"config.finetune.holdout must lie in [0, 1), not {finetune.holdout}")
    if not finetune.relative_rate > 0:
        raise UserError(
            f"config.finetune.relative_rate must be above 0, not {finetune.relative_rate}"
        )


def _get(config: ConfigDict, path: str) -> Any:
    for name in path.split("."):
        config = config[name]
    return config


def _check_choice(config: ConfigDict, path: str, choices: tuple[str, ...]) -> None:
    if (value := _get(config, path)) not in choices:
        raise UserError(f"config.{path} must be one of {', '.join(choices)}, not {value!r}")
