"""Files of PyTorch are read as data: what would run is refused, and what is damaged is told."""

import io
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from draem_jax.errors import UserError
from draem_jax.pytorch.importing import Source
from draem_jax.pytorch.pickles import LONGEST
from draem_jax.pytorch.reading import open_torch_file
from draem_jax.pytorch.writing import ArrayToWrite, write_state_dict
from tests.pytorch.files import harmful, number, parts_of, text, with_pickle, wrapped, write_parts

GOLDEN = Path(__file__).parent.parent / "golden"
NEW, NEW_SEG = GOLDEN / "authors_tiny.pckl", GOLDEN / "authors_tiny_seg.pckl"
OLD_SEG, ANOMALIB = GOLDEN / "authors_old_form_seg.pckl", GOLDEN / "anomalib_tiny.pt"
KINDS = tuple(harmful(""))


def arrays(path):
    with open_torch_file(path) as file:
        return {name: file.read(tensor) for name, tensor in file.content.items()}


def read_all(path, *, allows_foreign=False):
    """Reads whatever an import would, and lets nothing but a UserError of one line through."""
    try:
        source = Source.anomalib(path) if allows_foreign else Source.authors(path, path)
        with source.opened() as states:
            for state in states.values():
                for tensor in state.tensors.values():
                    state.file.read(tensor)
    except UserError as error:
        assert "\n" not in str(error)  # noqa: PT017
        assert len(str(error)) < 400  # noqa: PT017


def test_both_forms_hold_the_same():
    new, old = arrays(NEW_SEG), arrays(OLD_SEG)
    assert list(new) == list(old)
    for name, array in new.items():
        np.testing.assert_array_equal(array, old[name])
        assert array.dtype == old[name].dtype
    assert new["encoder_segment.block1.0.weight"].shape == (1, 6, 3, 3)
    assert new["encoder_segment.block1.1.num_batches_tracked"].dtype == np.int64


def test_pytorch_reads_what_is_written(tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch is no dependency")
    given = arrays(NEW)
    write_state_dict(tmp_path / "a.pckl", map(ArrayToWrite._make, given.items()), name="a")
    for mmap in (False, True):
        loaded = torch.load(tmp_path / "a.pckl", weights_only=True, mmap=mmap)
        assert list(loaded) == list(given)
        for name, tensor in loaded.items():
            assert tensor.numpy().tobytes() == given[name].tobytes()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "by_import"])
def test_the_harmful_pickles_are_armed(kind, tmp_path):
    target = tmp_path / "ran"
    pickle.loads(harmful(f"touch {target}")[kind])
    assert target.exists()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", ["archive", "old", "alone", "within", "anomalib", "lightning"])
def test_what_would_run_is_refused(kind, form, tmp_path):
    target, path = tmp_path / "ran", tmp_path / "weights.pckl"
    payload = harmful(f"touch {target}")[kind]
    body = payload[2:-1] if payload[0] == 0x80 else payload[:-1]
    if form == "archive":
        with_pickle(NEW, path, lambda _: payload)
    elif form == "old":
        head = OLD_SEG.read_bytes()
        after = head.index(b"\x80\x02ccollections")
        path.write_bytes(head[:after] + payload)
    elif form == "alone":
        path.write_bytes(payload)
    elif form == "within":  # the weights are whole, and something else stands before them
        with_pickle(NEW, path, lambda good: b"\x80\x02" + body + b"0" + good[2:])
    elif form == "anomalib":
        with_pickle(ANOMALIB, path, lambda good: b"\x80\x02" + body + b"0" + good[2:])
    else:
        with_pickle(NEW, path, lambda good: wrapped(good, before=body))
    source = Source.authors(path, path)
    if form in ("anomalib", "lightning"):
        source = Source.anomalib(path)
    named = r"posix\.system|pickle\.loads|builtins\.eval|importlib\.import_module"
    with (
        pytest.raises(UserError, match=rf"it names '_?({named})'.*nothing of it was run"),
        source.opened(),
    ):
        pass
    assert not target.exists()


@pytest.mark.parametrize("name", ["torch.load", "numpy.load", "builtins.getattr", "a.b"])
def test_the_authors_files_name_nothing_else(name, tmp_path):
    module, _, function = name.rpartition(".")
    payload = f"\x80\x02c{module}\n{function}\n)R.".encode("latin-1")
    path = with_pickle(NEW, tmp_path / "a.pckl", lambda _: payload)
    with pytest.raises(UserError, match=rf"a\.pckl is refused: it names '{name}'"):
        arrays(path)


