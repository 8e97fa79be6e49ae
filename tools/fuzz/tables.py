"""Lists and tables of a user's: of pictures, widths, splits and labels; overrides and names."""

from pathlib import Path

from tools.fuzz.promise import Target

_PNG = (
    b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\0\0\0\0:~\x9bU"
    b"\0\0\0\nIDATx\x9cc`\0\0\0\x02\0\x01H\xaf\xa4q\0\0\0\0IEND\xaeB`\x82"
)


def _prepare() -> None:
    from draem_jax.data.layouts import dagm, folder, visa  # noqa: F401
    from draem_jax.inspection import millimetres  # noqa: F401


def _pictures(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_PNG)


def _list_file(content: bytes, folder: Path) -> None:
    from draem_jax.data.layouts.folder import list_category

    _pictures(folder, "a/1.png", "a/2.png", "bad/1.png", "bad/1_mask.png")
    path = folder / "list.csv"
    path.write_bytes(content)
    list_category(path, "")


def _list_files() -> list[bytes]:
    return [
        b"path,split,label,type,mask\na/1.png,train,good,good,\nbad/1.png,test,defective,hole,"
        b"bad/1_mask.png\n",
        b"path;type\r\na/1.png;good\r\nbad/1.png;hole\r\n",
        '\ufeffpath\tlabel\na\\1.png\t0\n"a/2.png"\t1\n'.encode(),
        b"path,type\n/etc/passwd,good\n../../x.png,bad\n",
        b"path,type\n//etc/passwd,good\n",
        b"path,type\n" + b"a" * 300 + b".png,good\n",
        b"path,type\na/1.png," + b"x" * 140_000 + b"\n",
    ]


def _widths(content: bytes, folder: Path) -> None:
    from draem_jax.inspection.millimetres import PixelWidths

    path = folder / "widths.csv"
    path.write_bytes(content)
    PixelWidths(1.0, path).of(["a.png", "b/ä.png"])


def _width_tables() -> list[bytes]:
    return [
        "name,mm_per_pixel\na.png,0.05\nb/ä.png,1e-3\n".encode(),
        '\ufeffname,other,mm_per_pixel\r\n"a.png",x,0.1\r\n'.encode(),
        b"name,mm_per_pixel\na.png,nan\n",
        b"name,mm_per_pixel\na.png,1\na.png,2\n",
    ]


def _visa(content: bytes, folder: Path) -> None:
    from draem_jax.data.layouts.visa import list_category

    _pictures(
        folder,
        "candle/Data/Images/Normal/1.JPG",
        "candle/Data/Images/Anomaly/1.JPG",
        "candle/Data/Masks/Anomaly/1.png",
    )
    (folder / "split_csv").mkdir()
    (folder / "split_csv" / "1cls.csv").write_bytes(content)
    list_category(folder, "candle")


def _visa_tables() -> list[bytes]:
    return [
        b"object,split,label,image,mask\n"
        b"candle,train,normal,candle/Data/Images/Normal/1.JPG,\n"
        b"candle,test,anomaly,candle/Data/Images/Anomaly/1.JPG,candle/Data/Masks/Anomaly/1.png\n"
        b"cashew,test,normal,x.png,\n",
        b"object,split,label,image,mask\ncandle,train,normal,../../x,\n",
        b"object,split,label,image\ncandle,train\n",
        b"object,split,label,image,mask\ncandle,test,anomaly\n",
        b"object,split,label,image,mask\ncandle,train,normal," + b"a" * 300 + b",\n",
        b"object,split,label,image,mask\n\xff,train,normal,\0,\n",
        b"object,split,label,image,mask\ncandle," + b"x" * 140_000,
    ]


def _dagm(content: bytes, folder: Path) -> None:
    from draem_jax.data.layouts.dagm import list_category

    for half in ("Train", "Test"):
        _pictures(folder / "Class1" / half, "0576.PNG", "0577.PNG", "Label/0577_label.PNG")
        (folder / "Class1" / half / "Label" / "Labels.txt").write_bytes(content)
    list_category(folder, "Class1")


def _dagm_labels() -> list[bytes]:
    return [b"1\n576\t0\t0576.PNG\t0\t0\n577\t1\t0577.PNG\t0\t0577_label.PNG\n", b"_label.png" * 9]


def _prepare_config() -> None:
    from draem_jax.cli import recipes
    from draem_jax.config import check_config

    check_config(recipes.recipe_config("configs/quickstart.py"))


