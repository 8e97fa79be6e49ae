import unicodedata
from collections import Counter

import pytest

from draem_jax.data.dataset import DataSet
from draem_jax.data.layouts import LAYOUTS, AbsentError
from draem_jax.data.layouts.defects import list_defects
from draem_jax.data.prepared import summarise
from draem_jax.errors import UserError
from draem_jax.inspection.examples import list_examples
from tests.data import fixtures


def counted(listing):
    return dict(Counter((e.split, e.defect_type) for e in listing.entries))


def listed(name, root, category=""):
    return LAYOUTS[name].list_category(root, category)


def folder(root):
    return listed("folder", root)


PUBLISHED = {
    "mvtec_ad": (15, 3629, 467, 1258),
    "mvtec_loco": (5, 1772, 575, 993),
    "visa": (12, 8659, 962, 1200),
    "btad": (3, 1799, 451, 290),
    "dagm": (10, 7004, 6996, 1054),
    "dtd": (1, 5640, 0, 0),
}


def test_all_of_them_are_found():
    assert LAYOUTS.keys() == {*PUBLISHED, "folder"}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_counts_add_up_to_the_published_totals(name):
    counts = LAYOUTS[name].counts
    assert (len(counts), *map(sum, zip(*counts.values(), strict=True))) == PUBLISHED[name]


