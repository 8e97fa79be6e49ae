import pytest

from draem_jax.errors import UserError
from draem_jax.inspection.millimetres import check_mm_per_pixel, read_mm_per_pixel


def test_a_table_gives_each_picture_its_own(tmp_path):
    path = tmp_path / "mm.csv"
    path.write_text("﻿mm_per_pixel,name,lens\n0.5,a.png,x\n2e-2,b/Größe.png,y\nnone,other,z\n")
    assert read_mm_per_pixel(path, ["a.png", "b/Größe.png", "c.png"]) == {
        "a.png": 0.5,
        "b/Größe.png": 0.02,
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,mm\na.png,1\n", "columns name and mm_per_pixel"),
        ("", "columns name and mm_per_pixel"),
        ("name,mm_per_pixel\na.png,0\n", "line 2: a pixel cannot be 0 mm wide"),
        ("name,mm_per_pixel\na.png,nan\n", "cannot be nan mm"),
        ("name,mm_per_pixel\na.png,wide\n", "'wide' is not a number"),
        ("name,mm_per_pixel\na.png\n", "not a number"),
        ("name,mm_per_pixel\na.png,1\na.png,2\n", "line 3: a.png is there twice"),
    ],
)
def test_mistakes_in_a_table_are_named_with_their_line(tmp_path, text, message):
    path = tmp_path / "mm.csv"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        read_mm_per_pixel(path, ["a.png"])


def test_a_table_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(UserError, match=r"none\.csv"):
        read_mm_per_pixel(tmp_path / "none.csv", ["a.png"])
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(UserError, match="not a CSV file"):
        read_mm_per_pixel(tmp_path / "binary.csv", ["a.png"])


@pytest.mark.parametrize("value", [0.0, -0.1, float("nan"), float("inf")])
def test_a_pixel_has_a_width(value):
    with pytest.raises(UserError, match="above 0"):
        check_mm_per_pixel(value, "--mm_per_pixel")


def test_a_letter_may_be_composed_or_not(tmp_path):
    path = tmp_path / "mm.csv"
    path.write_text("name,mm_per_pixel\nGr\u00f6\u00dfe.png,0.5\n", encoding="utf-8")
    decomposed = "Gro\u0308\u00dfe.png"
    assert read_mm_per_pixel(path, [decomposed]) == {decomposed: 0.5}
