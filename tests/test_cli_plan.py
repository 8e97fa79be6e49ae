"""`draem-jax plan`: for a device that is not here, and by measuring on the one that is."""

import pytest

from draem_jax.cli import main
from tests.test_cli import QUICKSTART, TINY


@pytest.fixture
def said(tmp_path, monkeypatch, capsys):
    """Runs the verb in an empty folder, which it leaves empty, and returns what it prints."""

    def run(*words):
        monkeypatch.chdir(tmp_path)
        assert main(["plan", *words]) == 0
        assert not list(tmp_path.iterdir())
        out = capsys.readouterr().out
        assert max(map(len, out.splitlines())) <= 110
        return out

    return run


@pytest.mark.long
def test_a_device_that_is_not_here(said, tmp_path, monkeypatch):
    monkeypatch.setenv("DRAEM_JAX_DATA", str(tmp_path / "data"))
    small = "--config=configs/mvtec_ad.py:bottle,small"
    out = said(small, "--device=v5e", "--devices=4", "--config.train.batch_size=32")
    assert "4 x TPU v5e with 16.0 GiB of memory" in out
    assert "209 normal pictures (as published; mvtec_ad is not prepared here)" in out
    assert "1000 steps of 32 pictures, 128 x 128, in bfloat16" in out
    assert "an estimate" in out
    (row,) = (line for line in out.splitlines() if "<- --config.train.batch_size" in line)
    assert row.split()[0] == "32"
    assert "fits: " in out


@pytest.mark.long
def test_what_does_not_fit_is_told_what_to_change(said):
    words = [*TINY, "--config.train.batch_size=200000", "--device=rtx4090", "--devices=2"]
    out = said(QUICKSTART, *words)
    assert "does not fit: " in out
    batch = int(out.split("take --config.train.batch_size=")[1].split()[0])
    fits = {int(row.split()[0]): row for row in out.splitlines() if row.endswith((" fits", " no"))}
    assert max(size for size, row in fits.items() if row.split()[3] == "fits") <= batch
    assert min(size for size, row in fits.items() if row.split()[3] == "no") > batch


@pytest.mark.long
@pytest.mark.tiny_programs
def test_the_device_at_hand_is_measured(trained, said):
    # But for the seed what the tests' tiny run is, so that both are one program.
    same = ["--config.optimizer.milestones=()", "--config.data.holdout=0.0"]
    out = said(QUICKSTART, *TINY, *same)
    assert "4 x cpu, at hand" in out
    assert "4 steps of 4 pictures, 32 x 32, in float32" in out
    assert "pictures a second" in out
    assert "with made-up pictures" in out
