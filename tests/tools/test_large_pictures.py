"""Large pictures are what their writer says; the memory for reading does not grow with them."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from draem_jax.data.surface_defects import DEFECTS
from draem_jax.data.windows import open_windows
from tools import benchmark_windows
from tools.make_large_tiff import write_large_tiff


def read(path):
    with open_windows(path) as opened:
        return opened.read(0, 0, *opened.size)


@pytest.mark.parametrize(("bits", "compression"), [(8, "none"), (16, "deflate")])
def test_a_large_picture_has_the_defects_that_are_listed(tmp_path, bits, compression):
    options = {"category": "brick", "bits": bits, "compression": compression}
    defects = write_large_tiff(tmp_path / "a.tif", 1700, defects=6, **options)
    write_large_tiff(tmp_path / "normal.tif", 1700, defects=0, **options)
    changed = (read(tmp_path / "a.tif") != read(tmp_path / "normal.tif")).any(-1)
    assert changed.shape == (1700, 1700)
    assert [defect.kind for defect in defects] == list(DEFECTS)
    marked = np.zeros_like(changed)
    for defect in defects:
        height, width = defect.mask.shape
        marked[defect.top : defect.top + height, defect.left : defect.left + width] |= defect.mask
    assert not (changed & ~marked).any()
    assert changed.sum() > 0.9 * marked.sum()
    table = (tmp_path / "a.csv").read_text().splitlines()
    assert len(table) == 1 + 6
    assert table[1].startswith(f"corrosion,{defects[0].top},{defects[0].left},96,96,")


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux keeps count")
def test_windows_take_a_third_of_the_picture_at_most(tmp_path):
    write_large_tiff(tmp_path / "a.tif", 4000)
    size = 3 * 4000**2
    program = [sys.executable, benchmark_windows.__file__, tmp_path / "a.tif", "--cache_mib=4"]
    done = subprocess.run(program, capture_output=True, text=True, check=True)
    peak = int(re.search(r"(\d+) MiB above", done.stdout)[1]) << 20
    assert 3 * 512**2 < peak < size / 3
