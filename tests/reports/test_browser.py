"""The page in a real browser: it opens from a file, keeps to itself, and fits a phone."""

import dataclasses
import re

import numpy as np
import pytest

from draem_jax.reports.page import Report, ReportPicture, render
from tests.reports.browser import PHONE, TYPES, needs_browser, visit

pytestmark = needs_browser


def picture(index: int, kind: str, size: tuple[int, int] = (48, 48), **changes) -> ReportPicture:
    rng = np.random.default_rng(index)
    image = rng.random((*size, 3)).astype(np.float32)
    made = ReportPicture(
        name=f"{kind}/{index:03}.png",
        defect_type=kind,
        score=float(rng.random()),
        image=image,
        reconstruction=image,
        anomaly_map=rng.random(size),
        mask=rng.random(size) > 0.9 if kind != "good" else np.zeros(size, bool),
        is_defective=kind != "good",
        p_value=0.25,
    )
    return dataclasses.replace(made, **changes)


@pytest.fixture(scope="module")
def report():
    x = np.linspace(0, 1, 50)
    curves = {"images": (x, x**0.2, 0.9), "pixels": (x, x**0.1, 0.95)}
    by_type = dict.fromkeys(TYPES, curves)
    metrics = {"image_auroc": 0.9, "pixel_ap": 0.7, "aupro": None}
    intervals = {"image_auroc": (0.85, 0.95), "pixel_ap": (0.5, 0.9)}
    return Report(
        title=TYPES[-1],
        facts={"data": TYPES[-1], TYPES[1]: TYPES[2]},
        notes=list(TYPES),
        metrics=metrics,
        metrics_by_type=dict.fromkeys(TYPES, metrics),
        intervals=intervals,
        intervals_by_type=dict.fromkeys(TYPES, intervals),
        reasons={"aupro": "No mask is known."},
        reasons_by_type={TYPES[-1]: {"aupro": TYPES[-1]}},
        roc_curves=curves,
        pr_curves=curves,
        pro_curves=curves,
        roc_curves_by_type=by_type,
        pr_curves_by_type=by_type,
        pro_curves_by_type=by_type,
        threshold=0.5,
        threshold_text="It is in the middle.",
        caption="Simulated anomalies, not a test set",
        pictures=[picture(i, ("good", *TYPES)[i % 6]) for i in range(18)],
    )


@pytest.fixture(scope="module")
def page(report):
    return render(report)


def check_filters(seen: dict, report: Report) -> None:
    pictures = {p.name: p for p in report.pictures}
    called = {name for name, p in pictures.items() if p.score > report.threshold}
    defective = {name for name, p in pictures.items() if p.is_defective}
    of_type = {name for name, p in pictures.items() if p.defect_type == TYPES[1]}
    assert set(seen["pictures"]) == set(pictures)
    assert set(seen["misses"]) == defective - called != set()
    assert set(seen["missesOfType"]) == of_type - called
    assert set(seen["ofType"]) == of_type
    assert set(seen["alarms"]) == called - defective != set()
    assert set(seen["right"]) == set(pictures) - (called ^ defective)
    assert seen["again"] == seen["pictures"]
    assert seen["pressed"] == [None, None]
    count = len(seen["missesOfType"])
    assert seen["status"] == f"{count or 'No'} of these pictures shown."


def test_it_opens_from_a_file_and_keeps_to_itself(tmp_path, report, page):
    visited = visit(tmp_path, [page])
    assert visited.console == visited.requests == []
    (seen,) = visited.seen
    assert seen["content"] <= seen["width"] == 1200
    assert seen["over"] == []
    assert seen["broken"] == 0
    assert seen["titles"] == ["Decisions", "Curves", "By defect type", "Pictures, the worst first"]
    check_filters(seen, report)
    name = seen["pictures"][0]
    assert seen["enlarged"] == [True, f"Picture of {name} ({report.caption})"]
    assert seen["next"] == f"Reconstruction of {name} ({report.caption})"
    assert seen["dialogFits"]
    assert seen["closed"]


def test_it_fits_a_phone_whatever_it_shows(tmp_path, report, page):
    good, bad = picture(0, "good"), picture(1, "crack")
    bare = Report(title="Bare", threshold=0.5)
    variants = [
        dataclasses.replace(bare, pictures=[bad]),
        dataclasses.replace(bare, pictures=[good, picture(2, "good")], metrics={"image_ap": None}),
        dataclasses.replace(bare, pictures=[good, picture(1, "crack", mask=None)]),
        dataclasses.replace(bare, pictures=[picture(1, "crack", (24, 200)), good]),
        dataclasses.replace(bare, pictures=[picture(1, "crack", (200, 24)), good]),
        bare,
    ]
    pages = [page, *map(render, variants)]
    visited = visit(tmp_path, pages, width=PHONE, dark=True)
    assert visited.console == visited.requests == []
    assert len(visited.seen) == len(pages)
    assert [len(s["pictures"]) for s in visited.seen].count(1) == 1
    for seen in visited.seen:
        assert seen["content"] <= seen["width"] == PHONE
        assert seen["over"] == []
        assert seen["broken"] == 0
        assert seen.get("dialogFits", True)
        paper, ink = (sum(map(int, re.findall(r"\d+", seen[c]))) for c in ("paper", "ink"))
        assert paper < 100 < 600 < ink
    check_filters(next(s for s in visited.seen if len(s["pictures"]) == 18), report)


def test_what_a_bad_page_does_is_noticed(tmp_path):
    page = render(Report(title="Bad", notes=["x" * 500]))
    page = re.sub(r"<meta http-equiv[^>]*>", "", page)
    bad = "<style>li { white-space: nowrap; overflow-wrap: normal !important }</style>"
    bad += "<img src='https://example.invalid/a.png'><script>nothing()</script>"
    visited = visit(tmp_path, [page.replace("<main>", f"<main>{bad}")], width=PHONE)
    assert any("nothing is not defined" in line for line in visited.console)
    assert visited.requests == ["https://example.invalid/a.png"]
    assert visited.seen[0]["content"] > PHONE
    assert visited.seen[0]["over"]
