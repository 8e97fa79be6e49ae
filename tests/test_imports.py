"""Imports run one way: no part of the package needs another that needs it."""

import ast
import graphlib
from pathlib import Path

import draem_jax

ROOT = Path(draem_jax.__file__).parent


def imported(path: Path):
    """The parts of the package that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        yield from (name.split(".")[1] for name in names if name.startswith("draem_jax."))


def test_no_part_needs_another_that_needs_it():
    parts: dict[str, set[str]] = {}
    for path in ROOT.rglob("*.py"):
        within = path.relative_to(ROOT)
        if within.name in ("__init__.py", "__main__.py") and len(within.parts) == 1:
            continue  # the public face
        part = within.parts[0].removesuffix(".py")
        parts.setdefault(part, set()).update(set(imported(path)) - {part})
    order = list(graphlib.TopologicalSorter(parts).static_order())  # raises CycleError
    assert set(order) == set(parts)
    highest = ["training", "detector", "evaluation", "studies", "cli"]
    assert [part for part in order if part in highest] == highest
