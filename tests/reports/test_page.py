import base64
import dataclasses
import io
import re

import numpy as np
import pytest
from PIL import Image

from draem_jax.reports.gallery import WORST_FIRST, rank_errors, worst_first
from draem_jax.reports.page import Report, ReportPicture, render
from draem_jax.reports.plots import UNKNOWN
from tests.reports.parsing import HOSTILE, Page


def picture(index: int, kind: str = "crack", **changes) -> ReportPicture:
    rng = np.random.default_rng(index)
    mask = np.zeros((24, 32), bool)
    if kind != "good":
        mask[5:9, 5:15] = True
    made = ReportPicture(
        name=f"{kind}/{index:03}.png",
        defect_type=kind,
        score=float(rng.random()),
        image=rng.integers(0, 256, (24, 32, 3)).astype(np.uint8),
        reconstruction=rng.random((24, 32, 3)).astype(np.float32),
        anomaly_map=rng.random((24, 32)).astype(np.float32),
        mask=mask,
        is_defective=kind != "good",
    )
    return dataclasses.replace(made, **changes)


def report(**changes) -> Report:
    x = np.linspace(0, 1, 40)
    made = Report(
        title="Bricks",
        facts={"Seed": "0"},
        notes=["Demonstration data."],
        metrics={"image_auroc": 0.981, "image_ap": 0.99, "pixel_auroc": 0.97, "pixel_ap": 0.684},
        metrics_by_type={
            "crack": {"pixel_ap": 0.7},
            "stain": {"pixel_ap": 0.6, "aupro_0.3": 0.1},
        },
        roc_curves={"image": (x, x**0.2, 0.981), "pixel": (x, x**0.1, 0.97)},
        pr_curves={"image": (x, 1 - x**4, 0.99), "pixel": (x, 1 - x**2, 0.684)},
        threshold=0.5,
        pictures=[picture(i, kind) for i, kind in enumerate(["good", "crack", "stain"] * 4)],
    )
    return dataclasses.replace(made, **changes)


def test_rank_errors_by_hand():
    scores = np.array([0.1, 0.4, 0.6, 0.4, 0.9, 0.05])
    is_defective = np.array([False, False, False, True, True, True])
    expected = [1 / 3, 2 / 3, 2 / 3, 2 / 3, 0, 1]
    np.testing.assert_allclose(rank_errors(scores, is_defective), expected)


def ordered(scores, is_defective, maps, masks):
    return worst_first(rank_errors(scores, is_defective), scores, is_defective, maps, masks)


def test_worst_first_by_hand():
    # The same scores: picture 5 has every good one above it, and 4 is right. Pictures 1, 2 and 3
    # tie at 2/3; their maps are off by 0.4, 0.1 and 0.75.
    scores = np.array([0.1, 0.4, 0.6, 0.4, 0.9, 0.05])
    is_defective = np.array([False, False, False, True, True, True])
    half = np.array([[True, True], [False, False]])
    maps = [np.full((2, 2), value) for value in (0.9, 0.4, 0.1)]
    maps += [np.array([[0.0, 0.0], [0.5, 0.5]]), half.astype(float), half.astype(float)]
    masks = [None, np.zeros((2, 2), bool), None, half, half, half]
    order = ordered(scores, is_defective, maps, masks)
    assert order.tolist() == [5, 3, 1, 2, 0, 4]


def test_worst_first_breaks_ties_by_map_then_score_then_place():
    good = np.zeros(4, bool)
    maps = np.zeros((4, 2, 2))
    maps[2] = 0.5
    order = ordered(np.array([0.2, 0.7, 0.1, 0.2]), good, maps, [None] * 4)
    assert order.tolist() == [2, 1, 0, 3]
    order = ordered(np.array([0.2, 0.7, 0.1, 0.2]), ~good, maps, [None] * 4)
    assert order.tolist() == [2, 0, 3, 1]


def test_worst_first_of_nothing():
    assert ordered(np.zeros(0), np.zeros(0, bool), [], []).tolist() == []


def test_page_asks_for_nothing_from_outside():
    text = render(report())
    assert not re.search(r"https?:|//\w+\.\w|@import|url\((?!#)", text)
    for tag, attributes in Page(text).tags:
        for name in ("src", "href", "xlink:href", "srcset", "action", "data", "poster"):
            address = attributes.get(name)
            assert address is None or address.startswith(("data:", "#")), (tag, name)
    assert "default-src 'none'" in text


