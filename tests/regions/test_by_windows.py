"""Regions found window by window: those of the whole picture."""

import dataclasses

import numpy as np
import pytest
from scipy import ndimage
from scipy.special import expit

from draem_jax.regions import by_windows
from draem_jax.regions.by_windows import find_by_windows
from draem_jax.regions.edges import above_edges
from draem_jax.regions.find import Region, find_regions
from draem_jax.regions.rule import PixelThreshold, RegionRule


@dataclasses.dataclass(frozen=True, eq=False)
class Maps:
    """Maps of a picture that is small enough to be held."""

    whole: np.ndarray
    looked_at: np.ndarray | None = None

    @property
    def size(self):
        return self.whole.shape

    def margin(self, window):
        return self.whole[window]

    def anomaly_map(self, window):
        return expit(self.whole[window])

    def inside(self, window):
        return None if self.looked_at is None else self.looked_at[window]


def margins(seed, *, blur, size=(170, 231)):
    """A random surface with some broad and some narrow things, and steps, on it."""
    rng = np.random.default_rng(seed)
    surface = ndimage.gaussian_filter(rng.normal(size=size), blur)
    broad = ndimage.gaussian_filter(rng.normal(size=size), 8)
    surface = surface / surface.std() + 2.5 * broad / broad.std() - 7
    for _ in range(6):  # frames, of which some are faint, around anything
        top, left = rng.integers(0, 150, 2)
        height, width = rng.integers(20, 80, 2)
        value = rng.uniform(-5, 3)
        for inner in (0, 3):
            frame = surface[top : top + height, left : left + width]
            frame[inner] = frame[-1 - inner] = frame[:, inner] = frame[:, -1 - inner] = value
    return surface.astype(np.float32)


@pytest.mark.parametrize("with_roi", [False, True])
@pytest.mark.parametrize(
    ("threshold", "gap", "scale"),
    [(0.0, 0, 1.0), (-1.5, 3, 1.0), (0.0, 2.5, 2.3), (-1.0, 17, 0.6), (0.0, np.inf, 1.0)],
)
def test_regions_are_those_of_the_whole(threshold, gap, scale, with_roi, monkeypatch):
    monkeypatch.setattr(by_windows, "BAND", 1500)
    rule = RegionRule(PixelThreshold(threshold, "even"), gap, 4)
    count = 0
    for seed in range(6):
        margin = margins(seed, blur=1 + seed % 3)
        inside = None
        if with_roi:
            inside = ndimage.gaussian_filter(margin, 15) < np.quantile(margin, 0.75)
        expected = find_regions(
            above_edges(margin, threshold, scale=scale, inside=inside),
            anomaly_map=expit(margin),
            join_gap=gap,
            min_area=4,
        )
        found = find_by_windows(Maps(margin, inside), rule, scale=scale)
        assert not found.too_large
        assert len(found.regions) == len(expected)
        count += len(expected)
        for one, other in zip(found.regions, expected, strict=True):
            for field in dataclasses.fields(Region):
                value = getattr(other, field.name)
                if isinstance(value, float):
                    value = pytest.approx(value, rel=1e-5)
                if field.name == "mask":
                    np.testing.assert_array_equal(one.mask, value)
                else:
                    assert getattr(one, field.name) == value, field.name
    assert count > 5


@pytest.mark.parametrize("count", [1, 2, 999, 1000])
def test_the_median_is_exact(count):
    values = np.random.default_rng(count).normal(size=count).astype(np.float32)
    values[::3] = values[0]
    parts = np.array_split(values, 3)
    assert by_windows._median(lambda: iter(parts)) == float(np.median(values))


def test_what_lies_in_something_broad_is_broad():
    margin = np.full((120, 120), -6, np.float32)
    margin[10:110, 10:110] = 2
    margin[13:107, 13:107] = -6  # a frame, of which the inner part counts as broad
    margin[52:57, 52:57] = -1  # faint, and sure at one place
    margin[54:56, 54:56] = 2
    rule = RegionRule(PixelThreshold(0.0, "even"), 3, 4)
    found = find_by_windows(Maps(margin), rule).regions
    assert [region.area for region in found] == [100**2 - 94**2, 25]
    alone = np.where(np.arange(120)[:, None] < 30, np.float32(-6), margin)  # half of the frame
    assert find_by_windows(Maps(alone), rule).regions[-1].area == 4
