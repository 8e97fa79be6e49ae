"""--config: recipes that come along, the user's own, those of runs, and fields changed on top."""

import importlib.resources
import itertools
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from draem_jax.cli.common import PROGRAM, ConfigKind, define_path, say
from draem_jax.errors import UserError
from draem_jax.files import expand


def define_config(
    values: flags.FlagValues,
    arguments: list[str],
    *,
    kind: ConfigKind = "run",
    needed: bool = True,
) -> list[str]:
    """Defines --config, resolving a recipe that comes with the package.

    Args:
        values: to define it in.
        arguments: the words of the command line.
        kind: whether the config of a run or that of a study is wanted.
        needed: whether --config must be given; a run's defaults are taken otherwise.

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
    if not chosen and not needed:
        from draem_jax.config import default_config

        return _define_fields(values, default_config(), arguments)
    if not chosen:
        raise UserError(
            f"--config=FILE is missing; recipes that come along: {', '.join(recipes(kind))}"
        )
    given = arguments[chosen[-1]].partition("=")[2]
    arguments = [word for i, word in enumerate(arguments) if i not in chosen]
    path, choice = _split(given)
    try:
        recipe = _load(_recipe_path(path, kind))
        if getattr(recipe, "CHOOSES_SIZE", False):
            config = _sized_config(path, choice, recipe, arguments)
        else:
            config = recipe.get_config(*choice)
    except UserError:
        raise
    except Exception as error:  # a recipe is a program and may raise anything
        raise UserError(f"cannot load the config {given}: {_last_line(error)}") from error
    if not isinstance(config, ConfigDict):
        raise UserError(f"{path}: get_config must return a ConfigDict, not {type(config).__name__}")
    _check_kind(path, config, kind)
    return _define_fields(values, config, arguments)


def _define_fields(values: flags.FlagValues, config: ConfigDict, arguments: list[str]) -> list[str]:
    """Defines --config.FIELD over a config, and returns the arguments to parse."""
    _check_overrides(config, arguments)
    arguments = _last_values(config, arguments)
    argv = [PROGRAM, *arguments]
    config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=argv)
    return arguments


def _split(given: str) -> tuple[str, list[str]]:
    """Parts FILE.py[:CHOICE]; the path may hold colons."""
    found = re.fullmatch(r"(.*\.py|[^:]*)(?::(.*))?", given, re.DOTALL)
    path, choice = found.groups() if found else (given, None)
    return path, [] if choice is None else [choice]


def _load(path: Path) -> Any:
    """The recipe in a file, as a module."""
    module = ModuleType("config_config")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # where dataclasses look for it
    # Not by an import, so that Ctrl-C need not wait for its end.
    exec(compile(path.read_bytes(), str(path), "exec"), module.__dict__)
    return module


def _sized_config(path: str, choice: list[str], recipe: Any, arguments: list[str]) -> ConfigDict:
    """What a recipe gives for a choice, with a size that suits, and is said, where none is named.

    A run that has begun keeps its size, so that the same command goes on with it on any machine. A
    new one takes what the machine at hand can bear.
    """
    from draem_jax.recipes import SIZES, size_words
    from draem_jax.training import parallel, workdir

    if size_words(*choice):
        return recipe.get_config(*choice)
    configs = {size: recipe.get_config(",".join([*choice, size])) for size in SIZES}
    folder = _workdir(arguments)
    if folder and workdir.has_checkpoints(folder):
        size = min(SIZES, key=lambda size: _distance(folder, configs[size], arguments))
        why = f"as {folder} was begun"
    else:
        platform = parallel.platform()
        size = "small" if platform == "cpu" else "full"
        why = f"for the {platform.upper()} here"
    words = {size: ",".join([*choice, size]) for size in SIZES}
    others = ", ".join(f"{path}:{words[other]}" for other in SIZES if other != size)
    say(f"size: {size}, {why} (--config={path}:{words[size]}); others: {others}")
    return configs[size]


def _distance(folder: Path, config: ConfigDict, arguments: list[str]) -> int:
    """In how many fields the config that the command line gives differs from that of a run."""
    from draem_jax.config import differences, from_json, with_absolute_paths

    values = flags.FlagValues()
    values([PROGRAM, *_define_fields(values, config, arguments)], known_only=True)
    given = with_absolute_paths(values["config"].value)
    return len(differences(with_absolute_paths(from_json(folder / "config.json")), given))


def _workdir(arguments: list[str]) -> Path | None:
    """What --workdir names, before the other flags are known."""
    values = flags.FlagValues()
    define_path(values, "workdir", None, "")
    values([PROGRAM, *arguments], known_only=True)
    return Path(values["workdir"].value) if values["workdir"].value else None


def define_run_config(values: flags.FlagValues, arguments: list[str], *, group: str) -> list[str]:
    """Defines --config.GROUP.FIELD over the config of the run that --workdir names.

    Nothing is defined where no run is named: the verb will say so.

    Args:
        values: to define them among.
        arguments: those of the command line.
        group: the group of the fields that may be changed.

    Returns:
        The arguments to parse.

    Raises:
        UserError: a field is unknown, or of another group, or there is no such run to have it.
    """
    from draem_jax.config import from_json

    workdir = _workdir(arguments)
    changes = any(word.lstrip("-").startswith("config.") for word in arguments)
    if not workdir:
        if changes:
            raise UserError("--workdir=DIRECTORY is missing")
        return arguments
    path = workdir / "config.json"
    if not path.is_file():
        if changes:  # which could not be parsed
            raise UserError(
                f"{workdir} is not a work directory (it has no config.json); give the "
                f"--workdir that `{PROGRAM} train` was run with"
            )
        return arguments
    config = from_json(path)
    for name in _check_overrides(config, arguments):
        if not name.startswith(f"{group}."):
            raise UserError(f"--config.{name} cannot be changed here; --config.{group}.FIELD can")
    return _define_fields(values, config, arguments)


def _check_overrides(config: ConfigDict, arguments: list[str]) -> list[str]:
    """The fields that are changed; raises UserError for one that there is not."""
    from draem_jax.config import flat, unknown_field

    names = [
        word.lstrip("-").partition("=")[0].removeprefix("config.")
        for word in arguments
        if word.lstrip("-").startswith("config.")
    ]
    known = {name for name, _ in flat(config)}
    for name in names:
        if name not in known:
            raise unknown_field(config, name)
    return names


def _last_values(config: ConfigDict, arguments: list[str]) -> list[str]:
    """The arguments without what later ones replace: values of tuples would be joined."""
    from draem_jax.config import flat

    tuples = {f"config.{name}" for name, value in flat(config) if isinstance(value, tuple)}
    given: list[tuple[str, list[str]]] = []
    words = iter(arguments)
    for word in words:
        name, equals, _ = word.lstrip("-").partition("=")
        if not word.startswith("-") or name not in tuples:
            given.append(("", [word]))
        else:  # the value may be a word of its own
            given.append((name, [word] if equals else [word, *itertools.islice(words, 1)]))
    last = {name: i for i, (name, _) in enumerate(given)}
    return [
        word for i, (name, part) in enumerate(given) if not name or last[name] == i for word in part
    ]


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
    if expand(path).is_file():
        return expand(path)
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