def test_page_escapes_hostile_texts():
    made = report(
        title=HOSTILE,
        facts={HOSTILE: HOSTILE},
        notes=[HOSTILE],
        metrics_by_type={HOSTILE: {"pixel_ap": 0.5}},
        roc_curves={HOSTILE: (np.zeros(2), np.ones(2), 0.5)},
        pictures=[picture(0, HOSTILE), picture(1, "good")],
    )
    page = Page(render(made))
    assert page.count("script") == Page(render(report())).count("script") == 1
    assert not any("onerror" in attributes for _, attributes in page.tags)
    assert HOSTILE in page.texts
    assert page.all("article")[0]["data-type"] in (HOSTILE, "good")


def test_page_shows_each_picture_worst_first():
    made = report(threshold=None)
    text = render(made)
    page = Page(text)
    # Five tiles for a defective picture, four for a good one, and the enlarged one.
    assert page.count("img") == 8 * 5 + 4 * 4 + 1
    order = ordered(
        np.array([p.score for p in made.pictures]),
        np.array([p.is_defective for p in made.pictures]),
        [p.anomaly_map for p in made.pictures],
        [p.mask for p in made.pictures],
    )
    names = [name for name in page.texts if name.endswith(".png")]
    assert names == [made.pictures[index].name for index in order]
    assert any(WORST_FIRST in words for words in page.texts)
    for image in page.all("img")[:-1]:
        with Image.open(io.BytesIO(base64.b64decode(image["src"].split(",")[1]))) as tile:
            assert tile.size == (32, 24)


def test_page_limits_the_gallery_and_says_so():
    page = Page(render(report(total_pictures=83), max_pictures=3))
    assert len(page.all("article")) == 3
    assert any(words.startswith("3 of 83 test pictures.") for words in page.texts)


def test_given_rank_errors_set_the_order():
    pictures = [picture(i, rank_error=error) for i, error in enumerate((0.1, 0.8, 0.3))]
    page = Page(render(report(pictures=pictures, threshold=None)))
    names = [name for name in page.texts if name.endswith(".png")]
    assert names == ["crack/001.png", "crack/002.png", "crack/000.png"]
    with pytest.raises(ValueError, match="rank_error"):
        render(report(pictures=[picture(0, rank_error=0.1), picture(1)]))


def test_metrics_are_labelled_and_formatted():
    metrics = {"image_auroc": 0.981, "pixel_f1_max": 0.5, "aupro_0.05": 0.99999, "aupimo": 0.7}
    page = Page(render(report(metrics=metrics)))
    shown = {"Image AUROC": "98.1 %", "Pixel best F1": "50.0 %", "AUPRO 0.05": "> 99.9 %"}
    shown |= {"AUPIMO": "70.0 %"}
    for label, value in shown.items():
        assert page.texts[page.texts.index(label) + 1] == value
    assert {"AUPRO 0.3", "10.0 %"} <= set(page.texts)


def test_intervals_and_reasons_stand_by_their_figures():
    made = report(
        metrics={"image_auroc": 0.981, "aupro": None, "pixel_ap": None},
        metrics_by_type={"crack": {"pixel_ap": 0.7}, "stain": {"pixel_ap": None}},
        intervals={
            "image_auroc": (0.9523, 0.99),
            "pixel_ap": (float("nan"), 1.0),
            "aupro": (0.0, 1.0),
        },
        intervals_by_type={"crack": {"pixel_ap": (0.61, 0.79)}},
        interval_level=0.9,
        reasons={"aupro": "No defect has a region."},
        reasons_by_type={"stain": {"pixel_ap": "no mask is known."}},
        threshold=None,
    )
    page = Page(render(made))
    interval = f"95.2 {UNKNOWN} 99.0 %"
    at = page.texts.index(interval)
    assert page.texts[at - 2 : at + 2] == ["Image AUROC", "98.1 %", interval, "90 % interval"]
    assert page.texts.count("90 % interval") == 1
    assert page.texts[page.texts.index(f"61.0 {UNKNOWN} 79.0 %") - 1] == "70.0 %"
    assert "No defect has a region." in page.texts
    assert page.texts[page.texts.index(", Pixel AP: no mask is known.") - 1] == "stain"


