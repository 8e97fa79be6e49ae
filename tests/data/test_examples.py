"""Accepted pictures and labelled defects are found and read, or it is said what is wrong."""

import numpy as np
import pytest
from PIL import Image

from draem_jax.data.examples import Examples, read_examples
from draem_jax.data.layouts.defects import list_defects
from draem_jax.errors import UserError
from tests.data import fixtures
from tests.data.fixtures import SIZE, write_mask, write_picture


def names(root):
    listing = list_defects(root)
    return [entry.name for entry in listing.entries], [p.kind for p in listing.problems]


def test_layouts_of_defects(tmp_path):
    mvtec = fixtures.make_mvtec_ad(tmp_path / "mvtec") / "bottle"
    assert names(mvtec) == (["broken_large/000", "broken_large/001", "contamination/000"], [])

    flat = tmp_path / "flat"
    picture = write_picture(flat / "a.png")
    write_picture(flat / "b.png")
    mask = write_mask(flat / "a_mask.png")
    write_mask(flat / "masks" / "b.png")
    assert names(flat) == (["defect/a", "defect/b"], [])
    examples = read_examples(None, flat, size=SIZE)
    np.testing.assert_array_equal(examples.defects[0], picture)
    np.testing.assert_array_equal(examples.masks[0], mask)
    assert examples.accepted.shape == (0, *SIZE, 3)
    write_picture(flat / "c.png")
    assert names(flat) == (["defect/a", "defect/b"], ["picture without mask"])
    with pytest.raises(UserError, match=r"flat/c.png has no mask in .*masks"):
        read_examples(None, flat, size=SIZE)

    # Half a class of DAGM: what has no label is normal.
    half = tmp_path / "Class1" / "Train"
    for name in ("0001", "0002", "0003"):
        write_picture(half / f"{name}.PNG")
    write_mask(half / "Label" / "0002_label.PNG")
    assert names(half) == (["defect/0002"], [])


def test_what_is_left_out_of_examples_is_told(tmp_path):
    for name in ("accept/1.png", "accept/@eaDir/1.png", "accept/1_label.png", "holes/hole/1.png"):
        write_picture(tmp_path / name)
    write_mask(tmp_path / "holes" / "hole" / "1_mask.png")
    write_picture(tmp_path / "holes" / "good" / "1.png")
    (tmp_path / "holes" / "hole" / "1.json").write_text("{}")
    examples = read_examples(tmp_path / "accept", tmp_path / "holes", size=SIZE)
    assert examples.accepted_names == ("1.png",)
    *counts, note = examples.divide(0.0)[0].notes
    assert counts == [
        f"left out of {tmp_path}/accept: 1 folders of the system (@eaDir)",
        f"left out of {tmp_path}/accept: 1 masks beside their pictures",
        f"left out of {tmp_path}/holes: 1 normal pictures",
        f"left out of {tmp_path}/holes: 1 label files ending in .json",
    ]
    assert note.startswith("1 label files are not read, such as hole/1.json")


def test_the_digest_is_that_of_the_pictures(tmp_path):
    def digest():
        return read_examples(tmp_path / "accept", None, size=SIZE).digest()

    picture = write_picture(tmp_path / "accept" / "1.png")
    before = digest()
    assert digest() == before
    picture = picture.copy()
    picture[0, 0] ^= 1
    Image.fromarray(picture).save(tmp_path / "accept" / "1.png")
    assert digest() != before


def test_bad_examples_are_refused_by_name(tmp_path):
    def refused(accept, defects, message):
        with pytest.raises(UserError, match=message):
            read_examples(accept, defects, size=SIZE)

    refused("", None, "nothing to learn from; give --accept=DIR")
    refused(None, tmp_path / "nowhere", "there is no folder .*nowhere")
    for folder in ("empty", "size", "blank"):
        (tmp_path / folder).mkdir()
    refused(tmp_path / "empty", None, "empty holds no pictures")
    refused(None, tmp_path / "empty", "empty holds no pictures of defects")
    write_picture(tmp_path / "size" / "hole" / "1.png")
    write_mask(tmp_path / "size" / "ground_truth" / "hole" / "1.png", size=(24, 31))
    refused(
        None,
        tmp_path / "size",
        r"ground_truth/hole/1.png has 31 x 24 pixels, but its picture .*hole/1.png has 32 x 24",
    )
    write_picture(tmp_path / "blank" / "1.png")
    write_mask(tmp_path / "blank" / "1_mask.png", value=0)
    refused(None, tmp_path / "blank", "1_mask.png marks no defect")
    speck = np.zeros(SIZE, bool)
    speck[0, 0] = True
    write_picture(tmp_path / "speck" / "1.png")
    Image.fromarray(speck).save(tmp_path / "speck" / "1_mask.png")
    with pytest.raises(UserError, match=r"1_mask.png is too small to be left at the 8 x 8 pixels"):
        read_examples(None, tmp_path / "speck", size=(8, 8))
    write_picture(tmp_path / "blank" / "hole" / "1.png")
    refused(None, tmp_path / "blank", "both directly and in hole")


def test_examples_are_held_out_by_name_where_there_are_enough():
    def examples(accepted, defects):
        pictures = np.arange(accepted, dtype=np.uint8)[:, None, None, None].repeat(3, -1)
        masks = np.ones((defects, 1, 1), bool)
        return Examples(
            pictures,
            tuple(f"{i}.png" for i in range(accepted)),
            np.zeros((defects, 1, 1, 3), np.uint8),
            masks,
            tuple(f"hole/{i}" for i in range(defects)),
        )

    learned, apart = examples(20, 19).divide(0.2)
    assert [len(e.accepted) for e in (learned, apart)] == [16, 4]
    assert [len(e.defects) for e in (learned, apart)] == [15, 4]
    assert {*learned.accepted_names} | {*apart.accepted_names} == {f"{i}.png" for i in range(20)}
    for part in (learned, apart):
        assert [f"{i}.png" for i in part.accepted[:, 0, 0, 0]] == list(part.accepted_names)
    more, _ = examples(20, 10).divide(0.2)
    assert more.accepted_names == learned.accepted_names
    assert len(more.defects) == 10
    assert len(examples(20, 10).divide(0.0)[1].accepted) == 0
