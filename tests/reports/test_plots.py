import xml.etree.ElementTree as ElementTree

import matplotlib
import numpy as np
import pytest

from draem_jax.reports import plots

HOSTILE = "<script>$x$&\"'"


def texts(svg: str) -> list[str]:
    """Parses the plot, which must be well-formed, and lists its texts."""
    root = ElementTree.fromstring(svg)
    return [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]


def curve(count: int):
    x = np.linspace(0, 1, count)
    return x, x**0.2, 0.875


SCORES = {"good": np.linspace(0, 1, 9), HOSTILE: np.array([0.5]), "none": np.zeros(0)}
BARS = {HOSTILE: 0.5, "b": 0.999, "c": None, "d": float("nan")}
STEPS = np.arange(1, 1_001)
RUNS = [(STEPS, 1 / STEPS), (STEPS, np.where(STEPS < 500, 2 / STEPS, np.nan))]
DIFFERENCES = {HOSTILE: (0.02, 0.01, 0.03), "b": (-0.1, None, None), "c": (None, None, None)}
DRAW = {
    "roc": lambda: plots.roc({"image": curve(100), HOSTILE: curve(10)}),
    "precision_recall": lambda: plots.precision_recall({"image": curve(100), HOSTILE: curve(10)}),
    "pro": lambda: plots.pro({"image": curve(100), HOSTILE: curve(10)}, caption=HOSTILE),
    "panel": lambda: plots.roc(
        {HOSTILE: curve(100)}, behind={"images": curve(9)}, panel=HOSTILE, caption="a"
    ),
    "histogram": lambda: plots.histogram(
        SCORES["good"], SCORES[HOSTILE], threshold=0.4, caption=HOSTILE
    ),
    "scores": lambda: plots.scores(SCORES, threshold=0.4),
    "bars": lambda: plots.bars(BARS, label="AP"),
    "differences": lambda: plots.differences(DIFFERENCES, label="AP", supported=["b"]),
    "learning_curves": lambda: plots.learning_curves({HOSTILE: RUNS, "b": RUNS}, baseline="b"),
    "learning_panel": lambda: plots.learning_curves({HOSTILE: RUNS}, panel=HOSTILE),
}


@pytest.mark.parametrize("name", DRAW)
def test_plot_is_well_formed_small_and_shows_names_as_they_are(name):
    before = dict(matplotlib.rcParams)
    svg = DRAW[name]()
    assert svg.startswith("<svg ")
    assert len(svg) < 15_000
    told = ElementTree.fromstring(svg).get("aria-label")  # for readers who listen
    assert told.endswith(HOSTILE) or any(text.startswith(HOSTILE) for text in texts(svg))
    assert DRAW[name]() == svg
    assert dict(matplotlib.rcParams) == before


def test_plots_share_no_element_names():
    names = []
    for draw in DRAW.values():
        names += {element.get("id") for element in ElementTree.fromstring(draw()).iter()} - {None}
    assert len(names) == len(set(names)) > 0


def test_curves_of_any_length_stay_small():
    assert len(plots.roc({"pixel": curve(1_000_000)})) < 20_000


def test_thinning_keeps_ends_and_shape():
    x = np.concatenate([np.zeros(5_000), np.linspace(0, 1, 5_000)])
    y = np.concatenate([np.linspace(0, 0.9, 5_000), np.linspace(0.9, 1, 5_000)])
    thin_x, thin_y = plots._thin(x, y)
    assert len(thin_x) <= 152
    assert (thin_x[0], thin_y[0], thin_x[-1], thin_y[-1]) == (0, 0, 1, 1)
    assert np.abs(np.interp(x[5_000:], thin_x, thin_y) - y[5_000:]).max() < 7e-3
    assert np.hypot(np.diff(thin_x), np.diff(thin_y)).max() < 0.02


def test_scores_of_many_pictures_keep_the_extremes():
    values = np.sort(np.random.default_rng(0).random(5_000))
    shown = plots._thin_sorted(values)
    assert (shown[0], shown[-1]) == (values[0], values[-1])
    assert len(plots.scores({"good": values})) < 30_000


