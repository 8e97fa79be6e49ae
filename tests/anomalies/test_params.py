import dataclasses
from typing import get_args

import jax
import pytest

from draem_jax.anomalies import AnomalyParams, Blend, Contrast, MaskPlace, MaskShape, ShapeWeights
from draem_jax.anomalies.blending import BLENDS
from draem_jax.anomalies.contrast import CONTRASTS
from draem_jax.anomalies.masks import MASKS, PLACES
from draem_jax.errors import UserError


def test_presets():
    code, paper = AnomalyParams.code(), AnomalyParams.paper()
    assert code == AnomalyParams()
    assert code.opacity == (0.2, 1.0)  # β ∈ U(0, 0.8) weighs the image in the code …
    assert paper.opacity == (0.1, 1.0)  # … and β ∈ U(0.1, 1) the texture in the paper
    assert code.threshold == (0.5, 0.5)
    assert paper.threshold[0] < paper.threshold[1]
    assert paper.normal_rotation == (-45.0, 45.0)


def test_all_numbers_are_leaves():
    leaves = jax.tree.leaves(AnomalyParams())
    texture, shapes, subtle = 1 + 10 * 2 + 1 + 10 + 2 * 2, 15 * 2 + 1 + 6, 5 * 2 + 4
    assert len(leaves) == 1 + 4 * 2 + 1 + 2 + 1 + 2 + texture + shapes + subtle
    assert all(type(leaf) is float for leaf in leaves)


def test_from_dict_replaces_what_is_named():
    params = AnomalyParams.from_dict(
        {"opacity": [0, 1], "texture": {"gamma": (1, 1), "weights": {"invert": 0}}},
        base=AnomalyParams.paper(),
    )
    expected = dataclasses.replace(
        AnomalyParams.paper(),
        opacity=(0.0, 1.0),
        texture=dataclasses.replace(
            AnomalyParams().texture,
            gamma=(1.0, 1.0),
            weights=dataclasses.replace(AnomalyParams().texture.weights, invert=0.0),
        ),
    )
    assert params == expected
    assert all(type(leaf) is float for leaf in jax.tree.leaves(params))


def test_words_are_part_of_the_form():
    default, scar = AnomalyParams(), AnomalyParams.from_dict({"mask": "scar"})
    assert scar.mask == "scar"
    assert jax.tree.leaves(scar) == jax.tree.leaves(default)
    assert jax.tree.structure(scar) != jax.tree.structure(default)
    assert AnomalyParams.from_dict(dataclasses.asdict(scar)) == scar


def test_every_word_is_drawn_by_something():
    assert get_args(MaskShape) == tuple(MASKS)
    assert get_args(MaskPlace) == tuple(PLACES)
    assert get_args(Blend) == tuple(BLENDS)
    assert get_args(Contrast) == tuple(CONTRASTS)
    assert {field.name for field in dataclasses.fields(ShapeWeights)} < set(MASKS)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"opacityy": (0, 1)},
            r"'opacityy'.*known are mask, place, blend, contrast, untouched_share, opacity",
        ),
        ({"texture": {"weights": {"blur": 1}}}, r"'texture\.weights\.blur'.*weights\.invert"),
        ({"opacity": 0.5}, "opacity must be a pair"),
        ({"opacity": (0.5, 2)}, "opacity must lie from 0 to 1"),
        ({"opacity": (0.9, 0.1)}, "lowest value first"),
        ({"untouched_share": "half"}, "untouched_share must be a number"),
        ({"perlin_exponent": (0, 2.5)}, "whole"),
        ({"perlin_exponent": (0, 9)}, "0 to 6"),
        ({"texture": 3}, "texture must be a mapping"),
        ({"mask": "star"}, "mask must be one of perlin, rectangles, .*, not 'star'"),
        ({"blend": 0.5}, "blend must be one of alpha, poisson, not 0.5"),
        ({"texture": {"operations": 11}}, "texture.operations must lie from 0 to 10"),
        ({"texture": {"operations": 2.5}}, "texture.operations must be whole"),
        ({"texture": {"block_exponent": (1, 5)}}, "texture.block_exponent must lie from 0 to 4"),
        (
            {"mask": "mixed", "shapes": {"weights": {"perlin": 0, "crack": 0, "spots": 0}}},
            r"mask=mixed needs one of shapes\.weights\.\* above 0",
        ),
        ({"subtle": {"label_threshold": 3}}, "acts with contrast=subtle alone"),
        ({"contrast": "subtle", "subtle": {"opacity": (0, 1)}}, "opacity must lie from 1e-06 to 1"),
        ({"shapes": {"spot_area": (0, 0.1)}}, "spot_area must lie from 1e-06 to 1"),
        ({"shapes": {"rectangles": (0, 2)}}, "shapes.rectangles must lie from 1 to 8"),
        ({"shapes": {"scar_width": (0.2, 0.1)}}, "shapes.scar_width must give its lowest"),
    ],
)
def test_from_dict_says_what_is_wrong(values, message):
    with pytest.raises(UserError, match=message):
        AnomalyParams.from_dict(values)
