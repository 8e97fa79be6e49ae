"""Networks of the authors' and of anomalib's files compute here what they compute there."""

import json
import shutil
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from draem_jax.cli import main
from draem_jax.config import from_json
from draem_jax.errors import UserError
from draem_jax.networks import forward
from draem_jax.pytorch.exporting import export_torch
from draem_jax.pytorch.importing import ImportedFrom, Source, import_torch
from draem_jax.pytorch.networks import check_authors_networks
from draem_jax.pytorch.writing import ArrayToWrite, write_state_dict
from draem_jax.scores import anomaly_map
from draem_jax.training.checkpoints import open_checkpoints
from draem_jax.training.loop import train
from draem_jax.training.state import create_network, create_state
from draem_jax.training.workdir import load_run
from tests.pytorch.files import with_pickle, wrapped
from tests.pytorch.test_reading import ANOMALIB, NEW, NEW_SEG, OLD_SEG, arrays


def outputs(workdir, images):
    """Reconstruction and map of RGB pictures, as a detector of that directory makes them."""
    config, state = load_run(workdir, networks_only=True)
    network = create_network(config)
    output = jax.jit(lambda variables, x: forward(network, variables, x))(state.variables, images)
    return np.asarray(output.reconstruction), np.asarray(anomaly_map(output.logits))


def nhwc(pictures, *, bgr):
    pictures = np.moveaxis(pictures, 1, -1)
    return pictures[..., ::-1] if bgr else pictures


@pytest.fixture(scope="module")
def imported(tmp_path_factory, tiny_config):
    workdir = tmp_path_factory.mktemp("imported") / "run"
    import_torch(Source.authors(NEW, NEW_SEG), workdir, tiny_config())
    return workdir


def test_the_authors_networks_give_their_maps(imported, golden):
    theirs = golden("authors_tiny_maps")
    images = nhwc(theirs["images_bgr_uint8"], bgr=True).astype(np.float32) / 255
    reconstruction, maps = outputs(imported, images)
    np.testing.assert_allclose(maps, theirs["anomaly_map"], rtol=0, atol=1e-4)
    np.testing.assert_allclose(
        reconstruction, nhwc(theirs["reconstruction"], bgr=True), rtol=0, atol=1e-4
    )
    # The order of the colours is no matter of rounding.
    other = outputs(imported, images[..., ::-1])[1]
    assert np.abs(other - theirs["anomaly_map"]).max() > 0.5


@pytest.mark.parametrize(("seg", "channels"), [(NEW_SEG, "bgr"), (OLD_SEG, "rgb")])
def test_what_was_imported_comes_out_bit_for_bit(seg, channels, tmp_path, tiny_config):
    source = Source.authors(NEW, seg, channels=channels)
    config = import_torch(source, tmp_path / "run", tiny_config())
    assert (config.model.reconstructive_width, config.model.discriminative_width) == (2, 1)
    written = export_torch(tmp_path / "run", tmp_path / "out", name="n", channels=channels)
    assert written == [tmp_path / "out" / "n.pckl", tmp_path / "out" / "n_seg.pckl"]
    for before, after in zip((NEW, seg), map(arrays, written), strict=True):
        given = arrays(before)
        assert list(after) == list(given)
        for name, array in given.items():
            assert (after[name].dtype, after[name].shape) == (array.dtype, array.shape)
            assert after[name].tobytes() == array.tobytes()
        assert any(n > 1000 for name, n in given.items() if name.endswith("num_batches_tracked"))
    kept = ImportedFrom.load(tmp_path / "run")
    assert kept.files["discriminative"] == str(seg)
    assert kept.order.bgr == (channels == "bgr")