def test_decisions_are_counted_and_the_wrong_ones_come_first():
    made = report(threshold=0.5)
    page = Page(render(made))
    misses = [p.name for p in made.pictures if p.is_defective and p.score <= 0.5]
    alarms = [p.name for p in made.pictures if not p.is_defective and p.score > 0.5]
    assert misses
    assert alarms
    found = sum(p.is_defective for p in made.pictures) - len(misses)
    passed = sum(not p.is_defective for p in made.pictures) - len(alarms)
    counts = {"found": found, "missed": len(misses), "false alarms": len(alarms), "passed": passed}
    for word, count in counts.items():
        assert page.texts[page.texts.index(word) - 1] == str(count)
    names = [text for text in page.texts if text.endswith(".png")]
    shown = dict(
        zip(names, (a["data-outcome"] for a in page.all("article", "sample")), strict=True)
    )
    assert {name for name, made_of in shown.items() if made_of == "miss"} == set(misses)
    assert {name for name, made_of in shown.items() if made_of == "false alarm"} == set(alarms)
    assert set(names[: len(misses + alarms)]) == {*misses, *alarms}
    # Among the wrong ones and among the right ones, the order is that without decisions.
    free = Page(render(dataclasses.replace(made, threshold=None))).texts
    free = [text for text in free if text.endswith(".png")]
    wrong = [name for name in free if name in {*misses, *alarms}]
    assert names == wrong + [name for name in free if name not in wrong]
    # A score at the threshold is not above it; of some pictures only, nothing is counted.
    on_it = report(pictures=[picture(0, "good", score=0.5)])
    assert Page(render(on_it)).all("article", "sample")[0]["data-outcome"] == "right"
    assert "found" not in Page(render(report(total_pictures=83))).texts


def test_the_caption_is_on_every_figure():
    caption = "Simulated <anomalies>, not a test set"
    x = np.linspace(0, 1, 40)
    curves = {"images": (x, x**0.2, 0.9), "pixels": (x, x**0.3, None)}
    by_type = {"crack": curves, "stain": curves}
    made = report(
        caption=caption,
        pro_curves=curves,
        roc_curves_by_type=by_type,
        pr_curves_by_type=by_type,
        pro_curves_by_type=by_type,
    )
    text = render(made)
    svgs = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert len(svgs) == 4 + 2 + 2 * 4
    entries = re.findall(r'<article class="sample.*?</article>', text, re.DOTALL)
    assert len(entries) == len(made.pictures)
    tables = re.findall(r"<table.*?</table>", text, re.DOTALL)
    assert len(tables) == 2
    for part in svgs + entries + tables:
        assert caption in " ".join(" ".join(Page(part).texts).split())
    assert "Simulated" not in render(report())
    # Plots of one page share no names.
    ids = [attributes["id"] for _, attributes in Page(text).tags if "id" in attributes]
    assert len(ids) == len(set(ids)) > 0


def test_names_that_are_not_utf_8_become_visible():
    strange = b"a\xff\x00b".decode("utf-8", "surrogateescape")
    pictures = [picture(0, strange), picture(1, "good"), picture(2, "line\nbreak")]
    text = render(report(pictures=pictures, metrics_by_type={strange: {"pixel_ap": 0.1}}))
    assert "a\\udcff" in text.encode().decode()


@pytest.mark.parametrize(("kind", "lacking"), [("good", "defective"), ("crack", "normal")])
def test_one_kind_of_picture_alone(kind, lacking):
    made = report(
        metrics={"image_auroc": None, "pixel_ap": float("nan")},
        metrics_by_type={},
        threshold=None,
        pictures=[picture(i, kind) for i in range(3)],
    )
    page = Page(render(made))
    assert page.texts.count(UNKNOWN) == 2
    assert page.texts.count(f"Not defined: the test set has no {lacking} picture.") == 2
    assert len(page.all("article")) == 3
    assert not page.all("div", "filter")
    # A decision can be made all the same.
    page = Page(render(dataclasses.replace(made, threshold=0.5)))
    assert len(page.all("div", "filter")) == 1
    found, called = ("found", "missed") if kind == "crack" else ("false alarms", "passed")
    counts = [int(page.texts[page.texts.index(word) - 1]) for word in (found, called)]
    above = sum(p.score > 0.5 for p in made.pictures)
    assert counts == [above, 3 - above]


def test_pictures_without_masks():
    made = report(
        metrics={"image_auroc": 0.9, "pixel_ap": None},
        pictures=[picture(0, mask=None), picture(1, "good", mask=None)],
    )
    page = Page(render(made))
    assert "not known" in page.texts
    assert "no defect" in page.texts
    assert "Not defined: it needs true masks of defects." in page.texts
    assert page.count("img") == 2 * 4 + 1


def test_empty_report():
    page = Page(render(Report(title="Nothing yet")))
    assert page.count("h1") == 1
    assert page.count("h2") == page.count("script") == 0


@pytest.mark.parametrize("channels", [1, 3])
def test_large_pictures_are_shown_smaller(channels):
    side = np.zeros((300, 1200, channels), np.uint8)
    large = ReportPicture(
        "a", "crack", 0.5, side, side, np.zeros((300, 1200)), np.ones((300, 1200), np.uint8), True
    )
    for image in Page(render(report(pictures=[large]))).all("img")[:-1]:
        with Image.open(io.BytesIO(base64.b64decode(image["src"].split(",")[1]))) as tile:
            assert tile.size == (512, 128)
