"""Fine-tuning changes the discriminative network alone, and nothing of the run it starts from."""

import hashlib
import io
import json
import shutil
from contextlib import redirect_stdout

import jax
import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from draem_jax.cli import main
from draem_jax.config import anomaly_params, differences
from draem_jax.data.examples import read_examples
from draem_jax.data.surfaces import export_samples
from draem_jax.detector import Draem
from draem_jax.errors import UserError
from draem_jax.evaluation.finetuning import Change, Comparison
from draem_jax.training.feed import read_pictures
from draem_jax.training.finetune import finetune
from draem_jax.training.pictures import open_pictures
from draem_jax.training.samples import Draw
from draem_jax.training.state import run_keys
from draem_jax.training.tuned_from import TunedFrom
from draem_jax.training.tuning_samples import (
    make_tuning_samples,
    tuning_params,
    tuning_pictures,
)
from draem_jax.training.workdir import load_run

pytestmark = [pytest.mark.tiny_programs, pytest.mark.long]


def _digests(folder):
    return {
        path.relative_to(folder): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """Folders of ten accepted stains and of ten labelled holes."""
    folder = tmp_path_factory.mktemp("given")
    for kind in ("stain", "hole"):
        export_samples(
            folder / kind, category="brick", split="train", defect_type=kind, indices=range(10)
        )
    return folder


@pytest.fixture(scope="module")
def tuned(tmp_path_factory, trained, given):
    """A run tuned from a copy of the tiny one, by the command line.

    The copy, its result, the digests of the copy's files before, and what was printed.
    """
    folder = tmp_path_factory.mktemp("tuned")
    base, out = folder / "base", folder / "out"
    shutil.copytree(trained, base)
    before = _digests(base)
    with redirect_stdout(io.StringIO()) as table:
        status = main(
            [
                "finetune",
                f"--workdir={base}",
                f"--out-workdir={out}",
                f"--accept={given / 'stain'}",
                f"--defects={given / 'hole'}",
                "--config.finetune.steps=3",
            ]
        )
    assert status == 0
    return base, out, before, table.getvalue()


def test_the_frozen_network_and_the_run_stay_as_they_are(tuned):
    base, out, before, _ = tuned
    assert _digests(base) == before
    (config, old), (tuned_config, new) = load_run(base), load_run(out)
    assert new.step == old.step + 3 == 7
    for frozen in (lambda state: state.params["reconstructive"], lambda state: state.batch_stats):
        jax.tree.map(np.testing.assert_array_equal, frozen(old), frozen(new))
    changed = jax.tree.map(
        lambda a, b: not np.array_equal(a, b),
        old.params["discriminative"],
        new.params["discriminative"],
    )
    assert np.mean(jax.tree.leaves(changed)) > 0.5
    assert [line.partition(":")[0] for line in differences(config, tuned_config)] == [
        "finetune.steps"
    ]


@pytest.mark.parametrize("begun_before", [False, True])
def test_what_it_was_made_from_is_noted(tuned, given, tmp_path, begun_before):
    base, out, _, _ = tuned
    expected = TunedFrom(str(base), 4, str(given / "stain"), str(given / "hole"))
    workdir = tmp_path / "out"
    shutil.copytree(out, workdir)
    if begun_before:  # when the config had it
        config = json.loads((workdir / "config.json").read_text())
        config["tuned_from"] = json.loads((workdir / "tuned_from.json").read_text())
        (workdir / "config.json").write_text(json.dumps(config))
        (workdir / "tuned_from.json").unlink()
    assert TunedFrom.load(workdir) == expected
    assert TunedFrom.load(base) is None
    assert load_run(workdir)[1].step == 7
    config = load_run(workdir)[0]
    with pytest.raises(UserError, match=r"something else \(defects: .* → none\)"):
        finetune(base, workdir, accept=given / "stain", config=config, quiet=True)
    (workdir / "tuned_from.json").write_text("{}")
    with pytest.raises(UserError, match=r"tuned_from\.json is damaged"):
        TunedFrom.load(workdir)


def test_it_goes_on_from_its_checkpoints(tuned, given, tmp_path):
    base, out, _, _ = tuned
    workdir = tmp_path / "out"
    shutil.copytree(out, workdir)
    assert {p.name for p in (workdir / "checkpoints").iterdir()} == {"6", "7"}
    shutil.rmtree(workdir / "checkpoints" / "7")
    config, expected = load_run(out)
    state = finetune(
        base,
        workdir,
        accept=given / "stain",
        defects=given / "hole",
        config=config,
        quiet=True,
    )
    jax.tree.map(np.testing.assert_array_equal, state, expected)
    steps = [json.loads(line)["step"] for line in (workdir / "metrics.jsonl").open()]
    assert steps == [5, 6, 6, 7, 7]


def test_it_tells_before_and_after(tuned, given):
    base, out, _, table = tuned
    told = json.loads((out / "finetune.json").read_text())
    assert list(told["figures"]) == [
        "false_alarms_normal",
        "image_auroc_simulated",
        "pixel_ap_simulated",
        "false_alarms_accepted",
        "image_auroc_defects",
        "pixel_ap_defects",
    ]
    assert "no normal pictures were held out" in told["notes"][-1]
    assert told["figures"]["false_alarms_accepted"]["before"] is None

    # Independently: ten holes against normal pictures.
    config, _ = load_run(out)
    holes = read_examples(None, given / "hole", size=(32, 32))
    normal = open_pictures(config).normal
    normal = [normal[i] for i in np.linspace(0, len(normal) - 1, 64).astype(int).tolist()]
    pictures = np.concatenate([np.stack(normal), holes.defects])
    masks = np.concatenate([np.zeros((64, 32, 32), bool), holes.masks])
    for workdir, value in ((base, "before"), (out, "after")):
        prediction = Draem.load(workdir).predict(pictures)
        auroc = roc_auc_score(np.arange(74) >= 64, prediction.score)
        ap = average_precision_score(masks.ravel(), prediction.anomaly_map.ravel())
        figures = {name: figure[value] for name, figure in told["figures"].items()}
        assert figures["image_auroc_defects"] == pytest.approx(auroc, abs=1e-3)
        assert figures["pixel_ap_defects"] == pytest.approx(ap, abs=1e-3)
        (line,) = (line for line in table.splitlines() if line.startswith("pixel AP, learned"))
        assert f"{ap:.2f}" in line
    assert told["figures"]["pixel_ap_defects"]["pictures"] == 10


def test_what_got_worse_is_warned_of():
    def figure(before, after, lower_is_better):
        return Change("name", "text", 20, before, after, lower_is_better)

    comparison = Comparison(
        (
            figure(0.0, 0.05, True),
            figure(0.05, 0.0, True),
            figure(0.9, 0.895, False),
            figure(0.9, 0.85, False),
            figure(None, None, True),
        ),
        (),
        np.zeros((1, 1, 3), np.uint8),
    )
    assert comparison.warnings == [
        "text got worse: 0.000 before, 0.050 after",
        "text got worse: 0.900 before, 0.850 after",
    ]


def test_samples_are_mixed_by_their_shares(tuned, given):
    config, _ = load_run(tuned[1])
    config.finetune.accepted_share, config.finetune.defect_share = 0.25, 0.5
    config.finetune.brightness = 0.0
    config.finetune.turn = True
    config.anomalies.untouched_share = 1.0
    config.anomalies.normal_rotation_share = 0.0
    examples = read_examples(given / "stain", given / "hole", size=(32, 32))
    tuning = tuning_params(config, examples)
    key, indices, pictures = (
        run_keys(config)[1],
        np.arange(4, dtype=np.int32),
        open_pictures(config),
    )
    make = jax.jit(make_tuning_samples)

    def varied(pictures):
        """Each picture in the eight ways to mirror and turn it."""
        for square in (pictures, pictures.swapaxes(1, 2)):
            for rows in (1, -1):
                for columns in (1, -1):
                    yield from square[:, ::rows, ::columns]

    def found(picture, among):
        return next((i for i, other in enumerate(among) if np.array_equal(picture, other)), None)

    accepted = list(varied(examples.accepted))
    defects, masks = list(varied(examples.defects)), list(varied(examples.masks))
    counts = {"accepted": 0, "defect": 0, "normal": 0}
    which = set()
    for step in range(40):
        which_samples = Draw(key, np.int32(step), indices)
        chosen = read_pictures(pictures, which_samples)
        samples = make(
            which_samples, chosen, tuning_pictures(examples), anomaly_params(config), tuning
        )
        for augmented, mask, normal in zip(
            np.rint(np.asarray(samples.augmented) * 255), samples.mask, chosen.normal, strict=True
        ):
            mask = np.asarray(mask)[..., 0]
            if (i := found(augmented, defects)) is not None:
                np.testing.assert_array_equal(mask, masks[i])
                counts["defect"] += 1
                which.add(i)
            else:
                assert not mask.any()
                is_accepted = found(augmented, accepted) is not None
                counts["accepted" if is_accepted else "normal"] += 1
                assert is_accepted or np.array_equal(augmented, normal)
    # Of 160: within three standard deviations.
    assert 24 <= counts["accepted"] <= 56
    assert 61 <= counts["defect"] <= 99
    assert len(which) > 40


def test_mistakes_are_refused(tuned, given, tmp_path, capsys):
    base, out, before, _ = tuned

    def refused(*arguments):
        assert main(["finetune", f"--workdir={base}", *arguments]) == 1
        (line,) = capsys.readouterr().err.strip().splitlines()
        return line

    fresh, accept = f"--out-workdir={tmp_path / 'new'}", f"--accept={given / 'stain'}"
    assert "nothing to learn from; give --accept=DIR" in refused(fresh)
    assert "is the run that is tuned" in refused(f"--out-workdir={base}", accept)
    assert "was tuned from something else (defects" in refused(
        f"--out-workdir={out}", accept, "--config.finetune.steps=3"
    )
    assert "together they must be below 1" in refused(
        fresh, accept, "--config.finetune.accepted_share=0.8"
    )
    assert "--config.seed cannot be changed here" in refused(fresh, accept, "--config.seed=1")
    assert "did you mean finetune.steps" in refused(fresh, accept, "--config.finetune.step=1")
    assert not (tmp_path / "new").exists()
    assert _digests(base) == before

    config, _ = load_run(base)
    config.model.variant = "reconstruction_ssim"
    with pytest.raises(UserError, match="finetune can be changed"):
        finetune(base, tmp_path / "new", accept=given / "stain", config=config)
