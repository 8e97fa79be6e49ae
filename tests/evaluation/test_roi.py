"""What lies outside of the region of interest raises nothing and changes no figure."""

import csv
import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy.special import expit
from sklearn.metrics import average_precision_score, roc_auc_score

from draem_jax.cli import main
from draem_jax.data.dataset import DataSet
from draem_jax.data.loading import LabelledPicture
from draem_jax.data.pictures import resize_mask
from draem_jax.data.roi import Roi
from draem_jax.detector import BatchOutput, Draem
from draem_jax.errors import UserError
from draem_jax.evaluation.calibration import calibrated
from draem_jax.evaluation.evaluate import evaluate, measure, open_test_pictures
from draem_jax.evaluation.options import EvaluationOptions
from draem_jax.evaluation.stream import MetricOptions
from draem_jax.evaluation.truth import LEFT_OUT, encode_mask
from draem_jax.evaluation.within import within_roi
from draem_jax.inspection.predict import predict_files
from draem_jax.scores import image_score
from draem_jax.training.loop import train

SIZE = (32, 32)


class Bright(Draem):
    """Takes what is bright for anomalous."""

    def run_batch(self, pictures, planes=None, *, with_features=False):
        padding = ((0, self.batch_size - len(pictures)), (0, 0), (0, 0))
        levels = pictures if pictures.dtype == np.uint8 else pictures * 255
        margin = np.pad(levels.mean(-1) / 20 - 5, padding).astype(np.float32)
        maps = jnp.asarray(expit(margin))
        inside = None if planes is None else jnp.asarray(np.pad(planes, padding))
        score = image_score(maps, inside, window=5)
        return BatchOutput(jnp.asarray(margin), maps, score, jnp.zeros((*maps.shape, 3)))


@dataclasses.dataclass
class InMemory:
    """Test pictures as they are given."""

    pictures: list

    def __len__(self):
        return len(self.pictures)

    def __getitem__(self, index):
        return self.pictures[index]

    @property
    def names(self):
        return tuple(picture.name for picture in self.pictures)

    @property
    def normal(self):
        return tuple(picture.defect_type == "good" for picture in self.pictures)


@pytest.fixture
def bright(tiny_config, tmp_path):
    return Bright(tiny_config(), tmp_path, step=0, batch_size=4, _variables=None)


