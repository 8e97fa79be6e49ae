"""Several processes predict together what one does, whatever happens to them on the way."""

import contextlib

import pytest

from draem_jax.cli import main
from draem_jax.errors import InUseError, UserError
from draem_jax.inspection.outputs import KINDS
from draem_jax.inspection.predict import PredictOptions, predict_files
from draem_jax.inspection.shares import Share, predict_share
from tests.inspection.test_predict import bright, draw, read  # noqa: F401

TABLES = ("predictions.csv", "regions.csv", "regions.json", "regions_rle.json")


@pytest.fixture
def folder(tmp_path):
    for i in range(7):
        draw(tmp_path / "in" / f"{i}.png", *[(10 * n, 5, 10 * n + 6, 9 + i) for n in range(i)])
    draw(tmp_path / "in" / "within" / "3.png", (1, 1, 9, 9))
    draw(tmp_path / "in" / "3.jpg", (1, 1, 9, 9))
    (tmp_path / "in" / "broken.png").write_bytes(b"\x89PNG no more")
    return tmp_path / "in"


def test_shares_together_are_what_one_process_writes(bright, folder, tmp_path):  # noqa: F811
    whole, out = tmp_path / "whole", tmp_path / "out"
    expected = predict_files(bright, folder, whole)
    assert expected.regions > 10
    for count in (1, 2, 3):
        for index in reversed(range(count)):
            assert not (out / "predictions.csv").exists()
            found, waits_for = predict_share(bright, folder, out, share=Share(index, count))
            assert waits_for == index
            assert found.given == 10 if not index else len(range(index, 10, count))
        assert found == expected
        for name in TABLES:
            assert (out / name).read_bytes() == (whole / name).read_bytes()
            (out / name).unlink()
        for kind in KINDS:
            pictures = {p.relative_to(out): p.read_bytes() for p in (out / kind).rglob("*.png")}
            assert pictures == {
                p.relative_to(whole): p.read_bytes() for p in (whole / kind).rglob("*.png")
            }


class KilledError(BaseException):
    pass


def looked_at(bright, folder, out, share, *, kill_after=100, **options):  # noqa: F811
    """How many pictures a process looks at until it ends, or is killed."""
    seen = []

    def progress(done, total):
        seen.append(done)
        if len(seen) == kill_after:
            raise KilledError

    with contextlib.suppress(KilledError):
        predict_share(bright, folder, out, share=share, progress=progress, **options)
    return len(seen)


def test_what_was_done_is_not_done_again(bright, folder, tmp_path):  # noqa: F811
    out, first, second = tmp_path / "out", Share(0, 2), Share(1, 2)
    assert looked_at(bright, folder, out, first, kill_after=3) == 3
    assert looked_at(bright, folder, out, second) == 5
    assert not (out / "predictions.csv").exists()
    assert looked_at(bright, folder, out, second) == 0  # and it stays done
    draw(folder / "0.png", (0, 0, 30, 30), (40, 40, 50, 50))
    assert looked_at(bright, folder, out, first) == 3  # two were left, one changed
    rows = read(out / "predictions.csv")
    assert len(rows) == 10
    assert {row["picture"]: row["regions"] for row in rows}[str(folder / "0.png")] == "2"
    assert not list((out / ".shares").glob("*.jsonl"))
    # What depends on something else gives way.
    assert looked_at(bright, folder, out, first, kill_after=3) == 3
    assert looked_at(bright, folder, out, first, options=PredictOptions(alpha=0.1)) == 5
    (folder / "6.png").unlink()
    assert looked_at(bright, folder, out, first) == 5


def test_a_share_is_one_processs(bright, folder, tmp_path):  # noqa: F811
    out = tmp_path / "out"

    def again(done, total):
        with pytest.raises(InUseError, match=r"is in use by another run.*another --out"):
            predict_share(bright, folder, out, share=Share(0, 2))

    predict_share(bright, folder, out, share=Share(0, 2), progress=again)


def test_a_damaged_picture_stops_a_strict_share(bright, folder, tmp_path):  # noqa: F811
    options = PredictOptions(strict=True)
    predict_share(bright, folder, tmp_path, share=Share(1, 2), options=options)
    with pytest.raises(UserError, match=r"broken\.png"):
        predict_share(bright, folder, tmp_path, share=Share(0, 2), options=options)
    assert not (tmp_path / "predictions.csv").exists()


@pytest.mark.tiny_programs
def test_the_command_shares(trained, folder, tmp_path, capsys):
    flags = ["predict", f"--workdir={trained}", f"--images={folder}"]
    assert main([*flags, f"--out={tmp_path / 'whole'}"]) == 3
    flags += [f"--out={tmp_path / 'out'}", "--processes=2"]
    assert main([*flags, "--process=1"]) == 0
    assert "5 pictures done; 1 of 2 processes are not" in capsys.readouterr().out
    assert main([*flags, "--process=0"]) == 3
    assert "1 of 10 pictures was left out" in capsys.readouterr().err
    for name in TABLES:
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize(
    ("flags", "what"),
    [
        (["--processes=2"], "--process is missing"),
        (["--process=1"], "--processes is missing"),
        (["--processes=2", "--process=2"], "must be less than"),
        (["--processes=2", "--process=1", "--watch"], "--watch is for one process"),
    ],
)
def test_flags_of_shares_are_checked(flags, what, tmp_path, capsys):
    images = [f"--workdir={tmp_path}", f"--images={tmp_path}", f"--out={tmp_path / 'out'}"]
    assert main(["predict", *images, *flags]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert what in line


def test_a_cluster_says_which_share(monkeypatch, tmp_path, capsys):
    for name, value in {
        "SLURM_JOB_ID": "1",
        "SLURM_PROCID": "1",
        "SLURM_LOCALID": "0",
        "SLURM_NTASKS": "2",
        "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_STEP_NODELIST": "a,b",
    }.items():
        monkeypatch.setenv(name, value)
    images = [f"--workdir={tmp_path}", f"--images={tmp_path}", f"--out={tmp_path / 'out'}"]
    assert main(["predict", *images, "--watch"]) == 1
    assert "--watch is for one process" in capsys.readouterr().err
    assert main(["predict", *images, "--watch", "--processes=1"]) == 1
    assert "--watch is for" not in capsys.readouterr().err
