import socket

import numpy as np

from draem_jax.data.builtin_textures import PHOTOGRAPHS, builtin_textures


def test_builtin_textures_need_no_network(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("opened a socket")

    monkeypatch.setattr(socket, "socket", refuse)
    textures = builtin_textures((64, 96))
    assert textures.shape[1:] == (64, 96, 3)
    assert 24 <= len(textures) <= 120
    np.testing.assert_array_equal(textures, builtin_textures((64, 96)))


def test_builtin_textures_vary():
    textures = builtin_textures((32, 32)).astype(float)
    flat = textures.reshape(len(textures), -1)
    distance = np.abs(flat[:, None] - flat[None]).mean(-1) + 255 * np.eye(len(flat))
    assert distance.min() > 1
    assert (textures.std((1, 2, 3)) > 4).all()


def test_builtin_textures_leave_out_the_surfaces():
    assert not set(PHOTOGRAPHS) & {"brick", "grass", "gravel", "coins"}
