"""Which value is white in pictures with more than 8 bits a channel."""

from dataclasses import replace

import numpy as np
import pytest
import tifffile
from PIL import Image

from draem_jax.config import check_config, default_config, from_json, to_json
from draem_jax.data.dataset import DataSet
from draem_jax.data.depth import find_full_scale
from draem_jax.data.fitting import Fitting
from draem_jax.data.pictures import read_picture
from draem_jax.data.texture_sources import TextureSource, open_textures
from draem_jax.errors import UserError
from tests.data.test_pictures import write_deep_png

SIZE = (12, 20)


def expected(values, full_scale):
    """By definition: a share of white, in 8 bits."""
    values = np.broadcast_to(values.reshape(*SIZE, -1), (*SIZE, 3)).astype(float)
    return np.rint(255 * np.clip(values / full_scale, 0, 1)).astype(np.uint8)


def draw(seed, highest, *channels, dtype=np.uint16):
    values = np.random.default_rng(seed).integers(0, highest + 1, (*SIZE, *channels)).astype(dtype)
    values.flat[0] = highest
    return values


def write(path, values):
    if values.ndim == 3 and path.suffix == ".png":
        write_deep_png(path, values)
    elif values.ndim == 3 or values.dtype != np.uint16:
        tifffile.imwrite(path, values, photometric="rgb" if values.ndim == 3 else "minisblack")
    else:
        Image.fromarray(values).save(path)


@pytest.mark.parametrize("bits", range(8, 33))
def test_the_fewest_bits_that_hold_all(bits):
    for highest in (2**bits - 1, 2 ** (bits - 1)):
        full_scale = find_full_scale("auto", highest=highest)
        even = bits + bits % 2
        assert full_scale == 2**even - 1
        assert full_scale >= highest


def test_what_is_asked_for():
    assert find_full_scale("auto", highest=None) is None
    assert find_full_scale("full", highest=4000) is None
    assert find_full_scale(11, highest=4000) == find_full_scale("11", highest=1) == 2047
    assert find_full_scale("full", highest=1, full_scale=4095) == 4095
    for depth in ("7", "33", 0, "12.5", "deep", "", "-12"):
        with pytest.raises(UserError, match="must be auto, full or a number of bits from 8 to 32"):
            find_full_scale(depth, highest=1)


def test_the_field_of_the_config(tmp_path):
    config = default_config()
    assert config.data.depth == "auto"
    config.data.depth = "12"
    check_config(config)
    (tmp_path / "config.json").write_text(to_json(config))
    assert from_json(tmp_path / "config.json").data.depth == "12"
    config.data.depth = "6"
    with pytest.raises(UserError, match=r"config\.data\.depth must be"):
        check_config(config)


@pytest.mark.parametrize("full_scale", [255, 1023, 4095, 65535])
@pytest.mark.parametrize(
    ("name", "channels", "dtype"),
    [
        ("grey.png", (), np.uint16),
        ("grey.tif", (), np.uint16),
        ("colour.png", (3,), np.uint16),
        ("colour.tif", (3,), np.uint16),
        ("wide.tif", (), np.uint32),
        ("signed.tif", (), np.int32),
    ],
)
def test_reads_by_the_range(tmp_path, name, channels, dtype, full_scale):
    values = draw(0, 5000, *channels, dtype=dtype)
    write(tmp_path / name, values)
    picture = read_picture(tmp_path / name, full_scale=full_scale)
    np.testing.assert_array_equal(picture, expected(values, full_scale))


def test_8_bits_have_no_other_range(tmp_path):
    Image.fromarray(draw(0, 255, 3, dtype=np.uint8)).save(tmp_path / "a.png")
    unscaled = read_picture(tmp_path / "a.png")
    np.testing.assert_array_equal(read_picture(tmp_path / "a.png", full_scale=99), unscaled)


def test_where_0_is_white(tmp_path):
    values = draw(0, 4095)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="miniswhite")
    picture = read_picture(tmp_path / "a.tif", full_scale=4095)
    np.testing.assert_array_equal(picture, 255 - expected(values, 4095))


def test_32_bits_need_a_range(tmp_path):
    values = draw(0, 2**31 + 5, dtype=np.uint32)
    tifffile.imwrite(tmp_path / "a.tif", values)
    with pytest.raises(UserError, match=r"a\.tif: its pixels have 32 bits .* config\.data\.depth"):
        read_picture(tmp_path / "a.tif")
    picture = read_picture(tmp_path / "a.tif", full_scale=2**32 - 1)
    np.testing.assert_array_equal(picture, expected(values, 2**32 - 1))
    tifffile.imwrite(tmp_path / "a.tif", values.astype(np.int32))
    with pytest.raises(UserError, match=r"a\.tif: some of its pixels are negative"):
        read_picture(tmp_path / "a.tif", full_scale=4095)


