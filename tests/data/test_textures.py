import socket

import numpy as np
import pytest
from PIL import Image

from draem_jax.data.textures import builtin_textures, folder_textures, texture_names
from draem_jax.errors import UserError


def test_builtin_textures_need_no_network(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("opened a socket")

    monkeypatch.setattr(socket, "socket", refuse)
    textures = builtin_textures((64, 96))
    assert textures.shape == (len(texture_names()), 64, 96, 3)
    assert 24 <= len(textures) <= 120
    np.testing.assert_array_equal(textures, builtin_textures((64, 96)))


def test_builtin_textures_vary():
    textures = builtin_textures((32, 32)).astype(float)
    flat = textures.reshape(len(textures), -1)
    distance = np.abs(flat[:, None] - flat[None]).mean(-1) + 255 * np.eye(len(flat))
    assert distance.min() > 1
    assert (textures.std((1, 2, 3)) > 4).all()


def test_builtin_textures_leave_out_the_surfaces():
    names = " ".join(texture_names())
    assert not any(name in names for name in ("brick", "grass", "gravel", "coins"))
    assert len(set(texture_names())) == len(texture_names())


def test_folder_textures(tmp_path):
    (tmp_path / "wood").mkdir()
    Image.new("L", (40, 20), 7).save(tmp_path / "wood" / "1.png")
    Image.new("RGB", (10, 30), (1, 2, 3)).save(tmp_path / "10.bmp")
    Image.new("RGBA", (10, 10), (9, 9, 9, 255)).save(tmp_path / "9.tif")
    textures = folder_textures(tmp_path, (16, 24))
    assert textures.shape == (3, 16, 24, 3)
    assert textures[:, 0, 0].tolist() == [[9, 9, 9], [1, 2, 3], [7, 7, 7]]


def test_folder_textures_errors(tmp_path):
    with pytest.raises(UserError, match="there is no file or folder"):
        folder_textures(tmp_path / "none", (8, 8))
    with pytest.raises(UserError, match="holds no pictures"):
        folder_textures(tmp_path, (8, 8))
    (tmp_path / "bad.jpg").write_text("x")
    with pytest.raises(UserError, match=r"bad\.jpg is not a picture.*remove or replace it"):
        folder_textures(tmp_path, (8, 8))
