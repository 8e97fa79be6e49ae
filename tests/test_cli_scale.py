"""What the command line says of the smallest defect can be done as it is said."""

import pytest
from absl import flags

from draem_jax.cli.recipes import define_config
from draem_jax.cli.scale import tell_advice
from draem_jax.config import check_config, fitting, tile_overlap
from draem_jax.data.scale import advise


def parsed(words):
    values = flags.FlagValues()
    values(["draem-jax", *define_config(values, ["--config=configs/quickstart.py", *words])])
    return values.config


@pytest.mark.parametrize(
    "configured",
    [
        [],
        ["--config.data.fit=letterbox"],
        ["--config.data.tile=64", "--config.data.scale=0.5", "--config.data.tile_overlap=40"],
    ],
    ids=["squeezed", "letterboxed", "in tiles"],
)
@pytest.mark.parametrize(
    ("size", "defect"),
    [((2000, 3000), 12.0), ((2000, 3000), 3.0), ((100, 1600), 9.0), ((70, 1600), 32.0)],
)
def test_the_flags_that_are_recommended_make_what_is_recommended(configured, size, defect):
    config = parsed(configured)
    advice = advise([size], defect, configured=fitting(config), overlap=tile_overlap(config))
    lines = list(tell_advice(advice))
    (line,) = [line for line in lines if line.startswith("recommended: ")]
    words = [word.rstrip(",") for word in line.split() if word.startswith("--config.")]
    changed = parsed([*configured, *words])
    check_config(changed)
    assert fitting(changed) == advice.recommended.fitting
    if fitting(changed).is_tiled:
        assert tile_overlap(changed) == advice.recommended.overlap
    # What is configured is judged as well, and once.
    assert sum(line.startswith("as configured, ") for line in lines) == 1


def test_nothing_is_said_to_be_lost_of_a_defect_that_is_seen_whole():
    lines = list(tell_advice(advise([(200, 200)], 2.0)))
    assert lines[1].endswith(
        "so scale 1 is the best there is, unless pictures are taken from nearer"
    )
    assert lines[2] == "squeezed to 256 x 256: it keeps 2.5 pixels, all of it"
