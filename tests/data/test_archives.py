import io
import os
import tarfile
import zipfile

import pytest

from draem_jax.data import archives
from draem_jax.data.archives import is_archive, unpack
from draem_jax.data.folders import list_pictures
from draem_jax.errors import UserError
from tests.data import fixtures

ENDINGS = ("tar", "tar.gz", "tar.xz", "tar.bz2", "zip")


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """The same data set in every kind of archive."""
    base = tmp_path_factory.mktemp("packed")
    folder = fixtures.make_mvtec_ad(base / "all")
    fixtures.make_mvtec_ad(folder, "cable", train=2, good=0, types={"bent_wire": 1})
    (folder / "._bottle.png").write_text("what macOS adds")
    return {ending: fixtures.pack(folder, base / f"set.{ending}") for ending in ENDINGS}


def files(folder):
    """All files that hold something."""
    return sorted(
        p.relative_to(folder).as_posix()
        for p in folder.rglob("*")
        if p.is_file() and p.stat().st_size
    )


@pytest.mark.parametrize("ending", ENDINGS)
def test_unpacks_pictures_and_lists(tmp_path, packed, ending):
    counts = []
    unpack(packed[ending], tmp_path, progress=counts.append)
    found = files(tmp_path)
    assert counts == list(range(1, len(found) + 1))
    assert len([f for f in found if f.endswith(".png")]) == 4 + 2 + 3 + 3 + 2 + 1 + 1
    assert "bottle/license.txt" in found
    assert not any("/." in f"/{f}" for f in found)
    assert (tmp_path / "._bottle.png").stat().st_size == 0  # to be told of as of a folder's
    original = packed[ending].parent / "all" / "bottle/test/good/001.png"
    assert (tmp_path / "bottle/test/good/001.png").read_bytes() == original.read_bytes()


def test_leaves_out_what_is_not_needed(tmp_path, packed):
    unpack(packed["tar.xz"], tmp_path, without={"bottle"})
    assert {f.split("/")[0] for f in files(tmp_path)} == {"cable"}


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.97])
def test_truncated(tmp_path, packed, ending, share):
    content = packed[ending].read_bytes()
    path = tmp_path / f"cut.{ending}"
    path.write_bytes(content[: int(share * len(content))])
    assert is_archive(path)
    (tmp_path / "into").mkdir()
    with pytest.raises(UserError, match=rf"cut\.{ending} is truncated or damaged .*download it"):
        unpack(path, tmp_path / "into")


def test_truncated_between_two_members(tmp_path, packed):
    with tarfile.open(packed["tar"]) as tar:
        last = tar.getmembers()[-1]
    path = tmp_path / "cut.tar"
    for cut in (last.offset, last.offset + 100):
        path.write_bytes(packed["tar"].read_bytes()[:cut])
        with pytest.raises(UserError, match="truncated or damaged"):
            unpack(path, tmp_path)


@pytest.mark.parametrize("ending", ["tar.gz", "tar.xz", "zip"])
def test_damaged_within(tmp_path, packed, ending):
    content = bytearray(packed[ending].read_bytes())
    middle = len(content) // 2
    content[middle : middle + 40] = bytes(40)
    path = tmp_path / f"bad.{ending}"
    path.write_bytes(content)
    with pytest.raises(UserError, match="truncated or damaged"):
        unpack(path, tmp_path)


def make_archive(path, name, *, kind="file"):
    content = b"not yours"
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as packed:
            info = zipfile.ZipInfo(name)
            if kind == "symlink":
                info.external_attr = 0o120777 << 16
            packed.writestr(info, content)
        return path
    with tarfile.open(path, "w:gz") as tar:
        info = tarfile.TarInfo(name)
        info.size = len(content) if kind == "file" else 0
        info.type = {
            "file": tarfile.REGTYPE,
            "symlink": tarfile.SYMTYPE,
            "hard link": tarfile.LNKTYPE,
            "device": tarfile.CHRTYPE,
        }[kind]
        info.linkname = "/etc/passwd" if kind != "file" else ""
        tar.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize("ending", ["tar.gz", "zip"])
@pytest.mark.parametrize(
    "name", ["../out.png", "a/../../out.png", "/tmp/out.png", "C:\\out.png", "..\\out.png"]
)
def test_members_that_escape(tmp_path, ending, name):
    path = make_archive(tmp_path / f"bad.{ending}", name)
    into = tmp_path / "deep" / "into"
    into.mkdir(parents=True)
    with pytest.raises(UserError, match=r"which would be written outside") as caught:
        unpack(path, into)
    assert repr(name) in str(caught.value)
    assert str(path) in str(caught.value)
    assert files(tmp_path) == [path.name]


@pytest.mark.parametrize(
    ("ending", "kind", "word"),
    [
        ("tar.gz", "symlink", "a link"),
        ("tar.gz", "hard link", "a link"),
        ("tar.gz", "device", "a device"),
        ("zip", "symlink", "a link"),
    ],
)
def test_links_and_devices(tmp_path, ending, kind, word):
    path = make_archive(tmp_path / f"bad.{ending}", "train/good/1.png", kind=kind)
    with pytest.raises(UserError, match=rf"holds 'train/good/1\.png', {word}; unpack it yourself"):
        unpack(path, tmp_path)
    assert files(tmp_path) == [path.name]


def test_locked(tmp_path):
    path = make_archive(tmp_path / "locked.zip", "1.png")
    content = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(mark) + offset] |= 1  # "encrypted"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"1\.png is locked; unpack it yourself"):
        unpack(path, tmp_path)


