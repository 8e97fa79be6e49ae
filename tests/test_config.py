"""The fields of the config: all of them explained, in one place, where a newcomer looks."""

import re

import pytest

from draem_jax.cli import main
from draem_jax.config import check_config, default_config, flat
from draem_jax.errors import UserError
from draem_jax.fields import GROUPS


def test_help_shows_every_field_once_with_its_default_and_what_it_means(capsys):
    assert main(["train", "--help"]) == 0
    listed = capsys.readouterr().out.partition("fields and their defaults")[2]
    config, seen = dict(flat(default_config())), set()
    for block in listed.split("\n\n")[1:]:
        heading, *lines = block.splitlines()
        group = re.search(r"--config\.(.*)FIELD=VALUE ", heading)[1]
        for name, default, text in re.findall(r"^    (\w+)=(\S*)(.*)", "\n".join(lines), re.M):
            field = f"{group}{name}"
            value = config[field] if isinstance(config[field], tuple) else (config[field],)
            shown = default.split(",")
            assert shown == [f"{v:g}" if isinstance(v, float) else str(v) for v in value]
            # What operations and shapes are is told by their names, and by the heading.
            assert text.strip() or group.endswith(".weights.")
            assert field not in seen
            seen.add(field)
    assert seen == config.keys()


def test_parameters_are_explained_by_their_own_docstrings():
    shapes = GROUPS["anomalies.shapes"]
    assert shapes.title.startswith("The numbers of mask shapes")
    assert shapes.fields["scar_rotation"].text == "degrees from the horizontal, clockwise"
    # An explanation of several lines, up to where its first part ends.
    border = shapes.fields["foreground_border"].text
    assert border.endswith("at least this share of its frame is background")
    assert GROUPS["anomalies"].fields["blend"].text == "alpha, poisson"


@pytest.mark.parametrize(
    ("fields", "line"),
    [
        ({"tile": (100,)}, r"config\.data\.tile: .* 100 x 100 is not divisible by 32"),
        ({"tile": (64, 96), "tile_overlap": 64}, "tile_overlap=64 is not smaller than the tile"),
        ({"tile": (64,), "scale": 0.0}, r"config\.data\.scale must be above 0"),
        ({"scale": 0.5}, r"are of tiles alone; choose config\.data\.tile"),
        ({"tile": (64,), "fit": "letterbox"}, "fit=letterbox is of whole pictures"),
        ({"fit": "stretch"}, r"config\.data\.fit must be one of squeeze, letterbox"),
    ],
)
def test_ways_to_bring_pictures_to_the_networks_that_make_no_sense(fields, line):
    config = default_config()
    config.data.update(fields)
    with pytest.raises(UserError, match=line):
        check_config(config)