def test_values_are_written_out():
    written = texts(plots.bars({"a": 0.5, "b": 0.9999, "c": None}, label="Pixel AP"))
    assert {"50.0 %", "> 99.9 %", plots.UNKNOWN, "Pixel AP"} <= set(written)
    assert "image · AUROC 87.5 %" in texts(plots.roc({"image": curve(10)}))
    assert "image" in texts(plots.roc({"image": (*curve(10)[:2], None)}))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0.0 %"),
        (0.98123, "98.1 %"),
        (0.99951, "> 99.9 %"),
        (1.0, "100.0 %"),
        (None, plots.UNKNOWN),
    ],
)
def test_percent(value, text):
    assert plots.percent(value) == text


def test_pro_ends_at_its_limit():
    x, y = np.array([0, 0.2, 0.4, 1.0]), np.array([0, 0.5, 0.9, 1.0])
    drawn = {limit: plots.pro({"pixels": (x, y, 0.4)}, limit=limit) for limit in (0.3, 0.05, 1.0)}
    for limit, svg in drawn.items():
        assert {"0", f"{limit:g}"} <= set(texts(svg))
    # Up to its limit it is the curve that ends there, at 0.7 between 0.5 and 0.9.
    ended = plots.pro({"pixels": (np.array([0, 0.2, 0.3]), np.array([0, 0.5, 0.7]), 0.4)})
    assert drawn[0.3] == ended


def test_histograms_of_little():
    one, none = np.array([0.3]), np.zeros(0)
    for good, defective in ((one, none), (none, one), (one, one), (none, none)):
        words = texts(plots.histogram(good, defective, threshold=0.3))
        assert ("good" in words, "defective" in words) == (good.size > 0, defective.size > 0)
    assert len(plots.histogram(np.random.default_rng(0).random(100_000), one)) < 15_000


def test_learning_curves_are_means_over_stretches_up_to_where_they_diverge():
    rng = np.random.default_rng(0)
    steps, losses = np.arange(1, 6_001), rng.random(6_000)
    broken = np.where(steps < 3_000, losses, np.inf)
    (x, y, is_whole), (short_x, short_y, short_is_whole) = plots._smooth(
        {"a": [(steps, losses), (steps, broken)]}
    )["a"]
    assert (is_whole, short_is_whole) == (True, False)
    assert len(x) == 60
    # The step 6,000 closes the last stretch; before it, each holds the steps from 100 k on.
    np.testing.assert_allclose(y[1:-1], losses[99:5_899].reshape(58, 100).mean(1))
    np.testing.assert_allclose(x[1:-1], steps[99:5_899].reshape(58, 100).mean(1))
    np.testing.assert_allclose(y[-1], losses[5_899:].mean())
    np.testing.assert_allclose(short_y, y[: len(short_y)])
    assert short_x[-1] < 3_000
    few = np.array([1, 500, 1_000]), np.array([3.0, 2.0, 1.0])
    ((x, y, _),) = plots._smooth({"a": [few]})["a"]
    assert (x.tolist(), y.tolist()) == ([1, 500, 1_000], [3, 2, 1])


def test_variants_can_be_told_apart_and_keep_their_looks():
    names = [f"v{number}" for number in range(12)]
    looks = plots._looks(names, "v3")
    assert len({(look["color"], look["linestyle"]) for look in looks.values()}) == 12
    assert plots._looks(names[:5], "v3").items() <= looks.items()


def test_empty_plots_are_drawn():
    nothing = np.zeros(0, int), np.zeros(0)
    for curves in ({}, {"a": []}, {"a": [nothing]}, {"a": [(np.ones(1, int), np.zeros(1))]}):
        texts(plots.learning_curves(curves, baseline="a"))
    texts(plots.differences({}, label="AP"))
    for svg in (plots.roc({}), plots.scores({}), plots.bars({}, label="AP")):
        texts(svg)
    for svg in (plots.pro({}), plots.histogram(np.zeros(0), np.zeros(0))):
        texts(svg)
