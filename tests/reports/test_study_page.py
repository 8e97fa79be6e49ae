import dataclasses
import re

import numpy as np
import pytest

from draem_jax.metrics.table import heading
from draem_jax.reports.plots import UNKNOWN
from draem_jax.reports.study_page import (
    StudyPicture,
    StudyReport,
    StudyVariant,
    render_study,
)
from draem_jax.reports.variants import Average, Difference
from tests.reports.browser import PHONE, TYPES, needs_browser, visit
from tests.reports.parsing import HOSTILE, Page

LONG = TYPES[-1]
DIVERGED = "learning rate 100 times"
TITLES = [
    "Ranking",
    "What the data support",
    "Learning curves",
    "Simulated anomalies",
    "Maps of the same test pictures",
]
METRICS = ("pixel_ap", "image_auroc", "pixel_auroc")
# Variant → the difference to the baseline in pixel AP, in points, and whether it is supported.
VARIANTS = {
    "default": (0.0, False),
    "solid colours": (-9.3, True),
    "noise": (-6.1, True),
    "self": (1.4, False),
    "paper's opacity": (2.6, True),
    HOSTILE: (-0.4, False),
    LONG: (0.9, False),
    DIVERGED: (0.0, False),
}
PAPER = {"pixel_ap": 0.684, "image_auroc": 0.98, "pixel_auroc": 0.973}


def bump(side: int, x: float, y: float, width: float) -> np.ndarray:
    rows, columns = np.mgrid[:side, :side] / side
    return np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / width**2)


def variant(index: int) -> StudyVariant:
    rng = np.random.default_rng(index)
    name = list(VARIANTS)[index]
    points, supported = VARIANTS[name]
    diverged = index == len(VARIANTS) - 1
    averages, published, differences = {}, {}, {}
    for key, level, share in zip(METRICS, (0.62, 0.951, 0.948), (1, 0.3, 0.2), strict=True):
        shift = points * share / 100
        averages[key] = Average(None, None)
        if not diverged:
            averages[key] = Average(level + shift, 0.004 + 0.01 * rng.random())
        if index == 0:
            published[key] = PAPER[key]
        if index and not diverged:
            half = 0.006 + 0.012 * rng.random()
            differences[key] = Difference(
                shift,
                shift - half,
                shift + half,
                0.004 if supported and key == METRICS[0] else 0.31,
            )
    steps = np.arange(25, 10_001, 25)
    curves = []
    for _ in range(3):
        losses = (0.05 + 0.6 * np.exp(-steps / 1500) - points / 500) * rng.lognormal(
            0, 0.12, steps.size
        )
        if diverged:
            losses[60:] = np.nan
        curves.append((steps, losses))
    strip = rng.integers(90, 140, (64, 8 * 64, 3)).astype(np.uint8)
    for tile in range(8):
        shape = bump(64, *rng.uniform(0.2, 0.8, 2), 0.15) > 0.5
        strip[:, 64 * tile : 64 * tile + 64][shape] = rng.integers(0, 256, 3)
    return StudyVariant(
        name=name,
        changes=["data.texture_source = solid", f"anomalies.opacity = {HOSTILE}"][:index],
        averages=averages,
        published=published,
        differences=differences,
        runs=0 if diverged else 3 - (index == 2),
        diverged=[f"seed {seed} at step 1,500" for seed in range(3)] if diverged else [],
        missing=int(index == 2),
        curves=curves,
        strip=None if index == 3 else strip,
    )


def picture(index: int) -> StudyPicture:
    rng = np.random.default_rng(100 + index)
    x, y = rng.uniform(0.25, 0.75, 2)
    defect = bump(64, x, y, 0.15)
    kind = ("good", "crack", LONG)[index % 3]
    image = (110 + 40 * rng.random((64, 64, 1)) - 70 * (index % 3 > 0) * defect[..., None]).repeat(
        3, -1
    )
    maps = {
        name: np.clip(
            defect * (index % 3 > 0) * (0.9 + points / 12) + 0.1 * rng.random((64, 64)), 0, 1
        )
        for name, (points, _) in list(VARIANTS.items())[:-1]
    }
    mask = None if index == 5 else (defect > 0.4) & (index % 3 > 0)
    return StudyPicture(f"{kind}/{index:03}.png", kind, image.astype(np.uint8), mask, maps)


