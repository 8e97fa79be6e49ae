"""What is tested with the lowest versions are the lowest versions that are promised."""

import configparser
import re
from pathlib import Path

_ROOT = Path(__file__).parent.parent


def _lines(text):
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def test_the_lowest_versions_are_those_of_the_package():
    package = configparser.ConfigParser()
    package.read(_ROOT / "setup.cfg")
    floors = [
        "{}=={}".format(*re.match(r"([\w-]+) >= ([\d.]+)", line).groups())
        for line in _lines(package["options"]["install_requires"])
    ]
    assert _lines((_ROOT / "tests" / "lowest.txt").read_text()) == floors
