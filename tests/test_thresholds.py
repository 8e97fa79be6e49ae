"""Thresholds against their definitions, and the guarantee by simulation."""

import json
import math
from fractions import Fraction

import numpy as np
import pytest
from sklearn.metrics import f1_score

from draem_jax.errors import UserError
from draem_jax.thresholds import (
    Thresholds,
    ascending,
    best_f1,
    choose_score,
    conformal_threshold,
    p_values,
    pictures_needed,
    pixel_threshold,
)

DRAWS = {
    "normal": lambda rng, n: rng.normal(size=n),
    "heavy tails": lambda rng, n: rng.standard_cauchy(n),
    "few values": lambda rng, n: rng.integers(0, 5, n).astype(float),
    "saturated": lambda rng, n: np.minimum(rng.gamma(0.3, size=n), 0.5).astype(np.float32),
    "all equal": lambda rng, n: np.zeros(n),
}
ALPHAS = (0.01, 0.05, 0.1, 0.3, 0.7, 0.99)


@pytest.mark.parametrize("name", DRAWS)
def test_p_values_and_thresholds_by_definition(name):
    rng = np.random.default_rng(0)
    for n in (0, 1, 2, 9, 10, 19, 20, 99):
        calibration, scores = DRAWS[name](rng, n), DRAWS[name](rng, 200)
        counted = [1 + sum(c >= s for c in calibration) for s in scores]
        expected = np.array([count / (n + 1) for count in counted])
        np.testing.assert_array_equal(p_values(calibration, scores), expected)
        for alpha in ALPHAS:
            exact = [Fraction(count, n + 1) <= Fraction(str(alpha)) for count in counted]
            threshold = conformal_threshold(calibration, alpha)
            called = np.zeros(200, bool) if threshold is None else scores > threshold
            assert called.tolist() == exact == (expected <= alpha).tolist()
            assert (threshold is None) == (n < pictures_needed(alpha))


@pytest.mark.parametrize("name", DRAWS)
def test_no_more_false_alarms_than_named_over_random_splits(name):
    rng, alpha, n = np.random.default_rng(1), 0.05, 59
    rates = []
    for _ in range(1000):
        pool = rng.permutation(DRAWS[name](rng, n + 200))
        threshold = conformal_threshold(pool[:n], alpha)
        rates.append(np.mean(pool[n:] > threshold))
    error = np.std(rates) / math.sqrt(len(rates))
    assert np.mean(rates) <= alpha + error
    if name in ("normal", "heavy tails"):  # without ties nothing is given away either
        assert np.mean(rates) >= alpha - 2 * error


@pytest.mark.parametrize("name", DRAWS)
def test_no_more_false_alarms_than_named_whichever_picture_is_new(name):
    # Exchangeable pictures: each of the pool is the new one equally often. No chance is left.
    rng = np.random.default_rng(2)
    for size in (2, 5, 20, 21, 40):
        pool = DRAWS[name](rng, size)
        p = np.array([p_values(np.delete(pool, i), pool[i : i + 1])[0] for i in range(size)])
        for alpha in ALPHAS:
            assert np.sum(p <= alpha) <= alpha * size


def test_pictures_needed():
    assert [pictures_needed(a) for a in (0.5, 0.1, 0.05, 0.03, 0.01)] == [1, 9, 19, 33, 99]
    for alpha in (0.0, 1.0, -0.1, 5.0, float("nan")):
        with pytest.raises(UserError, match=r"between 0 and 1.*0\.01"):
            pictures_needed(alpha)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
@pytest.mark.parametrize("name", DRAWS)
def test_best_f1_is_the_best_of_all_thresholds(name, kind):
    rng = np.random.default_rng(3)
    for n in (2, 7, 60):
        values = DRAWS[name](rng, n).astype(kind)
        labels = rng.random(n) < 0.3
        labels[:2] = True, False
        values[labels] += kind(0.7)
        cuts = [-np.inf, *np.unique(values)]
        reached = [f1_score(labels, values > cut, zero_division=0.0) for cut in cuts]
        found = best_f1(values, labels)
        assert found.f1 == pytest.approx(max(reached), abs=1e-12)
        assert f1_score(labels, values > found.threshold) == pytest.approx(found.f1, abs=1e-12)
        # Among equals, the fewest false alarms.
        highest = max(cut for cut, f1 in zip(cuts, reached, strict=True) if f1 > found.f1 - 1e-12)
        np.testing.assert_array_equal(values > found.threshold, values > highest)


