"""Writing files: whole, under names that can be written, whatever is on the disk."""

import csv
import itertools
import json
import os
import random
import resource
import unicodedata
from contextlib import contextmanager
from pathlib import PurePath

import pytest

from draem_jax import files
from draem_jax.errors import UserError


@contextmanager
def a_disk_with_room_for(size):
    """Lets no file grow beyond `size` bytes; Python ignores the signal that comes with it."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_told_and_leaves_whole_rows(tmp_path):
    table = files.GrowingTable(tmp_path / "t.csv", ("name", "text"))
    table.begin()
    table.add([("a", "1"), ("b", "x" * 100)])
    before = (tmp_path / "t.csv").read_bytes()
    with a_disk_with_room_for(len(before) + 50):
        for write in (
            lambda: table.add([("c", "y" * 100)]),
            lambda: files.write_csv(tmp_path / "t.csv", ("name",), [("c" * 400,)]),
            lambda: files.write_text(tmp_path / "t.csv", "c" * 400),
        ):
            with pytest.raises(UserError, match=r"cannot write .*t\.csv: .*; make room"):
                write()
            assert (tmp_path / "t.csv").read_bytes() == before
        table.add([("d", "")])  # what has room is written
    with (tmp_path / "t.csv").open(newline="") as file:
        assert [row[0] for row in csv.reader(file)] == ["name", "a", "b", "d"]
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]


def test_a_table_that_was_taken_away_is_told(tmp_path):
    table = files.GrowingTable(tmp_path / "t.csv", ("name",))
    table.begin()
    (tmp_path / "t.csv").unlink()
    with pytest.raises(UserError, match=r"t\.csv"):
        table.add([("a",)])
    assert not list(tmp_path.iterdir())


def test_every_name_can_be_written(tmp_path):
    name = os.fsdecode(b"b\xe4\xf6-\xc3\xa4.png")
    assert files.escaped(name) == "b\\udce4\\udcf6-ä.png"
    assert files.escaped("plain ä\n") == "plain ä\n"
    assert files.escaped("\ud800") == "\\ud800"
    files.write_csv(tmp_path / "t.csv", ("name",), [(name,), ('a\r\nb,"c"',)])
    with (tmp_path / "t.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows == [["name"], [files.escaped(name)], ['a\r\nb,"c"']]
    files.write_text(tmp_path / "t.html", name)
    assert (tmp_path / "t.html").read_text(encoding="utf-8") == files.escaped(name)
    assert json.loads(json.dumps(files.escaped(name), ensure_ascii=False)) == files.escaped(name)


def test_outputs_are_apart_on_every_file_system():
    stems = [
        "a",
        "A",
        "a.jpg",
        "a.png",
        "é",
        "e\u0301",
        "É",
        os.fsdecode(b"\xe9"),
        "\\udce9",
        "a~2",
    ]
    suffixes = [".png", ".jpg", ".PNG", ".jpg.png", ".png.png", "~2.png", ".jpg~2.png"]
    every = [stem + suffix for stem, suffix in itertools.product(stems, suffixes)]
    every += [f"{folder}/{name}" for folder in ("a", "A", "a.png", "é") for name in every[:24]]
    draw = random.Random(0)
    for count in (2, 3, 5, 10, 40, len(every)):
        for _ in range(40):
            chosen = draw.sample(every, count)
            # A name cannot be both a file and a folder.
            taken = {str(folder) for name in chosen for folder in PurePath(name).parents}
            inputs = [PurePath(name) for name in chosen if name not in taken]
            outputs = files.distinct_names(inputs, ".png")
            assert outputs == files.distinct_names(inputs, ".png")
            assert all(str(path).encode() and path.suffix == ".png" for path in outputs)
            keys = [unicodedata.normalize("NFD", str(path)).casefold() for path in outputs]
            assert len(set(keys)) == len(inputs)
            folders = {
                unicodedata.normalize("NFD", str(folder)).casefold()
                for path in outputs
                for folder in path.parents
            }
            assert not folders & set(keys)


def test_simple_names_stay_simple():
    names = ["a.jpg", "b.jpg", "b.png", "c/a.jpg", "a.b.tif"]
    assert [str(p) for p in files.distinct_names([PurePath(n) for n in names], ".png")] == [
        "a.png",
        "b.jpg.png",
        "b.png.png",
        "c/a.png",
        "a.b.png",
    ]


def test_long_names_are_cut_and_stay_apart(tmp_path):
    names = [PurePath(f"{'ä' * 126}{i}.jpg") for i in range(2)]
    names += [PurePath(os.fsdecode(b"\xe4" * 250 + b"%d.jpg" % i)) for i in range(2)]
    outputs = files.distinct_names(names, ".png")
    assert len(set(outputs)) == 4
    for path in outputs:
        files.write_text(tmp_path / path, "")
    assert len(list(tmp_path.iterdir())) == 4


def test_names_stay_as_they_are_whatever_comes_later():
    inputs = ["a.jpg", "a.png", "A.JPG", "a.jpg.png/b.png", "a.jpg.png~/b.png", "a.jpg~2.png"]
    inputs += ["é.png", "e\u0301.png", f"{'ä' * 125}.png", f"{'ä' * 124}é.png", "c/.png/d.png"]
    names = files.GrowingNames(".png")
    outputs = [names.name(PurePath(name)) for name in inputs]
    assert [str(path) for path in outputs[:4]] == [
        "a.jpg.png", "a.png.png", "A.JPG~2.png", "a.jpg.png~/b.png.png"
    ]  # fmt: skip
    keys = [unicodedata.normalize("NFD", str(path)).casefold() for path in outputs]
    assert len(set(keys)) == len(keys)
    folders = {str(folder) for key in keys for folder in PurePath(key).parents}
    assert not folders & set(keys)
    # What a later start is told of is not given again.
    later = files.GrowingNames(".png", outputs[:3])
    assert [later.name(PurePath(name)) for name in inputs[3:]] == outputs[3:]


def test_what_a_killed_process_left_is_removed(tmp_path):
    for name in ("table.csv", "within/a.png", ".hidden.file"):
        with files.atomic_path(tmp_path / name) as temporary:
            temporary.write_text("")
            left = temporary.with_name(temporary.name)
        left.write_text("half")
    before = len([*tmp_path.rglob("*")])
    files.remove_temporary(tmp_path, ["table.csv"])
    assert len([*tmp_path.rglob("*")]) == before - 1
    files.remove_temporary(tmp_path)
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == [
        ".hidden.file", "a.png", "table.csv"
    ]  # fmt: skip


def test_the_home_is_known(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert files.expand("~/x") == tmp_path / "x"
    assert str(files.expand("~no-such-user/x")) == "~no-such-user/x"
    assert str(files.expand("a/~/x")) == "a/~/x"


def test_a_scratch_file_is_gone_afterwards(tmp_path):
    folder = tmp_path / "new"
    with files.scratch_file(folder) as file:
        file.write(b"abc")
        file.seek(1)
        assert file.read() == b"bc"
        assert not list(folder.iterdir())
    assert not list(folder.iterdir())
    with (
        a_disk_with_room_for(1000),
        pytest.raises(UserError, match="make room on the disk"),
        files.scratch_file(folder) as file,
    ):
        file.write(bytes(2000))  # less than what is written at a time
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write"), files.scratch_file(tmp_path / "file"):
        pass
    with pytest.raises(FileNotFoundError), files.scratch_file(folder):
        (tmp_path / "missing").read_bytes()