@pytest.mark.parametrize(
    ("dtype", "channels", "kind"),
    [
        (np.float64, (), "1 floating-point channel of 64 bits"),
        (np.float16, (), "1 floating-point channel of 16 bits"),
        (np.uint64, (), "1 channel of 64 bits"),
        (np.uint32, (3,), "3 channels of 32 bits"),
    ],
)
def test_kinds_that_cannot_be_read_are_named(tmp_path, dtype, channels, kind):
    photometric = "rgb" if channels else "minisblack"
    values = draw(0, 900, *channels, dtype=dtype)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric=photometric)
    with pytest.raises(UserError, match=rf"a\.tif: it is a TIFF of {kind}, which cannot be read"):
        read_picture(tmp_path / "a.tif")


@pytest.fixture
def root(tmp_path):
    """12-bit pictures, the brightest among those to test on, and one of 8 bits."""
    folder = tmp_path / "root"
    for part in ("train/good", "test/good"):
        (folder / part).mkdir(parents=True)
    for i in range(3):
        write(folder / "train" / "good" / f"{i}.tif", draw(i, 1000))
    write(folder / "test" / "good" / "4.png", draw(4, 3999, 3))
    Image.fromarray(draw(5, 255, 3, dtype=np.uint8)).save(folder / "test" / "good" / "5.png")
    return folder


def test_all_of_a_data_set_have_one_range(tmp_path, root):
    data = DataSet("folder", "", root=root, data_dir=tmp_path / "data")
    train, test = data.training_pictures(size=SIZE), data.test_pictures(size=SIZE)
    assert train.full_scale == test.pictures.full_scale == 4095
    for i in range(3):
        np.testing.assert_array_equal(train[i], expected(draw(i, 1000), 4095))
    np.testing.assert_array_equal(test[0].image, expected(draw(4, 3999, 3), 4095))
    np.testing.assert_array_equal(test[1].image, draw(5, 255, 3, dtype=np.uint8))
    assert [line for line in train.warnings if "12 bits are taken for the range" in line]
    # Read alone, with the range that was kept, a picture is the same.
    alone = read_picture(root / "train" / "good" / "0.tif", full_scale=train.full_scale)
    np.testing.assert_array_equal(alone, train[0])


def test_ranges_are_not_taken_for_each_other(tmp_path, root):
    data = DataSet("folder", "", root=root, data_dir=tmp_path / "data")
    found = {
        depth: replace(data, depth=depth).training_pictures(size=SIZE)
        for depth in ("auto", "full", "14", 10)
    }
    assert {depth: s.full_scale for depth, s in found.items()} == {
        "auto": 4095, "full": None, "14": 16383, 10: 1023,
    }  # fmt: skip
    for depth, source in found.items():
        np.testing.assert_array_equal(
            source[1], expected(draw(1, 1000), source.full_scale or 65535), err_msg=str(depth)
        )
        again = replace(data, depth=depth).training_pictures(size=SIZE)
        assert again.directory == source.directory
    cut = [line for line in found[10].warnings if "cut off" in line]
    assert "values up to 3999, but 1023 is taken for white" in cut[0]
    # A range by its value is that of the depth, and needs no copy of its own.
    for full_scale, same in ((4095, "auto"), (1023, 10)):
        source = replace(data, full_scale=full_scale).training_pictures(size=SIZE)
        assert source.directory == found[same].directory
    # The last state is known by its ranges even when the folder is gone.
    root.rename(tmp_path / "elsewhere")
    for depth, source in found.items():
        again = replace(data, depth=depth).training_pictures(size=SIZE)
        assert again.directory == source.directory


def test_sets_of_8_bits_know_no_range(tmp_path):
    for i in range(2):
        (tmp_path / "root").mkdir(exist_ok=True)
        Image.fromarray(draw(i, 255, 3, dtype=np.uint8)).save(tmp_path / "root" / f"{i}.png")
    data = DataSet("folder", "", root=tmp_path / "root", data_dir=tmp_path / "data")
    source = data.training_pictures(size=SIZE)
    assert source.full_scale is None
    assert source.warnings == ()
    for wanted in ({"depth": 12}, {"depth": "full"}, {"full_scale": 1023}):
        same = replace(data, **wanted).training_pictures(size=SIZE)
        assert same.directory == source.directory


def test_textures_have_a_range_of_their_own(tmp_path):
    write(tmp_path / "1.png", draw(1, 900))
    write(tmp_path / "2.tif", draw(2, 500))
    (tmp_path / "3.png").write_text("no picture")
    textures = open_textures(TextureSource(str(tmp_path)), fitting=Fitting(SIZE))
    np.testing.assert_array_equal(textures[0], expected(draw(1, 900), 1023))
    np.testing.assert_array_equal(textures[1], expected(draw(2, 500), 1023))
