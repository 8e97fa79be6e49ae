"""Reading pickles without running them.

Python's own reader imports and calls what a pickle names, so that a pickle is a program. This one
takes a pickle for data: it goes through the opcodes with the standard library's disassembler, and
imports and calls nothing. What would be called is looked up among a few functions that the caller
gives. Anything else is refused, or, where that is asked for, leaves a `Foreign`: an empty object
that nothing can be done with but to look at the state that the pickle gave it.

So no file can do more than take time and memory, and its length bounds both. What names a program
to run is refused wherever it stands: not because it could run, but because whoever made the file
meant it to.
"""

import io
import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from draem_jax.errors import UserError

LONGEST = 8 * 2**20
"""Bytes of the longest pickle that is read; those of networks have some ten thousand."""

_SHOWN = 80  # characters of a name that a file may have made up

# What stands for itself, so that a dictionary may have it as a key: to hash tuples within tuples
# may go too deep for Python's stack.
_PLAIN = (str, bytes, int, float, bool, type(None))


# Modules that files of weights name for harm alone, and what of Python's own does.
_HARMFUL_MODULES = frozenset(
    (
        *("os", "posix", "nt", "subprocess", "pty", "sys", "runpy", "importlib", "socket"),
        *("shutil", "ctypes", "code", "pickle", "_pickle", "webbrowser", "timeit", "pdb", "pip"),
    )
)
_HARMFUL_BUILTINS = frozenset(("eval", "exec", "compile", "open", "__import__", "breakpoint"))


class DamagedError(ValueError):
    """A file is not what it should be; the message says why, as the end of a sentence."""


@dataclass(frozen=True)
class Name:
    """The name of a class or function in a pickle, such as `torch.FloatStorage`."""

    name: str


class Foreign:
    """What a pickle would have made by calling something unknown, which was not called.

    Attributes:
        state: what the pickle would have put into the object; None for nothing.
    """

    __slots__ = ("state",)

    def __init__(self) -> None:
        self.state: Any = None


@dataclass(frozen=True, kw_only=True)
class Known:
    """What a pickle may name.

    Attributes:
        calls: takes the place of what is called, by name; each is given the arguments as a tuple,
            and must expect any.
        values: names that are never called.
        persistent: what becomes of an identifier of something that is stored elsewhere.
        allows_foreign: make a `Foreign` where anything else is called, instead of refusing.
    """

    calls: Mapping[str, Callable[[tuple[Any, ...]], Any]]
    values: frozenset[str]
    persistent: Callable[[Any], Any]
    allows_foreign: bool = False