CASES = {
    "mvtec_ad": (
        fixtures.make_mvtec_ad,
        "bottle",
        {("train", "good"): 4, ("test", "good"): 2, ("test", "broken_large"): 2}
        | {("test", "contamination"): 1},
        {},
    ),
    "mvtec_loco": (
        fixtures.make_mvtec_loco,
        "pushpins",
        {("train", "good"): 3, ("test", "good"): 2, ("test", "logical_anomalies"): 2}
        | {("test", "structural_anomalies"): 2},
        {"normal pictures for validation": 2},
    ),
    "visa": (
        fixtures.make_visa,
        "candle",
        {("train", "good"): 4, ("test", "good"): 2, ("test", "bad"): 3},
        {},
    ),
    "btad": (
        fixtures.make_btad,
        "03",
        {("train", "good"): 3, ("test", "good"): 2, ("test", "ko"): 2},
        {},
    ),
    "dagm": (
        fixtures.make_dagm,
        "Class3",
        {("train", "good"): 4, ("test", "good"): 2, ("test", "defect"): 2},
        {"defective pictures of the training half": 1},
    ),
    "dtd": (fixtures.make_dtd, "textures", {("train", "good"): 6}, {}),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("wrapper", ["", "wrapper", "one/two"])
def test_lists_what_is_there(tmp_path, name, wrapper):
    make, category, counts, left_out = CASES[name]
    inside = tmp_path / wrapper
    inside.mkdir(parents=True, exist_ok=True)
    make(inside)
    (inside / ".hidden").mkdir()
    fixtures.write_picture(inside / ".hidden" / "x.png")
    listing = listed(name, tmp_path, category)
    assert counted(listing) == counts
    assert listing.left_out == left_out
    assert not listing.problems
    assert all(e.has_mask for e in listing.entries)
    names = [(e.split, e.name) for e in listing.entries]
    assert len(set(names)) == len(names)
    assert [split for split, _ in names] == sorted((s for s, _ in names), reverse=True)


def test_the_category_itself_may_be_given(tmp_path):
    fixtures.make_mvtec_ad(tmp_path)
    assert len(listed("mvtec_ad", tmp_path / "bottle", "bottle").entries) == 9
    with pytest.raises(AbsentError, match="holds no folder cable with a folder train"):
        listed("mvtec_ad", tmp_path / "bottle", "cable")


def test_textures_stand_in_natural_order(tmp_path):
    names = [e.name for e in listed("dtd", fixtures.make_dtd(tmp_path), "textures").entries]
    assert names[:3] == ["banded/banded_0002", "banded/banded_0009", "banded/banded_0010"]


def test_masks_of_one_picture_are_joined(tmp_path):
    listing = listed("mvtec_loco", fixtures.make_mvtec_loco(tmp_path), "pushpins")
    masks = {e.name: [m.name for m in e.masks] for e in listing.entries}
    assert masks["logical_anomalies/000"] == ["000.png", "001.png"]
    assert masks["logical_anomalies/001"] == ["000.png"]


def test_visa_in_the_form_of_the_authors_script(tmp_path):
    fixtures.make_mvtec_ad(tmp_path / "1cls", "candle", types={"bad": 3})
    assert counted(listed("visa", tmp_path, "candle"))["test", "bad"] == 3


def test_visa_wrong_split_file(tmp_path):
    fixtures.make_visa(tmp_path)
    path = tmp_path / "split_csv" / "1cls.csv"
    good = path.read_text()
    path.write_text(good.replace("candle,test,normal", "candle,testing,normal", 1))
    with pytest.raises(UserError, match=r"1cls\.csv, line 3: testing, normal is not a split"):
        listed("visa", tmp_path, "candle")
    path.write_text(good.replace("object,", "thing,"))
    with pytest.raises(UserError, match=r"1cls\.csv lacks the columns object"):
        listed("visa", tmp_path, "candle")
    path.unlink()
    with pytest.raises(AbsentError, match=r"does not hold candle/Data beside split_csv/1cls\.csv"):
        listed("visa", tmp_path, "candle")


def test_visa_says_what_its_split_file_does_not_name(tmp_path):
    fixtures.make_visa(tmp_path)
    fixtures.write_picture(tmp_path / "candle" / "Data" / "Images" / "Normal" / "0099.JPG")
    assert listed("visa", tmp_path, "candle").left_out == {
        "pictures that 1cls.csv does not name": 1
    }


PAIRS = {
    "mvtec_ad": (
        "bottle/ground_truth/broken_large/001_mask.png",
        "bottle/test/broken_large/001.png",
    ),
    "mvtec_loco": (
        "pushpins/ground_truth/structural_anomalies/001/000.png",
        "pushpins/test/structural_anomalies/001.png",
    ),
    "visa": ("candle/Data/Masks/Anomaly/001.png", "candle/Data/Images/Anomaly/001.JPG"),
    "btad": ("03/ground_truth/ko/0001.bmp", "03/test/ko/0001.bmp"),
    "dagm": ("Class3/Test/Label/0003_label.PNG", "Class3/Test/0003.PNG"),
}


@pytest.mark.parametrize("name", PAIRS)
def test_picture_without_its_mask(tmp_path, name):
    make, category, counts, _ = CASES[name]
    mask, picture = PAIRS[name]
    make(tmp_path)
    (tmp_path / mask).unlink()
    listing = listed(name, tmp_path, category)
    (problem,) = listing.problems
    assert problem.kind == "picture without mask"
    assert problem.text.startswith(f"{tmp_path / picture} has no mask in ")
    assert len(listing.entries) == sum(counts.values()) - 1


@pytest.mark.parametrize("name", PAIRS)
def test_mask_without_its_picture(tmp_path, name):
    make, category, counts, _ = CASES[name]
    mask, picture = PAIRS[name]
    make(tmp_path)
    (tmp_path / picture).unlink()
    listing = listed(name, tmp_path, category)
    kinds = {problem.kind: problem for problem in listing.problems}
    if name == "visa":
        assert "line 9 names it" in kinds["missing picture"].text
    else:
        assert kinds["mask without picture"].text.startswith(f"{tmp_path / mask} is a mask without")
    assert len(listing.problems) == 1
    assert len(listing.entries) == sum(counts.values()) - 1


def test_empty_category(tmp_path):
    fixtures.make_mvtec_ad(tmp_path, train=0)
    (tmp_path / "bottle" / "train").mkdir(parents=True)
    with pytest.raises(UserError, match=r"bottle/train holds no folder good"):
        listed("mvtec_ad", tmp_path, "bottle")
    (tmp_path / "bottle" / "train" / "good").mkdir()
    (problem,) = listed("mvtec_ad", tmp_path, "bottle").problems
    assert problem.text.endswith("train/good holds no pictures; add them, or take the folder away")


# The user's own folders.


def make(root, *paths):
    for path in paths:
        fixtures.write_picture(root / path)
    return root


@pytest.mark.parametrize(
    "paths",
    [
        ["1.png", "2.jpg", "10.bmp"],
        ["good/1.png", "good/2.jpg", "good/10.bmp"],
        ["OK/1.png", "OK/2.jpg", "OK/10.bmp"],
        ["train/1.png", "train/2.jpg", "train/10.bmp"],
        ["train/good/1.png", "train/good/2.jpg", "train/good/10.bmp"],
        ["wrapper/1.png", "wrapper/2.jpg", "wrapper/10.bmp"],
        ["a/b/good/1.png", "a/b/good/2.jpg", "a/b/good/10.bmp"],
    ],
)
def test_normal_pictures_alone(tmp_path, paths):
    listing = folder(make(tmp_path, *paths))
    assert [e.name for e in listing.entries] == ["good/1", "good/2", "good/10"]
    assert counted(listing) == {("train", "good"): 3}
    assert not listing.problems


def test_names_stay_unique(tmp_path):
    listing = folder(make(tmp_path, "good/1.png", "good/1.jpg", "good/day 2/1.png"))
    assert [e.name for e in listing.entries] == ["good/1.jpg", "good/1.png", "good/day 2/1"]


def test_mvtec_layout_is_recognised(tmp_path):
    root = fixtures.make_mvtec_ad(tmp_path) / "bottle"
    listing = folder(root)
    assert counted(listing) == CASES["mvtec_ad"][2]
    assert all(e.masks for e in listing.entries if e.defect_type != "good")
    assert listed("folder", tmp_path, "bottle").entries == listing.entries


def test_types_without_any_mask_are_unknown(tmp_path):
    root = make(tmp_path, "train/a.png", "train/b.png", "test/good/c.png", "test/dent/d.png")
    (defect,) = (e for e in folder(root).entries if e.defect_type == "dent")
    assert not defect.has_mask
    fixtures.write_mask(root / "ground_truth" / "dent" / "other.png")
    kinds = [p.kind for p in folder(root).problems]
    assert kinds == ["mask without picture"]


def test_some_masks_of_a_type_are_not_enough(tmp_path):
    root = make(tmp_path, "train/a.png", "train/b.png", "test/dent/1.png", "test/dent/2.png")
    fixtures.write_mask(root / "ground_truth" / "dent" / "1.png")
    (problem,) = folder(root).problems
    assert problem.path == root / "test" / "dent" / "2.png"


def test_good_beside_types_of_defects(tmp_path):
    root = make(tmp_path, *[f"good/{i}.png" for i in range(12)], "dent/1.png", "hole/1.png")
    fixtures.write_mask(root / "masks" / "dent" / "1.png")
    listing = folder(root)
    assert counted(listing) == {
        ("train", "good"): 10,
        ("test", "good"): 2,
        ("test", "dent"): 1,
        ("test", "hole"): 1,
    }
    assert [e.name for e in listing.entries if e.split == "test"][-2:] == ["good/7", "hole/1"]
    assert [e.has_mask for e in listing.entries if e.defect_type in ("dent", "hole")] == [
        True,
        False,
    ]
    assert "2 of the 12 good ones" in listing.notes[0]


def test_one_type_needs_no_folder_of_masks(tmp_path):
    root = make(tmp_path, "good/1.png", "good/2.png", "bad/7.jpg")
    fixtures.write_mask(root / "masks" / "7.png")
    for listing in (folder(root), list_defects(root), list_examples(root)):
        (defect,) = (e for e in listing.entries if e.defect_type == "bad")
        assert defect.masks == (root / "masks" / "7.png",)


def test_good_and_test(tmp_path):
    root = make(tmp_path, "good/1.png", "good/2.png", "test/ok/1.png", "test/bad/1.png")
    assert counted(folder(root)) == {
        ("train", "good"): 2,
        ("test", "good"): 1,
        ("test", "bad"): 1,
    }


def test_defective_training_pictures_are_left_out(tmp_path):
    root = make(tmp_path, "train/good/1.png", "train/good/2.png", "train/bad/3.png")
    listing = folder(root)
    assert len(listing.entries) == 2
    assert listing.left_out == {"defective pictures among those to train on": 1}


def test_files_that_are_no_pictures_are_counted(tmp_path):
    root = make(tmp_path, "good/1.png", "good/2.png")
    (root / "good" / "scan.heic").write_text("")
    assert folder(root).left_out == {"files ending in .heic": 1}


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        ([], "holds no pictures; put the normal pictures in .*good"),
        (["a/1.png", "b/1.png"], r"folders of pictures \(a, b\), so that it cannot be told which"),
        (["1.png", "a/1.png"], r"pictures and also folders of pictures \(a\)"),
        (["a/train/1.png", "b/train/1.png"], "several data sets; choose one .* category: a, b"),
        (["train/good/1.png", "train/2.png"], "both directly and in good"),
        (["train/a/1.png", "train/b/1.png"], "none of them is called good"),
        (["train/1.png", "test/1.png"], "holds 1.png and other pictures directly"),
        (["test/good/1.png", "test/bad/1.png"], "cannot be told which are normal"),
    ],
)
def test_unclear_folders_are_refused(tmp_path, paths, message):
    with pytest.raises(UserError, match=message) as caught:
        folder(make(tmp_path, *paths))
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_category_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match=r"there is no folder .*tiles; check the path"):
        listed("folder", tmp_path, "tiles")


