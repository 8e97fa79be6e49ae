"""The verbs about data, as a newcomer meets them."""

import numpy as np
import pytest

from draem_jax.cli import main
from draem_jax.config import default_config, to_json
from draem_jax.data.pictures import read_mask, read_picture
from draem_jax.data.surfaces import draw_sample
from draem_jax.detector import Draem
from draem_jax.errors import UserError
from tests.data import fixtures


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Runs a command line in an empty folder; returns status, output and errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DRAEM_JAX_DATA", str(tmp_path / "data"))

    def call(*arguments):
        status = main(["data", *arguments])
        out, err = capsys.readouterr()
        return status, out, err

    return call


def table(out):
    lines = out.split("\n\n")[0].splitlines()
    return [line.split() for line in lines]


@pytest.mark.parametrize("verb", ["prepare", "list", "check", "export"])
def test_help(run, verb):
    status, out, _ = run(verb, "--help")
    assert status == 0
    assert out.startswith(f"usage: draem-jax data {verb}")
    assert f"draem-jax data {verb}" in out.split("\n\n", 1)[1]
    assert ("NAME" in out.splitlines()[0]) == (verb in ("prepare", "check"))


def test_prepare_list_and_check(run, tmp_path):
    root = fixtures.make_mvtec_ad(tmp_path / "root")
    fixtures.make_mvtec_ad(root, "cable", train=3, good=0, types={"bent_wire": 12})
    archive = fixtures.pack(root, tmp_path / "mvtec.tar.xz")
    status, out, err = run("prepare", "mvtec_ad", "--root", str(archive))
    assert status == 0
    assert table(out) == [
        line.split()
        for line in (
            "category train good defective no mask skipped published types",
            "bottle 4 2 3 0 0 209/20/63 broken_large 2, contamination 1",
            "cable 3 0 12 0 0 224/58/92 bent_wire 12",
        )
    ]
    assert f"prepared in {tmp_path / 'data' / 'mvtec_ad'} from {archive}" in out
    told = "warning: bottle: 4 to train, 2 good and 3 defective to test were found, 209"
    assert told in err
    assert "warning: not in" in err
    assert "carpet" in err
    status, out, err = run("list")
    assert (status, err) == (0, "")
    assert "visa        candle, capsules" in out
    assert "\nmvtec_ad  cable       3     0         12  " in out
    status, out, _ = run("check", "mvtec_ad", f"--root={root}", "--category=bottle")
    assert status == 0
    assert out.startswith(f"bottle: 4 to train, 5 to test\n  {told.replace('bottle: ', '')}")
    assert out.endswith("\nno problems, 1 warning\n")


def test_problems(run, tmp_path):
    root = fixtures.make_mvtec_ad(tmp_path / "root")
    (root / "bottle" / "ground_truth" / "broken_large" / "000_mask.png").unlink()
    picture = root / "bottle" / "train" / "good" / "001.png"
    picture.write_text("")
    before = sorted(tmp_path.rglob("*"))
    status, out, err = run("check", "mvtec_ad", f"--root={root}")
    assert status == 1
    assert out.startswith("bottle: 3 to train, 4 to test\n")
    assert f"  {picture} is not a picture that can be read" in out
    assert "  1 x picture without mask\n  1 x unreadable picture\n" in out
    assert err == f"draem-jax: 2 problems in {root}\n"
    assert sorted(tmp_path.rglob("*")) == before
    status, out, err = run("prepare", "mvtec_ad", f"--root={root}")
    assert (status, out) == (1, "")
    assert len(err.strip().splitlines()) == 2  # one says what else is not in the root
    status, out, err = run("prepare", "mvtec_ad", f"--root={root}", "--skip-bad")
    assert status == 0
    assert table(out)[1][:6] == ["bottle", "3", "2", "2", "0", "2"]
    assert "warning: bottle: skipped: 1 x picture without mask" in err


def test_every_verb_says_what_is_odd(run, tmp_path, monkeypatch, capsys):
    for name in ("train/good/0", "train/good/1", "train/good/2", "test/good/0", "test/dent/0"):
        fixtures.write_picture(tmp_path / "root" / f"{name}.png")
    line = "warning: 1 defective picture has no mask: the whole picture counts, but no pixels do\n"
    status, out, _ = run("check", "folder", "--root=root")
    assert status == 0
    assert f"  {line}" in out

    config = default_config()
    config.data.update(name="folder", category="", root=str(tmp_path / "root"))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text(to_json(config))
    detector = Draem(config, tmp_path / "run", step=1, batch_size=1, _variables=None)

    def stop(*arguments, **options):
        raise UserError("the data have been opened")

    # The work itself is not done: what is said comes before it.
    monkeypatch.setattr("draem_jax.training.loop.train", stop)
    monkeypatch.setattr("draem_jax.training.finetune.finetune", stop)
    monkeypatch.setattr("draem_jax.detector.Draem.load", lambda *a, **o: detector)
    monkeypatch.setattr("draem_jax.evaluation.evaluate.calibrated", lambda detector: detector)
    monkeypatch.setattr("draem_jax.evaluation.evaluate.measure", stop)
    for arguments in (
        ["train", "--config=configs/folder.py", "--config.data.root=root", "--workdir=run"],
        ["finetune", "--workdir=run", "--accept=root", "--out-workdir=tuned"],
        ["evaluate", "--workdir=run"],
    ):
        assert main(arguments) == 1
        told = capsys.readouterr().err
        assert told == f"draem-jax: {line}draem-jax: the data have been opened\n", arguments[0]


