"""What is read by windows is what is read whole, in bounded memory, whatever the file."""

import io
import random
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from draem_jax.data import resizing, tiff, windows
from draem_jax.data.pictures import read_decoded, read_highest, read_picture
from draem_jax.data.windows import count_pixels, open_windows, read_overview
from draem_jax.errors import UserError
from tools.fuzz.pictures import tiled


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """So that small pictures have many of them."""
    monkeypatch.setattr(tiff, "_BLOCK_SIDE", 16)


@pytest.fixture
def decoded(monkeypatch):
    """The sizes of what is decoded."""
    sizes = []

    def decode(*args, **options):
        found = windows_decode(*args, **options)
        sizes.append(found.picture.shape[:2])
        return found

    windows_decode = windows.decode
    monkeypatch.setattr(windows, "decode", decode)
    return sizes


def surface(height, width, channels, *, seed=0, bits=8):
    """Slopes with noise; the last of an even number of channels is an opacity, with holes."""
    rng = np.random.default_rng(seed)
    slopes = np.add.outer(np.linspace(0, 0.5, height), np.linspace(0, 0.4, width))[..., None]
    values = (slopes + rng.uniform(0, 0.1, (height, width, channels))) * (2**bits - 1)
    if channels % 2 == 0:
        values[: height // 2, width // 3 :, -1] = 0
    return values.astype(np.uint8 if bits == 8 else np.uint16)


sides, seeds = st.integers(1, 70), st.integers(0, 99)


@st.composite
def pillows_tiffs(draw):
    """A TIFF in strips, of many modes and compressions."""
    mode = draw(st.sampled_from(["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB"]))
    compressions = ["packbits", "tiff_lzw", "tiff_adobe_deflate"]
    if mode == "1":
        compressions += ["group3", "group4", "tiff_ccitt"]
    if mode in ("L", "RGB", "YCbCr"):
        compressions += ["jpeg"]
    if mode != "YCbCr":  # this and turned ones are read wrongly by some releases of Pillow
        compressions += ["raw"]
    compression = draw(st.sampled_from(compressions))
    height, width = draw(sides), draw(sides)
    with_opacity = Image.fromarray(surface(height, width, 4, seed=draw(seeds)))
    if mode in ("LA", "PA"):
        with_opacity = with_opacity.convert("LA")
    picture = (with_opacity if mode.endswith("A") else with_opacity.convert("RGB")).convert(mode)
    buffer = io.BytesIO()
    picture.save(
        buffer,
        format="tiff",
        compression=compression,
        strip_size=draw(st.integers(1, 4)) * 8 * 3 * width,  # of JPEG, 8 rows are the least
        tiffinfo={274: 1 if mode == "YCbCr" else draw(st.integers(1, 8))},
    )
    return buffer.getvalue()


@st.composite
def tifffiles_tiffs(draw):
    """A TIFF of any layout."""
    grey = [("minisblack", 1), ("minisblack", 2), ("miniswhite", 1), ("palette", 1)]
    photometric, channels = draw(st.sampled_from([*grey, ("rgb", 3), ("rgb", 4), ("rgb", 4)]))
    bits = 8 if photometric == "palette" else draw(st.sampled_from([8, 16]))
    pixels = surface(draw(sides), draw(sides), channels, seed=draw(seeds), bits=bits)
    options = {}
    if photometric == "palette":
        options["colormap"] = np.random.default_rng(0).integers(0, 65536, (3, 256), np.uint16)
    if channels % 2 == 0:
        options["extrasamples"] = [draw(st.sampled_from(["unassalpha", "assocalpha"]))]
        pixels[..., -1] *= draw(st.integers(0, 1))
    if channels == 1:
        pixels = pixels[..., 0]
    else:
        options["planarconfig"] = draw(st.sampled_from(["contig", "separate"]))
    if options.get("planarconfig") == "separate":
        pixels = np.moveaxis(pixels, -1, 0)
    if draw(st.booleans()):
        options["tile"] = draw(st.sampled_from([(16, 16), (16, 32), (48, 16), (64, 64)]))
    else:
        options["rowsperstrip"] = draw(st.integers(1, 80))
    if draw(st.booleans()):
        options |= {"compression": "zlib", "predictor": draw(st.booleans())}
    if draw(st.booleans()):
        options["bigtiff"] = True  # Pillow reads those of one byte order
    else:
        options["byteorder"] = draw(st.sampled_from("<>"))
    buffer = io.BytesIO()
    extratags = [(274, 3, 1, draw(st.integers(0, 9)), True)]  # 1 to 8 are defined
    tifffile.imwrite(
        buffer, pixels, photometric=photometric, metadata=None, extratags=extratags, **options
    )
    return buffer.getvalue()


def outcome(function):
    try:
        return function()
    except UserError as error:
        return str(error)


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    content=pillows_tiffs() | tifffiles_tiffs(),
    full_scale=st.sampled_from([None, 20000]),
    corner=st.tuples(st.integers(0, 75), st.integers(0, 75)),
    size=st.tuples(st.integers(0, 75), st.integers(0, 75)),
)
def test_windows_are_cut_from_the_picture(tmp_path, content, full_scale, corner, size):
    path = tmp_path / "a.tif"
    path.write_bytes(content)
    whole = outcome(lambda: read_picture(path, full_scale=full_scale))

    def read_twice():
        with open_windows(path, full_scale=full_scale, cache_bytes=0) as opened:
            return opened.read(0, 0, *opened.size), opened.read(*corner, *size)

    found = outcome(read_twice)
    if isinstance(whole, str):
        assert found == whole
    else:
        (top, left), (height, width) = corner, size
        np.testing.assert_array_equal(found[0], whole)
        np.testing.assert_array_equal(found[1], whole[top : top + height, left : left + width])