def test_what_pytorch_loads(imported, tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch is no dependency")
    for path, before in zip(export_torch(imported, tmp_path), (NEW, NEW_SEG), strict=True):
        ours, theirs = torch.load(path, weights_only=True), torch.load(before, weights_only=True)
        assert list(ours) == list(theirs)
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_anomalib_gives_its_maps(tmp_path, tiny_config, golden):
    import_torch(Source.anomalib(ANOMALIB), tmp_path / "run", tiny_config())
    theirs = golden("anomalib_tiny_maps")
    images = nhwc(theirs["images_rgb_uint8"], bgr=False).astype(np.float32) / 255
    reconstruction, maps = outputs(tmp_path / "run", images)
    np.testing.assert_allclose(maps, theirs["anomaly_map"], rtol=0, atol=1e-4)
    np.testing.assert_allclose(
        reconstruction, nhwc(theirs["reconstruction"], bgr=False), rtol=0, atol=1e-4
    )


def test_the_same_networks_under_the_names_of_anomalib(tmp_path, tiny_config, golden):
    """The authors' golden networks, as anomalib would have them had it learned the same."""
    named = {}
    for name, array in golden("networks_weights").items():
        network, _, entry = name.partition(".")
        if name == "discriminative.encoder_segment.block1.0.weight":
            array = np.concatenate([array[:, 3:], array[:, :3]], axis=1)
        if "num_batches" not in entry:
            named[f"model.{network}_subnetwork.{entry}"] = array
    named["post_processor.image_threshold"] = np.float32(0.5).reshape(())
    state, checkpoint = tmp_path / "state.pt", tmp_path / "lightning.ckpt"
    write_state_dict(state, map(ArrayToWrite._make, named.items()), name="archive")
    foreign = b"canomalib.callbacks\nTimer\n)\x81}X\x01\x00\x00\x00aNsb"
    with_pickle(state, checkpoint, lambda good: wrapped(good, before=foreign))
    with pytest.raises(UserError, match=r"refused: it names 'anomalib\.callbacks\.Timer'"):
        arrays(checkpoint)
    for path in (state, checkpoint):
        import_torch(Source.anomalib(path), tmp_path / path.stem, tiny_config())
    one, other = (load_run(tmp_path / p.stem, networks_only=True)[1] for p in (state, checkpoint))
    jax.tree.map(np.testing.assert_array_equal, one, other)
    step = golden("networks_step")
    # What the golden networks call their channels is no matter here: they are taken as they come.
    _, maps = outputs(tmp_path / state.stem, nhwc(step["augmented"], bgr=False))
    np.testing.assert_allclose(maps, step["eval_anomaly_map"], rtol=0, atol=1e-4)


def _changed(path, out, change):
    named = arrays(path)
    change(named)
    write_state_dict(out, map(ArrayToWrite._make, named.items()), name="a")
    return out


def _cut(named):
    named["encoder.block2.0.weight"] = named["encoder.block2.0.weight"][:, :1]


def _spoil(named):
    bias = named["encoder.block1.0.bias"].copy()
    bias[0] = np.nan
    named["encoder.block1.0.bias"] = bias


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda named: named.pop("decoder.db4.1.running_var"), r"no decoder\.db4\.1\.running_var"),
        (lambda named: named.update(other=named["encoder.block1.0.bias"]), "has 'other'"),
        (_cut, r"encoder\.block2\.0\.weight has the shape \(4, 1, 3, 3\), where \(4, 2, 3, 3\)"),
        (_spoil, "not finite"),
        (
            lambda n: n.update(
                {"encoder.block1.0.bias": n["encoder.block1.1.num_batches_tracked"]}
            ),
            "has the shape",
        ),
    ],
)
def test_other_networks_are_refused(change, message, tmp_path, tiny_config):
    path = _changed(NEW, tmp_path / "a.pckl", change)
    with pytest.raises(UserError, match=message):
        import_torch(Source.authors(path, NEW_SEG), tmp_path / "run", tiny_config())
    assert not (tmp_path / "run").exists()


def test_prefixes_of_several_devices(tmp_path, tiny_config):
    def prefix(named):
        for name in list(named):
            named[f"module.{name}"] = named.pop(name)

    pair = [_changed(p, tmp_path / p.name, prefix) for p in (NEW, NEW_SEG)]
    import_torch(Source.authors(*pair), tmp_path / "run", tiny_config())
    out = export_torch(tmp_path / "run", tmp_path / "out")
    assert [list(arrays(path)) for path in out] == [list(arrays(path)) for path in (NEW, NEW_SEG)]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("variant", "discriminative"),
        ("difference", True),
        ("reconstructive_skips", 1),
        ("reconstructive_input", "high"),
        ("sspcab", True),
        ("deep_supervision", 1),
    ],
)
def test_what_the_authors_networks_have_not(field, value, tiny_config):
    config = tiny_config()
    config.model[field] = value
    with pytest.raises(UserError, match=rf"have no config\.model\.{field}={value}"):
        check_authors_networks(config)


def test_a_damaged_note_is_told(imported, tmp_path):
    text = (imported / "imported.json").read_text()
    assert set(json.loads(text)) == {"kind", "files", "sha256", "order", "batches"}
    (tmp_path / "imported.json").write_text(text[:100])
    with pytest.raises(UserError, match=r"imported\.json is damaged"):
        ImportedFrom.load(tmp_path)
    assert ImportedFrom.load(tmp_path / "none") is None


