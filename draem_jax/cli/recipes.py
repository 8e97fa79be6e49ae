"""--config: the recipes that come along, the user's own, and the fields changed on top."""

import importlib.resources
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict, config_flags

from draem_jax.cli.common import PROGRAM, ConfigKind
from draem_jax.errors import UserError


def define_config(
    values: flags.FlagValues, arguments: list[str], *, kind: ConfigKind = "run"
) -> list[str]:
    """Defines --config, resolving a recipe that comes with the package.

    Args:
        values: to define it in.
        arguments: the words of the command line.
        kind: whether the config of a run or that of a study is wanted.

    Returns:
        The arguments to parse.

    Raises:
        UserError: there is no such file, it does not load or is of the other kind, or a field does
            not exist.
    """
    arguments = list(arguments)
    for i, word in enumerate(arguments):
        if word in ("--config", "-config") and i + 1 < len(arguments):
            arguments[i : i + 2] = [f"--config={arguments[i + 1]}"]
            break
    chosen = [i for i, word in enumerate(arguments) if word.startswith(("--config=", "-config="))]
    if not chosen:
        raise UserError(
            f"--config=FILE is missing; recipes that come along: {', '.join(recipes(kind))}"
        )
    path, colon, category = arguments[chosen[-1]].partition("=")[2].partition(":")
    arguments[chosen[-1]] = f"--config={_recipe_path(path, kind)}{colon}{category}"

    overrides = [
        word.lstrip("-").partition("=")[0].removeprefix("config.")
        for word in arguments
        if word.lstrip("-").startswith("config.")
    ]
    plain = flags.FlagValues()
    alone = [PROGRAM, arguments[chosen[-1]]]
    config_flags.DEFINE_config_file("config", flag_values=plain, sys_argv=alone)
    try:
        plain(alone)
        config = plain["config"].value
    except Exception as error:  # a recipe is a program and may raise anything
        raise UserError(
            f"cannot load the config {path}{colon}{category}: {_last_line(error)}"
        ) from error
    if not isinstance(config, ConfigDict):
        raise UserError(f"{path}: get_config must return a ConfigDict, not {type(config).__name__}")
    _check_kind(path, config, kind)

    from draem_jax.config import flat, unknown_field

    known = {name for name, _ in flat(config)}
    for name in overrides:
        if name not in known:
            raise unknown_field(config, name)
    config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=[PROGRAM, *arguments])
    return arguments


def recipe_config(choice: str) -> ConfigDict:
    """The config that `--config=CHOICE` alone gives.

    Args:
        choice: FILE.py[:CATEGORY], the user's own or one that comes along.

    Raises:
        UserError: there is no such file, or it does not load.
    """
    values = flags.FlagValues()
    arguments = define_config(values, [f"--config={choice}"])
    values([PROGRAM, *arguments])
    return values["config"].value


def _last_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__


def _check_kind(path: str, config: ConfigDict, kind: ConfigKind) -> None:
    is_study = "variants" in config
    if is_study and kind == "run":
        raise UserError(f"{path} describes a study; run it by `{PROGRAM} study --config={path}`")
    if not is_study and kind == "study":
        raise UserError(
            f"{path} describes one run, not a study; studies that come along: "
            f"{', '.join(recipes('study'))}"
        )


def _recipe_path(path: str, kind: ConfigKind) -> Path:
    """A file of the user's, or else the recipe of that name that came with the package."""
    if Path(path).is_file():
        return Path(path)
    packaged = Path(str(importlib.resources.files("draem_jax.configs")))
    known = path if path.startswith("configs/") else f"configs/{path}"
    if known in (*recipes("run"), *recipes("study")):
        return packaged / known.removeprefix("configs/")
    raise UserError(
        f"there is no config file {path}; recipes that come along: {', '.join(recipes(kind))}"
    )


def recipes(kind: ConfigKind = "run") -> list[str]:
    """The recipes that come with the package, as --config takes them."""
    folder = importlib.resources.files("draem_jax.configs")
    prefix = "configs/"
    if kind == "study":
        folder, prefix = folder / "studies", "configs/studies/"
    names = (entry.name for entry in folder.iterdir())
    return sorted(f"{prefix}{n}" for n in names if n.endswith(".py") and not n.startswith("_"))