def test_reads_tiles_of_jpeg(tmp_path):
    """As slide scanners write them: colours at half the resolution, tables of their own."""
    pixels = surface(100, 90, 3)
    tiles = []
    for top, left in np.ndindex(4, 3):
        tile = pixels[top * 32 : top * 32 + 32, left * 32 : left * 32 + 32]
        tile = np.pad(tile, [(0, 32 - tile.shape[0]), (0, 32 - tile.shape[1]), (0, 0)], "edge")
        buffer = io.BytesIO()
        Image.fromarray(tile).save(buffer, format="jpeg", quality=70, subsampling="4:2:0")
        tiles.append(buffer.getvalue())
    tifffile.imwrite(
        tmp_path / "a.tif",
        iter(tiles),
        shape=pixels.shape,
        dtype=np.uint8,
        tile=(32, 32),
        bigtiff=True,
        photometric="ycbcr",
        compression="zlib",  # tifffile writes no JPEG by itself
    )
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+") as file:
        file.pages[0].tags["Compression"].overwrite(7)
        file.pages[0].tags["YCbCrSubSampling"].overwrite((2, 2))
    with open_windows(tmp_path / "a.tif", cache_bytes=0) as opened:
        np.testing.assert_array_equal(opened.read(0, 0, 100, 90), read_picture(tmp_path / "a.tif"))
        np.testing.assert_allclose(opened.read(0, 0, 100, 90).astype(int), pixels, atol=40)


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "webp"])
def test_other_formats_are_decoded_once(tmp_path, suffix, decoded):
    path = tmp_path / f"a.{suffix}"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(surface(40, 60, 3)).save(path, exif=exif)
    whole = read_picture(path)
    with open_windows(path, cache_bytes=0) as opened:
        assert opened.size == whole.shape[:2]
        for top, left in np.ndindex(4, 4):
            found = opened.read(top * 15, left * 10, 20, 20)
            np.testing.assert_array_equal(
                found, whole[top * 15 : top * 15 + 20, left * 10 : left * 10 + 20]
            )
    assert decoded == [whole.shape[:2]]


@pytest.mark.parametrize(
    "options",
    [
        {"tile": (16, 16)},
        {"tile": (32, 16), "compression": "zlib", "bigtiff": True},
        {"rowsperstrip": 3, "compression": "zlib"},
        {"rowsperstrip": 3},
        {},  # one strip for all rows, cut where it suits
    ],
)
def test_each_block_is_decoded_once_when_windows_come_row_by_row(tmp_path, options, decoded):
    pixels = surface(200, 100, 3)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", **options)
    rows_of_blocks = 112 * (16 + 16 + 32)  # pixels that a row of windows may lie in, 32 high
    with open_windows(tmp_path / "a.tif", cache_bytes=3 * rows_of_blocks) as opened:
        for top in range(0, 200, 16):
            for left in range(0, 100, 16):
                window = opened.read(top, left, 32, 32)
                np.testing.assert_array_equal(
                    window, pixels[top : top + 32, left : left + 32], err_msg=f"{top}, {left}"
                )
    assert len(decoded) > 5
    assert sum(height * width for height, width in decoded) == 200 * 100


