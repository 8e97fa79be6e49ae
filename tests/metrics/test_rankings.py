"""The metrics of a ranking equal scikit-learn's and the definitions, replicates included."""

import numpy as np
import pytest
from sklearn.metrics import auc, average_precision_score, roc_auc_score

from draem_jax.metrics.rankings import (
    Curve,
    aupro,
    auroc,
    average_precision,
    f1_max,
    precision_recall_curve,
    rank,
    roc_curve,
    thin,
)
from tests.evaluation import references


@pytest.fixture(scope="module")
def tied():
    rng = np.random.default_rng(1)
    is_defective = rng.random(300) < 0.3
    return np.round(rng.normal(size=300) + is_defective, 1), is_defective


def test_equal_to_scikit_learn_with_ties(tied):
    scores, is_defective = tied
    ranking = rank(scores, is_defective)
    assert len(ranking.scores) < 100
    counts = ranking.normal, ranking.defect
    assert auroc(*counts) == pytest.approx(roc_auc_score(is_defective, scores), abs=1e-12)
    ap = average_precision_score(is_defective, scores)
    assert average_precision(*counts) == pytest.approx(ap, abs=1e-12)
    best, place = f1_max(*counts)
    assert best == pytest.approx(references.f1_max(is_defective, scores), abs=1e-12)
    found = scores >= ranking.scores[place]
    true = (found & is_defective).sum()
    assert best == pytest.approx(2 * true / (found.sum() + is_defective.sum()), abs=1e-12)
    assert auc(*roc_curve(ranking)) == pytest.approx(auroc(*counts), abs=1e-12)
    recall, precision = precision_recall_curve(ranking)
    assert np.sum(np.diff(recall) * precision[1:]) == pytest.approx(ap, abs=1e-12)


def test_replicates_are_rankings_of_repeated_scores(tied):
    scores, is_defective = tied
    weights = np.random.default_rng(2).poisson(1, (5, 300))
    ranking = rank(scores, is_defective, weights=weights)
    computed = auroc(*ranking[1:3]), average_precision(*ranking[1:3]), f1_max(*ranking[1:3])[0]
    for i, weight in enumerate(weights):
        labels, repeated = np.repeat(is_defective, weight), np.repeat(scores, weight)
        expected = (
            roc_auc_score(labels, repeated),
            average_precision_score(labels, repeated),
            references.f1_max(labels, repeated),
        )
        np.testing.assert_allclose([part[i] for part in computed], expected, atol=1e-12)


@pytest.mark.parametrize("limit", [0.05, 0.3, 1.0])
def test_aupro_by_hand(limit):
    # One pixel of the region is found at a false-positive rate of 0, the other tied with half of
    # the normal pixels: the overlap rises from 1/2 to 1 at a rate of 1/2, and stays there.
    value = aupro(np.array([0, 2, 2]), np.array([0.5, 0.5, 0.0]), limit=limit)
    rising = min(limit, 0.5)
    assert value == pytest.approx((rising * (0.5 + rising / 2) + (limit - rising)) / limit)


def test_what_is_not_defined_is_nan():
    some, none = np.array([1, 2]), np.array([0, 0])
    for counts in ((some, none), (none, some), (none, none)):
        assert np.isnan(auroc(*counts))
        assert np.isnan(average_precision(*counts))
        assert np.isnan(f1_max(*counts)[0])
        assert np.isnan(aupro(*counts))


def test_thinned_curves_keep_their_ends_and_area():
    x = np.linspace(0, 1, 50_000) ** 3
    curve = thin(Curve(x, x**0.1), 300)
    assert len(curve.x) <= 302
    assert (curve.x[0], curve.y[0], curve.x[-1], curve.y[-1]) == (0, 0, 1, 1)
    assert auc(*curve) == pytest.approx(1 / 1.1, abs=1e-3)