# Masks by their names.


def test_masks_beside_their_pictures(tmp_path):
    root = make(tmp_path, *[f"train/{i}.jpg" for i in range(3)], "train/0_mask.png")
    make(root, "test/good/1.png", "test/dent/1.png", "test/dent/2.png", "test/dent/more/3.png")
    for name in ("1_gt.bmp", "2.mask.PNG", "more/3-SEG.png"):
        fixtures.write_mask(root / "test" / "dent" / name)
    listing = folder(root)
    assert counted(listing) == {("train", "good"): 3, ("test", "good"): 1, ("test", "dent"): 3}
    masks = {e.name: [m.name for m in e.masks] for e in listing.entries if e.masks}
    assert masks == {
        "good/0": ["0_mask.png"],
        "dent/1": ["1_gt.bmp"],
        "dent/2": ["2.mask.PNG"],
        "dent/more/3": ["3-SEG.png"],
    }
    assert (listing.problems, listing.left_out) == ((), {})
    (root / "test" / "dent" / "1.png").unlink()
    make(root, "train/9_mask.png")
    assert [(p.kind, p.path.name) for p in folder(root).problems] == [
        ("mask without picture", "9_mask.png"),
        ("mask without picture", "1_gt.bmp"),
    ]


@pytest.mark.parametrize(
    ("picture", "mask"),
    [("images/{}", "masks/{}"), ("{}", "GT/{}_mask"), ("a/img/{}", "a/annotations/{}_label")],
)
def test_folders_of_masks_within_folders_of_pictures(tmp_path, picture, mask):
    halves = [tmp_path / "train" / "good", tmp_path / "test" / "dent"]
    for half in halves:
        for i in range(3):
            fixtures.write_picture(half / f"{picture.format(i)}.png")
            fixtures.write_mask(half / f"{mask.format(i)}.png")
    wanted = {f"{picture.format(i)}.png": f"{mask.format(i)}.png" for i in range(3)}
    listing = folder(tmp_path)
    assert (listing.problems, listing.notes, listing.left_out) == ((), (), {})
    for half, split in zip(halves, ("train", "test"), strict=True):
        pairs = [(e.path, *e.masks) for e in listing.entries if e.split == split]
        assert pairs == [(half / name, half / wanted[name]) for name in wanted]
    for half in halves:
        (half / f"{mask.format(3)}.png").touch()
    assert [p.kind for p in folder(tmp_path).problems] == ["mask without picture"] * 2


