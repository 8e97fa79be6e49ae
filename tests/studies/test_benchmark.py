"""From a published layout to a table of results, and what becomes of a benchmark that stops."""

import csv
import json
import shutil
from functools import partial

import pytest

from draem_jax.config import default_config, to_json
from draem_jax.errors import UserError
from draem_jax.evaluation.evaluate import evaluate
from draem_jax.evaluation.published import paper_figures
from draem_jax.studies import benchmark as module
from draem_jax.studies.benchmark import Row, benchmark, results_csv, results_markdown
from draem_jax.training.loop import train
from draem_jax.training.workdir import locked
from tests.data import fixtures

# Streamed, so that one compiled program serves any number of pictures.
STREAMING = {
    "data.resident_gib": 0.0,
    "data.workers": 0,
    "train.steps_per_call": 3,
    "train.steps": 2,
    "train.checkpoint_every": 2,
    "train.sample_every": 2,
}


param = partial(pytest.param, marks=pytest.mark.long)


def make_folder(root, _):
    for i in range(6):
        fixtures.write_picture(root / f"größe {i}.png")
    return root


@pytest.mark.slow
@pytest.mark.tiny_programs
@pytest.mark.parametrize(
    ("name", "category", "make", "counts"),
    [
        ("mvtec_ad", "bottle", fixtures.make_mvtec_ad, {"good": 2, "defective": 3}),
        param("visa", "candle", fixtures.make_visa, {"good": 2, "defective": 3}),
        param("mvtec_loco", "pushpins", fixtures.make_mvtec_loco, {"good": 2, "defective": 4}),
        param("btad", "03", fixtures.make_btad, {"good": 2, "defective": 2}),
        param("dagm", "Class3", fixtures.make_dagm, {"good": 2, "defective": 2}),
        param("folder", "", make_folder, {"good": 1, "defective": 64}),
    ],
)
def test_every_layout_trains_and_evaluates(name, category, make, counts, tmp_path, tiny_config):
    root = make(tmp_path / "data set", category)
    holdout = 0.1 if name == "folder" else 0.0
    data = {"name": name, "category": category, "root": str(root), "holdout": holdout}
    config = tiny_config(**STREAMING, **{f"data.{key}": value for key, value in data.items()})
    assert train(config, tmp_path / "run", quiet=True).step == 2
    evaluate(tmp_path / "run")
    stored = json.loads((tmp_path / "run" / "evaluation" / "metrics.json").read_text())
    assert stored["test_pictures"] == sum(counts.values())
    assert stored["defective_pictures"] == counts["defective"]
    assert stored["anomalies"] == ("simulated" if name == "folder" else "real")
    assert 0 <= stored["pixel_ap"] <= 1
    page = (tmp_path / "run" / "evaluation" / "report.html").read_text()
    # On every figure, in both tables and beside every picture, or nowhere.
    assert (page.count("simulated anomalies") > 60) == (name == "folder")


def test_figures_of_the_paper():
    figures = paper_figures("mvtec_ad")
    assert len(figures) == 16
    categories = [row for name, row in figures.items() if name != "mean"]
    for metric, value in figures["mean"].items():
        assert sum(row[metric] for row in categories) / 15 == pytest.approx(value, abs=6e-4)
    assert paper_figures("visa") == {}


@pytest.fixture
def table():
    full = dict.fromkeys(module.METRICS, 0.5)
    return [
        Row("bottle", full | {"image_auroc": 0.912345}),
        Row("cable", {}, failure="a loss | is not finite"),
        Row("carpet", {}),
    ]