def study() -> StudyReport:
    return StudyReport(
        title="What the textures are worth",
        facts={
            "Base config": "configs/mvtec_ad.py",
            "Categories": "bottle, cable, carpet, screw",
            "Seeds": "0, 1, 2",
            "Steps": "10,000",
        },
        notes=["1 of 24 runs is yet to be made.", HOSTILE],
        baseline="default",
        metrics=METRICS,
        variants=[variant(index) for index in range(len(VARIANTS))],
        pictures=[picture(index) for index in range(6)],
    )


@pytest.fixture(scope="module")
def report():
    return study()


@pytest.fixture(scope="module")
def text(report):
    return render_study(report)


def ranking(text: str) -> list[list[str]]:
    """The texts of each row of the ranking."""
    table = re.search(r'<table class="ranking">.*?</table>', text, re.DOTALL)[0]
    return [Page(row).texts for row in re.findall(r"<tr>.*?</tr>", table, re.DOTALL)[1:]]


@pytest.fixture(scope="module")
def rows(text):
    return ranking(text)


def test_variants_are_ranked_by_the_first_metric(rows):
    order = sorted(list(VARIANTS)[:-1], key=lambda name: -VARIANTS[name][0])
    assert [row[1] for row in rows] == [*order, DIVERGED]
    assert [row[0] for row in rows] == ["1", "2", "3", "4", "5", "6", "7", UNKNOWN]


def test_equals_share_a_rank(report):
    variants = [
        dataclasses.replace(report.variants[index], name=f"v{place}")
        for place, index in enumerate((1, 4, 4, 2))
    ]
    rows = ranking(render_study(dataclasses.replace(report, variants=variants)))
    assert [row[:2] for row in rows] == [["1", "v1"], ["1", "v2"], ["3", "v3"], ["4", "v0"]]


def test_figures_are_written_in_per_cent_with_one_decimal(report, rows):
    named = {row[1]: row for row in rows}
    baseline = report.variants[0].averages
    values = []
    for key in METRICS:
        mean, deviation = baseline[key].mean, baseline[key].deviation
        values += [f"{100 * mean:.1f}", f"± {100 * deviation:.1f}", f"paper {100 * PAPER[key]:.1f}"]
    assert named["default"] == ["4", "default", "baseline", *values, "3"]
    difference = report.variants[4].differences["pixel_ap"]
    assert named["paper's opacity"][-4:] == [
        "▲",
        "+2.6",
        f"+{100 * difference.low:.1f} to +{100 * difference.high:.1f}",
        "3",
    ]
    assert named["noise"][-5:-2] == ["▼", "\N{MINUS SIGN}6.1", named["noise"][-3]]
    assert named["noise"][-2:] == ["2", "1 missing"]
    assert {"▲", "▼"}.isdisjoint(named["self"])
    assert named[DIVERGED][-6:] == [UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, "0", "3 diverged"]


def test_each_variant_has_its_finding_in_words(text):
    items = re.findall(r"<li><span>.*?</li>", text, re.DOTALL)
    findings = {}
    for item in items:
        *_, name, sentence = Page(item).texts
        findings[name] = sentence
    assert list(findings) != []
    assert set(findings) == set(VARIANTS) - {"default"}
    for name, (points, supported) in VARIANTS.items():
        if name in ("default", DIVERGED):
            continue
        expected = ("better than" if points > 0 else "worse than") if supported else "no difference"
        assert findings[name].startswith(f": {expected}"), name
    assert "no run has finished" in findings[DIVERGED]
    # The interval alone is not enough.
    assert "the t test does not agree" in findings["self"]
    assert "does not agree" not in findings[LONG]
    # In few words, what is not shown is not called equal.
    assert not any("equal" in sentence for sentence in findings.values())


def test_products_have_columns_in_the_order_of_the_ranking(report):
    averages = {"brick": Average(0.512, 0.01), HOSTILE: Average(None, None)}
    variants = [dataclasses.replace(one, products=averages) for one in report.variants]
    page = render_study(dataclasses.replace(report, variants=variants))
    rows = ranking(page.split("of each product</summary>")[1])
    assert [name for name, *_ in rows] == [name for _, name, *_ in ranking(page)]
    assert all(cells == ["51.2", "± 1.0", UNKNOWN] for _, *cells in rows)
    assert "of each product" not in render_study(report)