def test_a_mask_alone_is_no_picture(tmp_path):
    root = make(tmp_path, "train/good/1.png", "train/good/2.png", "train/good/zzz_mask.png")
    assert [(p.kind, p.path.name) for p in folder(root).problems] == [
        ("mask without picture", "zzz_mask.png")
    ]
    assert len(folder(root).entries) == 2
    # Where all are called so they may be pictures of masks; but that is said.
    root = make(tmp_path / "all", "train/good/1_mask.png", "train/good/2_mask.png")
    (note,) = folder(root).notes
    assert note.startswith("2 of the pictures are called as masks are, such as good/1_mask;")


def test_every_verb_pairs_masks_alike(tmp_path):
    root = make(tmp_path, "train/1.png", "train/2.png")
    make(root / "test" / "dent", "1.png", "Ä/2.png", "Ä/3.png")
    for name in ("1_GT.png", "Ä/2_label.tif", "Ä/2_seg.png"):
        fixtures.write_mask(root / "test" / "dent" / name)
    fixtures.write_mask(root / "ground_truth" / "DENT" / "a\u0308" / "3.png")
    pairs = [
        {e.name: sorted(m.name for m in e.masks) for e in listing.entries if e.masks}
        for listing in (folder(root), list_defects(root), list_examples(root / "test"))
    ]
    assert pairs[0] == {
        "dent/1": ["1_GT.png"],
        "dent/Ä/2": ["2_label.tif", "2_seg.png"],
        "dent/Ä/3": ["3.png"],
    }
    assert pairs[1] == pairs[2] == pairs[0]