def test_best_f1_of_neighbouring_floats_and_of_one_class():
    values = np.array([1.0, np.nextafter(np.float32(1), np.float32(2))], np.float32)
    assert (values > best_f1(values, np.array([False, True])).threshold).tolist() == [False, True]
    assert best_f1(np.array([0.1, 0.4]), np.array([False, True])).threshold == 0.25
    for labels in (np.zeros(2, bool), np.ones(2, bool)):
        assert best_f1(values, labels) is None
    assert best_f1(np.zeros(0), np.zeros(0, bool)) is None


def test_choosing_the_score():
    assert choose_score({"mean5": 0.9, "top1%": 0.95, "mean21": 0.9}) == "top1%"
    assert choose_score({"mean5": 0.9, "top1%": 0.9, "mean21": 0.9}) == "mean21"
    assert choose_score({"top1%": 0.9, "mean5": 0.9, "mean21": 0.8}) == "top1%"
    assert choose_score({"mean5": 0.1, "mean21": None, "top1%": float("nan")}) == "mean5"
    assert choose_score({"mean5": None}) == choose_score({}) == "mean21"
    assert choose_score({"mean5": 0.9, "mean21": 0.9}, default="mean5") == "mean5"


def thresholds_of(scores, margins, *, score="mean21", **others) -> Thresholds:
    return Thresholds(score, ascending(scores), ascending(margins), **others)


def made(**changes) -> Thresholds:
    rng = np.random.default_rng(5)
    fields = {
        "best_f1_score": 0.25,
        "best_f1_margin": -1.5,
        "simulated_pictures": 40,
        "simulated_defective": 20,
        "made_from": {"step": 700, "data": "mvtec_ad:böttle", "seed": None, "share": 0.5},
    }
    scores, margins = rng.random(49).astype(np.float32), rng.normal(size=49).astype(np.float32)
    return thresholds_of(scores, margins, **({"score": "top1%"} | fields | changes))


def test_round_trip_is_exact_and_plain(tmp_path):
    before = made()
    before.save(tmp_path / "run" / "thresholds.json")
    after = Thresholds.load(tmp_path / "run" / "thresholds.json")
    assert after == before
    text = (tmp_path / "run" / "thresholds.json").read_text()
    assert json.loads(text)["score"] == "top1%"
    assert "NaN" not in text
    assert "Infinity" not in text
    assert list(after.normal_scores) == sorted(after.normal_scores)
    scores = np.linspace(0, 1, 301, dtype=np.float32)
    np.testing.assert_array_equal(
        after.p_values(scores) <= 0.1, scores > after.image_threshold(0.1)
    )
    assert after.margin_threshold(0.1) == conformal_threshold(np.array(before.normal_margins), 0.1)


def test_an_empty_calibration_is_kept_and_calls_nothing(tmp_path):
    nothing = thresholds_of(np.zeros(0), np.zeros(0))
    nothing.save(tmp_path / "t.json")
    assert Thresholds.load(tmp_path / "t.json") == nothing
    assert nothing.image_threshold(0.5) is nothing.margin_threshold(0.5) is None
    assert "at least 1, or" in nothing.warning(0.5)


def test_words_say_what_holds():
    assert made().warning(0.02) is None
    warning = made().warning(0.01)
    assert "49 held-out normal pictures cannot support a false-alarm rate of 1 %" in warning
    assert "at least 99, or a rate of 2 % or more" in warning
    assert "Nothing is called" in made().guarantee(0.01)
    # The least rate that is named is itself supported, though 1 / 31 is rounded.
    few = thresholds_of(np.arange(30.0), np.arange(30.0))
    assert "a rate of 3.23 % or more" in few.warning(0.01)
    assert few.warning(0.0323) is None
    guarantee = made().guarantee(0.1)
    assert guarantee.startswith("At most 10 % of normal pictures are called anomalous, on average")
    assert "\n" not in guarantee


