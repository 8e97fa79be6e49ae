"""What fills the memory while a compiled program runs."""

import itertools
import re
from dataclasses import dataclass

from tools.roofline.hlo import Array, Instruction, Module

# What they return lies where it was handed to them.
_PASS_ON = frozenset(("tuple", "bitcast", "opt-barrier", "while", "get-tuple-element"))
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


def fullest_moment(module: Module) -> list[Held]:
    """What is held when most is, the largest first.

    An array is held from the instruction that makes it to the last that takes it. Where a result
    could take the place of what is taken, both count, and what loops hold within them does not; so
    the sum is near the compiler's figure, not equal to it.

    Args:
        module: a scheduled one, whose instructions stand in the order in which they run.
    """
    places: dict[str, tuple[Held | None, ...]] = {}
    made: dict[Held, int] = {}
    used: dict[Held, int] = {}
    order = list(module.entry.instructions.values())
    for moment, instruction in enumerate(order):
        taken = [held for name in instruction.operands for held in places.get(name, ())]
        used.update((held, moment) for held in taken if held)
        if instruction.opcode in _PASS_ON:
            places[instruction.name] = _passed_on(instruction, taken)
            continue
        own = [
            Held(instruction.name, number, array)
            for number, array in enumerate(instruction.results)
        ]
        if instruction.opcode in _HOLD_NOTHING or instruction.opcode.endswith("-start"):
            own = []
        places[instruction.name] = tuple(own) or (None,) * len(instruction.results)
        made.update((held, moment) for held in own if not held.array.memory)
    _keep_results(module, places, used, made, end=len(order))

    changes = [0] * (len(order) + 1)
    for held, begin in made.items():
        changes[begin] += held.array.size
        changes[min(used.get(held, begin) + 1, len(order))] -= held.array.size
    sums = list(itertools.accumulate(changes))
    fullest = sums.index(max(sums))
    there = [held for held, begin in made.items() if begin <= fullest <= used.get(held, begin)]
    return sorted(there, key=lambda held: -held.array.size)


def _passed_on(instruction: Instruction, taken: list[Held | None]) -> tuple[Held | None, ...]:
    if instruction.opcode != "get-tuple-element":
        return tuple(taken)
    number = int(instruction.attribute(r"index=(\d+)") or 0)
    return tuple(taken[number : number + 1])


def _keep_results(
    module: Module,
    places: dict[str, tuple[Held | None, ...]],
    used: dict[Held, int],
    made: dict[Held, int],
    *,
    end: int,
) -> None:
    """Keeps what is returned to the end, but for what takes the place of a donated argument."""
    donated = {int(n) for n in re.findall(r"\{(\d+)\}: \(\d+,", module.header)}
    for number, held in enumerate(places[module.entry.root.name]):
        if held is None:
            continue
        if number in donated:
            made.pop(held, None)
        else:
            used[held] = end