def _override(content: bytes, folder: Path) -> None:
    """Fields on the command line; each line of the input is a word."""
    from absl import flags

    from draem_jax.cli.common import PROGRAM
    from draem_jax.cli.recipes import define_config
    from draem_jax.config import check_config, data_set, region_of_interest, to_json
    from draem_jax.errors import UserError

    del folder
    words = [f"--config.{line}" for line in content.decode("utf-8", "replace").split("\n") if line]
    values = flags.FlagValues()
    try:
        words = define_config(values, words, needed=False)
        values([PROGRAM, *words])
    except flags.Error as error:  # which the command line prints as it does ours
        raise UserError(str(error)) from error
    config = values["config"].value
    check_config(config)
    data_set(config)
    region_of_interest(config)
    to_json(config)


def _overrides() -> list[bytes]:
    return [
        b"data.image_size=64,64\ntrain.steps=100",
        b"data.tile=128\ndata.tile_overlap=16\ndata.scale=0.5",
        b"model.variant=both\nmodel.dtype=float32\nmodel.sspcab=true",
        b"data.roi=foreground\ndata.depth=12\ndata.root=~/x",
        b"optimizer.milestones=0.5,0.8\noptimizer.learning_rate=1e-4",
        b"losses.focal=2.0\nanomalies.masks=perlin,cracks\nseed=7",
        b"train.profile=1,2\nfinetune.steps=5\nevaluation.score=top100",
    ]


def _prepare_names() -> None:
    from draem_jax.cli import common  # noqa: F401
    from draem_jax.reports import study_page, templates, types_page  # noqa: F401


def _names(content: bytes, folder: Path) -> None:
    """A text as the name of a type, picture and fact: on pages, in the terminal, in tables."""
    import html.parser

    import numpy as np

    from draem_jax import files
    from draem_jax.cli.common import one_line, shown
    from draem_jax.reports.types_page import NamedExample, TypesReport, render_types

    text = content.decode("utf-8", "surrogateescape")
    crop = np.zeros((2, 2, 3), np.uint8)

    def page(name: str) -> list[tuple[str, tuple[str, ...]]]:
        other = f"{name} too"  # as no two types have one name
        report = TypesReport(
            title=name,
            facts={name: name},
            notes=(name,),
            types=(name, other),
            given=(name, other, "unknown"),
            confusion=np.ones((2, 3), int),
            examples=[NamedExample(name, name, other, 0.5, crop)],
        )
        return _tags(render_types(report), html.parser.HTMLParser)

    assert page(text) == page("plain"), "a name becomes part of the page"
    for line in (one_line(text), shown(text)):
        assert not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in line), "it steers the terminal"
        assert not set("\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069") & set(
            line
        ), "it turns what stands beside it"
    files.write_csv(folder / "table.csv", ["name"], [[text]])
    path = Path(text.replace("\0", ""))
    if path.name:
        files.distinct_names([path], ".png")


def _tags(page: str, parser) -> list[tuple[str, tuple[str, ...]]]:
    """The tags of a page, with the names of their attributes."""
    found: list[tuple[str, tuple[str, ...]]] = []

    class Tags(parser):
        def handle_starttag(self, tag, attributes):
            found.append((tag, tuple(name for name, _ in attributes)))

    Tags().feed(page)
    return found


def _odd_names() -> list[bytes]:
    return [
        b"<script>alert(1)</script>", b"\"><img src=x onerror=alert(1)>", b"'; alert(1) //",
        b"{{ 7 * 7 }}{% raw %}", b"\x1b]0;title\x07\x1b[2J", b"a\r\nb\0c", b"\xff\xfe\xed\xa0\x80",
        "\u202egnp.exe\u2028".encode(), b"=cmd|' /C calc'!A0", b"]]></style></svg><script>",
    ]  # fmt: skip


TARGETS = (
    Target("list", "a list of pictures", _list_files, _list_file, prepare=_prepare),
    Target("widths", "a table of widths", _width_tables, _widths, prepare=_prepare),
    Target("visa", "the split of VisA", _visa_tables, _visa, prepare=_prepare),
    Target("dagm", "the labels of DAGM", _dagm_labels, _dagm, prepare=_prepare),
    Target(
        "overrides", "fields of the command line", _overrides, _override, prepare=_prepare_config
    ),
    Target("names", "a name of a file or type", _odd_names, _names, 1 << 10, _prepare_names),
)
