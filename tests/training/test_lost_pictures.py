"""A whole run whose pictures vanish while they stream."""

import json
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image

from draem_jax.data.streaming import PicturePairs
from draem_jax.errors import UserError
from draem_jax.training import lost_pictures
from draem_jax.training.loop import train
from draem_jax.training.lost_pictures import LostPictures
from draem_jax.training.pictures import TrainingPictures


@pytest.mark.long
@pytest.mark.tiny_programs
def test_a_run_goes_on_without_a_texture_and_tells_how_often(tmp_path, tiny_config, caplog):
    textures = tmp_path / "textures"
    textures.mkdir()
    rng = np.random.default_rng(0)
    for i in range(2):
        noise = rng.integers(0, 256, (32, 32, 3), np.uint8)
        Image.fromarray(noise).save(textures / f"{i}.png")

    def run(name, policy):
        lost = textures / "1.png"
        kept = lost.read_bytes()
        config = tiny_config(
            **{
                "data.resident_gib": 0.0,
                "data.workers": 0,
                "data.texture_source": str(textures),
                "data.on_lost_picture": policy,
                "train.steps": 16,
                "train.checkpoint_every": 16,
                "train.sample_every": 16,
            }
        )
        try:
            # Some batches are read ahead.
            watch = lambda step: step == 1 and bool(lost.unlink())  # noqa: E731
            return train(config, tmp_path / name, quiet=True, watch=watch)
        finally:
            lost.write_bytes(kept)

    assert int(run("skips", "skip").step) == 16
    first, last = caplog.messages
    assert first.startswith(f"there is no file {textures / '1.png'}; ")
    assert last.startswith("1 picture was lost while the run streamed; ")
    lines = [json.loads(line) for line in (tmp_path / "skips" / "metrics.jsonl").open()]
    (counts,) = [line for line in lines if "lost_pictures" in line]
    assert counts["step"] == 16
    assert counts["lost_pictures"] == 1
    assert counts["samples_of_others"] > 4

    with pytest.raises(UserError, match=r"there is no file .*1\.png; check the path$"):
        run("stops", "stop")


def test_what_several_hosts_lost_is_told_together(monkeypatch):
    def batch(*lost):
        pictures = np.zeros((len(lost), 1, 1, 3), np.uint8)
        return PicturePairs(pictures, pictures, np.zeros(len(lost), int), lost=np.array(lost))

    told = []
    monkeypatch.setattr(lost_pictures, "gathered", lambda value: told.append(value) or told)
    monkeypatch.setattr(lost_pictures, "_why", lambda source, index: f"{source} {index}")
    hosts = [[batch((-1, 2), (-1, -1))], [batch((-1, 2), (0, 2)), batch((-1, -1), (-1, 0))]]
    for batches in hosts:
        lost = LostPictures(Mock(spec=TrainingPictures, normal="", textures=""))
        lost.note(batches)
        lost.gather()
    assert lost.told() == (
        "3 pictures were lost while the run streamed; 4 samples were made of others"
    )
