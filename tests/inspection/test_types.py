"""Types of defects: told apart from few examples, unknown where like none, kept without pickle."""

import json

import numpy as np
import pytest
from sklearn.metrics import log_loss

from draem_jax.errors import UserError
from draem_jax.inspection.clusters import group_features
from draem_jax.inspection.features import feature_names
from draem_jax.inspection.types import UNKNOWN, TypeModel

NAMES = feature_names(16)
TYPES = ("crack", "dent", "paint", "scratch", "spot")


def draw(count, *, seed, apart=4.0, types=TYPES):
    """Examples of types whose means lie apart in all features, by spreads of 1 and units of all."""
    means = np.random.default_rng(7).normal(0, apart / np.sqrt(2 * len(NAMES)), (6, len(NAMES)))
    units = 10.0 ** np.random.default_rng(8).uniform(-3, 3, len(NAMES))
    rng = np.random.default_rng(seed)
    labels = [name for name in types for _ in range(count)]
    rows = [[(*TYPES, "other").index(name)] for name in labels]
    features = means[np.ravel(rows)] + rng.normal(0, 1, (len(labels), len(NAMES))) * 0.3
    return [units * row[None] for row in features], labels


def fit(count=5, *, seed=0, **options):
    features, labels = draw(count, seed=seed)
    return TypeModel.fit(features, labels, NAMES, **options)


def test_five_types_are_told_apart_by_five_examples_and_others_are_unknown():
    model = fit()
    features, labels = draw(40, seed=1)
    called = [model.name_picture(row) for row in features]
    right = [c.defect_type == label for c, label in zip(called, labels, strict=True)]
    known = [c.defect_type != UNKNOWN for c in called]
    assert np.mean(known) > 0.85
    assert np.mean(np.array(right)[known]) > 0.98
    others, _ = draw(40, seed=2, types=("other",))
    assert np.mean([model.name_picture(row).defect_type == UNKNOWN for row in others]) > 0.9
    far = model.name_picture(features[0] * 100)
    assert (far.defect_type, far.probability) == (UNKNOWN, None)


def test_few_known_ones_are_called_unknown():
    # Over the choice of examples the share is at most the rate, or 1 / (1 + examples) if more.
    shares = []
    for seed in range(8):
        model = fit(12, seed=seed, unknown_rate=0.1)
        features, _ = draw(20, seed=100 + seed)
        shares.append(np.mean([model.name_picture(r).defect_type == UNKNOWN for r in features]))
    assert 0.02 < np.mean(shares) < 0.14


def test_probabilities_fit_what_was_not_seen():
    # Types that overlap: a certain prediction would be wrong too often.
    features, labels = draw(15, seed=0, apart=0.9)
    model = TypeModel.fit(features, labels, NAMES)
    new, truth = draw(200, seed=1, apart=0.9)
    probabilities = model.probabilities(np.concatenate(new))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-9)
    right = np.array(model.types)[probabilities.argmax(axis=1)] == truth
    assert right.mean() < 0.97
    assert probabilities.max(axis=1).mean() == pytest.approx(right.mean(), abs=0.1)
    shares = np.full((len(truth), 5), 0.2)
    assert log_loss(truth, probabilities, labels=TYPES) < log_loss(truth, shares, labels=TYPES)


def test_units_do_not_matter_nor_does_a_feature_that_never_changes():
    features, labels = draw(5, seed=0)
    new, _ = draw(5, seed=1)
    units = np.linspace(1, 9, len(NAMES))
    units[3] = 0
    for rows in (features, new):
        for row in rows:
            row[:, 3] = 5
    a = TypeModel.fit(features, labels, NAMES)
    b = TypeModel.fit([units * row for row in features], labels, NAMES)
    for row in new:
        one, other = a.name_picture(row), b.name_picture(units * row)
        assert one.defect_type == other.defect_type
        assert one.likeness == pytest.approx(other.likeness)


def test_a_picture_is_named_by_its_largest_region():
    features, labels = draw(5, seed=0)
    model = TypeModel.fit(features, labels, NAMES)
    both = np.concatenate([features[0], features[-1]])
    assert model.name_picture(both) == model.name_regions(both)[0]
    assert [named.defect_type for named in model.name_regions(both)] == [labels[0], labels[-1]]


def test_what_is_kept_says_the_same_and_is_plain_text(tmp_path):
    model = fit(made_from={"step": 400, "data": "surfaces"})
    path = tmp_path / "types" / "step_0000400.json"
    model.save(path)
    json.loads(path.read_text(encoding="utf-8"))
    again = TypeModel.load(path)
    assert again.types == model.types
    assert dict(again.made_from) == {"step": 400, "data": "surfaces"}
    features, _ = draw(3, seed=5)
    for row in features:
        one, other = model.name_picture(row), again.name_picture(row)
        assert one.defect_type == other.defect_type
        assert one.likeness == other.likeness
        assert one.probability == pytest.approx(other.probability)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[: len(text) // 2],
        lambda text: "",
        lambda text: "[]",
        lambda text: text.replace("draem_jax types", "draem_jax thresholds"),
        lambda text: json.dumps(json.loads(text) | {"temperature": -1}),
        lambda text: json.dumps(json.loads(text) | {"temperature": None}),
        lambda text: json.dumps(json.loads(text) | {"types": ["a", "b"]}),
        lambda text: json.dumps(json.loads(text) | {"types": "abcde"}),
        lambda text: json.dumps(json.loads(text) | {"centre": [0.0, 1.0]}),
        lambda text: json.dumps(json.loads(text) | {"scale": ["x"] * len(NAMES)}),
        lambda text: json.dumps(json.loads(text) | {"coefficients": [[1, 2], [3]]}),
        lambda text: json.dumps(json.loads(text) | {"coefficients": 10**400}),
        lambda text: json.dumps(json.loads(text) | {"version": 99}),
        lambda text: text.replace('"centre": [', '"centre": [NaN, '),
    ],
)
def test_a_damaged_file_is_refused_in_one_line(damage, tmp_path):
    path = tmp_path / "types.json"
    fit().save(path)
    path.write_text(damage(path.read_text(encoding="utf-8")), encoding="utf-8")
    with pytest.raises(UserError, match=r"types\.json.*fit the types again") as caught:
        TypeModel.load(path)
    assert "\n" not in str(caught.value)


def test_groups_are_found_without_labels():
    features, labels = draw(12, seed=3)
    features, labels = features[:-5], labels[:-5]  # groups of different sizes
    groups = group_features(np.concatenate(features), NAMES)
    assert len({*zip(groups.tolist(), labels, strict=True)}) == 5
    sizes = np.bincount(groups)
    assert len(sizes) == 5
    assert (np.diff(sizes) <= 0).all()
    assert set(group_features(np.concatenate(features), NAMES, groups=2).tolist()) == {0, 1}
    assert group_features(np.concatenate(features)[:2], NAMES).tolist() == [0, 0]
    with pytest.raises(ValueError, match="2 regions"):
        group_features(np.concatenate(features)[:2], NAMES, groups=3)
