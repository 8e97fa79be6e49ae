"""What a program does, operation by operation, as JAX traces it: nothing is compiled or run."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal

from draem_jax.platforms import OTHER, traced_for

# Operations that hold a program to be run once, in its place.
_CALLS = frozenset(
    {
        "checkpoint",
        "closed_call",
        "core_call",
        "custom_jvp_call",
        "custom_vjp_call",
        "jit",
        "pjit",
        "remat2",
    }
)


@dataclass(frozen=True, eq=False)
class Value:
    """An array within a program.

    Attributes:
        shape: of the array.
        nbytes: that it takes where it is kept in memory.
    """

    shape: tuple[int, ...]
    nbytes: int


class Operation(NamedTuple):
    """One operation of a program.

    Attributes:
        name: JAX's name of it, such as "conv_general_dilated".
        inputs: the arrays that it reads; numbers that are written in the program are none.
        outputs: the arrays that it makes.
    """

    name: str
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]


class Program(NamedTuple):
    """What a function does with its arguments.

    Attributes:
        arguments: the arrays that it is given.
        operations: in the order in which they are written, those of inner functions in their place.
        results: the arrays that it returns.
    """

    arguments: tuple[Value, ...]
    operations: tuple[Operation, ...]
    results: tuple[Value, ...]


def trace(function: Callable[..., Any], *arguments: Any, cpu: bool = False) -> Program:
    """Traces a function.

    Args:
        function: of arrays, or of trees of arrays.
        arguments: to give it; shapes and dtypes will do.
        cpu: take what is written for CPUs where that differs by platform.
    """
    with traced_for("cpu" if cpu else OTHER):
        return read_program(jax.make_jaxpr(function)(*arguments))


def read_program(traced: Any) -> Program:
    """What a program does that JAX has traced already, to a closed jaxpr."""
    jaxpr = traced.jaxpr
    values: dict[Any, Value | None] = {
        variable: _value(variable) for variable in (*jaxpr.constvars, *jaxpr.invars)
    }
    given = tuple(value for value in values.values() if value is not None)
    operations = _operations(jaxpr, values)
    return Program(given, tuple(operations), _known(jaxpr.outvars, values))


def _operations(jaxpr: Any, values: dict[Any, Value | None]) -> list[Operation]:
    """The operations of a program; notes the arrays that its variables stand for in `values`."""
    operations = []
    for equation in jaxpr.eqns:
        inner, inputs = _inner(equation), equation.invars
        if inner is None:
            outputs = tuple(_value(variable) for variable in equation.outvars)
            values.update(zip(equation.outvars, outputs, strict=True))
            operations.append(Operation(equation.primitive.name, _known(inputs, values), outputs))
            continue
        within = dict.fromkeys(inner.constvars) | {
            variable: _look_up(argument, values)
            for variable, argument in zip(inner.invars, inputs, strict=True)
        }
        operations += _operations(inner, within)
        values.update(
            (variable, _look_up(result, within))
            for variable, result in zip(equation.outvars, inner.outvars, strict=True)
        )
    return operations


def _inner(equation: Any) -> Any:
    """The program that an operation runs once in its place; None where it is none such."""
    if equation.primitive.name not in _CALLS:
        return None
    params = equation.params
    closed = next(params[key] for key in ("jaxpr", "call_jaxpr") if key in params)
    return getattr(closed, "jaxpr", closed)


def _look_up(variable: Any, values: Mapping[Any, Value | None]) -> Value | None:
    return None if isinstance(variable, Literal) else values[variable]


def _known(variables: Any, values: Mapping[Any, Value | None]) -> tuple[Value, ...]:
    found = (_look_up(variable, values) for variable in variables)
    return tuple(value for value in found if value is not None)


def _value(variable: Any) -> Value:
    aval = variable.aval
    # Keys of random numbers have a dtype of their own.
    itemsize = 8 if jnp.issubdtype(aval.dtype, jax.dtypes.prng_key) else aval.dtype.itemsize
    return Value(aval.shape, int(np.prod(aval.shape)) * itemsize)