def test_the_command_line(tmp_path, capsys):
    pair = [f"--reconstructive={NEW}", f"--discriminative={NEW_SEG}"]
    run = [f"--workdir={tmp_path / 'run'}"]
    assert main(["import-torch", *pair, *run, "--config.data.image_size=64"]) == 0
    assert "widths 2 and 1" in capsys.readouterr().out
    assert tuple(from_json(tmp_path / "run" / "config.json").data.image_size) == (64,)
    export = ["export-torch", *run, f"--out={tmp_path}"]
    assert main(export) == 0
    assert arrays(tmp_path / "run.pckl").keys() == arrays(NEW).keys()
    capsys.readouterr()
    other = [f"--workdir={tmp_path / 'b'}"]
    swapped = [f"--reconstructive={NEW_SEG}", f"--discriminative={NEW}"]
    foreign = [f"--reconstructive={ANOMALIB}", pair[1]]
    for arguments, message in [
        (["import-torch", *pair, *run], "holds a run already; choose another --workdir"),
        (["import-torch", pair[0], *other], "or --anomalib=FILE"),
        (["import-torch", *pair, "--anomalib=a", *run], "--anomalib goes without"),
        (["import-torch", *pair], "--workdir=DIRECTORY is missing"),
        (["import-torch", *swapped, *other], "is not of the authors' reconstructive network"),
        (["import-torch", *foreign, *other], "refused: it names '"),
        (["import-torch", f"--anomalib={NEW}", *other], "holds no DRÆM of anomalib"),
        (["import-torch", *pair, *other, "--config.model.sspcab"], "config.model.sspcab=True"),
        (export, "is there already; choose another --out or --name"),
        ([*export, "--name=a/b"], "is a path"),
        (["export-torch", *run], "--out=DIRECTORY is missing"),
    ]:
        assert main(arguments) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line
    assert not (tmp_path / "b").exists()


def test_a_run_that_begins_with_them_gets_a_new_optimizer(imported, tmp_path):
    config, networks = load_run(imported, networks_only=True)
    config.optimizer.average = 0.9
    with open_checkpoints(imported) as checkpoints:
        assert (checkpoints.steps(), checkpoints.best_step()) == ([0], None)
        state = checkpoints.restore_newest(config)
    expected = jax.eval_shape(lambda: create_state(config))
    assert jax.tree.structure(state) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, state.variables, networks.variables)
    jax.tree.map(np.testing.assert_array_equal, state.params, networks.params)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(state.opt_state))


def test_damaged_imports_are_told(imported, tmp_path):
    run = shutil.copytree(imported, tmp_path / "run")
    (largest,) = sorted((run / "checkpoints").rglob("d/*"), key=lambda p: p.stat().st_size)[-1:]
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)
    config = load_run(imported, networks_only=True)[0]
    with open_checkpoints(run) as checkpoints, pytest.raises(UserError, match="can be read"):
        checkpoints.restore_newest(config)


@pytest.mark.long
def test_training_goes_on_from_imported_networks(tmp_path, tiny_config, capsys):
    config = tiny_config(**{"train.steps": 0, "train.epochs": 1, "train.batch_size": 40})
    config.optimizer.learning_rate = 1e-5
    kept = import_torch(Source.authors(NEW, NEW_SEG), tmp_path, config)
    with pytest.raises(UserError, match=r"model\.discriminative_width: 1 → 4"):
        train(tiny_config(**{"train.epochs": 1}), tmp_path, quiet=True)
    before = load_run(tmp_path, networks_only=True)[1]
    state = train(kept, tmp_path)
    assert "from the imported networks" in capsys.readouterr().err
    # Each step of Adam moves a parameter by hardly more than the rate.
    steps = int(state.step)
    assert steps == from_json(tmp_path / "config.json").train.steps > 1
    moved = jax.tree.map(lambda a, b: float(jnp.abs(a - b).max()), before.params, state.params)
    assert 0 < max(jax.tree.leaves(moved)) <= 2 * steps * 1e-5
    assert int(train(kept, tmp_path, quiet=True).step) == steps
    export_torch(tmp_path, tmp_path / "out", name="n")
    name = "decoder.db4.4.num_batches_tracked"
    assert arrays(tmp_path / "out" / "n.pckl")[name] == arrays(NEW)[name] + steps


def test_equal_weights_are_equal_files(tmp_path):
    named = [ArrayToWrite(name, array) for name, array in arrays(NEW).items()]
    for name in "ab":
        write_state_dict(tmp_path / name, named, name="n")
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    with zipfile.ZipFile(tmp_path / "a") as archive:
        assert archive.testzip() is None