def drawn(*, loud=None, seed=0):
    """Pictures that are looked at in part, with defects anywhere; `loud` is what is outside."""
    rng, pictures = np.random.default_rng(seed), []
    for i in range(12):
        kind = "good" if i % 3 == 0 else "hole"
        plane = np.zeros((48, 48), bool)
        plane[8:40, 6 : 30 + i] = True
        small = resize_mask(plane, SIZE)
        image = rng.integers(0, 120, (*SIZE, 3), np.uint8)
        mask = np.zeros((48, 48), bool)
        if kind != "good":
            mask[20:30, 10 + i : 36 + i] = True
            image[14:20, 9 + i // 2 : 25 + i // 2] += 60
        if loud is not None:
            image[~small] = loud
            mask[~plane] = kind != "good"
        pictures.append(LabelledPicture(image, mask, True, kind, f"{kind}/{i}", plane))
    return InMemory(pictures)


@pytest.mark.parametrize("original_size", [False, True])
def test_metrics_are_those_of_the_pixels_inside(bright, original_size):
    options = MetricOptions(replicates=0, exact=True)
    found = measure(bright, drawn(), options=options, original_size=original_size)
    shares = [picture.plane.mean() for picture in drawn().pictures]
    assert found["default"].looked_at == pytest.approx(np.mean(shares))
    for loud in (0, 255):
        other = measure(bright, drawn(loud=loud), options=options, original_size=original_size)
        if original_size:  # where bilinear interpolation mixes what is beside a border
            name = "image_auroc"
            assert other["default"].overall.values[name] == found["default"].overall.values[name]
            continue
        for protocol in found:
            assert other[protocol].overall.values == found[protocol].overall.values
            assert other[protocol].pictures == found[protocol].pictures
    if original_size:
        return
    labels, values = [], []
    for picture in drawn().pictures:
        small = bright.small_planes([picture.plane, picture.mask])
        labels.append(small[1][small[0]])
        values.append(picture.image.mean(-1)[small[0]])
    labels, values = np.concatenate(labels), np.concatenate(values)
    metrics = found["default"].overall.values
    assert metrics["pixel_auroc"] == pytest.approx(roc_auc_score(labels, values), abs=1e-6)
    assert metrics["pixel_ap"] == pytest.approx(average_precision_score(labels, values), abs=1e-6)


def test_a_defect_that_straddles_counts_inside_only():
    mask, inside = np.zeros((8, 8), bool), np.zeros((8, 8), bool)
    mask[2:4, 1:7], inside[:, :3] = True, True
    truth = encode_mask(mask, inside)
    assert (truth[~inside] == LEFT_OUT).all()
    np.testing.assert_array_equal(truth[inside], np.where(mask, 1 / 4, 0)[inside])


def test_regions_maps_and_scores_are_of_what_is_inside(bright, tmp_path):
    picture = np.zeros((64, 96, 3), np.uint8)
    plane = np.zeros((64, 96), bool)
    plane[:, :40] = True
    picture[10:20, 60:80] = 255  # outside
    looking = dataclasses.replace(bright, roi=Roi(str(tmp_path / "where.png")))
    Image.fromarray(plane.astype(np.uint8) * 255).save(tmp_path / "where.png")
    quiet = looking.inspect_picture(picture)
    assert not quiet.regions
    assert quiet.score == pytest.approx(looking.inspect_picture(np.zeros_like(picture)).score)
    np.testing.assert_array_equal(quiet.inside, plane)
    assert not quiet.anomaly_map[~plane].any()
    assert bright.inspect_picture(picture).regions
    picture[30:50, 20:60] = 255  # half of it inside
    (region,) = looking.inspect_picture(picture).regions
    assert not region.full_mask(plane.shape)[~plane].any()
    assert region.area == pytest.approx(20 * 20, rel=0.2)
    given = bright.inspect_picture(picture, plane=plane)
    assert given.regions[0].area == region.area
    maps, scores, _ = looking.predict(picture[None])
    assert not maps[0][~plane].any()
    assert scores[0] == pytest.approx(given.score)

    folder = tmp_path / "photos"
    folder.mkdir()
    Image.fromarray(picture).save(folder / "a.png")
    Image.fromarray(picture[:32]).save(folder / "small.png")
    summary = predict_files(looking, folder, tmp_path / "out")
    assert (summary.pictures, summary.regions, len(summary.errors)) == (1, 1, 1)
    assert "where.png has 96 x 64 pixels, but the picture" in summary.errors[0]
    drawn_over = np.asarray(Image.open(tmp_path / "out" / "overlays" / "a.png"))[:64, :96]
    assert drawn_over[12:18, 64:76].max() < 128  # white, but dim


def _write(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Pictures in photos, and where.png that marks their left half.

    Of three holes one lies inside, one outside, one across.
    """
    folder, rng = tmp_path_factory.mktemp("roi"), np.random.default_rng(0)
    for i in range(12):
        _write(folder / f"photos/train/good/{i}.png", rng.integers(90, 110, (48, 48, 3), np.uint8))
    for i in range(4):
        _write(folder / f"photos/test/good/{i}.png", rng.integers(90, 110, (48, 48, 3), np.uint8))
    for name, left in (("inside", 6), ("outside", 30), ("across", 18)):
        image, mask = rng.integers(90, 110, (48, 48, 3), np.uint8), np.zeros((48, 48), np.uint8)
        image[10:20, left : left + 12], mask[10:20, left : left + 12] = 255, 255
        _write(folder / f"photos/test/hole/{name}.png", image)
        _write(folder / f"photos/ground_truth/hole/{name}.png", mask)
    where = np.zeros((48, 48), np.uint8)
    where[:, :24] = 255
    _write(folder / "where.png", where)
    return folder


def test_a_defect_that_lies_outside_is_none(folder):
    roi, lines = Roi(str(folder / "where.png")), []
    data = DataSet("folder", "", root=folder / "photos")
    test = within_roi(data.test_pictures(size=SIZE, roi=roi), warn=lines.append)
    assert dict(zip(test.names, test.normal, strict=True)) == {
        **{f"good/{i}": True for i in range(4)},
        "hole/across": False,
        "hole/inside": False,
        "hole/outside": True,
    }
    assert [test[i].defect_type for i in range(7)] == [*["good"] * 4, "hole", "hole", "good"]
    (line,) = lines
    assert line.startswith("1 defective test picture (hole/outside) counts as normal, since")
    plain = data.test_pictures(size=SIZE)
    assert within_roi(plain, warn=lines.append) is plain


@pytest.fixture(scope="module")
def run(folder, tiny_config):
    """The config of a run that looks there without the border, and the folder that it is in."""
    config = tiny_config(
        **{
            "data.name": "folder",
            "data.category": "",
            "data.root": str(folder / "photos"),
            "data.roi": str(folder / "where.png"),
            "data.ignore_border": 4,
            "data.holdout": 0.5,
            "train.steps": 2,
        }
    )
    train(config, folder / "run", quiet=True)
    return config, folder


@pytest.mark.long
def test_a_run_looks_where_it_was_trained_to_look(run, capsys):
    _, folder = run
    lines = []
    evaluate(folder / "run", warn=lines.append, options=EvaluationOptions(save_maps=True))
    (line,) = [line for line in lines if "region" in line]
    assert line.startswith("1 defective test picture (hole/outside) counts as normal, since")
    written = json.loads((folder / "run/evaluation/metrics.json").read_text())
    assert written["region_of_interest"].startswith(str(folder / "where.png"))
    assert "4 pixels along the border left out" in written["region_of_interest"]
    assert written["share_looked_at"] == pytest.approx(40 * 20 / 48**2, abs=1e-4)
    assert written["defective_pictures"] == 2
    with (folder / "run/evaluation/scores.csv").open() as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    assert [rows[f"hole/{n}"]["is_defective"] for n in ("inside", "outside", "across")] == [
        *("1", "0", "1")
    ]
    anomaly_map = np.asarray(Image.open(folder / "run/evaluation/maps/hole/outside.png"))
    assert not anomaly_map[:, 24:].any()
    assert not anomaly_map[:4].any()
    assert anomaly_map[4:44, 4:24].any()

    # Each region has its own thresholds, and finds them again.
    own = Draem.load(folder / "run")
    assert own.thresholds is not None
    everywhere = Draem.load(folder / "run", roi="", ignore_border=0)
    assert everywhere.thresholds is None
    assert calibrated(everywhere, keep=False).thresholds != own.thresholds
    arguments = [
        "predict", f"--workdir={folder / 'run'}", f"--images={folder / 'photos/test'}",
        f"--out={folder / 'out'}", "--roi=", "--ignore_border=0", "--cpu_devices=4",
    ]  # fmt: skip
    assert main(arguments) == 0
    assert "thresholds for this region are its own" in capsys.readouterr().out
    kept = {path.name for path in (folder / "run/thresholds").iterdir()}
    assert kept == {"step_0000002.json", own.thresholds_path.name}
    assert np.asarray(Image.open(folder / "out/maps/hole/outside.png"))[:, 24:].any()
    # The object alone, found on the device.
    on_object = Draem.load(folder / "run", roi="foreground")
    test, _ = open_test_pictures(on_object)
    assert measure(on_object, test, options=MetricOptions(replicates=0))["default"].looked_at > 0


@pytest.mark.long
def test_a_changed_mask_is_noticed(run):
    config, folder = run
    before = (folder / "where.png").read_bytes()
    _write(folder / "where.png", np.full((48, 48), 255, np.uint8))
    try:
        with pytest.raises(UserError, match=r"the masks of config.data.roi mark has changed"):
            train(config, folder / "run", quiet=True)
        detector = Draem.load(folder / "run")
        assert "marks has changed since" in detector.roi_warning()
        assert detector.thresholds is None  # those that are kept are of another region
    finally:
        (folder / "where.png").write_bytes(before)
    assert Draem.load(folder / "run").roi_warning() is None
    assert train(config, folder / "run", quiet=True).step == 2
