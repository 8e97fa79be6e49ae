"""The command line: `draem-jax VERB --flag=value …`."""

import difflib
import importlib.resources
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from draem_jax.errors import UserError

_PROGRAM = "draem-jax"


@dataclass(frozen=True)
class Verb:
    """What `draem-jax NAME` does.

    Attributes:
        name: the word on the command line.
        summary: one line.
        help: what a newcomer should know, with an example.
        define: defines the verb's flags.
        run: does it, given the parsed flags.
        takes_config: whether the verb has --config and --config.FIELD.
    """

    name: str
    summary: str
    help: str
    define: Callable[[flags.FlagValues], None]
    run: Callable[[Any], None]
    takes_config: bool = False


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit status: 0 when all went well.

    Args:
        arguments: without the program's name; those of the process if None.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments
    try:
        _dispatch(arguments)
    except (UserError, flags.Error, OSError) as error:
        if debug:
            raise
        print(f"{_PROGRAM}: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{_PROGRAM}: interrupted", file=sys.stderr)
        return 130
    return 0


def _dispatch(arguments: list[str]) -> None:
    if not arguments or arguments[0] in ("help", "--help", "-h", "-help"):
        print(_overview())
        return
    if arguments[0] == "--version":
        from importlib.metadata import version

        print(f"{_PROGRAM} {version('draem-jax')}")
        return
    name, *rest = arguments
    if name not in _VERBS:
        close = difflib.get_close_matches(name, _VERBS, n=1)
        raise UserError(
            f"there is no verb {name!r}; "
            + (f"did you mean {close[0]}?" if close else f"choose one of {', '.join(_VERBS)}")
        )
    verb = _VERBS[name]
    values = flags.FlagValues()
    verb.define(values)
    flags.DEFINE_bool("debug", False, "Show the traceback of an error.", flag_values=values)
    if any(word in ("--help", "-h", "-help") for word in rest):
        print(_help(verb, values))
        return
    if verb.takes_config:
        rest = _define_config(values, rest)
    positional = values([_PROGRAM, *rest])[1:]
    if positional:
        raise UserError(
            f"do not know what to do with {positional[0]!r}; flags are written --name=value, see "
            f"`{_PROGRAM} {name} --help`"
        )
    verb.run(values)


def _define_config(values: flags.FlagValues, arguments: list[str]) -> list[str]:
    """Defines --config, resolving a recipe that comes with the package; returns the arguments."""
    arguments = list(arguments)
    for i, word in enumerate(arguments):
        if word in ("--config", "-config") and i + 1 < len(arguments):
            arguments[i : i + 2] = [f"--config={arguments[i + 1]}"]
            break
    chosen = [i for i, word in enumerate(arguments) if word.startswith(("--config=", "-config="))]
    if not chosen:
        raise UserError(
            f"--config=FILE is missing; recipes that come along: {', '.join(_recipes())}"
        )
    path, colon, category = arguments[chosen[-1]].partition("=")[2].partition(":")
    arguments[chosen[-1]] = f"--config={_recipe_path(path)}{colon}{category}"

    overrides = [
        word.lstrip("-").partition("=")[0].removeprefix("config.")
        for word in arguments
        if word.lstrip("-").startswith("config.")
    ]
    plain = flags.FlagValues()
    alone = [_PROGRAM, arguments[chosen[-1]]]
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

    from draem_jax.config import flat, unknown_field

    known = {name for name, _ in flat(config)}
    for name in overrides:
        if name not in known:
            raise unknown_field(config, name)
    config_flags.DEFINE_config_file("config", flag_values=values, sys_argv=[_PROGRAM, *arguments])
    return arguments


def _last_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__


def _recipe_path(path: str) -> Path:
    """A file of the user's, or else the recipe of that name that came with the package."""
    if Path(path).is_file():
        return Path(path)
    packaged = Path(str(importlib.resources.files("draem_jax.configs")))
    inside = packaged / Path(path).name
    if Path(path).parent in (Path(), Path("configs")) and inside.is_file():
        return inside
    raise UserError(
        f"there is no config file {path}; recipes that come along: {', '.join(_recipes())}"
    )


