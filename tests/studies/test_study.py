"""What a study is, and what is refused before any training."""

import dataclasses
import json

import jax
import pytest
from absl import flags

from draem_jax.cli.main import main
from draem_jax.cli.recipes import define_config, recipes
from draem_jax.config import anomaly_params, default_config, flat, loss_weights
from draem_jax.errors import UserError
from draem_jax.losses import COSTLY_TERMS
from draem_jax.studies import Product, Variant, parse_study, study_config
from draem_jax.studies.runner import shares
from draem_jax.studies.study import claim_study

FULL = Variant("full")
RECTANGLES = Variant("rectangles", {"anomalies.mask": "rectangles"})
NO_OPACITY = Variant("no opacity", {"anomalies.opacity": (1.0, 1.0)})

BRICK = Product("brick", {"data.category": "brick"})
PRODUCTS = (
    BRICK,
    Product(
        "ksdd",
        {"data.name": "folder", "data.category": "", "data.root": "/ksdd", "data.tile": (128,)},
    ),
)


def make(variants=(FULL, NO_OPACITY, RECTANGLES), **options):
    config = study_config(default_config(), variants)
    config.update(options)  # as the command line does, which knows no types
    return parse_study(config)


def test_a_run_for_each_cell_with_the_changes_of_its_variant():
    study = make(categories=("brick", "grass"), seeds=(0, 3))
    runs = study.runs()
    assert len({run.folder for run in runs}) == len(runs) == 3 * 2 * 2
    for run in runs:
        assert (run.config.data.category, run.config.seed) == (run.product, run.seed)
        expected = "rectangles" if run.variant == "rectangles" else "perlin"
        assert run.config.anomalies.mask == expected
        assert run.config.anomalies.opacity[0] == (1.0 if run.variant == "no opacity" else 0.2)
    assert study.base.data.category == "brick"
    assert study.base.anomalies.mask == "perlin"


def test_categories_may_come_from_the_command_line():
    assert [one.name for one in make(categories=("grass,gravel",)).products] == ["grass", "gravel"]
    assert [one.name for one in make().products] == ["brick"]


def test_products_choose_data_sets_and_share_folders_with_categories():
    study = make(products=PRODUCTS, seeds=(0, 1))
    assert {run.folder.parts[2] for run in study.runs()} == {"brick", "ksdd"}
    for run in study.runs():
        data = run.config.data
        if run.product == "ksdd":
            assert (data.name, data.root, tuple(data.tile)) == ("folder", "/ksdd", (128,))
        else:
            assert (data.name, data.category, tuple(data.tile)) == ("surfaces", "brick", (0,))
        assert run.config.anomalies.opacity[0] == (1.0 if run.variant == "no opacity" else 0.2)
    categories = make(categories=("brick",), seeds=(0, 1)).runs()
    assert {run.folder for run in categories} < {run.folder for run in study.runs()}


def test_numbers_share_a_program_and_words_do_not():
    study = make(seeds=(0, 1))
    programs = {}
    for run in study.runs():
        programs.setdefault(run.program, set()).add((run.variant, run.seed))
    numeric = {(name, seed) for name in ("full", "no opacity") for seed in (0, 1)}
    assert numeric in programs.values()
    assert len(programs) == 2


def test_a_field_costs_a_program_where_it_changes_the_form_of_what_is_passed():
    """Compiled functions take what `anomaly_params` and `loss_weights` make of their fields."""
    words = {
        "anomalies.mask": "scar",
        "anomalies.place": "foreground",
        "anomalies.blend": "poisson",
        "anomalies.contrast": "subtle",
        "anomalies.normal_corners": "reflect",
    }
    costly = {f"losses.{term}" for term in COSTLY_TERMS}

    def another(name, value):
        match value:
            case str():
                return words[name]
            case (low, high):
                return (low, low) if low < high else (low / 2, low / 2)
        return 2.0 if name.startswith("losses.") else float(not value)

    def passed(config):
        return jax.tree.flatten((anomaly_params(config), loss_weights(config)))

    fields = {
        name: another(name, value)
        for name, value in flat(default_config())
        # What is subtle needs a word besides.
        if name.startswith(("anomalies.", "losses.")) and not name.startswith("anomalies.subtle.")
    }
    study = make([FULL, *(Variant(name, {name: value}) for name, value in fields.items())])
    base, *changed = (run for run in study.runs() if run.seed == 0)
    leaves, form = passed(base.config)
    for run in changed:
        other_leaves, other_form = passed(run.config)
        assert (run.program == base.program) == (other_form == form)
        assert (other_leaves == leaves) == (run.variant in words)
    assert {run.variant for run in changed if run.program != base.program} == {*words, *costly}


