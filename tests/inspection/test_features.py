"""Features of regions against the definitions of what they measure."""

import math

import numpy as np
import pytest

from draem_jax.data.pictures import resize_plane
from draem_jax.detector import AtNetworkSize, Inspection
from draem_jax.inspection.features import CONTRAST, SHAPE, feature_names, region_features
from draem_jax.regions.find import find_regions

ROWS, COLUMNS = np.mgrid[:96, :96]


def grey(lightness: float) -> int:
    """The 8-bit grey of a CIE lightness above 8, by the definitions of L* and sRGB."""
    linear = ((lightness + 16) / 116) ** 3
    return round(255 * (1.055 * linear ** (1 / 2.4) - 0.055))


def disc(radius, row=48, column=48):
    return np.hypot(ROWS - row, COLUMNS - column) <= radius


def inspected(mask, picture=None, reconstruction=None, features=None, *, gap=0):
    """A picture of lightness 50 whose reconstruction is the same, or what is given."""
    even = np.full((96, 96, 3), grey(50), np.uint8)
    seen = AtNetworkSize(
        even if picture is None else picture,
        (even if reconstruction is None else reconstruction).astype(np.float32) / 255,
        features,
    )
    margin = np.where(mask, 1.0, -1.0)
    factor = margin.shape[0] // 96
    large = [np.asarray(a).repeat(factor, 0).repeat(factor, 1) for a in seen[:2]]
    return Inspection(
        *large,
        margin=margin,
        anomaly_map=(margin > 0).astype(float),
        score=1.0,
        p_value=None,
        is_anomalous=None,
        regions=find_regions(margin, join_gap=gap),
        at_network_size=seen,
    )


def named(found):
    (row,) = region_features(found)
    features = found.at_network_size.features
    channels = 0 if features is None else features.shape[-1]
    return dict(zip(feature_names(channels), row, strict=True))


def test_shapes_of_a_disc_a_bar_a_ring_and_pieces():
    round_one = named(inspected(disc(20)))
    assert round_one["shape_area"] == pytest.approx(math.log(math.pi * 20**2 / 96**2), abs=0.02)
    assert round_one["shape_elongation"] == pytest.approx(0, abs=0.05)
    assert round_one["shape_solidity"] > 0.95
    assert round_one["shape_compactness"] > 0.9
    bar = named(inspected((abs(ROWS - 48) < 2) & (abs(COLUMNS - 48) < 30)))
    assert bar["shape_elongation"] == pytest.approx(math.log(59 / 3), abs=0.1)
    assert bar["shape_thickness"] == pytest.approx(math.log(3 / 96), abs=0.1)
    assert bar["shape_compactness"] < 0.5
    assert bar["shape_solidity"] == pytest.approx(1, abs=0.02)
    ring = named(inspected(disc(20) & ~disc(10)))
    assert ring["shape_solidity"] == pytest.approx(0.75, abs=0.03)
    pieces = named(inspected(disc(5, 30) | disc(5, 50) | disc(5, 70), gap=30))
    assert pieces["shape_solidity"] < 0.7


def test_contrast_is_against_the_reconstruction():
    mask = disc(15)
    picture = np.full((96, 96, 3), grey(50), np.uint8)
    picture[mask] = grey(30)
    dark = named(inspected(mask, picture))
    assert dark["contrast_lightness"] == pytest.approx(-20, abs=0.5)
    assert dark["contrast_darkest"] == pytest.approx(-20, abs=0.5)
    even = ("red", "yellow", "colour", "core", "slope", "spread", "hues")
    for name in even:
        assert dark[f"contrast_{name}"] == pytest.approx(0, abs=0.3), name
    assert dark["contrast_edge"] > 1
    # A detector that reconstructs all pictures lighter than they are changes nothing.
    lighter = np.full((96, 96, 3), grey(56), np.uint8)
    assert named(inspected(mask, picture, lighter))["contrast_lightness"] == pytest.approx(
        dark["contrast_lightness"], abs=0.5
    )
    # What the reconstruction shows as well is no contrast.
    for value in [named(inspected(mask, picture, picture))[name] for name in CONTRAST]:
        assert value == pytest.approx(0, abs=0.3)
    picture[disc(8)] = grey(10)
    assert named(inspected(mask, picture))["contrast_core"] < -5
    picture[:] = grey(50)
    picture[mask] = (150, 60, 40)
    red = named(inspected(mask, picture))
    assert red["contrast_red"] > 20
    assert red["contrast_yellow"] > 20
    assert red["contrast_colour"] == pytest.approx(
        math.hypot(red["contrast_red"], red["contrast_yellow"])
    )
    assert red["contrast_hues"] == pytest.approx(0, abs=0.1)
    picture[mask & (ROWS < 48)] = (40, 150, 60)
    assert named(inspected(mask, picture))["contrast_hues"] > 2
    picture[:] = np.linspace(grey(30), grey(70), 96).astype(np.uint8)[:, None, None]
    slope = named(inspected(mask, picture))["contrast_slope"]
    assert slope == pytest.approx(math.log(1 + 40 / 95 * math.sqrt(mask.sum())), abs=0.2)
    rough = np.random.default_rng(0).integers(grey(30), grey(70), (96, 96, 1)).astype(np.uint8)
    picture[:] = grey(50)
    picture[mask] = rough.repeat(3, -1)[mask]
    grainy = named(inspected(mask, picture))
    assert min(grainy["contrast_grain"], grainy["contrast_fine_grain"]) > 1


def test_the_networks_features_are_means_over_the_region():
    planes = np.random.default_rng(0).normal(size=(24, 24, 5)).astype(np.float32)
    mask = np.zeros((96, 96), bool)
    mask[8:40, 16:24] = True
    found = named(inspected(mask, features=planes))
    small = resize_plane(mask.astype(np.float32), (24, 24))
    assert small[3:9, 4:6].min() > 0.5
    for channel in range(5):
        expected = np.average(planes[..., channel], weights=small)
        assert found[f"network_{channel}"] == pytest.approx(expected, abs=1e-5)


def test_a_photograph_with_more_pixels_has_the_same_features():
    mask = disc(18) | ((abs(ROWS - 48) < 3) & (COLUMNS > 40) & (COLUMNS < 90))
    picture = np.random.default_rng(1).integers(0, 256, (96, 96, 3)).astype(np.uint8)
    once = named(inspected(mask, picture))
    large = named(inspected(resize_plane(np.where(mask, 1.0, -1.0), (384, 384)) > 0, picture))
    for name in once:
        assert large[name] == pytest.approx(once[name], abs=0.15 if name in SHAPE else 1e-6), name


@pytest.mark.parametrize(
    "mask", [np.ones((96, 96), bool), disc(0), disc(20, 0, 0), disc(0, 95, 95)]
)
def test_every_region_has_finite_features(mask):
    assert np.isfinite(list(named(inspected(mask)).values())).all()


def test_a_picture_without_regions_has_no_rows():
    found = inspected(np.zeros((96, 96), bool), features=np.zeros((24, 24, 2), np.float32))
    assert region_features(found).shape == (0, len(SHAPE) + len(CONTRAST) + 2)