def read_pickle(stream: io.BytesIO, known: Known) -> Any:
    """Reads one pickle, and leaves the stream behind it.

    Args:
        stream: at the beginning of the pickle; of no more than `LONGEST` bytes.
        known: what it may name.

    Returns:
        What the pickle holds, of lists, tuples, dictionaries, plain values, `Name`, `Foreign`, and
        what `known` makes. Sets are lists, and entries of dictionaries whose keys are not plain
        values are left out. The result may contain itself.

    Raises:
        DamagedError: it is no pickle, or not whole.
        UserError: it names what it may not.
    """
    machine = _Machine(known)
    try:
        for opcode, argument, _ in pickletools.genops(stream):
            if opcode.name == "STOP":
                return machine.pop()
            machine.act(opcode.name, argument)
    except DamagedError:
        raise
    # The disassembler and what is done with its opcodes raise these where a pickle is damaged.
    except (ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
        raise DamagedError("its pickle is damaged") from error
    raise DamagedError("its pickle is damaged")


def _is_harmful(name: str) -> bool:
    module, _, function = name.partition(".")
    if module in ("builtins", "__builtin__"):
        return function in _HARMFUL_BUILTINS
    return module in _HARMFUL_MODULES


def shown(name: str) -> str:
    """A name out of a file as part of a message: quoted, and not too long."""
    return repr(name if len(name) <= _SHOWN else f"{name[:_SHOWN]}…")


class _Machine:
    """The stack of a pickle, what it has memorised, and what its opcodes do."""

    def __init__(self, known: Known):
        self._known = known
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def act(self, name: str, argument: Any) -> None:
        if name in _CONSTANTS:
            self._stack.append(_CONSTANTS[name]())
        elif name in _ARGUMENTS:
            self._stack.append(argument)
        elif name in _ACTIONS:
            _ACTIONS[name](self, argument)
        else:
            raise DamagedError(f"its pickle uses {name}, as none of PyTorch does")

    def pop(self) -> Any:
        return self._stack.pop()

    def _pop_many(self, count: int) -> list[Any]:
        if count > len(self._stack):
            raise DamagedError("its pickle is damaged")
        items = self._stack[len(self._stack) - count :]
        del self._stack[len(self._stack) - count :]
        return items

    def _pop_marked(self) -> list[Any]:
        return self._pop_many(len(self._stack) - self._marks.pop())

    def mark(self, _: Any) -> None:
        self._marks.append(len(self._stack))

    def pop_one(self, _: Any) -> None:
        self.pop()

    def pop_marked(self, _: Any) -> None:
        self._pop_marked()

    def duplicate(self, _: Any) -> None:
        self._stack.append(self._stack[-1])

    def put(self, index: int | None) -> None:
        self._memo[len(self._memo) if index is None else index] = self._stack[-1]

    def get(self, index: int) -> None:
        self._stack.append(self._memo[index])

    def tuple_of(self, count: int) -> None:
        self._stack.append(tuple(self._pop_many(count)))

    def tuple_of_marked(self, _: Any) -> None:
        self._stack.append(tuple(self._pop_marked()))

    def list_of_marked(self, _: Any) -> None:
        self._stack.append(self._pop_marked())

    def dict_of_marked(self, _: Any) -> None:
        items = self._pop_marked()
        self._stack.append({})
        self._set(items)

    def append(self, _: Any) -> None:
        self._extend(self._pop_many(1))

    def append_marked(self, _: Any) -> None:
        self._extend(self._pop_marked())

    def set_item(self, _: Any) -> None:
        self._set(self._pop_many(2))

    def set_marked(self, _: Any) -> None:
        self._set(self._pop_marked())

    def _extend(self, items: list[Any]) -> None:
        if not isinstance(self._stack[-1], Foreign):
            self._of_type(list).extend(items)

    def _set(self, items: list[Any]) -> None:
        if isinstance(self._stack[-1], Foreign):
            return
        target = self._of_type(dict)
        for key, value in zip(items[::2], items[1::2], strict=True):
            if isinstance(key, _PLAIN):
                target[key] = value

    def _of_type(self, wanted: type) -> Any:
        if type(target := self._stack[-1]) is not wanted:
            raise DamagedError("its pickle is damaged")
        return target

    def name(self, argument: str) -> None:
        # The disassembler joins module and name by a blank.
        module, _, name = argument.partition(" ")
        self._name(f"{module}.{name}")

    def name_on_stack(self, _: Any) -> None:
        module, name = self._pop_many(2)
        if not (isinstance(module, str) and isinstance(name, str)):
            raise DamagedError("its pickle is damaged")
        self._name(f"{module}.{name}")

    def _name(self, name: str) -> None:
        known = self._known
        is_known = name in known.calls or name in known.values
        if not is_known and (_is_harmful(name) or not known.allows_foreign):
            raise UserError(
                f"it names {shown(name)}, which weights do not need and which might do harm; "
                "nothing of it was run"
            )
        self._stack.append(Name(name))

    def call(self, _: Any) -> None:
        function, arguments = self._pop_many(2)
        self._call(function, arguments)

    def call_with_names(self, _: Any) -> None:
        function, arguments, _named = self._pop_many(3)
        self._call(function, arguments)

    def call_marked(self, _: Any) -> None:
        function, *arguments = self._pop_marked()
        self._call(function, tuple(arguments))

    def call_named(self, argument: str) -> None:
        arguments = tuple(self._pop_marked())
        self.name(argument)
        self._call(self.pop(), arguments)

    def _call(self, function: Any, arguments: Any) -> None:
        if isinstance(function, Name) and function.name in self._known.calls:
            if not isinstance(arguments, tuple):
                raise DamagedError("its pickle is damaged")
            self._stack.append(self._known.calls[function.name](arguments))
        elif self._known.allows_foreign:
            self._stack.append(Foreign())
        else:
            raise DamagedError("its pickle calls what is no function")

    def build(self, _: Any) -> None:
        state, target = self.pop(), self._stack[-1]
        if isinstance(target, Foreign):
            target.state = state

    def persistent(self, _: Any) -> None:
        self._stack.append(self._known.persistent(self.pop()))


_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_SET": list,
    "EMPTY_DICT": dict,
    "EMPTY_TUPLE": tuple,
}

_ARGUMENTS = frozenset(
    (
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
        *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BYTEARRAY8"),
    )
)

_ACTIONS: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": lambda machine, argument: None,
    "FRAME": lambda machine, argument: None,
    "MARK": _Machine.mark,
    "POP": _Machine.pop_one,
    "POP_MARK": _Machine.pop_marked,
    "DUP": _Machine.duplicate,
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"), _Machine.put),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _Machine.get),
    "TUPLE1": lambda machine, argument: machine.tuple_of(1),
    "TUPLE2": lambda machine, argument: machine.tuple_of(2),
    "TUPLE3": lambda machine, argument: machine.tuple_of(3),
    "TUPLE": _Machine.tuple_of_marked,
    **dict.fromkeys(("LIST", "FROZENSET"), _Machine.list_of_marked),
    "DICT": _Machine.dict_of_marked,
    "APPEND": _Machine.append,
    **dict.fromkeys(("APPENDS", "ADDITEMS"), _Machine.append_marked),
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_marked,
    "GLOBAL": _Machine.name,
    "STACK_GLOBAL": _Machine.name_on_stack,
    **dict.fromkeys(("REDUCE", "NEWOBJ"), _Machine.call),
    "NEWOBJ_EX": _Machine.call_with_names,
    "OBJ": _Machine.call_marked,
    "INST": _Machine.call_named,
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.persistent,
}