@pytest.mark.parametrize(("method", "word"), [(9, "Deflate64"), (98, "PPMd"), (77, "method 77")])
def test_methods_that_cannot_be_read(tmp_path, method, word):
    path = make_archive(tmp_path / "packed.zip", "1.png")
    content = bytearray(path.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        content[content.index(mark) + offset] = method
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"1\.png is packed by .*{word}, which cannot be read"):
        unpack(path, tmp_path)


MEMBERS = ("base/train/good/0.png", "base/test/bad/0.png", "base/ground_truth/bad/0.png")


def pack_members(path, names, *, system=3):
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as packed:
            for name in names:
                info = zipfile.ZipInfo(name)
                info.create_system = system
                packed.writestr(info, b"picture")
    else:
        with tarfile.open(path, "w") as tar:
            for name in names:
                info = tarfile.TarInfo(name)
                info.size = 7
                tar.addfile(info, io.BytesIO(b"picture"))
    return path


@pytest.mark.parametrize("start", ["", "./"])
@pytest.mark.parametrize("ending", ["zip", "tar"])
def test_backslashes_between_folders(tmp_path, ending, start):
    names = [start + name.replace("/", "\\") for name in MEMBERS]
    unpack(pack_members(tmp_path / f"win.{ending}", names), tmp_path / "into")
    assert files(tmp_path / "into") == sorted(MEMBERS)


def test_backslashes_and_slashes_in_one_archive(tmp_path):
    names = [MEMBERS[0], *(name.replace("/", "\\") for name in MEMBERS[1:])]
    # On DOS a backslash is no character of a name.
    unpack(pack_members(tmp_path / "win.zip", names, system=0), tmp_path / "into")
    assert files(tmp_path / "into") == sorted(MEMBERS)
    with pytest.raises(UserError, match=r"cannot be told what is a folder; unpack it yourself"):
        unpack(pack_members(tmp_path / "mixed.tar", names), tmp_path / "mixed")
    # Elsewhere it is one, as odd as that is: reading the folder will tell.
    unpack(pack_members(tmp_path / "unix.zip", names), tmp_path / "unix")
    with pytest.raises(UserError, match="2 pictures with backslashes in their names"):
        list_pictures(tmp_path / "unix")


def packed_bytes(path, size, *, count=1, name="a.png"):
    """An archive of members that hold nothing but zeros, by the ending of its name."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as archive:
            for i in range(count):
                archive.writestr(f"{i}{name}", bytes(size))
        return path
    with tarfile.open(path, f"w:{path.suffix[1:]}") as archive:
        for i in range(count):
            info = tarfile.TarInfo(f"{i}{name}")
            info.size = size
            archive.addfile(info, io.BytesIO(bytes(size)))
    return path


@pytest.mark.parametrize("ending", ["zip", "tar.gz", "tar.xz", "tar.bz2"])
@pytest.mark.parametrize("name", ["a.png", "a.bin"])  # the latter is not written
def test_small_archives_that_unpack_to_much(tmp_path, monkeypatch, ending, name):
    monkeypatch.setattr(archives, "_ALWAYS_BYTES", 1 << 20)
    path = packed_bytes(tmp_path / f"bomb.{ending}", 6 << 20, name=name)
    into = tmp_path / "into"
    if name == "a.bin" and ending == "zip":
        unpack(path, into)  # whose members need not be gone through
    else:
        with pytest.raises(UserError, match="hundreds of times its size"):
            unpack(path, into)
    assert sum(p.stat().st_size for p in into.rglob("*")) < 2 << 20


def test_more_members_than_it_can_hold(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "_ALWAYS_MEMBERS", 50)
    path = packed_bytes(tmp_path / "many.tar.gz", 0, count=2000)
    with pytest.raises(UserError, match="hundreds of times its size"):
        unpack(path, tmp_path / "into")


def test_a_name_as_long_as_memory(tmp_path):
    path = tmp_path / "long.tar.gz"
    with tarfile.open(path, "w:gz", format=tarfile.PAX_FORMAT) as archive:
        info = tarfile.TarInfo("a.png")
        info.pax_headers = {"comment": "x" * (4 << 20)}
        archive.addfile(info)
    with pytest.raises(UserError, match="damaged"):
        unpack(path, tmp_path / "into")


@pytest.mark.parametrize("ending", ["tar", "tar.gz"])
def test_a_name_that_no_disk_takes(tmp_path, ending):
    path = tmp_path / f"nul.{ending}"
    with tarfile.open(path, f"w:{'gz' * (ending == 'tar.gz')}") as archive:
        info = tarfile.TarInfo("a.png")
        info.pax_headers = {"path": "a\0b.png"}
        archive.addfile(info)
    with pytest.raises(UserError, match="damaged"):
        unpack(path, tmp_path / "into")


def test_full_disk(tmp_path, packed, monkeypatch):
    def fail(*_):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(archives, "_copy", fail)
    with pytest.raises(UserError, match=r"the disk is full: .* has no room to unpack .*set\.tar"):
        unpack(packed["tar"], tmp_path)


def test_told_by_content(tmp_path, packed):
    # DTD's archive is called .tar.gz, but was a plain tar for long.
    path = tmp_path / "dtd.tar.gz"
    path.write_bytes(packed["tar"].read_bytes())
    (tmp_path / "into").mkdir()
    unpack(path, tmp_path / "into")
    assert files(tmp_path / "into")
    nameless = tmp_path / "download"
    nameless.write_bytes(packed["zip"].read_bytes())
    assert is_archive(nameless)
    nameless.write_text("no archive")
    assert not is_archive(nameless)
    assert not is_archive(tmp_path)