def test_names_of_pictures_and_masks_may_differ_by_case_and_accents(tmp_path):
    composed, apart = (unicodedata.normalize(form, "grün_ä") for form in ("NFC", "NFD"))
    root = make(tmp_path, "good/1.png", "good/2.png", f"Test/{composed}/{composed}.png")
    mask = root / "Ground_Truth" / apart.upper() / f"{apart}_MASK.png"
    fixtures.write_mask(mask)
    (defect,) = (e for e in folder(root).entries if e.defect_type != "good")
    assert defect.masks == (mask,)
    text = f"path,type\nGOOD\\1.PNG,good\ntest/{apart}/{apart.upper()}.png,dent\n"
    listing = folder(write_list(tmp_path, text))
    assert [e.name for e in listing.entries] == ["good/good/1", f"dent/Test/{composed}/{composed}"]
    assert all(e.path.is_file() for e in listing.entries)


@pytest.mark.parametrize("name", ["GT_masks", "labels", "annotated"])
def test_folders_of_masks_are_no_types(tmp_path, name):
    root = make(tmp_path, "good/1.png", "good/2.png", "dent/1.png", f"{name}/dent/1.png")
    with pytest.raises(UserError, match=rf"{name} lies where a type of defect .* ground_truth if"):
        folder(root)


def test_what_may_be_meant_as_masks_is_told(tmp_path):
    root = make(tmp_path, "train/1.png", "train/2.png", "test/dent/1.png", "GT_masks/dent/1.png")
    for name in ("ground_truth/dent/1.json", "train/2.xml", "_annotations.coco.json", "notes.md"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("")
    listing = folder(root)
    assert listing.left_out == {
        "pictures in GT_masks that are not used": 1,
        "label files ending in .json": 2,
        "label files ending in .xml": 1,
        "files ending in .md": 1,
    }
    used, labels = listing.notes
    assert used.startswith("GT_masks holds 1 pictures that are not used; if they are masks, put")
    assert labels.startswith("3 label files are not read, such as ")
    assert "export masks, and call them NAME or NAME_mask" in labels


# List files.


def write_list(root, text, encoding="utf-8"):
    path = root / "list.csv"
    path.write_text(text, encoding=encoding)
    return path


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_list_file(tmp_path, delimiter):
    make(tmp_path, "a.png", "b b.png", "字/ü.png", "d.png", "e.png")
    fixtures.write_mask(tmp_path / "m" / "d.png")
    rows = """\
path,split,label,type,mask
a.png,train,good,,
b b.png,train,good,good,
字/ü.png,test,good,,

d.png,test,defective,dent,m/d.png
e.png,test,defective,,
"""
    text = rows.replace(",", delimiter)
    listing = folder(write_list(tmp_path, text, "utf-8-sig"))
    assert [(e.split, e.name, e.has_mask) for e in listing.entries] == [
        ("train", "good/a", True),
        ("train", "good/b b", True),
        ("test", "defect/e", False),
        ("test", "dent/d", True),
        ("test", "good/字/ü", True),
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("path,type\na.png,good\nb.png,dent\n", [("train", "good/a"), ("test", "dent/b")]),
        ("path,label\na.png,0\nb.png,1\n", [("train", "good/a"), ("test", "defect/b")]),
        ("path,split\na.png,train\nb.png,Train\n", [("train", "good/a"), ("train", "good/b")]),
        ("Path , Label\n a.png , OK\nb.png, bad\n", [("train", "good/a"), ("test", "defect/b")]),
    ],
)
def test_list_file_with_few_columns(tmp_path, text, expected):
    make(tmp_path, "a.png", "b.png")
    listing = folder(write_list(tmp_path, text))
    assert [(e.split, e.name) for e in listing.entries] == expected


def test_list_file_leaves_defective_training_pictures_out(tmp_path):
    make(tmp_path, "a.png", "b.png")
    listing = folder(write_list(tmp_path, "path,split,label\na.png,train,good\nb.png,train,bad\n"))
    assert len(listing.entries) == 1
    assert listing.left_out == {"defective pictures among those to train on": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,split\na.png,train\n", "line 1: the columns are file, split; a list needs path and"),
        ("path\na.png\n", "line 1: the columns are path; a list needs path and one of split"),
        ("path,split,colour\na.png,train,red\n", "line 1: unknown column 'colour'"),
        ("path,split\na.png,training\n", "line 2: neither label nor type is given"),
        ("path,split,label\na.png,training,good\n", "line 2: split is 'training'; write train or"),
        ("path,label\na.png,good\nb.png,fine\n", "line 3: label is 'fine'; write good or defect"),
        ("path,label,type\na.png,good,dent\n", "line 2: label good and type dent contradict"),
        ("path,split\na.png,test\n", "line 2: neither label nor type is given"),
        ("path,label\n,good\n", "line 2: the path is empty"),
        ("path,label\na.png,good\na.png,good\n", "line 3: a.png stands in line 2 already"),
        ("path,label\na.png,good,dent\n", "line 2: more fields than columns"),
        ("path,label\n", "names no pictures"),
        ("", "line 1: the columns are none"),
    ],
)
def test_mistakes_in_a_list_file(tmp_path, text, message):
    make(tmp_path, "a.png", "b.png")
    with pytest.raises(UserError, match=message) as caught:
        folder(write_list(tmp_path, text))
    assert str(tmp_path / "list.csv") in str(caught.value)


