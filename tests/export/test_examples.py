"""The programs that use an export know nothing of this package, and decide as `predict` does."""

import csv
import json
import shutil
import subprocess
import venv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from draem_jax.cli import main
from draem_jax.config import data_set
from draem_jax.training.loop import train

_EXAMPLES = Path(__file__).parent.parent.parent / "examples"

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def config(tiny_config):
    # After fewer steps the scores lie so close together that rounding decides p-values.
    return tiny_config(**{"data.holdout": 0.2, "evaluation.score": "mean5", "train.steps": 60})


@pytest.fixture(scope="module")
def run(config, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run") / "run"
    train(config, workdir, quiet=True)
    return workdir


@pytest.fixture(scope="module")
def pictures(config, tmp_path_factory):
    """Test pictures of the networks' size, and one of another size, transparent in parts."""
    folder = tmp_path_factory.mktemp("pictures")
    test = data_set(config).test_pictures(size=(32, 32))
    for index in range(0, len(test), len(test) // 11):
        Image.fromarray(test[index].image).save(folder / f"{index:03d}.png")
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (45, 60, 4), np.uint8)).save(folder / "rgba.png")
    return folder


@pytest.fixture(scope="module")
def predicted(run, pictures, tmp_path_factory):
    """Of each picture's name score, p-value and decision, as `predict` has them."""
    out = tmp_path_factory.mktemp("predicted")
    flags = [f"--workdir={run}", f"--images={pictures}", f"--out={out}", "--alpha=0.3"]
    assert main(["predict", *flags]) == 0
    found = rows((out / "predictions.csv").read_text())
    assert {decision for _, _, decision in found.values()} == {"0", "1"}
    return found


@pytest.fixture(scope="module")
def exported(run, tmp_path_factory):
    out = tmp_path_factory.mktemp("exported") / "out"
    assert main(["export", f"--workdir={run}", f"--out={out}", "--alpha=0.3"]) == 0
    return out


def rows(text):
    return {
        Path(row["picture"]).name: (float(row["score"]), float(row["p_value"]), row["anomalous"])
        for row in csv.DictReader(text.splitlines())
    }


def check(found, predicted):
    assert found
    for name, (score, p_value, decision) in found.items():
        assert score == pytest.approx(predicted[name][0], abs=1e-4)
        assert p_value == pytest.approx(predicted[name][1], abs=1e-5)
        assert decision == predicted[name][2]


def test_python_decides_as_predict_does(exported, pictures, predicted, tmp_path):
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv" / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", "onnxruntime", "numpy", "pillow"]
    subprocess.run(install, check=True, capture_output=True)
    program = [python, "-I", _EXAMPLES / "predict_exported.py", exported]
    missing = subprocess.run([python, "-I", "-c", "import jax"], capture_output=True)
    assert missing.returncode != 0
    done = subprocess.run(
        [*program, *sorted(pictures.iterdir())], check=True, capture_output=True, text=True
    )
    found = rows(done.stdout)
    assert found.keys() == predicted.keys()
    check(found, predicted)


@pytest.mark.skipif(shutil.which("npm") is None, reason="there is no Node.js")
def test_javascript_decides_as_predict_does(exported, pictures, predicted, tmp_path):
    (tmp_path / "package.json").write_text("{}")
    # Its script would fetch what GPUs need.
    install = ["npm", "install", "--ignore-scripts", "onnxruntime-node", "pngjs"]
    subprocess.run(install, check=True, capture_output=True, cwd=tmp_path)
    names = sorted(path for path in pictures.iterdir() if path.name != "rgba.png")
    done = subprocess.run(
        ["node", _EXAMPLES / "predict_exported.mjs", exported, *names],
        check=True, capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    found = rows(done.stdout)
    assert len(found) == len(names)
    check(found, predicted)


@pytest.mark.parametrize(
    ("precision", "kind"), [("float16", "onnx"), ("int8", "onnx"), ("bfloat16", "stablehlo")]
)
def test_what_a_precision_costs_is_told_and_limited(run, tmp_path, capsys, precision, kind):
    flags = [f"--workdir={run}", f"--precision={precision}", f"--format={kind}"]
    assert main(["export", *flags, f"--out={tmp_path / 'out'}", "--max_loss=1"]) == 0
    said = capsys.readouterr().out
    assert "image AUROC" in said
    assert "pixel AP" in said
    assert "decided otherwise" in said
    (facts,) = (
        facts
        for facts in json.loads((tmp_path / "out" / "manifest.json").read_text())["files"].values()
        if "proof" in facts
    )
    assert facts["precision"] == precision
    before, after = (facts["proof"][of]["pixel_ap"] for of in ("checkpoint", "model"))
    assert 0 < after != before
    float32 = sum(np.prod(a.shape) * 4 for a in _weights(run))
    written = sum(path.stat().st_size for path in (tmp_path / "out").glob("model.*"))
    assert precision == "bfloat16" or written < 0.8 * float32


def test_a_precision_that_costs_too_much_is_refused(run, tmp_path, capsys, monkeypatch):
    from draem_jax.export import quantisation

    # Of a single grey, what other pictures make is cut off.
    quantise = quantisation.quantise
    monkeypatch.setattr(
        quantisation,
        "quantise",
        lambda model, out, normal: quantise(model, out, [np.full_like(normal[0], 128)]),
    )
    flags = [f"--workdir={run}", f"--out={tmp_path / 'out'}", "--precision=int8", "--max_loss=0"]
    assert main(["export", *flags]) == 1
    assert "--precision=int8 costs too much" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def _weights(run):
    import jax

    from draem_jax import Draem

    return jax.tree.leaves(Draem.load(run).variables)