def test_the_bound_for_one_set_of_pictures_holds_by_simulation():
    rng, n, alpha = np.random.default_rng(6), 49, 0.1
    text = thresholds_of(np.arange(49.0), np.arange(49.0)).guarantee(alpha)
    bound = float(text.split("the rate is at most ")[1].split(" %")[0]) / 100
    # Of uniform scores, the rate is what lies above the threshold.
    rates = [1 - conformal_threshold(rng.random(n), alpha) for _ in range(4000)]
    assert np.mean(np.array(rates) <= bound) == pytest.approx(0.9, abs=0.015)


@pytest.mark.parametrize(
    "change",
    [
        {"normal_scores": [0.2, 0.1]},
        {"normal_scores": [0.1]},
        {"normal_scores": [0.1, True]},
        {"normal_scores": [0.1, "0.2"]},
        {"normal_scores": ""},
        {"normal_scores": [0, 10**400]},
        {"normal_margins": None},
        {"best_f1_score": "high"},
        {"best_f1_margin": [1]},
        {"score": "median"},
        {"score": 3},
        {"simulated_defective": 3},
        {"simulated_pictures": 1.5},
        {"made_from": []},
        {"made_from": {"a": {}}},
        {"version": 2},
        {"format": "another"},
        {"more": 1},
    ],
    ids=str,
)
def test_damaged_content_is_one_line(tmp_path, change):
    path = tmp_path / "t.json"
    thresholds_of(np.arange(2.0), np.arange(2.0)).save(path)
    content = json.loads(path.read_text()) | change
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"t\.json holds no usable thresholds: .*calibrate") as info:
        Thresholds.load(path)
    assert "\n" not in str(info.value)


def test_foreign_files_are_one_line(tmp_path):
    path = tmp_path / "t.json"
    made().save(path)
    good = path.read_bytes()
    foreign = [b"", good[:-9], b"\x80\x04\x95", b"[]", b"{}", b"null", b"[" * 100_000]
    foreign += [good.replace(b"-1.5", b"NaN"), good.replace(b"-1.5", b"-1e999")]
    foreign += [good.replace(b'"score"', b'"scor"')]
    for content in foreign:
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"holds no usable thresholds: ") as info:
            Thresholds.load(path)
        assert "\n" not in str(info.value)
    for missing in (tmp_path / "none.json", tmp_path):
        with pytest.raises(UserError, match=r"cannot read the thresholds in .*calibrate"):
            Thresholds.load(missing)


def test_nonsense_is_never_made():
    for changes in ({"best_f1_score": float("nan")}, {"simulated_defective": 41}):
        with pytest.raises(ValueError, match=r"finite|simulated"):
            made(**changes)
    with pytest.raises(ValueError, match="finite"):
        thresholds_of(np.array([np.inf]), np.zeros(1))
    with pytest.raises(ValueError, match="ascending"):
        Thresholds("mean21", (0.2, 0.1), (0.1, 0.2))
    with pytest.raises(ValueError, match="unknown"):
        thresholds_of(np.zeros(1), np.zeros(1), score="median")


def test_the_pixel_threshold_says_where_it_comes_from():
    normal = np.linspace(0, 1, 19)
    thresholds = thresholds_of(normal, normal * 2, best_f1_margin=-0.3)
    assert pixel_threshold(None) == (0.0, "even")
    assert pixel_threshold(thresholds) == (-0.3, "best_f1")
    assert pixel_threshold(thresholds, rule="conformal", alpha=0.05) == (2.0, "conformal")
    with pytest.raises(UserError, match="held-out normal pictures cannot support"):
        pixel_threshold(thresholds, rule="conformal", alpha=0.01)
    with pytest.raises(UserError, match="holdout above 0"):
        pixel_threshold(None, rule="conformal")
