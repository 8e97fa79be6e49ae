"""Files of PyTorch's form, put together and taken apart without the package's own code."""

import pickle
import struct
import zipfile

# What the tests' harmful pickles run, where they are run.
COMMAND = "touch {}"


def parts_of(path):
    """The parts of an archive by name, and the name of its folder."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    (root,) = {name.partition("/")[0] for name in parts}
    return parts, root


def write_parts(path, parts, *, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return path


def with_pickle(path, out, change):
    """The archive with another pickle: `change` is given the one there is."""
    parts, root = parts_of(path)
    parts[f"{root}/data.pkl"] = change(parts[f"{root}/data.pkl"])
    return write_parts(out, parts)


def text(value):
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def number(value):
    return b"J" + struct.pack("<i", value)


def wrapped(pickled, *, before=b""):
    """The pickle of a dictionary that has another pickle's value as its `state_dict`.

    `before` are opcodes that leave one more value, which stands for `callbacks`.
    """
    assert pickled[:2] == b"\x80\x02"
    assert pickled[-1:] == b"."
    more = text("callbacks") + before if before else b""
    return b"\x80\x02}(" + more + text("state_dict") + pickled[2:-1] + b"u."


class _Runs:
    """Runs a command when it is unpickled."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        import os

        return os.system, (self.command,)


class _RunsWithin:
    """Hands over to Python's own reader, as the loaders of PyTorch do."""

    def __init__(self, command):
        self.inner = pickle.dumps(_Runs(command), protocol=2)

    def __reduce__(self):
        return pickle.loads, (self.inner,)


def harmful(command):
    """Pickles that run a command if they are run, by what is special about them."""
    argument = text(command)
    return {
        "global": pickle.dumps(_Runs(command), protocol=2),
        "stack_global": pickle.dumps(_Runs(command), protocol=4),
        "nested": pickle.dumps(_RunsWithin(command), protocol=4),
        "instance": b"(" + argument + b"iposix\nsystem\n.",
        "object": b"(cposix\nsystem\n" + argument + b"o.",
        "builtin": b"\x80\x02cbuiltins\neval\n("
        + text(f"__import__('os').system({command!r})")
        + b"tR.",
        "by_import": b"\x80\x02cimportlib\nimport_module\n(" + text("os") + b"tR."
        b"cbuiltins\ngetattr\n.",
        "at_the_end": b"\x80\x02}" + b"cposix\nsystem\n(" + argument + b"tR0.",
    }
