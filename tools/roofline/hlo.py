"""Reading optimised HLO: what XLA's compiler has made of a program, as text."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

_ARRAY = re.compile(r"\b(pred|bf16|[fsuc]\d+\w*)\[([\d,]*)\](?:\{([^}]*)\})?")
_INSTRUCTION = re.compile(r"\s+(ROOT )?%?([\w.-]+) = ")
_ENTRY_OF_TABLE = re.compile(r"(\d+) (.+)")


@dataclass(frozen=True)
class Array:
    """The form of an array.

    Attributes:
        dtype: HLO's name of it, such as "bf16".
        dims: the sizes of its axes.
        order: its axes from the one that lies closest in memory, outwards.
        tile: the block that the innermost axes are filled up to; empty for none.
        memory: 0 for the device's main memory, another number for one that is faster or farther.
    """

    dtype: str
    dims: tuple[int, ...]
    order: tuple[int, ...] = ()
    tile: tuple[int, ...] = ()
    memory: int = 0

    @property
    def elements(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.dims)

    @property
    def size(self) -> int:
        """Bytes that it takes, with what fills up its tiles."""
        sizes = [self.dims[axis] for axis in self.order] or list(self.dims[::-1])
        sizes += [1] * (len(self.tile) - len(sizes))
        for i, block in enumerate(reversed(self.tile)):
            sizes[i] = -(-sizes[i] // block) * block
        return math.prod(sizes) * _bits(self.dtype) // 8

    @property
    def traffic(self) -> int:
        """Bytes that pass through main memory as it is read or written once."""
        return 0 if self.memory else self.size

    def __str__(self) -> str:
        return f"{self.dtype}[{','.join(map(str, self.dims))}]"


def _bits(dtype: str) -> int:
    found = re.search(r"\d+", dtype)
    return int(found.group()) if found else 8


def read_arrays(text: str) -> tuple[Array, ...]:
    """The arrays that a type is made of, those within tuples in their order."""
    return tuple(_array(*found) for found in _ARRAY.findall(text))


def _array(dtype: str, dims: str, layout: str) -> Array:
    order, _, rest = layout.partition(":")
    tile = re.search(r"T\(([\d,]+)\)", rest)
    memory = re.search(r"S\((\d+)\)", rest)
    return Array(
        dtype,
        _numbers(dims),
        _numbers(order),
        _numbers(tile.group(1)) if tile else (),
        int(memory.group(1)) if memory else 0,
    )


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in text.split(",") if number)


@dataclass(frozen=True)
class Instruction:
    """One line of a computation.

    Attributes:
        name: its own within the module.
        opcode: what it does.
        results: the arrays it makes; several where it makes a tuple.
        operands: the names of what it takes.
        attributes: the rest of the line.
        op_name: the path of scopes that JAX traced it in; empty where the compiler made it.
        stack: the functions that it was traced in, innermost first, as `path/file.py:function`.
    """

    name: str
    opcode: str
    results: tuple[Array, ...]
    operands: tuple[str, ...]
    attributes: str = ""
    op_name: str = ""
    stack: tuple[str, ...] = ()

    def attribute(self, pattern: str) -> str | None:
        """What the group of a regular expression finds among the attributes."""
        found = re.search(pattern, self.attributes)
        return found.group(1) if found else None

    @property
    def target(self) -> str:
        """What a custom call calls; empty for others."""
        return self.attribute(r'custom_call_target="([^"]*)"') or ""


@dataclass(frozen=True)
class Computation:
    """A function of the module.

    Attributes:
        instructions: by name, in the order in which they run if the module is scheduled.
        root: the one whose result is returned.
        parameters: its arguments, in their order.
    """

    instructions: Mapping[str, Instruction]
    root: Instruction
    parameters: tuple[Instruction, ...]


@dataclass(frozen=True)
class Module:
    """A compiled program.

    Attributes:
        computations: its functions by name.
        entry: the one that is called.
        header: the line that says what the module is called, and which results take the place of
            which arguments.
    """

    computations: Mapping[str, Computation]
    entry: Computation
    header: str = ""

    def called(self, instruction: Instruction, role: str) -> Computation:
        """The function that an instruction calls as its `role`, such as "body" of a loop."""
        return self.computations[instruction.attribute(rf"\b{role}=%?([\w.-]+)") or ""]


def parse_module(text: str) -> Module:
    """Reads a module as `jax.stages.Compiled.as_text` writes it.

    Raises:
        ValueError: it is not one.
    """
    lines = text.splitlines()
    if not lines or not lines[0].startswith("HloModule"):
        raise ValueError("it does not begin with HloModule")
    stacks = _read_stacks(lines)
    computations: dict[str, Computation] = {}
    entry = None
    name, body = "", list[str]()
    for line in lines[1:]:
        if line.endswith("{") and line.startswith(("%", "ENTRY ")):
            name = line.removeprefix("ENTRY ").split(" ", 1)[0].lstrip("%")
            entry = name if line.startswith("ENTRY ") else entry
            body = []
        elif line.startswith("}") and name:
            computations[name] = _read_computation(body, stacks)
            name = ""
        elif name:
            body.append(line)
    if entry not in computations:
        raise ValueError("it has no entry computation")
    return Module(computations, computations[entry], lines[0])


def _read_computation(lines: Iterable[str], stacks: Mapping[int, tuple[str, ...]]) -> Computation:
    instructions: dict[str, Instruction] = {}
    parameters: dict[int, Instruction] = {}
    root = None
    for line in lines:
        if not (found := _INSTRUCTION.match(line)):
            continue
        instruction = _read_instruction(found.group(2), line[found.end() :], stacks)
        instructions[instruction.name] = instruction
        if instruction.opcode == "parameter":
            parameters[int(line[found.end() :].partition("parameter(")[2].partition(")")[0])] = (
                instruction
            )
        if found.group(1) or root is None:
            root = instruction
    if root is None:
        raise ValueError("one of its computations is empty")
    return Computation(instructions, root, tuple(parameters[i] for i in sorted(parameters)))


def _read_instruction(name: str, text: str, stacks: Mapping[int, tuple[str, ...]]) -> Instruction:
    end = _closing(text) if text.startswith("(") else text.index(" ")
    results, rest = text[:end], text[end:].strip()
    opcode, _, rest = rest.partition("(")
    end = _closing("(" + rest) - 1
    attributes = rest[end:]
    op_name = re.search(r'op_name="((?:[^"\\]|\\.)*)"', attributes)
    frame = re.search(r"stack_frame_id=(\d+)", attributes)
    return Instruction(
        name,
        opcode,
        read_arrays(results),
        tuple(re.findall(r"%([\w.-]+)", rest[:end])),
        attributes,
        op_name.group(1) if op_name else "",
        stacks.get(int(frame.group(1)), ()) if frame else (),
    )


def _closing(text: str) -> int:
    """Where the parenthesis that `text` begins with is closed: the index behind."""
    depth = 0
    for found in re.finditer(r"[()]", text):
        depth += 1 if found.group() == "(" else -1
        if not depth:
            return found.end()
    raise ValueError(f"it has a parenthesis that is not closed: {text[:60]}")


def _read_stacks(lines: Iterable[str]) -> dict[int, tuple[str, ...]]:
    """The stacks of functions, innermost first, by the numbers that instructions have for them."""
    tables: dict[str, dict[int, str]] = {}
    table: dict[int, str] = {}
    for line in lines:
        if line.endswith("{"):
            break
        if line in ("FileNames", "FunctionNames", "FileLocations", "StackFrames"):
            table = tables.setdefault(line, {})
        elif found := _ENTRY_OF_TABLE.fullmatch(line):
            table[int(found.group(1))] = found.group(2)
    if "StackFrames" not in tables:
        return {}

    def field(text: str, name: str) -> int:
        found = re.search(rf"{name}=(\d+)", text)
        return int(found.group(1)) if found else 0

    def place(location: int) -> str:
        text = tables["FileLocations"][location]
        path = tables["FileNames"][field(text, "file_name_id")].strip('"')
        function = tables["FunctionNames"][field(text, "function_name_id")].strip('"')
        return f"{path}:{function}"

    frames = tables["StackFrames"]
    # The first frame has none around it, so that the number it names for that stands for none.
    none = field(frames[min(frames)], "parent_frame_id")
    stacks: dict[int, tuple[str, ...]] = {}
    for number in sorted(frames):
        outer = field(frames[number], "parent_frame_id") - none
        location = field(frames[number], "file_location_id")
        stacks[number] = (place(location), *stacks.get(outer, ()))
    return stacks
