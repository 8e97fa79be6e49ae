"""What `import draem_jax` offers: all of it to people and type checkers, none of it at once."""

import ast
import importlib
import pydoc
import subprocess
import sys
from pathlib import Path

import pytest

import draem_jax


def test_importing_the_package_alone_is_cheap():
    program = (
        "import sys, draem_jax; dir(draem_jax); draem_jax.UserError; "
        "print(*(name for name in ('jax', 'flax', 'numpy') if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("\n", "")


def test_what_is_offered_is_what_its_home_has():
    for name, home in draem_jax._HOMES.items():
        offered = getattr(draem_jax, name)
        assert offered is getattr(importlib.import_module(home), name)
        assert callable(offered)  # `train` and its like are names of functions, not of modules
    assert set(draem_jax.__all__) <= set(dir(draem_jax))
    assert draem_jax.__version__.count(".") == 2
    with pytest.raises(AttributeError, match="has no attribute 'trian'"):
        draem_jax.trian  # noqa: B018


def test_type_checkers_read_the_same_homes():
    tree = ast.parse(Path(draem_jax.__file__).read_text(encoding="utf-8"))
    imports = (node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom))
    seen = {alias.asname: node.module for node in imports for alias in node.names if alias.asname}
    assert seen == draem_jax._HOMES


def test_help_shows_every_name():
    text = pydoc.plain(pydoc.render_doc(draem_jax))
    for name in draem_jax.__all__:
        assert any(
            line.strip().startswith((f"{name}(", f"class {name}(", f"{name} ="))
            or name == "__version__"
            for line in text.splitlines()
        ), name
    assert "draem_jax.train(config" in text
