"""The command line as a newcomer meets it: help, one-line errors, and a whole round."""

import importlib.util
import io
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from absl import flags
from PIL import Image

from draem_jax.cli import main
from draem_jax.cli.main import _VERBS, _no_interrupt_lost
from draem_jax.cli.recipes import define_config, recipe_config

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


@pytest.mark.parametrize(
    "recipe",
    # The first is, but for the seed, what the tests' tiny run is, so that both are one program.
    ["surfaces.py", pytest.param("quickstart.py", marks=pytest.mark.long)],
)
@pytest.mark.slow
@pytest.mark.tiny_programs
def test_a_round_of_all_verbs(recipe, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)  # away from the checkout: the recipe comes from the package
    look = ["--out=sheet.png", "--rows=2", "--smallest_defect=8"]
    assert main(["preview", QUICKSTART, *TINY[:1], *look]) == 0
    with Image.open("sheet.png") as sheet, Image.open("sheet_seen.png") as seen:
        assert sheet.width > 3 * 128
        assert seen.width > 3 * 128
    assert capsys.readouterr().out.splitlines() == [
        "wrote sheet.png",
        "wrote sheet_seen.png: a picture beside what the networks see of it",
        "pictures: 96 x 96 pixels (width x height)",
        "smallest defect: 8 pixels across in them; the networks should see 4 or more of them",
        "as configured, squeezed to 32 x 32: it keeps 2.6 pixels, too few",
        "squeezed to 256 x 256: it keeps 21 pixels, enough",
        "recommended: --config.data.image_size=256, where it keeps 21 pixels",
    ]
    same = ["--config.optimizer.milestones=()", "--config.data.holdout=0.0", "--config.seed=3"]
    same += ["--config.optimizer.learning_rate=1e-3", "--config.train.log_every=1"]
    assert main(["train", f"--config=configs/{recipe}", *TINY, *same, "--workdir=run"]) == 0
    assert main(["evaluate", "--workdir=run"]) == 0
    assert "image_auroc" in capsys.readouterr().out
    Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save("picture.png")
    assert main(["predict", "--workdir=run", "--images=picture.png", "--out=found"]) == 0
    assert (tmp_path / "found" / "predictions.csv").read_text().count("\n") == 2
    assert "tensorflow" not in sys.modules


