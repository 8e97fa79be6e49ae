"""What a program does, operation by operation, as JAX traces it: nothing is compiled or run."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal

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
    jaxpr = jax.make_jaxpr(function)(*arguments).jaxpr
    values: dict[Any, Value | None] = {
        variable: _value(variable) for variable in (*jaxpr.constvars, *jaxpr.invars)
    }
    given = tuple(value for value in values.values() if value is not None)
    operations = _operations(jaxpr, values, cpu)
    return Program(given, tuple(operations), _known(jaxpr.outvars, values))


def _operations(jaxpr: Any, values: dict[Any, Value | None], cpu: bool) -> list[Operation]:
    """The operations of a program; notes the arrays that its variables stand for in `values`."""
    operations = []
    for equation in jaxpr.eqns:
        inner, inputs = _inner(equation, cpu), equation.invars
        if inner is None:
            outputs = tuple(_value(variable) for variable in equation.outvars)
            values.update(zip(equation.outvars, outputs, strict=True))
            operations.append(Operation(equation.primitive.name, _known(inputs, values), outputs))
            continue
        given = inputs[len(inputs) - len(inner.invars) :]  # the choice among branches left out
        within = dict.fromkeys(inner.constvars) | {
            variable: _look_up(argument, values)
            for variable, argument in zip(inner.invars, given, strict=True)
        }
        operations += _operations(inner, within, cpu)
        values.update(
            (variable, _look_up(result, within))
            for variable, result in zip(equation.outvars, inner.outvars, strict=True)
        )
    return operations


def _inner(equation: Any, cpu: bool) -> Any:
    """The program that an operation runs once in its place; None where it is none such."""
    name, params = equation.primitive.name, equation.params
    if name == "cond":  # only the choice by platform stands outside of loops, CPUs first
        return params["branches"][0 if cpu else -1].jaxpr
    if name in _CALLS:
        closed = next(params[key] for key in ("jaxpr", "call_jaxpr") if key in params)
        return getattr(closed, "jaxpr", closed)
    return None


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
