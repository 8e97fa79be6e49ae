"""What a study is: a base config, named variants of it, products to try them on, and seeds."""

import functools
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
    default_config,
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
class Product:
    """What variants are tried on: a category of a data set, or a data set of its own.

    Attributes:
        name: told in tables; letters, digits and "-_+.". Its runs are kept in a folder of that
            name.
        changes: value by the dotted name of each field that chooses it and says how its pictures
            are seen, such as "data.name", "data.category", "data.root" and "data.tile".
    """

    name: str
    changes: Mapping[str, Any]

    @classmethod
    def of_category(cls, category: str) -> "Product":
        """A category of the base's data set; "" for a data set that has none."""
        return cls(category or "all", {"data.category": category})


@dataclass(frozen=True)
class Run:
    """One training run of a study.

    Attributes:
        variant: its name.
        product: the name of what it is trained on.
        seed: the seed of the run.
        config: the config of the run, checked.
        folder: the folder of the run inside the study's work directory.
    """

    variant: str
    product: str
    seed: int
    config: ConfigDict
    folder: Path

    @property
    def title(self) -> str:
        """What it is called in messages."""
        return f"{self.variant}, {self.product}, seed {self.seed}"

    @functools.cached_property
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
        products: in the order of tables.
        seeds: each makes a run of every variant on every product.
        metric: that variants are ranked by.
        protocol: for the masks, see `draem_jax.evaluation.protocols`.
        notes: sentences that the reader of the results must not miss.
    """

    base: ConfigDict
    variants: tuple[Variant, ...]
    baseline: str
    products: tuple[Product, ...]
    seeds: tuple[int, ...]
    metric: str
    protocol: str
    notes: tuple[str, ...] = ()

    def runs(self) -> list[Run]:
        """All of them; those of a seed stand together, so that a part of a study compares."""
        return [
            Run(
                variant.name,
                product.name,
                seed,
                _config_of(self.base, variant, product, seed),
                Path("runs") / variant.folder / product.name / f"seed_{seed}",
            )
            for seed in self.seeds
            for product in self.products
            for variant in self.variants
        ]

    def first_runs(self) -> list[Run]:
        """The first one on each product."""
        return list({run.product: run for run in reversed(self.runs())}.values())[::-1]


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

    Where variants are tried on several data sets, the file sets `products` in what is returned, a
    tuple of `Product`s in the place of categories. `notes`, a tuple of sentences, is what else the
    reader of the results must not miss.

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
    config.products = ()
    config.seeds = tuple(seeds)
    config.metric = metric
    config.protocol = protocol
    config.notes = ()
    return config


def parse_study(config: ConfigDict) -> Study:
    """Checks a study's config, the config of each of its runs included.

    Raises:
        UserError: two variants or products of one name, an unknown field, a field that a variant
            and a product change, an empty grid, or a config that no run can be made with.
    """
    variants = tuple(config.variants)
    variant_names = [variant.name for variant in variants]
    products = _products_of(config)
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
    names = [product.name for product in products]
    # On some file systems, folders whose names differ in case are one.
    _check_distinct([name.lower() for name in names], names, "products")
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
        products=products,
        seeds=seeds,
        metric=config.metric,
        protocol=config.protocol,
        notes=tuple(config.notes),
    )
    for run in study.runs():
        try:
            check_config(run.config)
        except UserError as error:
            on = f" on {run.product!r}" if len(products) > 1 else ""
            raise UserError(f"variant {run.variant!r}{on}: {error}") from error
    return study


def claim_study(study: Study, workdir: Path) -> None:
    """Makes a work directory for a study, or makes sure that an existing one goes on with it.

    Variants, products and seeds may come and go; what the base, each variant and each product mean
    may not change, for then the runs that are there would be of another study.

    Raises:
        UserError: the directory is another study's, holds something else or pictures, or
            cannot be written.
    """
    path = workdir / "study.json"
    described = json.loads(
        json.dumps(
            {
                "base": _absolute(dict(flat(study.base))),
                "variants": {one.name: _absolute(one.changes) for one in study.variants},
                "products": {one.name: _absolute(one.changes) for one in study.products},
            }
        )
    )
    if path.is_file():
        stored = _read(path)
        if "products" not in stored:
            # An earlier version's, which has categories of the base's data set alone.
            stored["products"] = {
                name: {"data.category": changes.get("data.category")}
                for name, changes in described["products"].items()
            }
        # Fields that an earlier version did not have are what they are by default.
        known = json.loads(json.dumps(dict(flat(default_config()))))
        changed = _changed(known | stored["base"], described["base"])
        for kind in ("variants", "products"):
            for name in stored[kind].keys() & described[kind].keys():
                before, now = stored[kind][name], described[kind][name]
                texts = _changed(before, now)
                changed += [f"{text} ({kind.removesuffix('s')} {name})" for text in texts]
        if changed:
            raise UserError(
                f"{workdir} holds another study ({'; '.join(changed)}); choose another --workdir, "
                "or give a changed variant or product another name"
            )
        for kind in ("variants", "products"):
            described[kind] = stored[kind] | described[kind]
    elif (workdir / "config.json").exists() or (workdir / "runs").exists():
        raise UserError(f"{workdir} holds something other than a study; choose another --workdir")
    else:
        refuse_pictures(workdir)
    files.write_text(path, json.dumps(described, indent=2) + "\n")


def _products_of(config: ConfigDict) -> tuple[Product, ...]:
    products = tuple(config.products)
    # The command line gives names with commas between as one.
    categories = [name for names in config.categories for name in names.split(",") if name]
    if not products:
        return tuple(map(Product.of_category, categories or [config.base.data.category]))
    if categories:
        raise UserError(
            f"the study has products of its own ({', '.join(one.name for one in products)}), so "
            "config.categories must be left out"
        )
    for product in products:
        if not re.fullmatch(r"\w[\w\-+.]*", product.name):
            raise UserError(
                f"a product cannot be called {product.name!r}; use letters, digits and "
                '"-_+.", the first a letter or digit'
            )
    return products


def _config_of(base: ConfigDict, variant: Variant, product: Product, seed: int) -> ConfigDict:
    if both := sorted(variant.changes.keys() & product.changes.keys()):
        raise UserError(
            f"variant {variant.name!r} and product {product.name!r} both change {both[0]}; leave "
            "it to one of them"
        )
    config = base.copy_and_resolve_references()
    _apply(config, variant.changes, f"variant {variant.name!r}")
    _apply(config, product.changes, f"product {product.name!r}")
    config.seed = seed
    return config


def _apply(config: ConfigDict, changes: Mapping[str, Any], of: str) -> None:
    """Changes a config; errors say that it is for the sake of `of`."""
    before = dict(flat(config))
    for name, value in changes.items():
        if name not in before:
            raise UserError(f"{of}: {unknown_field(config, name)}")
        try:
            config.update_from_flattened_dict({name: value})
        except (TypeError, ValueError) as error:
            raise UserError(
                f"{of}: {name} cannot be {value!r}; it is like {before[name]!r} in the base"
            ) from error


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
        stored = files.parse_json(path.read_text(encoding="utf-8"))
        return {
            "base": {
                name: value
                for name, value in _absolute(stored["base"]).items()
                if not name.startswith(ELSEWHERE)
            },
            **{
                kind: {name: _absolute(changes) for name, changes in stored[kind].items()}
                for kind in ("variants", "products")
                if kind == "variants" or kind in stored
            },
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