def _tensor(storage, *, count=4, offset=0, shape=(4,), strides=(1,)):
    def numbers(values):
        return b"(" + b"".join(map(number, values)) + b"t"

    return (
        b"\x80\x02}" + text("a") + b"ctorch._utils\n_rebuild_tensor_v2\n((" + text("storage")
        + b"ctorch\nFloatStorage\n" + text(storage) + text("cpu") + number(count) + b"tQ"
        + number(offset) + numbers(shape) + numbers(strides) + b"\x89NtRs."
    )  # fmt: skip


@pytest.mark.parametrize(
    ("lie", "message"),
    [
        ({"count": 2**30}, "more than it has room for"),
        ({"count": 5}, "16 bytes"),
        ({"shape": (5,)}, "larger than what it is stored in"),
        ({"offset": 1}, "larger than what it is stored in"),
        ({"shape": (2**30,), "strides": (0,)}, "larger than what it is stored in"),
        ({"shape": (-1,)}, "damaged"),
        ({"strides": ()}, "damaged"),
        ({"storage": "1"}, "it has no data/1"),
        ({"storage": "../a"}, r"it has no data/\.\./a"),
    ],
)
def test_lies_about_sizes(lie, message, tmp_path):
    pickled = _tensor(**{"storage": "0"} | lie)
    path = write_parts(tmp_path / "a", {"r/data.pkl": pickled, "r/data/0": bytes(16)})
    with pytest.raises(UserError, match=message):
        arrays(path)


def test_numbers_of_any_order_and_layout(tmp_path):
    values = np.arange(6, dtype=np.float32)
    pickled = _tensor("0", count=6, offset=0, shape=(2, 3), strides=(1, 2))
    for order in ("little", "big"):
        content = values.astype(values.dtype.newbyteorder(order)).tobytes()
        parts = {"r/data.pkl": pickled, "r/byteorder": order.encode(), "r/data/0": content}
        read = arrays(write_parts(tmp_path / order, parts))["a"]
        np.testing.assert_array_equal(read, values.reshape(3, 2).T)


def test_bombs(tmp_path):
    parts, root = parts_of(NEW)
    path = write_parts(tmp_path / "a", parts, compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(UserError, match="is compressed, as PyTorch never does"):
        arrays(path)
    long = bytes(LONGEST + 1)
    with pytest.raises(UserError, match="too many"):
        arrays(write_parts(tmp_path / "b", parts | {f"{root}/data.pkl": long}))


def test_pickles_that_are_too_deep(tmp_path):
    # To hash tuples within tuples would overflow the stack.
    deep = b"\x80\x02})" + b"\x85" * 50_000 + b"Ns."
    with open_torch_file(write_parts(tmp_path / "a", {"r/data.pkl": deep})) as file:
        assert file.content == {}
    cyclic = b"\x80\x02}q\x00" + text("model") + b"h\x00s."
    source = Source.anomalib(write_parts(tmp_path / "b", {"r/data.pkl": cyclic}))
    with pytest.raises(UserError, match="holds no DRÆM of anomalib"), source.opened():
        pass


def test_what_is_no_file_of_weights(tmp_path):
    for content in (b"", b"PK\x03\x04", b"text", struct.pack("<q", -1), NEW.read_bytes()[:5000]):
        (tmp_path / "a").write_bytes(content)
        with pytest.raises(UserError, match="no whole file of weights"):
            arrays(tmp_path / "a")
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(UserError, match="cannot read"):
            arrays(path)


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzzed") / "weights"


PLACES = st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), max_size=4)


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(
    path=st.sampled_from([NEW_SEG, OLD_SEG, ANOMALIB]),
    places=PLACES,
    near_end=st.booleans(),
    kept=st.floats(0, 1),
    is_cut=st.booleans(),
)
def test_damaged_files(fuzzed, path, places, near_end, kept, is_cut):
    content = bytearray(path.read_bytes())
    # The ends of a file tell where all else is.
    reach = 30_000 if near_end else len(content)
    for share, difference in places:
        content[len(content) - 1 - int(share * reach)] ^= difference
    fuzzed.write_bytes(content[: int(kept * len(content))] if is_cut else content)
    read_all(fuzzed, allows_foreign=path == ANOMALIB)


@settings(max_examples=40, deadline=None)
@given(
    allows_foreign=st.booleans(),
    places=PLACES,
    kept=st.floats(0, 1),
    is_cut=st.booleans(),
)
def test_damaged_pickles_in_whole_archives(fuzzed, allows_foreign, places, kept, is_cut):
    def damaged(pickled):
        content = bytearray(pickled)
        for share, difference in places:
            content[int(share * len(content))] ^= difference
        return bytes(content[: int(kept * len(content))] if is_cut else content)

    stream = io.BytesIO()
    with_pickle(NEW_SEG, stream, damaged)
    fuzzed.write_bytes(stream.getvalue())
    read_all(fuzzed, allows_foreign=allows_foreign)
