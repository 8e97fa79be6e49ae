"""What is exported says what the detector says, and what does not is not left on disk."""

import contextlib
import dataclasses
import hashlib
import importlib.util
import json

import jax
import numpy as np
import pytest
from PIL import Image

from draem_jax import Draem
from draem_jax.cli import export as cli_export
from draem_jax.cli import main
from draem_jax.data.pictures import read_picture
from draem_jax.data.roi import Roi
from draem_jax.errors import UserError
from draem_jax.export import export as exporting
from draem_jax.export.contract import FORMATS, PRECISIONS, check_precision
from draem_jax.export.export import ExportOptions, export_detector
from draem_jax.export.onnx_runtime import open_onnx
from draem_jax.export.stablehlo import open_stablehlo
from draem_jax.export.weights import named_arrays, read_weights
from draem_jax.thresholds import Thresholds
from draem_jax.training.parallel import replicate
from draem_jax.training.state import create_network
from tests.export.test_onnx_model import random_variables


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder of pictures of several sizes, which look different to any network."""
    rng, folder = np.random.default_rng(0), tmp_path_factory.mktemp("pictures")
    for i in range(9):
        coarse = rng.integers(0, 256, (3 + i, 4, 3), np.uint8)
        size = (32, 32) if i % 2 else (50, 40)
        Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(folder / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def detector(tiny_config, pictures, tmp_path_factory):
    """A detector of random networks, which calls some of the pictures anomalous."""
    config = tiny_config(**{"evaluation.score": "mean5", "evaluation.batch_size": 12})
    untrained = Draem(
        config=config,
        workdir=tmp_path_factory.mktemp("run"),
        step=0,
        batch_size=12,
        _variables=replicate(random_variables(create_network(config))),
    )
    return with_thresholds(untrained, pictures)


def with_thresholds(detector, pictures):
    """The detector with thresholds between its scores of these pictures."""
    scores = sorted(found.score for _, found in inspected(detector, pictures))
    assert np.diff(scores).max() > 1e-3
    between = (np.array(scores[1:]) + np.array(scores[:-1])) / 2
    thresholds = Thresholds(
        score="mean5",
        normal_scores=tuple(map(float, sorted([*between, *([between[3]] * 12)]))),
        normal_margins=tuple(float(n) for n in range(20)),
        best_f1_margin=0.25,
    )
    return dataclasses.replace(detector, thresholds=thresholds)


def inspected(detector, folder):
    paths = sorted(folder.glob("*.png"))
    return list(zip(paths, detector.inspect_pictures(map(read_picture, paths)), strict=True))


@pytest.fixture(scope="module")
def exported(detector, pictures, tmp_path_factory):
    out = tmp_path_factory.mktemp("exported") / "new" / "folder"
    options = ExportOptions(
        formats=("onnx", "safetensors"), images=pictures, alpha=0.4, license="MIT"
    )
    return out, export_detector(detector, out, options=options)


def check(look, detector, pictures, thresholds):
    """That a model, with thresholds.json, says and decides what the detector does."""
    found = inspected(detector, pictures)
    small = np.stack([detector.fitting.fit(read_picture(path)) for path, _ in found])
    decided = [bool(one.p_value <= 0.4) for _, one in found]
    assert 0 < sum(decided) < len(decided)
    normal = np.array(thresholds["normal_scores"])
    for count in (1, 3, 8):
        said = look(small[:count])
        for i, (_, one) in enumerate(found[:count]):
            assert abs(said["score"][i] - one.score) < 1e-4
            if one.size == detector.image_size:
                np.testing.assert_allclose(said["anomaly_map"][i], one.anomaly_map, atol=1e-4)
                np.testing.assert_allclose(said["reconstruction"][i], one.reconstruction, atol=1e-4)
            # As thresholds.json tells it, in both ways.
            p_value = (1 + np.sum(normal >= said["score"][i])) / (1 + len(normal))
            assert p_value == pytest.approx(one.p_value)
            above = said["score"][i] > thresholds["image_thresholds"]["0.4"]
            assert above == (p_value <= thresholds["alpha"]) == decided[i]


def test_onnx_says_what_the_detector_does(detector, pictures, exported):
    out, found = exported
    assert set(found.proofs) == {"onnx", "safetensors"}
    assert all(proof.decisions == 0 for proof in found.proofs.values())
    thresholds = json.loads((out / "thresholds.json").read_text())
    check(open_onnx(str(out / "model.onnx")), detector, pictures, thresholds)


@pytest.mark.long
@pytest.mark.parametrize(("flips", "precision"), [("both", "float32"), ("none", "bfloat16")])
def test_stablehlo_says_what_the_detector_does(detector, pictures, tmp_path, flips, precision):
    config = detector.config.copy_and_resolve_references()
    config.evaluation.flips = flips
    detector = with_thresholds(dataclasses.replace(detector, config=config), pictures)
    options = ExportOptions(
        formats=("stablehlo",), precision=precision, images=pictures, alpha=0.4, max_loss=0.5
    )
    export_detector(detector, tmp_path / "out", options=options)
    thresholds = json.loads((tmp_path / "out" / "thresholds.json").read_text())
    if precision == "float32":
        look = open_stablehlo(tmp_path / "out" / "model.stablehlo")
        check(look, detector, pictures, thresholds)


def test_the_archive_holds_every_weight(detector, exported):
    out, _ = exported
    weights, kept = named_arrays(detector.variables), read_weights(out / "weights.safetensors")
    assert weights.keys() == kept.keys()
    for name, array in weights.items():
        np.testing.assert_array_equal(array, kept[name])
    described = json.loads((out / "network.json").read_text())["arrays"]
    assert {name: tuple(one["shape"]) for name, one in described.items()} == {
        name: array.shape for name, array in weights.items()
    }


def test_the_manifest_is_of_what_lies_there(detector, exported):
    out, _ = exported
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["files"].keys() | {"manifest.json"} == {path.name for path in out.iterdir()}
    for name, facts in manifest["files"].items():
        content = (out / name).read_bytes()
        assert facts["sha256"] == hashlib.sha256(content).hexdigest()
        assert facts["bytes"] == len(content)
    assert manifest["files"]["model.onnx"]["opset"] == 18
    assert manifest["license"] == "MIT"
    assert manifest["input"]["shape"] == ["batch", *detector.image_size, 3]
    assert manifest["made_with"]["jax"] == jax.__version__
    assert "six months" in manifest["archive"]
    assert [path.name for path in out.parent.iterdir()] == ["folder"]


@pytest.mark.parametrize("wrong", ["a weight", "the decisions", "not a number"])
def test_nothing_is_left_of_a_model_that_says_otherwise(
    detector, pictures, tmp_path, monkeypatch, wrong
):
    source = exporting._source

    def damaged(*arguments):
        made = source(*arguments)
        arrays = dict(made.arrays)
        if wrong == "a weight":
            arrays["params/discriminative/output/bias"] = np.array([0, 1e-2], np.float32)
        if wrong == "not a number":
            arrays["params/discriminative/output/bias"] = np.array([0, np.nan], np.float32)
        return dataclasses.replace(made, arrays=arrays)

    monkeypatch.setattr(exporting, "_source", damaged)
    if wrong == "the decisions":
        compare = exporting.compare
        monkeypatch.setattr(
            exporting, "compare", lambda *a, **k: dataclasses.replace(compare(*a, **k), decisions=1)
        )
    with pytest.raises(UserError, match="says other than the checkpoint"):
        export_detector(detector, tmp_path / "out", options=ExportOptions(images=pictures))
    assert not list(tmp_path.iterdir())


def test_what_is_there_already_is_not_harmed(detector, pictures, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="is there already"):
        export_detector(detector, tmp_path, options=ExportOptions(images=pictures))
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"data.tile": (32,)}, "looks in tiles"),
        ({"data.fit": "letterbox"}, "fit=letterbox"),
        ({"roi": 3}, "looks within"),
    ],
)
def test_what_an_export_cannot_hold_is_refused(detector, tmp_path, changes, what):
    config = detector.config.copy_and_resolve_references()
    border = changes.pop("roi", 0)
    config.update_from_flattened_dict(changes)
    changed = dataclasses.replace(detector, config=config, roi=Roi("", border))
    with pytest.raises(UserError, match=what) as told:
        export_detector(changed, tmp_path / "out")
    assert "\n" not in str(told.value)


def test_the_flags_offer_what_there_is():
    assert tuple(FORMATS) == cli_export._FORMATS
    assert tuple(PRECISIONS) == cli_export._PRECISIONS


def test_each_precision_is_of_the_formats_that_have_it():
    taken = set()
    for name in FORMATS:
        for precision in PRECISIONS:
            with contextlib.suppress(UserError):
                check_precision((name,), precision)
                taken.add((name, precision))
    assert taken == {
        *((name, "float32") for name in FORMATS),
        ("onnx", "float16"),
        ("onnx", "int8"),
        ("stablehlo", "bfloat16"),
    }


def test_a_missing_package_is_told_with_what_to_install(tmp_path, monkeypatch, capsys):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "onnx" else find(name)
    )
    assert main(["export", f"--workdir={tmp_path}", f"--out={tmp_path / 'out'}"]) == 1
    assert "pip install 'draem-jax[export]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flag", "what"),
    [("--format=tflite", "none of onnx"), ("--max_loss=-1", "0 or more"), ("--alpha=2", "alpha")],
)
def test_flags_are_checked(tmp_path, capsys, flag, what):
    assert main(["export", f"--workdir={tmp_path}", f"--out={tmp_path / 'out'}", flag]) == 1
    assert what in capsys.readouterr().err
