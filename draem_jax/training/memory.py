"""How much memory a train step takes, counted from its own operations before it is compiled."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from draem_jax.training.programs import Operation, Program, Value

# Their operands and results lie in memory. All other operations are taken to be computed where
# their results are read, as XLA's compilers fuse them.
_KERNELS = frozenset(
    {"conv_general_dilated", "dot_general", "fft", "gather", "scatter", "sort", "while"}
)

# A sum over many values makes a result that is small enough to be kept, and that all of its
# operand must be read for.
_SUMMED = 16

# Samples of the program that is traced: a prime, so that lengths that it divides are those that
# grow with the samples.
_SAMPLES = 211


@dataclass(frozen=True)
class Memory:
    """What a program keeps in memory besides its arguments and results, from beginning to end.

    Attributes:
        fixed: bytes that are kept during each operation, whatever the number of samples.
        each: bytes more for each sample.
    """

    fixed: Float[np.ndarray, " T"]
    each: Float[np.ndarray, " T"]

    def peak(self, samples: int) -> int:
        """The most bytes that are kept at once, for a number of samples."""
        return int(np.max(self.fixed + samples * self.each))


def count_memory(trace: Callable[[int], Program]) -> Memory:
    """Counts the memory of a program that takes any number of samples.

    An array is kept from the operation that makes it to the last one that reads it, be it through
    others that are computed where they are read. Results take the place of arguments.

    Args:
        trace: from a number of samples to the program; its operations must not depend on it.
    """
    program = trace(_SAMPLES)
    end = len(program.operations)
    fixed, each = np.zeros(end + 2), np.zeros(end + 2)
    for value, first, last in _lives(program):
        grows = any(length % _SAMPLES == 0 for length in value.shape)
        changes, nbytes = (each, value.nbytes / _SAMPLES) if grows else (fixed, value.nbytes)
        changes[first] += nbytes
        changes[last + 1] -= nbytes
    return Memory(np.cumsum(fixed)[:-1], np.cumsum(each)[:-1])


def _lives(program: Program) -> Iterator[tuple[Value, int, int]]:
    """The arrays that are kept, with the first and the last operation that each is there for."""
    stored = set(program.results)
    for operation in program.operations:
        if operation.name in _KERNELS:
            stored.update(operation.inputs)
    # What must be there for an array to be read: itself, or what it is computed of.
    sources: dict[Value, frozenset[Value]] = dict.fromkeys(program.arguments, frozenset())
    made: dict[Value, int] = {}
    last_read: dict[Value, int] = {}
    for time, operation in enumerate(program.operations):
        read = _sources_of(operation.inputs, sources)
        runs = operation.name in _KERNELS
        for output in operation.outputs:
            if runs or output in stored or _is_sum(operation, output):
                sources[output], made[output] = frozenset([output]), time
                runs = True
            else:
                sources[output] = read
        if runs:
            last_read.update(dict.fromkeys(read, time))
    end = len(program.operations)
    last_read.update(dict.fromkeys(_sources_of(program.results, sources), end))
    for value in made.keys() - set(program.results):
        yield value, made[value], last_read.get(value, made[value])


def _sources_of(
    values: Iterable[Value], sources: dict[Value, frozenset[Value]]
) -> frozenset[Value]:
    return frozenset[Value]().union(*(sources[value] for value in values))


def _is_sum(operation: Operation, output: Value) -> bool:
    largest = max((value.nbytes for value in operation.inputs), default=0)
    is_reduction = operation.name == "reduce" or operation.name.startswith("reduce_")
    return is_reduction and _SUMMED * output.nbytes < largest
