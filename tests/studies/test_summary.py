"""Averages and differences against their definitions, and tests against what they promise."""

import dataclasses

import numpy as np
import pytest
from scipy import stats

from draem_jax.config import default_config
from draem_jax.studies import Product, Variant, parse_study, study_config
from draem_jax.studies.execution import Result
from draem_jax.studies.report import results_csv, results_markdown
from draem_jax.studies.summary import average, chance_alone, difference, holm, summarise

RNG = np.random.default_rng(0)


def test_a_deviation_is_over_seeds_of_the_mean_over_products():
    table = RNG.normal(size=(4, 5))
    found = average(table)
    assert found.mean == pytest.approx(table.mean())
    assert found.deviation == pytest.approx(np.std(table.mean(0), ddof=1))
    gap = table.copy()
    gap[2, 1] = np.nan  # that seed lacks a product, so it is left out
    assert average(gap).mean == pytest.approx(np.delete(table, 1, axis=1).mean())
    assert average(np.full((1, 3), np.nan)).mean is None
    assert average(np.array([[0.5]])).deviation is None


def test_one_product_is_students_test():
    table = RNG.normal(0.5, 1, size=(1, 6))
    found = difference(table)
    assert found.p_value == pytest.approx(stats.ttest_1samp(table[0], 0).pvalue)
    drawn = RNG.choice(table[0], (20_000, 6)).mean(1)
    width = found.high - found.low
    assert (found.low, found.high) == pytest.approx(
        tuple(np.quantile(drawn, [0.025, 0.975])), abs=0.05 * width
    )


def test_too_little_gives_no_interval():
    assert difference(np.array([[0.1]])).mean == pytest.approx(0.1)
    assert difference(np.array([[0.1]])).low is None
    assert difference(np.array([[0.1, np.nan]])).p_value is None
    assert difference(np.full((2, 2), np.nan)).mean is None


@pytest.mark.parametrize(("products", "seeds"), [(1, 3), (3, 1), (6, 3), (3, 5)])
def test_chance_is_seldom_taken_for_a_difference(products, seeds):
    rng = np.random.default_rng(0)
    trials, wrong = 2000, 0
    for _ in range(trials):
        table = rng.normal(size=(products, seeds))
        if products > 1:  # else what is the product's own is there to be found
            table += rng.normal(size=(products, 1))
        if seeds > 1:
            table += rng.normal(size=(1, seeds))
        wrong += chance_alone(table) < 0.05
    error = np.sqrt(0.05 * 0.95 / trials)
    assert wrong / trials < 0.05 + 3 * error


def test_holm_against_its_definition():
    p_values = [0.01, None, 0.04, 0.03, 0.005]
    assert holm(p_values) == pytest.approx([0.03, None, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.fixture(scope="module")
def study():
    variants = [
        Variant("full"),
        Variant("worse", {"anomalies.threshold": (0.1, 0.1)}, {"pixel_ap": 0.5}),
        Variant("broken", {"anomalies.threshold": (0.2, 0.2)}),
        Variant("alike", {"anomalies.threshold": (0.3, 0.3)}),
    ]
    return parse_study(study_config(default_config(), variants, seeds=range(6)))


@pytest.fixture(scope="module")
def results(study):
    rng = np.random.default_rng(1)
    found = []
    for run in study.runs():
        value = {"full": 0.8, "worse": 0.6, "alike": 0.8}.get(run.variant)
        if value is None:
            found.append(Result(run, {}, diverged="the loss of step 3 is not finite"))
            continue
        value += 0.02 * rng.normal() + 0.05 * np.sin(run.seed)  # shared by the seed's variants
        metrics = {"pixel_ap": value, "image_auroc": 0.9, "aupimo": None}
        found.append(Result(run, {"default": metrics}))
    return found


def test_the_ranking_and_what_is_supported(study, results):
    summary = summarise(study, results)
    assert summary.ranking[2:] == ("worse", "broken")
    assert summary.differences["worse"]["pixel_ap"].is_supported
    assert not summary.differences["alike"]["pixel_ap"].is_supported
    assert summary.differences["worse"]["pixel_ap"].mean == pytest.approx(-0.2, abs=0.03)
    assert summary.differences["broken"]["pixel_ap"].mean is None
    assert summary.averages["worse"]["aupimo"].mean is None
    # Pairing takes the seeds' own share out of the difference.
    unpaired = summary.averages["worse"]["pixel_ap"].deviation
    low, high = (getattr(summary.differences["worse"]["pixel_ap"], x) for x in ("low", "high"))
    assert high - low < 2 * unpaired


def test_tables_say_it_in_words(study, results):
    lines = results_csv(study, results).splitlines()
    assert len(lines) == 1 + 24
    assert sum("diverged" in line for line in lines) == 6
    text = results_markdown(study, results, summarise(study, results))
    assert "worse: worse than full in Pixel AP by" in text
    assert "alike: no difference from full in Pixel AP shown" in text
    assert "broken, brick, seed 2 diverged: the loss of step 3" in text
    row = next(line for line in text.splitlines() if line.startswith("| 3 | worse"))
    assert "| 50.0 |" in row  # published
    assert "*" in row
    partial = summarise(study, results[:3])
    assert partial.averages["alike"]["pixel_ap"].mean is None
    assert "no run to compare" in results_markdown(dataclasses.replace(study), results[:3], partial)


def test_differences_are_paired_by_product_and_seed_over_data_sets():
    products = [Product(name, {"data.category": name}) for name in ("brick", "grass", "gravel")]
    variants = [Variant("full"), Variant("other", {"anomalies.threshold": (0.1, 0.1)})]
    config = study_config(default_config(), variants, seeds=(0, 1))
    config.products = tuple(products)
    study, rng = parse_study(config), np.random.default_rng(0)
    values = {(v.name, p.name): rng.uniform(size=2) for v in variants for p in products}
    results = [
        Result(run, {"default": {"pixel_ap": values[run.variant, run.product][run.seed]}})
        for run in study.runs()
    ]
    summary = summarise(study, results)
    pairs = np.array([values["other", p.name] - values["full", p.name] for p in products])
    expected = difference(pairs)
    found = summary.differences["other"]["pixel_ap"]
    assert (found.mean, found.low, found.p_value) == (pairs.mean(), expected.low, expected.p_value)
    own = summary.by_product["other"]["pixel_ap"]["grass"]
    assert own.mean == pytest.approx(values["other", "grass"].mean())
    text = results_markdown(study, results, summary)
    assert "Pixel AP of each product:\n\n| variant | brick | grass | gravel |" in text
    assert f"| {100 * own.mean:.1f} ± {100 * own.deviation:.1f} |" in text
    assert results_csv(study, results).startswith("variant,product,seed,status,")