def test_list_file_of_one_picture_by_two_spellings(tmp_path):
    root = make(tmp_path, "train/1.png", "test/2.png")
    for other in ("train/../train/1.png", f"{root}/train/1.png", "./train//1.png"):
        path = write_list(root, f"path,split,label\ntrain/1.png,train,good\n{other},test,good\n")
        with pytest.raises(UserError, match=r"line 3: .*1\.png stands in line 2 already"):
            folder(path)


def test_list_file_of_masks_as_pictures(tmp_path):
    make(tmp_path, "a/1.png", "a/1_seg.png", "masks/1.png", "a/2.png")
    text = "path,type\na/1.png,good\na/2.png,dent\n"
    assert folder(write_list(tmp_path, text)).notes == ()
    (note,) = folder(write_list(tmp_path, f"{text}a/1_seg.png,dent\nmasks/1.png,good\n")).notes
    assert note.startswith("2 of the pictures are called as masks are, such as good/masks/1;")


def test_list_file_of_another_encoding(tmp_path):
    with pytest.raises(UserError, match=r"list\.csv is not a text in UTF-8"):
        folder(write_list(tmp_path, "path,label\nü.png,good\n", "latin-1"))


def test_list_file_names_what_is_not_there(tmp_path):
    make(tmp_path, "a.png", "b.png")
    text = "path,label,mask\na.png,good,\nb.png,bad,mask.png\nc.png,good,\n"
    listing = folder(write_list(tmp_path, text))
    assert [(p.kind, p.text.split(": ")[0][-6:]) for p in listing.problems] == [
        ("picture without mask", "line 3"),
        ("missing picture", "line 4"),
    ]


def test_names_that_are_no_text(tmp_path):
    fixtures.write_picture(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "\udcfc.png")  # the byte FC
    (entry,) = folder(tmp_path).entries
    assert entry.name == r"good/\udcfc"
    assert entry.path.is_file()


def test_types_that_are_no_text(tmp_path):
    root = make(tmp_path, "train/1.png", "train/2.png", "test/dent/1.png")
    fixtures.write_mask(root / "ground_truth" / "dent" / "1.png")
    for half in ("test", "ground_truth"):
        (root / half / "dent").rename(root / half / "bl\udcf4t")  # the byte F4
    (defect,) = (e for e in folder(root).entries if e.split == "test")
    assert (defect.defect_type, defect.name) == (r"bl\udcf4t", r"bl\udcf4t/1")
    assert defect.masks[0].is_file()
    builder = DataSet("folder", "", root=root, data_dir=tmp_path / "data").prepare()
    assert summarise(builder).types == {r"bl\udcf4t": 1}


def test_masks_of_which_none_fits_are_refused(tmp_path):
    root = make(tmp_path, "dent/1.png", "dent/2.png", "crack/1.png")
    for name in ("dent/1_mask_0", "dent/2_mask_0", "hole/1"):
        fixtures.write_mask(root / "ground_truth" / f"{name}.png")
    with pytest.raises(
        UserError, match=r"dent has 2 masks, such as .*1_mask_0\.png, and none fits"
    ):
        list_examples(root)
    (root / "ground_truth" / "dent" / "1_mask_0.png").rename(root / "ground_truth/dent/1_mask.png")
    with pytest.raises(UserError, match=r"dent/2\.png has no mask in"):
        list_examples(root)


def test_links_are_followed(tmp_path):
    make(tmp_path / "elsewhere", "1.png", "2.png")
    make(tmp_path / "root" / "good", "0.png")
    (tmp_path / "root" / "good" / "more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "root" / "good" / "back").symlink_to(tmp_path / "root" / "good")
    (tmp_path / "root" / "good" / "lost.png").symlink_to(tmp_path / "nothing.png")
    names = [e.name for e in folder(tmp_path / "root").entries]
    assert names == ["good/0", "good/lost", "good/more/1", "good/more/2"]
