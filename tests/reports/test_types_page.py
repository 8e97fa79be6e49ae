import numpy as np
import pytest

from draem_jax.reports.types_page import NamedExample, TypesReport, render_types
from tests.reports.browser import PHONE, TYPES, needs_browser, visit
from tests.reports.parsing import HOSTILE, Page


def report(types=("crack", HOSTILE)):
    crop = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    confusion = np.diag([4] * len(types) + [0])[: len(types)]
    confusion[0, 1] = 1
    confusion[1, -1] = 2
    return TypesReport(
        title="Types of defects",
        facts={"run": HOSTILE, "step": "400"},
        notes=["no region was found in 1 of crack; these examples do not count"],
        types=types,
        given=(*types, "unknown"),
        confusion=confusion,
        examples=[
            NamedExample("crack/0", "crack", "crack", 0.9, crop),
            NamedExample(f"crack/{HOSTILE}", "crack", types[1], 0.6, crop),
            NamedExample(f"{types[1]}/1", types[1], "unknown", None, crop),
        ],
    )


def test_the_matrix_its_figures_and_the_wrong_ones_are_shown():
    page = Page(render_types(report()))
    counts = [text for text in page.texts if text.isdecimal()]
    assert counts == ["400", "4", "1", "0", "0", "4", "2"]
    assert [text for text in page.texts if text.endswith(" %")] == [
        *("80.0 %", "100.0 %", "88.9 %"),
        *("66.7 %", "80.0 %", "72.7 %"),
        ", 60.0 %",
    ]
    assert page.count("img") == 2 + 1  # those named wrongly, and the enlarged one
    assert page.count("script") == 1


@needs_browser
@pytest.mark.slow
def test_a_browser_shows_all_of_it_on_any_screen(tmp_path):
    page = render_types(report(TYPES))
    seen = visit(tmp_path, [page], width=PHONE)
    assert (seen.console, seen.requests) == ([], [])
    for view in seen.seen:
        assert view["content"] <= PHONE
        assert (view["over"], view["broken"]) == ([], 0)
        assert view["enlarged"][0]
        assert view["closed"]
