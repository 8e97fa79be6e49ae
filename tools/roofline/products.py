"""Convolutions and matrix products, in which nearly all of a network's arithmetic lies."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from tools.roofline.hlo import Array, Computation, Instruction, Module


@dataclass(frozen=True)
class Product:
    """A convolution or a matrix product.

    Attributes:
        flop: floating point operations, 2 for a product that is added.
        dtype: HLO's name of the dtype of what is multiplied.
        is_convolution: which of the two it is.
    """

    flop: int
    dtype: str
    is_convolution: bool


def products(
    instruction: Instruction, computation: Computation, module: Module
) -> Iterator[Product]:
    """The convolutions and matrix products that an instruction makes, fused ones as well.

    Args:
        instruction: makes them.
        computation: the function that it stands in.
        module: the program.
    """
    if instruction.opcode == "fusion":
        fused = module.called(instruction, "calls")
        for inner in fused.instructions.values():
            yield from products(inner, fused, module)
        return
    operands = [computation.instructions[name].results for name in instruction.operands[:2]]
    if len(operands) < 2 or not all(operands):
        return
    left, right, result = operands[0][0], operands[1][0], instruction.results[0]
    if "convBackwardInput" in instruction.target:
        yield _convolution(instruction, right, left, left.dtype)
    elif "convBackwardFilter" in instruction.target:
        yield _convolution(instruction, result, right, left.dtype)
    elif instruction.opcode == "convolution" or "$conv" in instruction.target:
        yield _convolution(instruction, right, result, left.dtype)
    elif instruction.opcode == "dot" or "matmul" in instruction.target:
        axes = instruction.attribute(r'lhs_contracting_dim\w+"?[=:][{\[]([\d,"]*)') or ""
        summed = math.prod(left.dims[int(axis)] for axis in re.findall(r"\d+", axes))
        yield Product(2 * result.elements * summed, left.dtype, is_convolution=False)


def _convolution(instruction: Instruction, kernel: Array, made: Array, dtype: str) -> Product:
    """A convolution: for each number made, as many products as the kernel has for a channel.

    Args:
        instruction: convolves, or is the gradient of what convolved.
        kernel: the kernel of the convolution, whose form the gradient by it has too.
        made: what the convolution made, whose form the gradient by it has too.
        dtype: that of what is multiplied.
    """
    labels = instruction.attribute(r"dim_labels=\w+?_(\w+?)->") or ""
    channels = kernel.dims[labels.index("o")]
    return Product(2 * made.elements * kernel.elements // channels, dtype, is_convolution=True)
