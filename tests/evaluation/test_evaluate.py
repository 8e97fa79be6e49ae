"""What evaluation writes agrees with itself and with the definitions."""

import csv
import json
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest

from draem_jax.detector import Draem
from draem_jax.evaluation.evaluate import evaluate
from draem_jax.evaluation.options import EvaluationOptions
from draem_jax.files import OUTPUT_MARKER
from tests.evaluation.one_of_two import measure_share


def test_what_is_written(trained):
    metrics = evaluate(trained, options=EvaluationOptions(save_maps=True)).values
    folder = trained / "evaluation"
    written = json.loads((folder / "metrics.json").read_text())
    assert {name: written[name] for name in metrics} == metrics
    assert set(written["defect_types"]) == {
        "corrosion", "crack", "foreign_object", "hole", "paint", "scratch",
    }  # fmt: skip
    assert written["step"] == Draem.load(trained).step
    assert (written["data_set"], written["category"]) == ("surfaces", "brick")
    with (folder / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == written["test_pictures"]
    assert all((folder / "maps" / f"{row['name']}.png").is_file() for row in rows)
    assert (folder / OUTPUT_MARKER).is_file()  # so that the maps are never read as pictures
    good = [float(row["score"]) for row in rows if row["defect_type"] == "good"]
    defective = [float(row["score"]) for row in rows if row["is_defective"] == "1"]
    assert len(defective) == written["defective_pictures"]
    pairs = np.subtract.outer(defective, good)
    auroc = np.mean((pairs > 0) + 0.5 * (pairs == 0))
    assert metrics["image_auroc"] == pytest.approx(auroc, abs=1e-3)
    page = (folder / "report.html").read_text()
    assert "demonstration" in page
    assert page.count("data:image/") > 100
    assert set(written["protocols"]) == {"default", "paper"}
    assert written["protocols"]["default"]["pixel_ap"] == metrics["pixel_ap"]
    assert written["decisions"] is None  # nothing was held out


@pytest.mark.long
def test_two_processes_measure_what_one_does(tmp_path):
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = str(probe.getsockname()[1])
    module = "tests.evaluation.one_of_two"
    processes = [
        subprocess.Popen([sys.executable, "-m", module, port, which, tmp_path / which])
        for which in "01"
    ]
    alone = json.loads(json.dumps(measure_share()))
    assert [process.wait(timeout=300) for process in processes] == [0, 0]
    one, other = (json.loads((tmp_path / which).read_text()) for which in "01")
    assert sorted(one.pop("read") + other.pop("read")) == alone.pop("read") == list(range(25))
    assert one == other
    assert jax.tree.structure(one) == jax.tree.structure(alone)
    for shared, expected in zip(jax.tree.leaves(one), jax.tree.leaves(alone), strict=True):
        assert shared == (expected if isinstance(expected, str) else pytest.approx(expected))
