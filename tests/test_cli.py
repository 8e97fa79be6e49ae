"""The command line as a newcomer meets it: help, one-line errors, and a whole round."""

import sys

import numpy as np
import pytest
from PIL import Image

from draem_jax.cli import main

TINY = [
    "--config.data.image_size=32",
    "--config.model.reconstructive_width=4",
    "--config.model.discriminative_width=4",
    "--config.train.batch_size=4",
    "--config.train.steps=4",
    "--config.train.checkpoint_every=2",
    "--config.train.validation_pictures=4",
]
QUICKSTART = "--config=configs/quickstart.py"


@pytest.mark.slow
@pytest.mark.tiny_programs
def test_a_round_of_all_verbs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)  # away from the checkout: the recipe comes from the package
    assert main(["preview", QUICKSTART, *TINY[:1], "--out=sheet.png", "--rows=2"]) == 0
    with Image.open("sheet.png") as sheet:
        assert sheet.width > 3 * 128
    # But for the seed what the tests' tiny run is, so that both are one program.
    same = ["--config.optimizer.milestones=()", "--config.data.holdout=0.0", "--config.seed=3"]
    assert main(["train", QUICKSTART, *TINY, *same, "--workdir=run"]) == 0
    assert main(["evaluate", "--workdir=run"]) == 0
    assert "image_auroc" in capsys.readouterr().out
    Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save("picture.png")
    assert main(["predict", "--workdir=run", "--images=picture.png", "--out=found"]) == 0
    assert (tmp_path / "found" / "predictions.csv").read_text().count("\n") == 2
    assert "tensorflow" not in sys.modules


@pytest.mark.parametrize("verb", ["preview", "train", "evaluate", "predict", "finetune"])
def test_help(verb, capsys):
    assert main([verb, "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: draem-jax {verb}")
    assert f"draem-jax {verb} --" in text.split("flags:")[0]
    assert ("--config.data.image_size=" in text) == (verb in ("preview", "train"))
    assert ("--config.finetune.steps=" in text) == (verb in ("preview", "train", "finetune"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "did you mean train?"),
        (["train", "--workdir=x"], "--config=FILE is missing"),
        (["train", "--config=configs/none.py", "--workdir=x"], "no config file configs/none.py"),
        (["train", QUICKSTART], "--workdir=DIRECTORY is missing"),
        (["train", QUICKSTART, "--workdir=x", "--config.train.step=3"], "mean train.steps"),
        (["train", QUICKSTART, "--workdir=x", "--config.seed=one"], "config.seed"),
        (["train", QUICKSTART, "--workdir=x", "--wrkdir=y"], "wrkdir"),
        (["train", QUICKSTART, "--workdir=x", "now"], "'now'"),
        (
            ["train", QUICKSTART, "--workdir=x", "--config.data.image_size=100"],
            "100 x 100 is not divisible by 32",
        ),
        (["train", QUICKSTART, "--workdir=x", "--config.train.batch_size=0"], "batch_size"),
        (["train", QUICKSTART, "--workdir=x", "--config.train.batch_size=3"], "4 devices"),
        (["train", "--config=configs/surfaces.py:glass", "--workdir=x"], "brick, grass, gravel"),
        (
            ["train", QUICKSTART, "--workdir=x", "--config.anomalies.opacity=0.5,3"],
            "opacity must lie from 0 to 1",
        ),
        (
            [
                "train",
                QUICKSTART,
                "--workdir=x",
                "--config.data.texture_source=builtin:2,nowhere",
            ],
            "nowhere",
        ),
        (["train", QUICKSTART, *TINY, "--workdir=file"], "file"),
        (["evaluate", "--workdir=nowhere"], "nowhere is not a work directory"),
        (["predict", "--workdir=nowhere", "--images=empty", "--out=o"], "holds no pictures"),
        (["predict", "--workdir=nowhere", "--images=none", "--out=o"], "no file or folder none"),
        (
            ["predict", "--workdir=x", "--images=file", "--out=o", "--mm-per-pixel=0"],
            "a pixel cannot be 0 mm wide; give a number above 0",
        ),
        (["predict", "--workdir=x", "--images=file", "--out=o", "--min_area=-1"], "min_area"),
        (["predict", "--workdir=x", "--images=file", "--out=o", "--join_gap=nan"], "join_gap"),
        (["preview", QUICKSTART, "--out=sheet.txt"], "must end in .png"),
        (["types", "fit", "--workdir=x"], "--examples is missing"),
        (["types", "fit", "--workdir=x", "--examples=empty"], "empty holds no examples"),
        (["types", "fit", "--workdir=x", "--examples=empty", "--unknown_rate=1"], "--unknown_rate"),
        (["types", "cluster", "--workdir=x", "--images=empty", "--out=o"], "holds no pictures"),
        (["types", "clutser"], "did you mean types cluster?"),
        (["finetune", "--workdir=nowhere", "--accept=empty"], "--out-workdir=DIRECTORY is missing"),
        (["finetune", "--workdir=nowhere", "--out-workdir=o"], "nowhere is not a work directory"),
    ],
)
def test_mistakes_get_one_line(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("what was here before")
    assert main(arguments) == 1
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1, error
    assert message in error[0]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "file"]
    assert (tmp_path / "file").read_text() == "what was here before"


def test_debug_shows_where_it_happened():
    with pytest.raises(Exception, match="not a work directory"):
        main(["evaluate", "--workdir=nowhere", "--debug"])
