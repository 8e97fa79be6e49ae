"""Which part of the program a kernel belongs to, by the names of what it was traced from.

This is the one place that follows names of the package. What is renamed there falls to `OTHER`
here, and a test fails.
"""

import re
from dataclasses import dataclass

from tools.roofline.hlo import Instruction

CONVOLUTION = "convolutions"
COPIES = "copies"
OTHER = "other"


@dataclass(frozen=True)
class Rule:
    """How a part is recognised.

    Attributes:
        part: what it is called.
        pattern: is searched for in the path of scopes and in the functions around, see `_names`.
        directed: whether its gradient stands in a line of its own.
    """

    part: str
    pattern: str
    directed: bool = False


# The first that is found counts: what is within something else stands before it.
RULES = (
    # To few channels it is written as a matrix product.
    Rule(CONVOLUTION, r"/output/\S*dot_general", directed=True),
    Rule("normalisation and relu", r"/norm/|networks/normalisation\.py|\(relu\)", directed=True),
    Rule("pooling", r"max_pool|networks/pooling\.py", directed=True),
    Rule("upsampling and concatenation", r"upsampl", directed=True),
    Rule("gradient of biases", r"transpose\(.*/(conv|output|\w+structive|discriminative)/reduce_s"),
    Rule("kernels' casts and layouts", r"/conv/|/output/|:Conv3x3\.|^state\.params.*'kernel"),
    Rule("loss", r"draem_jax/(losses|similarity)\.py", directed=True),
    # What is left of the networks are the joints between their stages.
    Rule("upsampling and concatenation", r"draem_jax/networks/|\(DraemNetwork\)", directed=True),
    # Operations that the compiler joined keep their scopes and no functions.
    Rule("loss", r"jvp\(", directed=True),
    Rule("generator", r"draem_jax/anomalies/|training/samples\.py|Draw\."),
    Rule("optimiser", r"/optax/|training/(step|state)\.py"),
)


def part_of(instruction: Instruction, *, is_convolution: bool) -> str:
    """The part that a kernel belongs to.

    Args:
        instruction: the one that the kernel is named after.
        is_convolution: whether it convolves, whatever else it does in the same pass.
    """
    names = _names(instruction)
    if is_convolution:
        return _directed(CONVOLUTION, instruction)
    for rule in RULES:
        if re.search(rule.pattern, names):
            return _directed(rule.part, instruction) if rule.directed else rule.part
    return COPIES if instruction.opcode.startswith(("copy", "slice-")) else OTHER


def _directed(part: str, instruction: Instruction) -> str:
    # What remat computes again for the gradient has its name.
    return f"{part}, {'backward' if 'transpose(' in instruction.op_name else 'forward'}"


def _names(instruction: Instruction) -> str:
    """The path of scopes, and the functions around from the innermost, as `path/file.py:name`."""
    return " < ".join((instruction.op_name, *instruction.stack))
