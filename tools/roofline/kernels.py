"""What each kernel of a compiled program moves and computes."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from tools.roofline.devices import Device
from tools.roofline.hlo import Array, Computation, Instruction, Module
from tools.roofline.parts import OTHER, part_of
from tools.roofline.products import products

# They name memory that is there, and run nothing.
_FREE = frozenset(
    (
        *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "opt-barrier"),
        *("after-all", "partition-id", "replica-id"),
    )
)
_CALLS = frozenset(("while", "call", "conditional"))
_SLICES = frozenset(("slice", "dynamic-slice", "gather"))


@dataclass(frozen=True)
class Kernel:
    """One pass over memory, which a device starts as a whole.

    Attributes:
        name: its instruction's.
        part: what it belongs to, see `parts`.
        opcode: the instruction's, or what a custom call calls.
        results: the arrays it writes.
        op_name: the path of scopes that it was traced in.
        runs: how often it runs in a call of the program.
        nbytes: main memory that a run reads and writes, in bytes.
        flop: floating point operations of a run's convolutions and matrix products, 2 for a
            product that is added; all others pass as free.
        dtype: HLO's name of the dtype of what is multiplied; empty where nothing is.
    """

    name: str
    part: str
    opcode: str
    results: tuple[Array, ...]
    op_name: str
    runs: int
    nbytes: int
    flop: int
    dtype: str

    def seconds(self, device: Device) -> float:
        """The least time that all its runs take."""
        computing = self.flop / device.flops(self.dtype)
        return self.runs * max(self.nbytes / device.bandwidth, computing)


def read_kernels(module: Module, *, passes: int) -> list[Kernel]:
    """The kernels that a call of the program runs.

    Of branches the one counts that moves most.

    Args:
        module: the compiled program.
        passes: how often loops run whose length is known only when they do.
    """
    return list(_Reader(module, passes).kernels(module.entry))


@dataclass(frozen=True)
class _Reader:
    module: Module
    passes: int

    def kernels(
        self, computation: Computation, runs: int = 1, around: str = OTHER
    ) -> Iterator[Kernel]:
        """The kernels of a function that is called `runs` times, from what is of part `around`."""
        for instruction in computation.instructions.values():
            opcode = instruction.opcode
            if opcode in _CALLS:
                part = self.part(instruction, computation, around)
                if opcode == "while":
                    known = instruction.attribute(r"known_trip_count\D*(\d+)")
                    times = runs * (int(known) if known else self.passes)
                    for role in ("condition", "body"):
                        yield from self.kernels(self.module.called(instruction, role), times, part)
                elif opcode == "call":
                    yield from self.kernels(self.module.called(instruction, "to_apply"), runs, part)
                else:
                    branches = self.branches(instruction)
                    made = [list(self.kernels(branch, runs, part)) for branch in branches]
                    yield from max(made, key=lambda of: sum(k.nbytes * k.runs for k in of))
            elif opcode not in _FREE and not opcode.endswith("-start"):
                yield self.kernel(instruction, computation, runs, around)

    def part(self, instruction: Instruction, computation: Computation, around: str) -> str:
        """The part that an instruction belongs to; what has no telling name, to what calls it."""
        made = products(instruction, computation, self.module)
        part = part_of(
            self.named(instruction), is_convolution=any(one.is_convolution for one in made)
        )
        return around if part == OTHER else part

    def branches(self, instruction: Instruction) -> list[Computation]:
        listed = instruction.attribute(r"branch_computations=\{([^}]*)\}")
        names = re.findall(r"[\w.-]+", listed or "") or [
            instruction.attribute(rf"{which}_computation=%?([\w.-]+)") or ""
            for which in ("true", "false")
        ]
        return [self.module.computations[name] for name in names]

    def kernel(
        self, instruction: Instruction, computation: Computation, runs: int, around: str
    ) -> Kernel:
        made = list(products(instruction, computation, self.module))
        largest = max(made, key=lambda product: product.flop, default=None)
        return Kernel(
            name=instruction.name,
            part=self.part(instruction, computation, around),
            opcode=instruction.target or instruction.opcode,
            results=instruction.results,
            op_name=self.named(instruction).op_name,
            runs=runs,
            nbytes=self.nbytes(instruction, computation),
            flop=sum(product.flop for product in made),
            dtype=largest.dtype if largest else "",
        )

    def named(self, instruction: Instruction) -> Instruction:
        """The instruction that a kernel is named after.

        The compiler names most fusions after their root. Of others, it is what their largest
        result was computed by.
        """
        if instruction.op_name or instruction.opcode != "fusion":
            return instruction
        fused = self.module.called(instruction, "calls")
        waiting = [fused.root]
        while waiting:
            waiting.sort(key=lambda one: sum(array.size for array in one.results))
            one = waiting.pop()
            if one.op_name:
                return one
            waiting += [fused.instructions[name] for name in one.operands]
        return instruction

    def nbytes(self, instruction: Instruction, computation: Computation) -> int:
        written = instruction.results
        if instruction.opcode == "custom-call":  # room to work in is no traffic that is known
            written = tuple(a for a in written if a.dtype not in ("u8", "s8") or len(a.dims) != 1)
        total = sum(array.traffic for array in written)
        if instruction.opcode.endswith("-done"):
            # What was begun before reads as much as it brings.
            start = computation.instructions[instruction.operands[0]]
            (source,) = computation.instructions[start.operands[0]].results[:1]
            return total + (0 if source.memory else sum(array.size for array in written))
        for number, name in enumerate(instruction.operands):
            if name not in instruction.operands[:number]:
                arrays = computation.instructions[name].results
                total += self.read(instruction, number, sum(array.traffic for array in arrays))
        return total

    def read(self, instruction: Instruction, number: int, whole: int) -> int:
        """Bytes that are read of an operand; of one that is only sliced, the slices."""
        if instruction.opcode in _SLICES and number == 0:
            return min(whole, sum(array.size for array in instruction.results))
        if instruction.opcode != "fusion" or not whole:
            return whole
        fused = self.module.called(instruction, "calls")
        sliced, names = 0, {fused.parameters[number].name}
        for user in fused.instructions.values():
            used = [i for i, name in enumerate(user.operands) if name in names]
            if used and user.opcode == "bitcast":
                names.add(user.name)
            elif used == [0] and user.opcode in _SLICES:
                sliced += sum(array.size for array in user.results)
            elif used:
                return whole
        return min(whole, sliced) if sliced else whole
