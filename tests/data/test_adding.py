"""A data set is one file among the layouts, and a recipe: nothing else has to know it."""

import os
import subprocess
import sys
from pathlib import Path

import draem_jax
from tests.data import fixtures

LAYOUT = """
from draem_jax.data.layouts import mvtec_ad
from draem_jax.data.layouts.entries import Counts
from draem_jax.data.layouts.layout import Layout

LAYOUT = Layout(
    name="tiles",
    description="Tiles of two colours.",
    list_category=mvtec_ad.list_category,
    counts={"red": Counts(4, 2, 3), "blue": Counts(9, 9, 9)},
    paper={"red": (90.0, 80.0, 70.5)},
)
"""

RECIPE = """
from draem_jax.config import default_config
from draem_jax.recipes import apply_choice

def get_config(choice="red"):
    config = default_config()
    config.data.name = "tiles"
    return apply_choice(config, choice, default="red")
"""

# The package of the layouts is imported as if the file lay in its folder.
USE = """
import importlib.util, sys
folder, recipe, root = sys.argv[1:]
spec = importlib.util.find_spec("draem_jax.data.layouts")
spec.submodule_search_locations.append(folder)
layouts = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(layouts)
from draem_jax.cli import main
for words in (["list"], ["prepare", "--help"], ["prepare", "tiles", f"--root={root}"], ["list"]):
    assert main(["data", *words]) in (0, None)
from draem_jax.cli.recipes import recipe_config
from draem_jax.config import data_set
from draem_jax.evaluation.published import paper_figures
data = data_set(recipe_config(recipe))
print(data.training_pictures(size=(8, 8)).names, len(data.test_pictures(size=(8, 8))))
print(data.warnings(), paper_figures("tiles"))
"""


def test_a_data_set_is_one_file_and_a_recipe(tmp_path):
    (tmp_path / "layouts").mkdir()
    (tmp_path / "layouts" / "tiles.py").write_text(LAYOUT)
    (tmp_path / "recipe.py").write_text(RECIPE)
    root = fixtures.make_mvtec_ad(tmp_path / "root", "red")
    arguments = [tmp_path / "layouts", tmp_path / "recipe.py", root]
    process = subprocess.run(
        [sys.executable, "-c", USE, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=os.environ
        | {"PYTHONPATH": str(Path(draem_jax.__file__).parents[1])}
        | {"DRAEM_JAX_DATA": str(tmp_path / "data")},
    )
    assert process.returncode == 0, process.stderr
    out = process.stdout
    assert "tiles       red, blue" in out
    assert "tiles or visa" in " ".join(out.split())
    assert f"prepared in {tmp_path / 'data' / 'tiles'}" in out
    assert "tiles  red" in out
    assert out.endswith(
        "('good/000', 'good/001', 'good/002', 'good/003') 5\n"
        "() {'red': {'image_auroc': 0.9, 'pixel_auroc': 0.8, 'pixel_ap': 0.705}}\n"
    )