def _recipes() -> list[str]:
    folder = importlib.resources.files("draem_jax.configs")
    names = (entry.name for entry in folder.iterdir())
    return sorted(f"configs/{n}" for n in names if n.endswith(".py") and not n.startswith("_"))


def _define_preview(values: flags.FlagValues) -> None:
    flags.DEFINE_string("out", "preview.png", "Where the sheet goes, a .png.", flag_values=values)
    flags.DEFINE_integer(
        "rows", 8, "Samples on the sheet.", lower_bound=1, upper_bound=64, flag_values=values
    )


def _preview(values: Any) -> None:
    from draem_jax.inspection.preview import preview_sheet
    from draem_jax.reports.pictures import write_png

    if Path(values.out).suffix.lower() != ".png":
        raise UserError(f"--out={values.out} must end in .png")
    write_png(values.out, preview_sheet(values.config, rows=values.rows))
    print(f"wrote {values.out}")


def _define_train(values: flags.FlagValues) -> None:
    _define_workdir(values, "Where checkpoints, metrics and samples of the run are kept.")
    flags.DEFINE_bool(
        "resume", True, "Go on where the work directory's last checkpoint stands; --noresume "
        "refuses a directory that holds one.", flag_values=values,
    )  # fmt: skip
    _define_cpu_devices(values)


def _train(values: Any) -> None:
    from draem_jax.training.loop import train
    from draem_jax.training.parallel import use_cpu_devices

    workdir = _workdir(values)
    use_cpu_devices(values.cpu_devices, dividing=max(1, values.config.train.batch_size))
    train(values.config, workdir, resume=values.resume)
    print(f"next: {_PROGRAM} evaluate --workdir={workdir}")


def _define_evaluate(values: flags.FlagValues) -> None:
    _define_workdir(values, "Of the run to evaluate.")
    _define_checkpoint(values)
    _define_cpu_devices(values)


def _evaluate(values: Any) -> None:
    from draem_jax.evaluation.evaluate import evaluate
    from draem_jax.training.parallel import use_cpu_devices

    workdir = _workdir(values)
    use_cpu_devices(values.cpu_devices)
    metrics = evaluate(workdir, checkpoint=values.checkpoint, batch_size=values.batch_size)
    for name, value in metrics.items():
        print(f"{name:<12} {'-' if value is None else f'{value:.4f}'}")
    print(f"report: {workdir / 'evaluation' / 'report.html'}")


def _define_predict(values: flags.FlagValues) -> None:
    _define_workdir(values, "Of the run to predict with.")
    flags.DEFINE_string("images", None, "A picture or a folder of pictures.", flag_values=values)
    flags.DEFINE_string(
        "out", None, "The folder for maps, overlays and predictions.csv.", flag_values=values
    )
    _define_checkpoint(values)
    _define_cpu_devices(values)


def _predict(values: Any) -> None:
    from tqdm import tqdm

    from draem_jax.data.pictures import list_pictures
    from draem_jax.detector import Draem
    from draem_jax.inspection.predict import predict_files
    from draem_jax.training.parallel import use_cpu_devices

    workdir = _workdir(values)
    for name in ("images", "out"):
        if not values[name].value:
            raise UserError(f"--{name} is missing; see `{_PROGRAM} predict --help`")
    list_pictures(values.images, recursive=True)  # a wrong path shall be told before loading
    use_cpu_devices(values.cpu_devices)
    detector = Draem.load(workdir, checkpoint=values.checkpoint, batch_size=values.batch_size)
    with tqdm(unit="picture", disable=not sys.stderr.isatty()) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        count = predict_files(detector, values.images, values.out, progress=progress)
    print(f"{count} pictures; see {Path(values.out) / 'predictions.csv'}")


def _define_workdir(values: flags.FlagValues, text: str) -> None:
    flags.DEFINE_string("workdir", None, text, flag_values=values)


def _workdir(values: Any) -> Path:
    if not values.workdir:
        raise UserError("--workdir=DIRECTORY is missing")
    return Path(values.workdir).expanduser()


def _define_checkpoint(values: flags.FlagValues) -> None:
    flags.DEFINE_string(
        "checkpoint", "latest", "latest, best (least loss on simulated anomalies) or a step.",
        flag_values=values,
    )  # fmt: skip
    flags.DEFINE_integer(
        "batch_size", None, "Pictures that the devices take at once; the config's "
        "evaluation.batch_size if not given.", lower_bound=1, flag_values=values,
    )  # fmt: skip