@pytest.mark.parametrize("verb", ["preview", "plan", "train", "evaluate", "predict", "finetune"])
def test_help(verb, capsys):
    assert main([verb, "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: draem-jax {verb}")
    assert f"draem-jax {verb} --" in text.split("flags:")[0]
    assert (" image_size=256 " in text) == (verb in ("preview", "plan", "train"))
    assert (" steps=300 " in text) == (verb in ("preview", "plan", "train", "finetune"))
    assert max(map(len, text.splitlines())) <= 100


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
        (["predict", "--workdir=x", "--images=file", "--out=o", "--watch"], "no folder file"),
        (["predict", "--workdir=x", "--images=x", "--out=o", "--watch", "--strict"], "--strict"),
        (["predict", "--workdir=x", "--images=x", "--out=o", "--poll_seconds=nan"], "poll_sec"),
        (["predict", "--workdir=x", "--images=file", "--out=o", "--min_area=-1"], "min_area"),
        (["predict", "--workdir=x", "--images=file", "--out=o", "--join_gap=nan"], "join_gap"),
        (["plan", QUICKSTART, "--device=h1000"], "choose one of h100, h100-pcie, h200, a100"),
        (["plan", QUICKSTART, "--devices=2"], "--devices needs --device=NAME"),
        (["plan", QUICKSTART, "--device=h100", "--utilisation=40"], "40 % of the maker's peak"),
        (["plan", QUICKSTART, "--device=h100", "--config.train.batch_size=0"], "batch_size"),
        (["plan", "--config=configs/folder.py:full", "--device=h100"], "--config.data.root=DIR"),
        (["plan", "--config=configs/surfaces.py:glass", "--device=h100"], "brick, grass, gravel"),
        (["preview", QUICKSTART, "--out=sheet.txt"], "must end in .png"),
        (["preview", QUICKSTART, "--smallest_defect=0"], "--smallest_defect=0 is no size; give"),
        (["preview", QUICKSTART, "--smallest_defect=nan"], "--smallest_defect=nan is no size"),
        (["preview", QUICKSTART, "--smallest_defect=a"], "flag --smallest_defect=a: could not"),
        (["types", "fit", "--workdir=x"], "--examples is missing"),
        (["types", "fit", "--workdir=x", "--examples=empty"], "empty holds no examples"),
        (["types", "fit", "--workdir=x", "--examples=empty", "--unknown_rate=1"], "--unknown_rate"),
        (["types", "cluster", "--workdir=x", "--images=empty", "--out=o"], "holds no pictures"),
        (["types", "clutser"], "did you mean types cluster?"),
        (["finetune", "--workdir=nowhere", "--accept=empty"], "--out-workdir=DIRECTORY is missing"),
        (["finetune", "--workdir=nowhere", "--out-workdir=o"], "nowhere is not a work directory"),
        (
            ["finetune", "--workdir=nowhere", "--config.finetune.steps=2"],
            "nowhere is not a work directory (it has no config.json)",
        ),
        (["finetune", "--config.finetune.steps=2"], "--workdir=DIRECTORY is missing"),
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


@pytest.mark.tiny_programs
def test_what_was_left_out_is_told_last(trained, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(folder / "a.png")
    (folder / os.fsdecode(b"\xe4\x1b[2J\n.png")).write_text("no picture")
    command = ["predict", f"--workdir={trained}", "--images=~/photos", "--out=~/found"]
    assert main([*command, "--batch_size=4"]) == 3
    out, err = capsys.readouterr()
    assert out.startswith("1 picture; see ")
    (line,) = err.splitlines()
    assert f"1 of 2 pictures was left out; see the column error of {tmp_path}/found/pred" in line
    assert "\\udce4\\x1b[2J" in line
    assert main([*command, "--batch_size=4", "--strict"]) == 1
    assert len((tmp_path / "found" / "predictions.csv").read_text().splitlines()) == 2


def test_every_path_may_begin_with_the_home(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    paths = {"workdir", "out_workdir", "images", "out", "accept", "defects", "root", "data_dir"}
    paths |= {"examples", "mm_per_pixel_csv", "roi", "reconstructive", "discriminative", "anomalib"}
    words = {"checkpoint", "category", "split", "type", "depth", "device", "name", "license"}
    known = set()
    for verb in _VERBS.values():
        values = flags.FlagValues()
        verb.define(values)
        texts = {name for name in values if values[name].flag_type() in ("string", "path")}
        assert texts <= paths | words  # a new flag belongs to one of them
        known |= texts
        values(["draem-jax", *(f"--{name}=~/x" for name in texts & paths)])
        assert all(values[name].value == "/home/me/x" for name in texts & paths)
    assert known == paths | words


def test_a_recipe_in_the_home(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.py").write_text(
        "from draem_jax.config import default_config\n\n\ndef get_config():\n"
        "    config = default_config()\n    config.seed = 7\n    return config\n"
    )
    assert recipe_config("~/mine.py").seed == 7


def test_a_recipe_in_a_path_with_colons(tmp_path):
    folder = tmp_path / "a[1]*?b:c.py"
    folder.mkdir()
    (folder / "mine.py").write_text(
        "from draem_jax.config import default_config\n\n\ndef get_config(category='none'):\n"
        "    config = default_config()\n    config.data.category = category\n    return config\n"
    )
    for choice, category in (("", "none"), (":", ""), (":wall", "wall"), (":a:b", "a:b")):
        assert recipe_config(f"{folder}/mine.py{choice}").data.category == category


@pytest.mark.parametrize("raised", ["KeyboardInterrupt", "ImportError", "ValueError"])
def test_ctrl_c_while_a_config_is_loaded(raised, tmp_path, capsys, request):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    (tmp_path / "slow.py").write_text(
        "import signal\ntry:\n    signal.raise_signal(signal.SIGINT)\n"
        f"except KeyboardInterrupt as error:\n    raise {raised} from error\n"
    )
    words = ["train", f"--config={tmp_path / 'slow.py'}", f"--workdir={tmp_path / 'run'}"]
    assert main(words) == 130
    assert capsys.readouterr().err == "draem-jax: interrupted\n"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_while_modules_are_imported(tmp_path):
    (tmp_path / "ml_collections.py").write_text("raise KeyboardInterrupt\n")
    done = subprocess.run(
        [sys.executable, "-m", "draem_jax", "--version"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (130, "draem-jax: interrupted\n")


@pytest.mark.parametrize("kind", ["run", "study"])
def test_the_last_value_of_a_field_counts(kind):
    name = "config.base.data.image_size" if kind == "study" else "config.data.image_size"
    recipe = "--config=configs/studies/quick.py" if kind == "study" else QUICKSTART
    given = [f"--{name}=64", f"--{name}", "96", f"-{name}=32,64"]
    for count, size in enumerate([(64,), (96,), (32, 64)], start=1):
        words = given[: (1, 3, 4)[count - 1]]
        values = flags.FlagValues()
        arguments = define_config(values, [recipe, *words, "rest"], kind=kind)
        assert values(["draem-jax", *arguments])[1:] == ["rest"]
        config = values.config.base if kind == "study" else values.config
        assert config.data.image_size == size


@pytest.mark.parametrize(
    ("config", "changes", "message"),
    [
        ("configs/quickstart.py", ["seed=99999999999999999999"], "config.seed must lie from 0 to"),
        ("configs/quickstart.py", ["seed=-1"], "config.seed must lie from 0 to 4294967295"),
        ("configs/quickstart.py", ["train.steps=2147483648"], "config.train.steps=2147483648"),
        ("configs/quickstart.py", ["data.image_size=64,99999999968"], "image_size=99999999968"),
        ("configs/quickstart.py", ["optimizer.learning_rate=inf"], "must be a finite number"),
        ("configs/studies/quick.py", ["seeds=0,4294967296"], "config.seed must lie from 0 to"),
    ],
)
def test_numbers_that_do_not_fit_get_one_line(config, changes, message, tmp_path, capsys):
    verb = "study" if "studies" in config else "train"
    words = [verb, f"--config={config}", *(f"--config.{change}" for change in changes)]
    assert main([*words, f"--workdir={tmp_path / 'run'}"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not list(tmp_path.iterdir())


def test_a_sheet_is_not_written_among_the_pictures(tmp_path, capsys):
    (tmp_path / "textures").mkdir()
    for field in ("root", "texture_source"):
        folder = tmp_path / "textures"
        words = ["preview", "--config=configs/folder.py", f"--config.data.{field}={folder}"]
        assert main([*words, f"--out={folder / 'sheet.png'}"]) == 1
        assert "write the sheet elsewhere" in capsys.readouterr().err
    assert not list(folder.iterdir())


def test_whatever_a_name_holds_can_be_printed(monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stderr", stream)
    name = os.fsdecode("ä\x1b_".encode() + b"\xe4")
    assert main(["predict", "--workdir=x", "--out=o", f"--images={name}"]) == 1
    stream.seek(0)
    assert "no file or folder \\xe4\\x1b_\\udce4;" in stream.read()


@pytest.mark.parametrize("platform", ["cuda", "nonsense"])
def test_a_platform_that_is_not_there_gets_one_line(platform, tmp_path):
    if platform == "cuda" and importlib.util.find_spec("jax_cuda12_plugin"):
        pytest.skip("there may be a GPU")
    command = [sys.executable, "-m", "draem_jax", "preview", QUICKSTART, f"--out={tmp_path}/x.png"]
    done = subprocess.run(
        command, env={**os.environ, "JAX_PLATFORMS": platform}, capture_output=True, text=True
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert f"JAX_PLATFORMS='{platform}'" in line


def test_ctrl_c_during_clean_up_is_not_lost(capsys, request):
    # What runs in the background of a shell ignores Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))

    class Cleaned:
        def __del__(self):
            signal.raise_signal(signal.SIGINT)

    def clean_up():
        with _no_interrupt_lost():
            Cleaned()
            for _ in range(500):
                time.sleep(0.01)

    with pytest.raises(KeyboardInterrupt):
        clean_up()
    assert capsys.readouterr().err == ""


def test_debug_shows_where_it_happened():
    with pytest.raises(Exception, match="not a work directory"):
        main(["evaluate", "--workdir=nowhere", "--debug"])
