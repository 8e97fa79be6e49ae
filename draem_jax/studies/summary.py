"""From the results of a study to what they support: means, paired differences, a ranking."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import stats

from draem_jax.metrics.table import NAMES
from draem_jax.reports.variants import LEVEL, Average, Difference
from draem_jax.studies.execution import Result
from draem_jax.studies.study import Study

_REPLICATES = 10_000
_SEED = 0


@dataclass(frozen=True)
class StudySummary:
    """What a study's results say.

    Attributes:
        metrics: their names, the one that variants are ranked by first.
        averages: by variant and metric.
        by_product: those of each product alone, by variant, metric and product.
        differences: by variant, without the baseline, and metric.
        ranking: the variants' names, the best first; those without results last.
    """

    metrics: tuple[str, ...]
    averages: Mapping[str, Mapping[str, Average]]
    by_product: Mapping[str, Mapping[str, Mapping[str, Average]]]
    differences: Mapping[str, Mapping[str, Difference]]
    ranking: tuple[str, ...]


def summarise(study: Study, results: Sequence[Result]) -> StudySummary:
    """Summarises the runs that are there.

    Args:
        study: which they are of.
        results: the results of its runs; missing and diverged ones leave gaps, and a difference is
            taken over the pairs that are whole.
    """
    metrics = tuple(dict.fromkeys([study.metric, *NAMES]))
    tables = {
        metric: {v.name: _table(study, results, v.name, metric) for v in study.variants}
        for metric in metrics
    }
    others = [v.name for v in study.variants if v.name != study.baseline]
    differences: dict[str, dict[str, Difference]] = {name: {} for name in others}
    for metric, by_variant in tables.items():
        found = [difference(by_variant[name] - by_variant[study.baseline]) for name in others]
        corrected = holm([one.p_value for one in found])
        for name, one, p_value in zip(others, found, corrected, strict=True):
            differences[name][metric] = Difference(one.mean, one.low, one.high, p_value)
    averages = {
        v.name: {metric: average(tables[metric][v.name]) for metric in metrics}
        for v in study.variants
    }
    by_product = {
        v.name: {
            metric: {
                product.name: average(tables[metric][v.name][[row]])
                for row, product in enumerate(study.products)
            }
            for metric in metrics
        }
        for v in study.variants
    }
    means = {name: averages[name][study.metric].mean for name in averages}
    ranking = sorted(means, key=lambda name: math.inf if (m := means[name]) is None else -m)
    return StudySummary(metrics, averages, by_product, differences, tuple(ranking))


def average(table: Float[np.ndarray, "products seeds"]) -> Average:
    """The mean over seeds and its standard deviation, of seeds that have all products.

    Where no seed has all, of what is there, without a deviation.
    """
    whole = table[:, np.isfinite(table).all(axis=0)].mean(axis=0)
    if len(whole):
        return Average(float(whole.mean()), float(whole.std(ddof=1)) if len(whole) > 1 else None)
    known = table[np.isfinite(table)]
    return Average(float(known.mean()) if len(known) else None, None)


def difference(table: Float[np.ndarray, "products seeds"]) -> Difference:
    """The mean of paired differences, with a bootstrap interval and an uncorrected p-value.

    The interval takes seeds and products with replacement, each on its own. Of few it is too
    narrow: with three seeds and one product, it leaves out 0 in a quarter of all cases where there
    is no difference. So whether a difference is supported is left to `chance_alone`.

    Args:
        table: differences; NaN for pairs that are not whole. For all but the mean, seeds without
            any and then products with a gap are left out.
    """
    known = table[np.isfinite(table)]
    mean = float(known.mean()) if len(known) else None
    table = table[:, np.isfinite(table).any(axis=0)]
    table = table[np.isfinite(table).all(axis=1)]
    if table.size < 2:
        return Difference(mean, None, None, None)
    products, seeds = table.shape
    rng = np.random.default_rng(_SEED)
    rows = rng.integers(0, products, (_REPLICATES, products))
    columns = rng.integers(0, seeds, (_REPLICATES, seeds))
    drawn = table[rows[:, :, None], columns[:, None, :]].mean(axis=(1, 2))
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Difference(mean, float(low), float(high), chance_alone(table))


def chance_alone(table: Float[np.ndarray, "products seeds"]) -> float:
    """How likely differences at least as large are if there is none: Student's t-test, two-sided.

    The mean's variance is that of the seeds' means plus that of the products' means, as if both
    were drawn from many, with degrees of freedom by Satterthwaite. With one product, or one seed,
    it is the usual paired test.

    Args:
        table: differences, at least two.

    Returns:
        The p-value; 1 if all differences are the same, which says nothing of chance.
    """
    parts = [
        (means.var(ddof=1) / len(means), len(means) - 1)
        for means in (table.mean(axis=0), table.mean(axis=1))
        if len(means) > 1
    ]
    variance = sum(part for part, _ in parts)
    if not variance > 0:
        return 1.0
    freedom = variance**2 / sum(part**2 / degrees for part, degrees in parts)
    return float(2 * stats.t.sf(abs(table.mean()) / math.sqrt(variance), freedom))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Corrects p-values for their number (Holm, Scandinavian Journal of Statistics 1979)."""
    known = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    least = 0.0
    for rank, (p_value, i) in enumerate(known):
        least = max(least, min(1.0, (len(known) - rank) * p_value))
        corrected[i] = least
    return corrected


def _table(
    study: Study, results: Sequence[Result], variant: str, metric: str
) -> Float[np.ndarray, "products seeds"]:
    """One metric of one variant, NaN where there is none."""
    products = [product.name for product in study.products]
    table = np.full((len(products), len(study.seeds)), np.nan)
    for result in results:
        run, value = result.run, result.metrics(study.protocol).get(metric)
        if run.variant == variant and value is not None:
            table[products.index(run.product), study.seeds.index(run.seed)] = value
    return table
