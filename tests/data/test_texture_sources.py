import pickle

import numpy as np
import pytest
from PIL import Image

from draem_jax.data.fitting import Fitting
from draem_jax.data.texture_sources import (
    Joined,
    PictureArray,
    TextureSource,
    open_textures,
    parse_texture_sources,
    tell_left_out,
)
from draem_jax.errors import UserError


def test_parts_and_weights(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("photos of rust", "größe", "odd:3"):
        (tmp_path / name).mkdir()
    assert parse_texture_sources("builtin") == (TextureSource("builtin", 1.0),)
    assert parse_texture_sources("dtd:3, photos of rust,größe:0.5,odd:3,solid:2") == (
        TextureSource("dtd", 3.0),
        TextureSource("photos of rust", 1.0),
        TextureSource("größe", 0.5),
        TextureSource("odd:3", 1.0),
        TextureSource("solid", 2.0),
    )
    text = "builtin,solid,noise,self,größe,blocks,elsewhere"
    kinds = [source.kind for source in parse_texture_sources(text)]
    assert kinds == ["pictures", "solid", "noise", "self", "pictures", "blocks", "elsewhere"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("buildin", "did you mean builtin?"),
        ("photographs", "'photographs' is no folder; give a folder, or one of builtin"),
        ("", "'' is no folder"),
        ("dtd,", "'' is no folder"),
        ("dtd:many", "the weight in 'dtd:many' is no number"),
        ("dtd:0", "must be above 0"),
        ("dtd:-1", "must be above 0"),
        ("dtd:nan", "must be above 0"),
        ("dtd:inf", "must be above 0"),
    ],
)
def test_what_is_no_source(text, message):
    with pytest.raises(UserError, match=message.replace("?", r"\?")):
        parse_texture_sources(text)


def test_a_folder_is_read_when_asked_for(tmp_path):
    (tmp_path / "wood").mkdir()
    Image.new("L", (40, 20), 7).save(tmp_path / "wood" / "1.png")
    Image.new("RGB", (10, 30), (1, 2, 3)).save(tmp_path / "10.bmp")
    Image.new("RGBA", (10, 10), (9, 9, 9, 255)).save(tmp_path / "9.tif")
    (tmp_path / "bad.jpg").write_text("x")
    textures = pickle.loads(
        pickle.dumps(open_textures(TextureSource(str(tmp_path)), fitting=Fitting((16, 24))))
    )
    assert len(textures) == 4
    for index, colour in ((0, [9, 9, 9]), (1, [1, 2, 3]), (3, [7, 7, 7])):
        assert textures[index].shape == (16, 24, 3)
        assert textures[index][0, 0].tolist() == colour
    with pytest.raises(UserError, match=r"bad\.jpg is not a picture.*remove or replace it"):
        textures[2]


def test_what_is_left_out_of_folders_is_told(tmp_path):
    folder = tmp_path / "rust"
    (folder / "@eaDir").mkdir(parents=True)
    for name in ("1.png", "2.gif"):
        (folder / name).write_text("")
    assert tell_left_out(parse_texture_sources(f"builtin,{folder}:2,noise")) == [
        f"left out of the textures in {folder}: 1 folders of the system (@eaDir)",
        f"left out of the textures in {folder}: 1 files ending in .gif",
    ]


def test_a_folder_without_pictures(tmp_path):
    with pytest.raises(UserError, match="holds no pictures"):
        open_textures(TextureSource(str(tmp_path)), fitting=Fitting((8, 8)))


def test_joined_sources_stand_one_behind_the_other():
    counts = (3, 1, 2)
    arrays = [np.full((n, 2, 2, 3), i, np.uint8) for i, n in enumerate(counts)]
    joined = Joined([PictureArray(a) for a in arrays])
    assert len(joined) == 6
    assert [int(joined[i][0, 0, 0]) for i in range(6)] == [0, 0, 0, 1, 2, 2]
