"""What a study is: a base config, named variants of it, categories and seeds."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from draem_jax import files
from draem_jax.config import (
    ELSEWHERE,
    absolute_value,
    check_config,
    flat,
    traced_fields,
    unknown_field,
)
from draem_jax.errors import UserError
from draem_jax.evaluation.protocols import PROTOCOLS
from draem_jax.metrics.table import NAMES
from draem_jax.training.workdir import refuse_pictures


@dataclass(frozen=True)
class Variant:
    """A named change of the base config.

    Attributes:
        name: told in tables and plots; letters, digits, spaces and "-_+.,()".
        changes: value by the field's dotted name, such as "data.texture_source".
        published: figures of others for this variant, in [0, 1], by the metric's name.
    """

    name: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    published: Mapping[str, float] = field(default_factory=dict)

    @property
    def folder(self) -> str:
        """Its name as that of a folder."""
        return re.sub(r"[^a-z0-9]+", "_", self.name.lower()).strip("_")


@dataclass(frozen=True)
class Run:
    """One training run of a study.

    Attributes:
        variant: its name.
        category: the category of the data set.
        seed: the seed of the run.
        config: the config of the run, checked.
        folder: the folder of the run inside the study's work directory.
    """

    variant: str
    category: str
    seed: int
    config: ConfigDict
    folder: Path

    @property
    def title(self) -> str:
        """What it is called in messages."""
        return f"{self.variant}, {self.category}, seed {self.seed}"

    @property
    def program(self) -> str:
        """Equal for runs that differ in numbers only, which share their compiled programs."""
        traced = traced_fields()
        static = {name: value for name, value in flat(self.config) if name not in traced}
        return json.dumps(static, sort_keys=True)


@dataclass(frozen=True)
class Study:
    """A checked study.

    Attributes:
        base: the config that the variants change.
        variants: in the order of tables.
        baseline: name of the variant that the others are compared with.
        categories: the categories of the data set.
        seeds: each makes a run of every variant on every category.
        metric: that variants are ranked by.
        protocol: for the masks, see `draem_jax.evaluation.protocols`.
    """

    base: ConfigDict
    variants: tuple[Variant, ...]
    baseline: str
    categories: tuple[str, ...]
    seeds: tuple[int, ...]
    metric: str
    protocol: str

    def runs(self) -> list[Run]:
        """All of them; those of a seed stand together, so that a part of a study compares."""
        return [
            Run(
                variant.name,
                category,
                seed,
                _config_of(self.base, variant, category, seed),
                Path("runs") / variant.folder / (category or "all") / f"seed_{seed}",
            )
            for seed in self.seeds
            for category in self.categories
            for variant in self.variants
        ]


def study_config(
    base: ConfigDict,
    variants: Sequence[Variant],
    *,
    baseline: str = "",
    categories: Sequence[str] = (),
    seeds: Sequence[int] = (0, 1, 2),
    metric: str = "pixel_ap",
    protocol: str = "default",
) -> ConfigDict:
    """The config of a study, as a file in `configs/studies/` returns it.

    Args:
        base: the config that variants change; --config.base.FIELD changes it.
        variants: in the order of tables.
        baseline: what the others are compared with; the first variant if "".
        categories: the data set's, a run each; the base's alone if empty.
        seeds: a run each.
        metric: that variants are ranked by.
        protocol: for the masks: "default", or "paper" for figures that compare with published ones.
    """
    config = ConfigDict()
    config.base = base
    config.variants = tuple(variants)
    config.baseline = baseline
    config.categories = tuple(categories)
    config.seeds = tuple(seeds)
    config.metric = metric
    config.protocol = protocol
    return config


def parse_study(config: ConfigDict) -> Study:
    """Checks a study's config, the config of each of its runs included.

    Raises:
        UserError: two variants of one name, an unknown field, an empty grid, or a config that no
            run can be made with.
    """
    variants = tuple(config.variants)
    variant_names = [variant.name for variant in variants]
    # The command line gives names with commas between as one.
    given = [name for names in config.categories for name in names.split(",") if name]
    categories = tuple(given) or (config.base.data.category,)
    seeds = _whole_numbers(config.seeds)
    if not variants or not seeds:
        raise UserError("the study is empty: it needs at least one variant and one seed")
    for variant in variants:
        if not variant.folder or not re.fullmatch(r"[\w \-+.,()]+", variant.name):
            raise UserError(
                f"a variant cannot be called {variant.name!r}; use letters, digits, spaces and "
                '"-_+.,()"'
            )
    _check_distinct([variant.folder for variant in variants], variant_names, "variants")
    _check_distinct(list(categories), list(categories), "categories")
    _check_distinct(seeds, [str(seed) for seed in seeds], "seeds")
    baseline = config.baseline or variant_names[0]
    if baseline not in variant_names:
        raise UserError(
            f"the study's baseline {baseline!r} is none of its variants {', '.join(variant_names)}"
        )
    if config.metric not in NAMES:
        raise UserError(f"config.metric must be one of {', '.join(NAMES)}, not {config.metric!r}")
    if config.protocol not in PROTOCOLS:
        raise UserError(
            f"config.protocol must be one of {', '.join(PROTOCOLS)}, not {config.protocol!r}"
        )
    study = Study(
        base=config.base,
        variants=variants,
        baseline=baseline,
        categories=categories,
        seeds=seeds,
        metric=config.metric,
        protocol=config.protocol,
    )
    for run in study.runs():
        try:
            check_config(run.config)
        except UserError as error:
            raise UserError(f"variant {run.variant!r}: {error}") from error
    return study


def claim_study(study: Study, workdir: Path) -> None:
    """Makes a work directory for a study, or makes sure that an existing one goes on with it.

    Variants, categories and seeds may come and go; what the base and each variant mean may not
    change, for then the runs that are there would be of another study.

    Raises:
        UserError: the directory is another study's, holds something else or pictures, or
            cannot be written.
    """
    path = workdir / "study.json"
    meant = {variant.name: _absolute(variant.changes) for variant in study.variants}
    described = json.loads(
        json.dumps({"base": _absolute(dict(flat(study.base))), "variants": meant})
    )
    if path.is_file():
        stored = _read(path)
        changed = _changed(stored["base"], described["base"])
        for name in stored["variants"].keys() & described["variants"].keys():
            before, now = stored["variants"][name], described["variants"][name]
            changed += [f"{text} (variant {name})" for text in _changed(before, now)]
        if changed:
            raise UserError(
                f"{workdir} holds another study ({'; '.join(changed)}); choose another --workdir, "
                "or give a changed variant another name"
            )
        described["variants"] = stored["variants"] | described["variants"]
    elif (workdir / "config.json").exists() or (workdir / "runs").exists():
        raise UserError(f"{workdir} holds something other than a study; choose another --workdir")
    else:
        refuse_pictures(workdir)
    files.write_text(path, json.dumps(described, indent=2) + "\n")


def _config_of(base: ConfigDict, variant: Variant, category: str, seed: int) -> ConfigDict:
    config = base.copy_and_resolve_references()
    known = {name for name, _ in flat(config)}
    for name, value in variant.changes.items():
        if name not in known:
            raise UserError(f"variant {variant.name!r}: {unknown_field(config, name)}")
        try:
            config.update_from_flattened_dict({name: value})
        except (TypeError, ValueError) as error:
            raise UserError(
                f"variant {variant.name!r}: {name} cannot be {value!r}; it is like "
                f"{dict(flat(base))[name]!r} in the base"
            ) from error
    config.data.category = category
    config.seed = seed
    return config


def _whole_numbers(seeds: Sequence[Any]) -> tuple[int, ...]:
    try:
        return tuple(int(seed) for seed in seeds if seed != "")
    except (TypeError, ValueError) as error:
        raise UserError(f"config.seeds must be whole numbers, not {tuple(seeds)}") from error


def _check_distinct(keys: Sequence[Any], names: Sequence[str], what: str) -> None:
    first: dict[Any, str] = {}
    for key, name in zip(keys, names, strict=True):
        if key in first:
            same = f"{first[key]!r} and {name!r}" if first[key] != name else f"{name!r}, twice"
            raise UserError(f"the study has two {what} of one name: {same}")
        first[key] = name


def _read(path: Path) -> dict[str, Any]:
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        return {
            "base": {
                name: value
                for name, value in _absolute(stored["base"]).items()
                if not name.startswith(ELSEWHERE)
            },
            "variants": {name: _absolute(changes) for name, changes in stored["variants"].items()},
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"cannot read {path}; choose another --workdir") from error


def _absolute(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Values by their field's name; the same folder, spelt otherwise, is the same value."""
    return {name: absolute_value(name, value) for name, value in fields.items()}


def _changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return [
        f"{name}: {before.get(name)} → {now.get(name)}"
        for name in sorted(before.keys() | now.keys())
        if before.get(name) != now.get(name)
    ]