def test_windows_end_where_the_picture_does(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", surface(20, 30, 3), photometric="rgb", tile=(16, 16))
    opened = open_windows(tmp_path / "a.tif")
    assert opened.read(10, 20, 100, 100).shape == (10, 10, 3)
    assert opened.read(20, 0, 5, 5).shape == (0, 5, 3)
    assert opened.read(99, 99, 5, 5).shape == (0, 0, 3)
    with pytest.raises(ValueError, match="no window"):
        opened.read(-1, 0, 5, 5)
    opened.close()
    with pytest.raises(ValueError, match="closed"):
        opened.read(0, 0, 5, 5)


def test_threads_read_alike(tmp_path):
    pixels = surface(300, 200, 3)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", tile=(16, 16))
    corners = [(top, left) for top in range(0, 300, 20) for left in range(0, 200, 20)]
    with (
        open_windows(tmp_path / "a.tif", cache_bytes=20_000) as opened,
        ThreadPoolExecutor() as pool,
    ):
        found = list(pool.map(lambda corner: opened.read(*corner, 40, 40), corners))
    for (top, left), window in zip(corners, found, strict=True):
        np.testing.assert_array_equal(window, pixels[top : top + 40, left : left + 40])


def test_previews_and_masks_of_pages_are_passed_over(tmp_path):
    pixels = surface(60, 70, 3)
    with tifffile.TiffWriter(tmp_path / "a.tif", bigtiff=True) as file:
        for page, kind in ((pixels[::2, ::2], 1), (pixels[..., 0] > 99, 4), (pixels, 0)):
            file.write(page, subfiletype=kind, tile=(16, 16), metadata=None)
    with open_windows(tmp_path / "a.tif") as opened:
        np.testing.assert_array_equal(opened.read(0, 0, 60, 70), pixels)


def test_what_is_found_in_the_whole_picture(tmp_path, decoded):
    path, options = tmp_path / "a.tif", {"photometric": "rgb", "tile": (16, 16)}
    deep = surface(60, 70, 3, bits=16)
    tifffile.imwrite(path, deep, **options)
    with open_windows(path) as opened:
        opened.read(0, 0, 40, 70)
        assert opened.highest() == deep.max() == read_highest(path)
        opened.read(0, 0, 40, 70)
        assert not opened.opacity_ignored()
    assert len(decoded) == 4 * 5
    with_opacity = surface(60, 70, 4)
    for share in (1, 0):
        with_opacity[..., 3] *= share
        tifffile.imwrite(path, with_opacity, **options, extrasamples=["unassalpha"])
        with open_windows(path) as opened:
            assert opened.highest() is None
            assert opened.opacity_ignored() == read_decoded(path).opacity_ignored == (not share)


@pytest.mark.parametrize("size", [(120, 200), (1, 300), (97, 101), (50, 64)])
def test_an_overview_is_the_picture_brought_down(tmp_path, monkeypatch, size):
    monkeypatch.setattr(resizing, "_BAND_BYTES", 5000)
    pixels = surface(*size, 3)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", tile=(16, 16))
    with open_windows(tmp_path / "a.tif") as opened:
        overview = read_overview(opened, largest_side=64)
    assert max(overview.shape) == 64
    # Pillow's own way to bring down, of the whole picture: by squares first, then smoothly.
    expected = Image.fromarray(pixels)
    shape = overview.shape[1::-1]
    expected = expected.resize(shape, Image.Resampling.BILINEAR, reducing_gap=1.0)
    if size != (1, 300):  # where Pillow takes oblongs
        np.testing.assert_array_equal(overview, expected)


def test_what_cannot_be_read_is_told_when_it_is_opened(tmp_path):
    floats = surface(40, 40, 3).astype(np.float32)
    tifffile.imwrite(tmp_path / "a.tif", floats, photometric="rgb", tile=(16, 16), bigtiff=True)
    with pytest.raises(UserError, match=r"a\.tif: it is a TIFF of 3 floating-point channels"):
        open_windows(tmp_path / "a.tif")


def test_only_what_must_be_decoded_whole_can_be_too_large(tmp_path, monkeypatch):
    pixels = surface(100, 90, 3)
    tifffile.imwrite(tmp_path / "tiles.tif", pixels, photometric="rgb", tile=(16, 16))
    tifffile.imwrite(tmp_path / "rows.tif", pixels, photometric="rgb")
    tifffile.imwrite(
        tmp_path / "strip.tif", pixels, photometric="rgb", rowsperstrip=100, compression="zlib"
    )
    Image.fromarray(pixels).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    for name in ("tiles.tif", "rows.tif"):
        with pytest.raises(UserError, match="cut it into tiles first"):
            read_picture(tmp_path / name)
        with open_windows(tmp_path / name) as opened:
            np.testing.assert_array_equal(opened.read(0, 0, 100, 90), pixels)
    for name in ("strip.tif", "a.png"):
        with pytest.raises(UserError, match=f"{name} has too many pixels .* a TIFF .* in tiles"):
            open_windows(tmp_path / name)


LAYOUTS = [
    {"tile": (16, 16)},
    {"tile": (16, 16), "compression": "zlib", "bigtiff": True},
    {"rowsperstrip": 4, "compression": "zlib"},
    {"rowsperstrip": 90},
    {"tile": (32, 32), "planarconfig": "separate"},
]


def write_layout(path, pixels, options):
    if "planarconfig" in options:
        pixels = np.moveaxis(pixels, -1, 0)
    tifffile.imwrite(path, pixels, photometric="rgb", metadata=None, **options)


def read_all(path):
    with open_windows(path, cache_bytes=0) as opened:
        rows = range(0, opened.size[0], 40)
        return np.concatenate([opened.read(top, 0, 40, opened.size[1]) for top in rows])


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of TIFF files
@pytest.mark.parametrize("options", LAYOUTS)
def test_damaged_files_give_one_line(tmp_path, options):
    """Cut at any place, or with bytes changed where the tags are."""
    path = tmp_path / "a.tif"
    write_layout(path, surface(90, 80, 3), options)
    content = path.read_bytes()
    for length in [0, 3, 8, 20, len(content) // 2, len(content) - 1]:
        path.write_bytes(content[:length])
        with pytest.raises(UserError, match=r"a\.tif[^\n]*$"):
            read_all(path)
    rng, told = random.Random(0), 0
    for _ in range(60):
        changed = bytearray(content)
        for _ in range(rng.randint(1, 3)):
            changed[rng.randrange(250)] = rng.choice([0, 1, 8, 16, 255, rng.randrange(256)])
        path.write_bytes(changed)
        found = outcome(lambda: read_all(path))
        if isinstance(found, str):
            told += 1
            assert "\n" not in found
    assert told > 10


LIES = [
    {"ImageWidth": 10**9, "ImageLength": 10**9},
    {"ImageLength": 2**32 - 1},
    {"ImageWidth": 10**9, "RowsPerStrip": 2**32 - 1},
    {"TileWidth": 2**30, "TileLength": 2**30},
    {"TileOffsets": 2**62, "StripOffsets": 2**62},
    {"TileByteCounts": 2**43, "StripByteCounts": 2**43},
    {"SamplesPerPixel": 65535},
    {"ImageLength": 2**32 - 1, "RowsPerStrip": 2**32 - 1, "BitsPerSample": 0},
    {"ImageLength": 2**32 - 1, "RowsPerStrip": 2**32 - 1, "StripOffsets": 2**62 - 1},
]


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of TIFF files
@pytest.mark.parametrize("options", LAYOUTS)
@pytest.mark.parametrize("lie", LIES, ids=lambda lie: " ".join(lie))
def test_files_that_lie_take_no_memory(tmp_path, options, lie):
    pixels = surface(90, 80, 3)
    path = tmp_path / "a.tif"
    write_layout(path, pixels, options | {"bigtiff": True})
    with tifffile.TiffFile(path, mode="r+") as file:
        tags = file.pages[0].tags
        for name, value in lie.items():
            if name in tags:
                count = tags[name].count
                dtype = "Q" if value > 2**32 else None
                tags[name].overwrite([value] * count if count > 1 else value, dtype=dtype)
    tracemalloc.start()
    found = outcome(lambda: read_all(path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3_000_000
    if isinstance(found, str):
        assert "\n" not in found
    else:  # of a layout without this tag, or that is not needed to read it
        np.testing.assert_array_equal(found, pixels)


def test_more_pixels_than_anyone_can_look_at(tmp_path):
    path = tmp_path / "vast.tif"
    path.write_bytes(tiled("<", side=1 << 30, tile=1 << 30))  # 2 KB, which say 10^18 pixels
    with pytest.raises(UserError, match="too many pixels"):
        open_windows(path)
    with pytest.raises(UserError, match="too many pixels"):
        count_pixels(path)