def _define_cpu_devices(values: flags.FlagValues) -> None:
    flags.DEFINE_integer(
        "cpu_devices", 0, "On CPUs: devices to split the batch over; 0 for one a core.",
        lower_bound=0, flag_values=values,
    )  # fmt: skip


_VERBS = {
    verb.name: verb
    for verb in (
        Verb(
            "preview",
            "Draw a sheet of simulated anomalies, to judge a recipe by eye.",
            """\
            Draws normal pictures, the same with simulated anomalies, the masks, and what changed:
            the first samples that training would see, had none of them to stay untouched.

              draem-jax preview --config=configs/quickstart.py --out=sheet.png
              draem-jax preview --config=configs/quickstart.py --config.anomalies.opacity=0.1,0.5
            """,
            _define_preview,
            _preview,
            takes_config=True,
        ),
        Verb(
            "train",
            "Train a detector, or go on with training it.",
            """\
            Trains on the normal pictures of the config's data set. Stopped or killed, the same
            command goes on from the last checkpoint, to the same result.

              draem-jax train --config=configs/quickstart.py --workdir=runs/quickstart
              draem-jax train --config=configs/surfaces.py:gravel --workdir=runs/gravel \\
                  --config.train.steps=5000 --config.train.batch_size=32

            The work directory gets config.json, checkpoints/, metrics.jsonl, tensorboard/ and
            samples/ (sheets of normal, augmented, mask, reconstruction and anomaly map).
            """,
            _define_train,
            _train,
            takes_config=True,
        ),
        Verb(
            "evaluate",
            "Measure a trained detector on its test pictures and write a report.",
            """\
            Writes metrics.json, scores.csv and report.html to WORKDIR/evaluation/.

              draem-jax evaluate --workdir=runs/quickstart
            """,
            _define_evaluate,
            _evaluate,
        ),
        Verb(
            "predict",
            "Look for anomalies in any pictures.",
            """\
            Writes for each picture the anomaly map (16-bit PNG, 65535 for certainty), the map laid
            over the picture, and a line in predictions.csv.

              draem-jax predict --workdir=runs/quickstart --images=photos/ --out=found/
            """,
            _define_predict,
            _predict,
        ),
    )
}


def _overview() -> str:
    verbs = "\n".join(f"  {verb.name:<10} {verb.summary}" for verb in _VERBS.values())
    return (
        f"usage: {_PROGRAM} VERB --flag=value ...\n\n"
        "DRÆM in JAX: finds surface defects, learning from normal pictures only.\n\n"
        f"verbs:\n{verbs}\n\n"
        f"`{_PROGRAM} VERB --help` tells a verb's flags; recipes: {', '.join(_recipes())}"
    )


def _help(verb: Verb, values: flags.FlagValues) -> str:
    lines = [f"usage: {_PROGRAM} {verb.name} --flag=value ...", ""]
    lines += [verb.summary, "", textwrap.dedent(verb.help)]
    lines.append("flags:")
    if verb.takes_config:
        lines.append(
            _flag_line(
                "--config=FILE.py[:CATEGORY]",
                f"The recipe: your own file, or one that comes along: {', '.join(_recipes())}.",
            )
        )
        lines.append(
            _flag_line(
                "--config.FIELD=VALUE", "Changes a field of the recipe; all are listed below."
            )
        )
    for name in values:
        flag = values[name]
        default = "" if flag.default in (None, "") else f" Default: {str(flag.default).lower()}."
        shown = f"--[no]{name}" if flag.boolean else f"--{name}=…"
        lines.append(_flag_line(shown, f"{flag.help}{default}"))
    if verb.takes_config:
        from draem_jax.config import default_config, flat

        lines += ["", "fields and their defaults, before the recipe changes them:"]
        lines += [f"  --config.{name}={_plain(value)}" for name, value in flat(default_config())]
    return "\n".join(lines)


def _flag_line(flag: str, text: str) -> str:
    return textwrap.fill(text, 96, initial_indent=f"  {flag:<28} ", subsequent_indent=" " * 31)


def _plain(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(f"{v:g}" if isinstance(v, float) else str(v) for v in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(main())