def test_few_pairs_and_none_are_told_apart(report):
    base, other = report.variants[0], report.variants[1]
    few = Difference(0.0049, None, None, None)
    none = Difference(None, None, None, None)
    for difference, words in ((few, "(+0.5 points; too few pairs"), (none, "no run in common")):
        variants = [base, dataclasses.replace(other, differences={"pixel_ap": difference})]
        assert words in render_study(dataclasses.replace(report, variants=variants))


def test_what_other_metrics_support_is_said(report):
    base, other = report.variants[0], report.variants[1]
    none = Difference(0.001, -0.01, 0.01, 0.9)
    clear = Difference(-0.17, -0.18, -0.16, 0.005)
    found = dict.fromkeys(report.metrics, none) | {report.metrics[-1]: clear}
    variants = [base, dataclasses.replace(other, differences=found)]
    page = render_study(dataclasses.replace(report, variants=variants))
    metric = heading(report.metrics[-1])
    sentence = f"But worse in {metric} (\N{MINUS SIGN}17.0 points, p = 0.005)."
    assert sentence in page.replace("\N{NO-BREAK SPACE}", " ")


def test_diverged_runs_are_named(text):
    folded = Page(text[text.index('<details class="diverged">') :]).texts
    assert folded[0] == "3 runs diverged"
    for seed in range(3):
        assert f"seed {seed} at step 1,500" in folded


def test_names_are_escaped_and_nothing_comes_from_outside(text):
    page = Page(text)
    assert page.count("script") == 1
    assert not any("onerror" in attributes for _, attributes in page.tags)
    assert page.texts.count(HOSTILE) >= 5
    assert not re.search(r"https?:|//\w+\.\w|@import|url\((?!#)", text)
    for tag, attributes in page.tags:
        for name in ("src", "href", "xlink:href", "srcset", "action", "data", "poster"):
            address = attributes.get(name)
            assert address is None or address.startswith(("data:", "#")), (tag, name)
    assert "default-src 'none'" in text
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids)) > 0


def test_every_map_stands_in_its_column(report, text):
    page = Page(text)
    shown = [image["alt"] for image in page.all("img")]
    for picture in report.pictures:
        row = [f"Picture {picture.name}"]
        if picture.mask is not None and picture.mask.any():
            row.append(f"True mask of {picture.name}")
        row += [f"{name}: anomaly map of {picture.name}" for name in picture.maps]
        at = shown.index(row[0])
        assert shown[at : at + len(row)] == row
    strips = [v.name for v in report.variants if v.strip is not None]
    assert shown[: len(strips)] == [f"Simulated anomalies: {name}" for name in strips]
    assert page.texts.count("no run") == len(report.pictures)
    assert page.texts.count("no defect") == 2
    assert page.texts.count("not known") == 1


def test_bare_studies_are_shown(report):
    nothing = dataclasses.replace(report, variants=[], pictures=[], metrics=[], facts={}, notes=[])
    page = Page(render_study(nothing))
    assert page.count("h1") == 1
    assert page.count("h2") == page.count("script") == 0
    empty = StudyVariant("default", [], {}, {}, {}, 0, [], 2, [], None)
    page = Page(render_study(dataclasses.replace(report, variants=[empty], pictures=[])))
    assert [text for text in page.texts if text in ("Ranking", "Learning curves")] == ["Ranking"]
    assert "2 missing" in page.texts


@needs_browser
def test_it_fits_screen_and_phone(tmp_path, report, text):
    open_page = text.replace("<details", "<details open")
    for width in (None, PHONE):
        visited = visit(tmp_path, [open_page], width=width, dark=width is not None)
        assert visited.console == visited.requests == []
        (seen,) = visited.seen
        assert seen["content"] <= seen["width"] == (width or 1200)
        assert seen["over"] == []
        assert seen["broken"] == 0
        assert seen["titles"] == TITLES
        assert seen["enlarged"] == [True, "Simulated anomalies: default"]
        assert seen["dialogFits"]
        assert seen["closed"]
