"""Recipes: what the words behind the colon set, and the size that suits machine and run."""

import subprocess
import sys

import pytest

from draem_jax.cli import main
from draem_jax.cli.recipes import define_config, recipe_config, recipes
from draem_jax.config import check_config, default_config, differences, flat, to_json
from draem_jax.recipes import PLUS, SIZES
from draem_jax.training import parallel

FOLDER = "configs/folder.py"


def changed(config):
    """The fields in which a config differs from the defaults."""
    return {line.partition(":")[0] for line in differences(default_config(), config)}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("recipe", [name for name in recipes() if "quickstart" not in name])
def test_every_recipe_takes_every_size(recipe, size):
    config = recipe_config(f"{recipe}:{size}")
    check_config(config)
    assert dict(config.data)["category"] == dict(recipe_config(f"{recipe}:full").data)["category"]
    values = {name: config[name.split(".")[0]][name.split(".")[1]] for name in SIZES[size]}
    assert values == dict(SIZES[size])


@pytest.mark.parametrize("recipe", [f"{FOLDER}:small", "configs/visa.py:candle"])
def test_plus_changes_what_it_names_and_no_more(recipe):
    plus = recipe_config(f"{recipe},plus")
    check_config(plus)
    assert {name: value for name, value in flat(plus) if name in PLUS} == dict(PLUS)
    assert changed(plus) == changed(recipe_config(recipe)) | set(PLUS)


def test_words_combine_in_any_order():
    config = recipe_config("configs/mvtec_ad.py:medium,paper,cable")
    assert (config.data.category, config.data.image_size) == ("cable", (192,))
    assert config.anomalies.opacity == (0.1, 1.0)
    assert config.optimizer.factor == 0.1
    assert changed(recipe_config("configs/mvtec_ad.py:cable,code")) == {
        "data.category", "data.name", "train.epochs", "train.steps",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        (f"{FOLDER}:smal", "'smal' is unknown behind the colon; choose among small, medium, full"),
        (f"{FOLDER}:small,full", "names two of a kind"),
        ("configs/visa.py:candle,cashew", "names two of a kind"),
    ],
)
def test_mistakes_get_one_line(choice, message, tmp_path, capsys):
    assert main(["train", f"--config={choice}", f"--workdir={tmp_path / 'run'}"]) == 1
    out, err = capsys.readouterr()
    assert out == ""  # nothing was chosen
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(("platform", "size"), [("cpu", "small"), ("gpu", "full")])
def test_a_new_run_takes_the_size_that_suits_the_machine(platform, size, monkeypatch, capsys):
    monkeypatch.setattr(parallel, "platform", lambda: platform)
    assert recipe_config(FOLDER) == recipe_config(f"{FOLDER}:{size}")
    assert capsys.readouterr().out.startswith(f"size: {size}, for the {platform.upper()} here")
    assert recipe_config(f"{FOLDER}:paper") == recipe_config(f"{FOLDER}:paper,{size}")
    assert f"--config={FOLDER}:paper,{size})" in capsys.readouterr().out


def test_full_is_what_the_recipe_was_before_it_had_sizes():
    assert changed(recipe_config(f"{FOLDER}:full")) == {
        "data.name", "data.category", "data.holdout",
    }  # fmt: skip


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("changes", [{}, {"train.steps": 1000, "data.image_size": 128}])
def test_a_run_that_has_begun_keeps_its_size(size, platform, changes, tmp_path, monkeypatch):
    monkeypatch.setattr(parallel, "platform", lambda: platform)
    given = [f"--config.{name}={value}" for name, value in changes.items()]

    def command(choice):
        from absl import flags

        values = flags.FlagValues()
        words = [f"--config={choice}", *given, f"--workdir={tmp_path}"]
        values(["draem-jax", *define_config(values, words)], known_only=True)
        return values["config"].value

    begun = command(f"{FOLDER}:{size}")
    (tmp_path / "config.json").write_text(to_json(begun))
    (tmp_path / "checkpoints" / "1").mkdir(parents=True)
    assert command(FOLDER) == begun


def test_the_platform_is_told_without_settling_the_number_of_devices():
    program = (
        "from draem_jax.training import parallel; import jax; print(parallel.platform()); "
        "parallel.use_cpu_devices(3); print(jax.device_count(), parallel.platform())"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    found, running = done.stdout.splitlines()
    assert running == f"3 {found}" or found != "cpu"
