"""What is promised of versions is tested, and what is installed is the whole package."""

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
        + _lines(package["options.extras_require"]["export"])
    ]
    assert _lines((_ROOT / "tests" / "lowest.txt").read_text()) == floors


def test_every_folder_of_the_package_is_installed():
    package = configparser.ConfigParser()
    package.read(_ROOT / "setup.cfg")
    folders = [
        *(_ROOT / "draem_jax").rglob("__init__.py"),
        *(_ROOT / "configs").rglob("__init__.py"),
    ]
    names = {".".join(path.parent.relative_to(_ROOT).parts) for path in folders}
    names = {name if name.startswith("draem_jax") else f"draem_jax.{name}" for name in names}
    assert set(_lines(package["options"]["packages"])) == names
