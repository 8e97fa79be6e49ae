"""Archives of data sets, and files of PyTorch."""

import functools
import io
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tools.fuzz.promise import Target

_PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(40)


def _prepare_archives() -> None:
    import bz2  # noqa: F401
    import lzma  # noqa: F401

    from draem_jax.data import archives  # noqa: F401


def _unpack(content: bytes, folder: Path, *, ending: str = "") -> None:
    from draem_jax.data.archives import is_archive, unpack

    path, into = folder / f"set{ending}", folder / "unpacked"
    path.write_bytes(content)
    into.mkdir()
    is_archive(path)
    try:
        unpack(path, into)
    finally:
        for made in folder.rglob("*"):
            assert not made.is_symlink(), f"a link: {made}"
            assert made.is_file() or made.is_dir(), f"a device: {made}"
            assert made == path or made.is_relative_to(into), f"outside: {made}"


def _zips() -> list[bytes]:
    made = []
    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", compression) as archive:
            archive.writestr("a/train/good/1.png", _PICTURE)
            archive.writestr("a/list.csv", "path,split\n")
            archive.writestr("ä.png", _PICTURE)
        made.append(buffer.getvalue())
    for name in ("../out.png", "/tmp/draem_jax_out.png", "a\\..\\..\\out.png", "c:/x.png", "."):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr(name, _PICTURE)
        made.append(buffer.getvalue())
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        link = zipfile.ZipInfo("link.png")
        link.create_system, link.external_attr = 3, 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    return [*made, buffer.getvalue()]


def _tar(members, *, mode: str = "w", form: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode, format=form) as archive:  # type: ignore[call-overload]
        for name, kind, content, pax in members:
            info = tarfile.TarInfo(name)
            info.type, info.size, info.linkname = kind, len(content), "/etc/passwd"
            info.pax_headers = pax
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def _tars() -> list[bytes]:
    plain: list[tuple[str, bytes, bytes, dict[str, str]]] = [
        ("a/train/good/1.png", tarfile.REGTYPE, _PICTURE, {}),
        ("a/train", tarfile.DIRTYPE, b"", {}),
        ("x" * 120 + "/2.png", tarfile.REGTYPE, _PICTURE, {}),
    ]
    made = [_tar(plain, mode=mode) for mode in ("w", "w:gz", "w:bz2", "w:xz")]
    made += [_tar(plain, form=form) for form in (tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT)]
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
        made.append(_tar([("bad.png", kind, b"", {})]))
    for name in ("../out.png", "/tmp/draem_jax_out.png", "a/../../out.png"):
        made.append(_tar([(name, tarfile.REGTYPE, _PICTURE, {})]))
    odd = {"path": "long/" + "n" * 150 + ".png", "mtime": "1.5", "comment": "ä"}
    made.append(_tar([("p.png", tarfile.REGTYPE, _PICTURE, odd)]))
    sparse = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "99"}
    made.append(_tar([("s.png", tarfile.REGTYPE, b"1\n0\n1\n" + bytes(506), sparse)]))
    return made


def _prepare_torch() -> None:
    from draem_jax.pytorch import importing, networks, reading  # noqa: F401


def _read_torch(content: bytes, folder: Path) -> None:
    from draem_jax.errors import UserError
    from draem_jax.pytorch.importing import Source

    path = folder / "weights.pckl"
    path.write_bytes(content)
    refused = []
    for source in (Source.authors(path, path), Source.anomalib(path)):
        try:
            with source.opened() as states:
                for network, state in states.items():
                    state.width(network)
        except UserError as error:
            refused.append(error)
    _read_tensors(path)
    if len(refused) == 2:  # it can be of one kind only
        raise refused[0]


def _read_tensors(path: Path) -> None:
    from draem_jax.pytorch.reading import Tensor, open_torch_file

    with open_torch_file(path, allows_foreign=True) as opened:
        values = opened.content.values() if isinstance(opened.content, dict) else [opened.content]
        for value in list(values)[:50]:
            if isinstance(value, Tensor):
                assert opened.read(value).shape == value.shape
                np.asarray(opened.read(value)).sum()


def _text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def _tensor_pickle(count: int, *shape: int, names: Sequence[str] = ("w",)) -> bytes:
    """What `torch.save` writes of {name: a tensor of floats}, opcode by opcode."""
    axes = b"".join(b"K" + bytes([n]) for n in shape)
    tensor = b"".join(
        (
            b"ctorch._utils\n_rebuild_tensor_v2\n((",
            _text("storage") + b"ctorch\nFloatStorage\n" + _text("0") + _text("cpu"),
            b"K" + bytes([count]) + b"tQK\x00(" + axes + b"t(" + b"K\x01" * len(shape),
            b"t\x89ccollections\nOrderedDict\n)RtR",
        )
    )
    return b"\x80\x02}" + b"".join(_text(name) + tensor + b"s" for name in names) + b"."


def _torch_files() -> list[bytes]:
    made = []
    first, second = "encoder.block1.0.weight", "encoder_segment.block1.0.weight"
    whole = f"model.reconstructive_subnetwork.{first}", f"model.discriminative_subnetwork.{second}"
    for names, shape in (
        (("w",), (6,)),
        ((first,), (2, 3, 1, 1)),
        ((first, second), (6, 1, 1, 1)),
        (whole, (2, 3, 1, 1)),
    ):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("archive/data.pkl", _tensor_pickle(6, *shape, names=names))
            archive.writestr("archive/byteorder", "little")
            archive.writestr("archive/data/0", np.arange(6, dtype="<f4").tobytes())
            archive.writestr("archive/version", "3\n")
        made.append(buffer.getvalue())
    parts = [0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}]
    old = b"".join(pickle.dumps(part, protocol=2) for part in parts)
    old += _tensor_pickle(6, 6) + pickle.dumps(["0"], protocol=2)
    return [*made, old + struct.pack("<q", 6) + np.arange(6, dtype="<f4").tobytes()]


def _read_pickle(content: bytes, folder: Path) -> None:
    from draem_jax.errors import UserError
    from draem_jax.pytorch import reading
    from draem_jax.pytorch.pickles import DamagedError, read_pickle

    del folder
    for foreign in (False, True):
        known = reading._known({}, len(content), foreign)
        try:
            read_pickle(io.BytesIO(content), known)
        except DamagedError as error:
            refused = error
        else:
            return
    raise UserError(str(refused))


def _pickles() -> list[bytes]:
    values = [{"a": [1, 2.5, None, True]}, ("x", b"y"), {1: {2: {3: []}}}, {1, 2}, 10**30]
    made = [pickle.dumps(value, protocol=n) for value in values for n in range(5)]
    made += [_tensor_pickle(6, 2, 3), b"(cposix\nsystem\n" + _text("true") + b"o."]
    return [*made, b"\x80\x02cbuiltins\neval\n(" + _text("1") + b"tR."]


TARGETS = (
    Target("zip", "a zip archive", _zips, functools.partial(_unpack, ending=".zip"),
           prepare=_prepare_archives),
    Target("tar", "a tar, plain or packed", _tars, _unpack, 1 << 16, prepare=_prepare_archives),
    Target("torch", "a file of torch.save", _torch_files, _read_torch, prepare=_prepare_torch),
    Target("pickle", "a pickle of weights", _pickles, _read_pickle, prepare=_prepare_torch),
)  # fmt: skip
