"""What fills the memory while a compiled program runs."""

import itertools
import re
from dataclasses import dataclass

from tools.roofline.hlo import Array, Instruction, Module

# What they return lies where it was handed to them.
_PASS_ON = frozenset(("tuple", "bitcast", "opt-barrier", "while"))
_HOLD_NOTHING = frozenset(("parameter", "constant", "after-all"))


@dataclass(frozen=True)
class Held:
    """An array that a program holds for itself, besides its arguments.

    Attributes:
        maker: the name of the instruction whose result it is.
        number: which of its results.
        array: its form.
    """

    maker: str
    number: int
    array: Array


# Of a result each array, None for those that the program holds nothing for.
_Arrays = tuple[Held | None, ...]


def fullest_moment(module: Module) -> list[Held]:
    """What is held when most is, the largest first.

    An array is held from the instruction that makes it to the last that takes it. Where a result
    could take the place of what is taken, both count, and what loops hold within them does not; so
    the sum is near the compiler's figure, not equal to it.

    Args:
        module: a scheduled one, whose instructions stand in the order in which they run.
    """
    lifetimes = _lifetimes(module)
    changes = [0] * (len(module.entry.instructions) + 1)
    for held, (first, last) in lifetimes.items():
        changes[first] += held.array.size
        changes[last + 1] -= held.array.size
    sums = list(itertools.accumulate(changes))
    fullest = sums.index(max(sums))
    there = [held for held, (first, last) in lifetimes.items() if first <= fullest <= last]
    return sorted(there, key=lambda held: -held.array.size)


def _lifetimes(module: Module) -> dict[Held, tuple[int, int]]:
    """For each array in main memory the places of its first and its last instruction."""
    returned: dict[str, _Arrays] = {}
    first: dict[Held, int] = {}
    last: dict[Held, int] = {}
    for place, instruction in enumerate(module.entry.instructions.values()):
        taken = tuple(one for name in instruction.operands for one in returned[name])
        last.update((held, place) for held in taken if held)
        returned[instruction.name] = given = _returned(instruction, taken)
        for held in given:
            if held and held.maker == instruction.name and not held.array.memory:
                first[held] = last[held] = place
    # Results stay, but for those that take the place of donated arguments.
    donated = {int(n or 0) for n in re.findall(r"\{(\d*)\}: \(\d+,", module.header)}
    for number, held in enumerate(returned[module.entry.root.name]):
        if held and number in donated:
            first.pop(held, None)
        elif held:
            last[held] = len(module.entry.instructions) - 1
    return {held: (place, last[held]) for held, place in first.items()}


def _returned(instruction: Instruction, taken: _Arrays) -> _Arrays:
    """What an instruction returns, given what it takes: its own, or some of that."""
    if instruction.opcode == "get-tuple-element":
        number = int(instruction.attribute(r"index=(\d+)") or 0)
        return taken[number : number + 1]
    if instruction.opcode in _PASS_ON:
        return taken
    if instruction.opcode in _HOLD_NOTHING or instruction.opcode.endswith("-start"):
        return (None,) * len(instruction.results)
    results = enumerate(instruction.results)
    return tuple(Held(instruction.name, number, array) for number, array in results)