def test_own_folder(run, tmp_path):
    for i in range(3):
        fixtures.write_picture(tmp_path / "my photos" / f"{i}.png")
    status, out, err = run("prepare", "folder", "--root=my photos")
    assert (status, err) == (0, "")
    assert out.splitlines()[1].split()[1:] == ["3", "0", "0", "0", "0"]
    assert out.splitlines()[1].startswith("my_photos-")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["prepare"], "NAME is missing; see `draem-jax data prepare --help`"),
        (["prepare", "cifar", "--root=."], "unknown data set 'cifar'; choose one of: surfaces"),
        (["prepare", "visa"], "visa/candle is not prepared in"),
        (["prepare", "folder"], "--root=DIR is missing"),
        (["prepare", "visa", "more"], "'more'"),
        (["prepare", "visa", "--root=nowhere"], "there is no file or folder nowhere"),
        (["prepare", "visa", "--root=.", "--category=pcb9"], "visa has no category 'pcb9'"),
        (["check", "visa"], "--root=DIR_OR_ARCHIVE is missing"),
        (["check", "surfaces", "--root=."], "surfaces is built in"),
        (["check", "folder", "--root=."], "holds no pictures"),
        (["check", "folder", "--root=.", "--smallest_defect=0"], "=0 is no size; give the pixels"),
        (["check", "folder", "--root=.", "--smallest_defect=-3"], "=-3 is no size; give the"),
        (["check", "folder", "--root=.", "--smallest_defect=inf"], "=inf is no size; give the"),
        (["check", "folder", "--root=.", "--smallest_defect=few"], "--smallest_defect=few: could"),
        (["prepair"], "did you mean data prepare?"),
    ],
)
def test_mistakes_get_one_line(run, tmp_path, arguments, message):
    status, out, err = run(*arguments)
    assert status == 1
    assert message in err + out
    assert len(err.strip().splitlines()) == 1
    assert list(tmp_path.rglob("*")) == []


def test_check_says_what_is_left_of_the_smallest_defect(run, tmp_path):
    for i in range(2):
        fixtures.write_picture(tmp_path / "large" / f"{i}.png", size=(1024, 768))
        fixtures.write_picture(tmp_path / "mixed" / f"{i}.png", size=(1024, 768))
        fixtures.write_picture(tmp_path / "strips" / f"{i}.png", size=(60, 1024))
    fixtures.write_picture(tmp_path / "mixed" / "small.png", size=(128, 256))
    for folder, defect, lines in (
        (
            "large",
            8,
            [
                "pictures: 768 x 1024 pixels (width x height)",
                "smallest defect: 8 pixels across in them; the networks should see 4 or more of "
                "them",
                "squeezed to 256 x 256: it keeps 2 pixels, too few",
                "recommended: --config.data.tile=256 --config.data.scale=0.5, where it keeps 4 "
                "pixels",
                "a picture is seen in 6 tiles that share 64 pixels or more then; evaluation "
                "takes about 6 times as long as squeezed to 256 x 256",
            ],
        ),
        (
            "mixed",
            12,
            [
                "pictures: 256 x 128 to 768 x 1024, typically 768 x 1024 pixels (width x height)",
                "smallest defect: 12 pixels across in them; the networks should see 4 or more of "
                "them",
                "squeezed to 256 x 256: it keeps 3 to 12 (typically 3) pixels, too few in some "
                "pictures",
                "recommended: --config.data.tile=256 --config.data.scale=0.34, where it keeps 4 "
                "pixels",
                "a picture is seen in 1 to 4 (typically 4) tiles that share 64 pixels or "
                "more then; evaluation takes about 4 times as long as squeezed to 256 x 256",
            ],
        ),
        (
            "strips",
            3,
            [
                "pictures: 1024 x 60 pixels (width x height)",
                "smallest defect: 3 pixels across in them; the networks should see 4, so scale 1 "
                "is the best there is, unless pictures are taken from nearer",
                "squeezed to 256 x 256: it keeps 0.75 pixels, too few",
                "recommended: --config.data.image_size=64,1024, where it keeps 3 pixels",
                "a picture is seen whole then; evaluation takes about as long as squeezed to "
                "256 x 256",
            ],
        ),
    ):
        status, out, err = run("check", "folder", f"--root={folder}", f"--smallest-defect={defect}")
        assert (status, err) == (0, "")
        told = out.splitlines()[1:-1]
        assert [line.strip() for line in told if "warning" not in line] == lines
    status, _, err = run("check", "folder", "--root=mixed", "--smallest_defect=200")
    assert status == 1
    assert "200 pixels does not fit into a picture of 256 x 128; give" in err


def test_export(run, tmp_path):
    status, out, _ = run("export", "--split=train", "--type=hole", "--count=2", "--out=holes")
    assert (status, out) == (0, "2 pictures in holes\n")
    sample = draw_sample(category="brick", split="train", defect_type="hole", index=1)
    folder = tmp_path / "holes"
    np.testing.assert_array_equal(read_picture(folder / "hole" / "001.png"), sample.image)
    mask = read_mask(folder / "ground_truth" / "hole" / "001_mask.png")
    np.testing.assert_array_equal(mask, sample.mask)
    status, out, _ = run("export", "--split=stain", "--count=1", "--out=stains")
    assert (status, out) == (0, "1 pictures in stains\n")
    for arguments, message in (
        (["--split=train", "--type=hole", "--out=x"], "--count"),
        (["--split=half", "--out=x"], "--split=half is unknown; choose one of: train, test, stain"),
        (["--split=test"], "--out=FOLDER is missing"),
    ):
        status, _, err = run("export", *arguments)
        assert status == 1
        assert message in err