def test_the_table_shows_the_paper_beside_and_what_is_missing(table):
    config = default_config()
    config.data.name = "mvtec_ad"
    lines = results_markdown(config, table).splitlines()
    assert "| bottle | 91.2 | 99.2 | 50.0 | 99.1 | 50.0 | 86.5 |" in lines
    assert "| cable | – | 91.8 | – | 94.7 | – | 52.4 |" in lines  # noqa: RUF001
    # A mean over some of the categories would be taken for the mean of all.
    assert "| **mean** | – | 98.0 | – | 97.3 | – | 68.4 |" in lines  # noqa: RUF001
    assert "- cable failed: a loss | is not finite" in lines
    assert "- not run yet: carpet" in lines
    assert "builtin" in lines[2]
    rows = list(csv.DictReader(results_csv("mvtec_ad", table).splitlines()))
    assert [row["category"] for row in rows] == ["bottle", "cable", "carpet", "mean"]
    assert float(rows[0]["image_auroc"]) == 0.912345
    assert float(rows[0]["paper_image_auroc"]) == 0.992
    assert rows[1]["failure"] == "a loss | is not finite"
    assert rows[1]["image_auroc"] == rows[3]["image_auroc"] == ""


@pytest.mark.long
def test_a_benchmark_skips_what_is_done_and_goes_on_after_failures(
    tmp_path, tiny_config, trained, monkeypatch
):
    evaluate(trained)
    calls = []

    def changed(category):
        config = json.loads((trained / "config.json").read_text())
        config["data"]["category"] = category
        return config

    def train_any(config, workdir, **options):
        # Other categories take the finished run's checkpoints, as if they had been trained.
        calls.append(config.data.category)
        if config.data.category == "grass" and calls.count("grass") == 1:
            raise UserError("the loss of step 3\nis not finite")
        shutil.copytree(trained, workdir, dirs_exist_ok=True)
        shutil.rmtree(workdir / "evaluation")
        (workdir / "config.json").write_text(json.dumps(changed(config.data.category)))
        return train(config, workdir, **options)

    monkeypatch.setattr(module, "train", train_any)
    categories = ("brick", "grass")
    rows = benchmark(tiny_config(), tmp_path, categories, quiet=True)
    assert [row.failure for row in rows] == ["", "the loss of step 3 is not finite"]
    assert "grass failed" in (tmp_path / "results.md").read_text()

    rows = benchmark(tiny_config(), tmp_path, categories, quiet=True)
    assert calls == ["brick", "grass", "grass"]
    assert [row.failure for row in rows] == ["", ""]
    for row in rows:
        stored = json.loads((tmp_path / row.category / "evaluation" / "metrics.json").read_text())
        assert stored["data"] == f"surfaces: {row.category}"
        assert row.metrics == {metric: stored[metric] for metric in module.METRICS}
    with pytest.raises(UserError, match=r"seed: 0 → 1"):
        benchmark(tiny_config(seed=1), tmp_path, categories, quiet=True)
    assert calls == ["brick", "grass", "grass"]


def test_processes_share_a_benchmark(tmp_path, tiny_config, monkeypatch):
    def done(workdir, **metrics):
        (workdir / "evaluation").mkdir(parents=True, exist_ok=True)
        (workdir / "config.json").write_text(to_json(tiny_config(**{"train.steps": 3})))
        stored = {"step": 3, "protocols": {"default": dict.fromkeys(module.METRICS, 0.5)}}
        (workdir / "evaluation" / "metrics.json").write_text(json.dumps(stored))

    trained = []

    def train_while_the_other_ends(config, workdir, **options):
        trained.append(config.data.category)
        if config.data.category == "gravel":
            done(tmp_path / "grass")  # by the other process

    monkeypatch.setattr(module, "train", train_while_the_other_ends)
    monkeypatch.setattr(module, "evaluate", done)
    said = []
    with locked(tmp_path / "grass", name=".benchmark"):
        rows = benchmark(
            tiny_config(**{"train.steps": 3}),
            tmp_path,
            ("brick", "grass", "gravel"),
            say=said.append,
        )
    assert trained == ["brick", "gravel"]
    assert "grass (2 of 3): another process is at it" in said
    assert all(row.metrics["pixel_ap"] == 0.5 and not row.failure for row in rows)
    assert "not run yet" not in (tmp_path / "results.md").read_text()


def test_pictures_are_no_place_for_runs(tmp_path, tiny_config):
    make_folder(tmp_path / "bottle", "")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match="no work directory yet and holds pictures"):
        benchmark(tiny_config(**{"data.name": "surfaces"}), tmp_path, ["brick"])
    assert sorted(tmp_path.rglob("*")) == before