def test_devices_take_equal_shares_and_few_programs():
    runs = make(seeds=(0, 1, 2, 3)).runs()
    divided = shares(runs, 3)
    assert [len(share) for share in divided] == [4, 4, 4]
    assert sorted(run.folder for share in divided for run in share) == sorted(
        run.folder for run in runs
    )
    assert [len({run.program for run in share}) for share in divided] == [1, 1, 1]
    assert [len(share) for share in shares(runs[:2], 4)] == [1, 1]
    assert shares([], 4) == []


@pytest.mark.parametrize(
    ("variants", "options", "message"),
    [
        ([], {}, "the study is empty"),
        ([FULL], {"seeds": ()}, "the study is empty"),
        ([FULL, FULL], {}, "two variants of one name: 'full', twice"),
        ([FULL, Variant("Full ")], {}, "two variants of one name: 'full' and 'Full '"),
        ([Variant("../up")], {}, "cannot be called '../up'"),
        ([Variant("a", {"anomalies.opacty": 1})], {}, "'a': the config has no field"),
        ([Variant("a", {"anomalies.opacity": "half"})], {}, "'a': anomalies.opacity cannot be"),
        ([Variant("a", {"anomalies.opacity": (0.5, 2.0)})], {}, "'a': opacity must lie from 0"),
        ([FULL], {"seeds": (1, 1)}, "two seeds of one name: '1', twice"),
        ([FULL], {"seeds": ("",)}, "the study is empty"),
        ([FULL], {"seeds": ("one",)}, "config.seeds must be whole numbers, not ('one',)"),
        ([FULL], {"products": (BRICK, BRICK)}, "two products of one name: 'brick', twice"),
        ([FULL], {"products": (Product("../up", {}),)}, "a product cannot be called '../up'"),
        ([FULL], {"products": (BRICK,), "categories": ("grass",)}, "categories must be left out"),
        (
            [FULL],
            {"products": (Product("a", {"data.tiles": 1}),)},
            "product 'a': the config has no",
        ),
        ([FULL], {"products": (BRICK, Product("a", {"data.tile": (7,)}))}, "'full' on 'a': config"),
        ([Variant("a", {"data.category": "x"})], {}, "'a' and product 'brick' both change data.ca"),
        ([FULL], {"baseline": "best"}, "baseline 'best' is none of its variants full"),
        ([FULL], {"metric": "accuracy"}, "config.metric must be one of"),
        ([FULL], {"protocol": "mine"}, "config.protocol must be one of default, paper"),
    ],
)
def test_what_makes_no_sense_is_refused(variants, options, message):
    with pytest.raises(UserError) as caught:
        make(variants, **options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_directory_takes_one_study_which_may_grow(tmp_path):
    claim_study(make([FULL, NO_OPACITY], seeds=(0,)), tmp_path)
    claim_study(make([FULL, RECTANGLES], seeds=(0, 1), categories=("grass",)), tmp_path)
    fainter = dataclasses.replace(NO_OPACITY, changes={"anomalies.opacity": (0.1, 0.2)})
    with pytest.raises(UserError, match=r"another study \(anomalies.opacity: .*variant no opacity"):
        claim_study(make([FULL, fainter]), tmp_path)
    other = study_config(default_config(), [FULL])
    other.base.train.steps = 7
    with pytest.raises(UserError, match=r"another study \(train.steps: 20000 → 7\)"):
        claim_study(parse_study(other), tmp_path)
    claim_study(make(products=PRODUCTS), tmp_path)
    elsewhere = Product("ksdd", PRODUCTS[1].changes | {"data.root": "/other"})
    with pytest.raises(
        UserError, match=r"another study \(data.root: /ksdd → /other \(product ksdd"
    ):
        claim_study(make(products=(elsewhere,)), tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    with pytest.raises(UserError, match="something other than a study"):
        claim_study(make(), tmp_path / "run")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").touch()
    with pytest.raises(UserError, match="no work directory yet and holds pictures"):
        claim_study(make(), tmp_path / "photos")


def test_a_root_spelt_otherwise_is_the_same_study(tmp_path, monkeypatch):
    (tmp_path / "base" / "textures").mkdir(parents=True)
    (tmp_path / "other").mkdir()

    def claim(root, textures):
        config = study_config(default_config(), [FULL, Variant("own", {"data.root": root})])
        config.base.data.root, config.base.data.texture_source = root, textures
        claim_study(parse_study(config), tmp_path / "study")

    monkeypatch.chdir(tmp_path)
    claim("base", "base/textures")
    claim("base/", "./base/textures:1.0")
    claim(f"{tmp_path}/base", f"{tmp_path}/other/../base/textures")
    monkeypatch.chdir(tmp_path / "base")
    claim("../base", "textures")
    with pytest.raises(UserError, match=r"another study \(data.root: .*/base → .*/other"):
        claim("../other", "textures")


def test_a_study_of_an_earlier_version_goes_on(tmp_path):
    claim_study(make(), tmp_path)
    path = tmp_path / "study.json"
    stored = json.loads(path.read_text())
    of_then = stored["base"] | {"tuned_from.workdir": "", "tuned_from.step": 0}
    del of_then["model.copied_share"]
    earlier = {"base": of_then, "variants": stored["variants"]}
    path.write_text(json.dumps(earlier))
    claim_study(make(), tmp_path)
    assert json.loads(path.read_text()) == stored
    # What did not exist was as it is by default.
    path.write_text(json.dumps(earlier))
    with pytest.raises(UserError, match=r"\(model.copied_share: 0.0 → 0.5\)"):
        claim_study(make(base={"model": {"copied_share": 0.5}}), tmp_path)
    # Its runs are of categories: no other product may take the place of one.
    path.write_text(json.dumps(earlier))
    with pytest.raises(UserError, match=r"data.root: None → /mine \(product brick\)"):
        claim_study(make(products=(Product("brick", {"data.root": "/mine"}),)), tmp_path)


@pytest.mark.parametrize("name", recipes("study"))
def test_studies_that_come_along_can_be_run(name, capsys):
    assert main(["train", f"--config={name}", "--workdir=nowhere"]) == 1
    assert "describes a study; run it by `draem-jax study" in capsys.readouterr().err


def test_a_recipe_is_no_study(capsys):
    assert main(["study", "--config=configs/quickstart.py", "--workdir=nowhere"]) == 1
    error = capsys.readouterr().err
    assert "describes one run, not a study" in error
    assert "configs/studies/quick.py" in error


def test_recipes_are_tried_on_the_products_that_are_given(tmp_path):
    name = "configs/studies/recipes.py"

    def load(choice):
        values = flags.FlagValues()
        values(["study", *define_config(values, [f"--config={choice}"], kind="study")])
        return parse_study(values["config"].value)

    study = load(name)
    assert [one.name for one in study.products] == ["brick", "grass", "gravel"]
    assert [note.split()[0] for note in study.notes] == ["magnetic_tile", "KolektorSDD"]
    study = load(f"{name}:KolektorSDD={tmp_path}/k,textures={tmp_path}/t")
    assert len(study.runs()) == len(study.variants) * 4 * 3
    assert [note.split()[0] for note in study.notes] == ["magnetic_tile"]
    config = study.first_runs()[-1].config
    assert (config.data.name, config.data.root, config.data.tile) == (
        "folder",
        f"{tmp_path}/k",
        (128,),
    )
    assert config.data.texture_source == f"{tmp_path}/t"
    for wrong in ("mt=x", "textures", "magnetic_tile="):
        with pytest.raises(UserError, match=f"'{wrong}' is not understood behind the colon"):
            load(f"{name}:{wrong}")
