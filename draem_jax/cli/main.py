"""From the words of the command line to the verb that does them."""

import _thread
import difflib
import gc
import logging
import os
import signal
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from types import FrameType
from typing import Any

from absl import flags

import draem_jax
from draem_jax.cli import (
    benchmark,
    data,
    evaluate,
    export,
    finetune,
    plan,
    predict,
    preview,
    pytorch,
    study,
    train,
    types,
)
from draem_jax.cli.common import (
    PROGRAM,
    Verb,
    define_compilation_cache,
    define_hosts,
    joined_hosts,
    keep_compiled_programs,
    one_line,
    prepare_output,
    warn,
)
from draem_jax.cli.recipes import define_config, define_run_config, recipes
from draem_jax.errors import UserError

# Tracing makes millions of objects, nearly all of which are kept: looking for garbage each time
# that there are 700 more takes a tenth of a start.
_NEW_OBJECTS = 50_000

_SOON = 0.05  # seconds
_LONGEST_WAIT = 200  # of these

_VERBS = {
    verb.name: verb
    for verb in (
        *data.VERBS,
        preview.VERB,
        plan.VERB,
        train.VERB,
        evaluate.VERB,
        predict.VERB,
        *types.VERBS,
        finetune.VERB,
        *pytorch.VERBS,
        export.VERB,
        benchmark.VERB,
        study.VERB,
    )
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
        arguments: without the program's name; those of the process if None.

    Returns:
        The exit status: 0 when all went well, 3 when a part was left out, 130 or 143 when Ctrl-C
        or SIGTERM stopped it, and otherwise 1.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    prepare_output()
    _show_warnings()
    with _interrupt_seen() as interrupted:
        return _run(arguments, interrupted)


def _run(arguments: list[str], interrupted: Callable[[], bool]) -> int:
    try:
        with _no_interrupt_lost():
            _dispatch(arguments)
    except BrokenPipeError:  # as when `head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except (Exception, KeyboardInterrupt) as error:
        if isinstance(error, KeyboardInterrupt) or interrupted():
            print(f"{PROGRAM}: interrupted", file=sys.stderr)
            return 130
        if "--debug" in arguments or not isinstance(error, UserError | flags.Error | OSError):
            raise
        print(f"{PROGRAM}: {one_line(error)}", file=sys.stderr)
        return error.exit_code if isinstance(error, UserError) else 1
    return 0


@contextmanager
def _interrupt_seen() -> Iterator[Callable[[], bool]]:
    """Yields what tells whether Ctrl-C has interrupted.

    Whoever catches what it raises may raise something else, as a config that is being loaded. One
    that comes during an import waits for its end, since compiled modules print what they catch.
    """
    seen, waited = False, 0

    def interrupt(number: int, frame: Any) -> None:
        nonlocal seen, waited
        if _imports(frame) and waited < _LONGEST_WAIT:
            waited += 1
            _interrupt_again()
            return
        seen = True
        raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler:  # Ctrl-C is ignored, or another's concern
        yield lambda: False
        return
    try:
        signal.signal(signal.SIGINT, interrupt)
    except ValueError:  # only the main thread may set handlers
        yield lambda: False
        return
    try:
        yield lambda: seen
    finally:
        signal.signal(signal.SIGINT, before)


class _WarningHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        warn(record.getMessage())


def _show_warnings() -> None:
    """Prints what the package logs as one line each."""
    logger = logging.getLogger("draem_jax")
    if not any(isinstance(handler, _WarningHandler) for handler in logger.handlers):
        logger.addHandler(_WarningHandler(logging.WARNING))
        logger.propagate = False


@contextmanager
def _no_interrupt_lost() -> Iterator[None]:
    """Lets a Ctrl-C that comes during clean-up come again: Python would print and drop it.

    JAX cleans up whenever Python collects garbage, so that is often.
    """

    def again(unraisable: Any) -> None:
        if unraisable.exc_type is not KeyboardInterrupt:
            before(unraisable)
            return
        _interrupt_again()

    before, sys.unraisablehook = sys.unraisablehook, again
    try:
        yield
    finally:
        if sys.unraisablehook is again:  # else another has been put around it
            sys.unraisablehook = before


def _interrupt_again() -> None:
    timer = threading.Timer(_SOON, _thread.interrupt_main)
    timer.daemon = True
    timer.start()


def _imports(frame: FrameType | None) -> bool:
    """Whether a module is being imported."""
    while frame is not None and not frame.f_code.co_filename.startswith("<frozen importlib"):
        frame = frame.f_back
    return frame is not None


def _dispatch(arguments: list[str]) -> None:
    if not arguments or arguments[0] in ("help", "--help", "-h", "-help"):
        print(_overview())
        return
    if arguments[0] == "--version":
        print(f"{PROGRAM} {draem_jax.__version__}")
        return
    verb, rest = _find_verb(arguments)
    if verb is None:
        print(_overview(group=arguments[0]))
        return
    values = flags.FlagValues()
    verb.define(values)
    if verb.computes:
        define_compilation_cache(values)
    if verb.on_hosts:
        define_hosts(values)
    flags.DEFINE_bool("debug", False, "Show the traceback of an error.", flag_values=values)
    if any(word in ("--help", "-h", "-help") for word in rest):
        print(_help(verb, values))
        return
    if verb.config:
        rest = define_config(values, rest, kind=verb.config, needed=verb.needs_config)
    if verb.run_config:
        rest = define_run_config(values, rest, group=verb.run_config)
    positional = values([PROGRAM, *map(_with_underscores, rest)])[1:]
    if verb.argument and not positional:
        raise UserError(f"{verb.argument} is missing; see `{PROGRAM} {verb.name} --help`")
    given = [positional.pop(0)] if verb.argument else []
    if positional:
        raise UserError(
            f"do not know what to do with {positional[0]!r}; flags are written --name=value, see "
            f"`{PROGRAM} {verb.name} --help`"
        )
    if verb.computes:
        gc.set_threshold(_NEW_OBJECTS, *gc.get_threshold()[1:])
        keep_compiled_programs(values)
    with joined_hosts(values) if verb.on_hosts else nullcontext():
        verb.run(values, *given)


def _with_underscores(word: str) -> str:
    """Allows --skip-bad for --skip_bad; fields of a config are spelt one way only."""
    name, equals, value = word.partition("=")
    flag = word.startswith("--") and "." not in name
    return f"--{name[2:].replace('-', '_')}{equals}{value}" if flag else word


def _find_verb(arguments: list[str]) -> tuple[Verb | None, list[str]]:
    """The verb that the words begin with and what follows it; None for a group of verbs alone."""
    for words in (2, 1):
        name = " ".join(arguments[:words])
        if name in _VERBS:
            return _VERBS[name], arguments[words:]
    group = [name for name in _VERBS if name.startswith(f"{arguments[0]} ")]
    if group and all(word in ("--help", "-h", "-help", "help") for word in arguments[1:]):
        return None, []
    wanted = " ".join(word for word in arguments[:2] if not word.startswith("-"))
    if not group:
        wanted = arguments[0]
    close = difflib.get_close_matches(wanted, group or _VERBS, n=1)
    raise UserError(
        f"there is no verb {wanted!r}; "
        + (f"did you mean {close[0]}?" if close else f"choose one of {', '.join(group or _VERBS)}")
    )


def _overview(*, group: str = "") -> str:
    verbs = "\n".join(
        f"  {verb.name:<13} {verb.summary}"
        for verb in _VERBS.values()
        if verb.name.startswith(group)
    )
    return (
        f"usage: {PROGRAM} VERB --flag=value ...\n\n"
        "DRÆM in JAX: finds surface defects, learning from normal pictures only.\n\n"
        f"verbs:\n{verbs}\n\n"
        f"`{PROGRAM} VERB --help` tells a verb's flags; recipes: {', '.join(recipes())}; "
        f"studies: {', '.join(recipes('study'))}"
    )


def _help(verb: Verb, values: flags.FlagValues) -> str:
    usage = " ".join(filter(None, (PROGRAM, verb.name, verb.argument)))
    lines = [f"usage: {usage} --flag=value ...", ""]
    lines += [verb.summary, "", textwrap.dedent(verb.help)]
    lines.append("flags:")
    if verb.config:
        known = ", ".join(recipes(verb.config))
        lines.append(
            _flag_line(
                "--config=FILE.py[:CHOICE]",
                f"The {'study' if verb.config == 'study' else 'recipe'}: your own file, or one "
                f"that comes along: {known}."
                + ("" if verb.needs_config else " Without it fields have their defaults."),
            )
        )
        lines.append(
            _flag_line("--config.FIELD=VALUE", "Changes a field of it; all are listed below.")
        )
    if verb.run_config:
        lines.append(
            _flag_line(
                f"--config.{verb.run_config}.FIELD=VALUE",
                "Changes a field of the run's config; all are listed below.",
            )
        )
    for name in values:
        flag = values[name]
        default = "" if flag.default in (None, "") else f" Default: {str(flag.default).lower()}."
        shown = f"--[no]{name}" if flag.boolean else f"--{name}=…"
        lines.append(_flag_line(shown, f"{flag.help}{default}"))
    if verb.config == "study":
        lines += ["", "fields of a study, besides its variants:"]
        lines += [
            "  --config.base.FIELD=…        of the base; `train --help` lists them",
            "  --config.categories=A,B      of the data set",
            "  --config.seeds=0,1,2         a run each",
            "  --config.baseline=VARIANT    that the others are compared with",
            "  --config.metric=pixel_ap     that variants are ranked by",
            "  --config.protocol=default    for the masks, or paper",
        ]
    if verb.config == "run" or verb.run_config:
        but = "before the recipe changes them" if verb.config else "unless the run has others"
        lines += ["", f"fields and their defaults, {but}:"]
        lines += _field_lines(verb.run_config)
    return "\n".join(lines)


def _field_lines(only: str) -> Iterator[str]:
    """The fields of one group, or of all where `only` is "", with a heading for each group."""
    from draem_jax.fields import GROUPS

    for group, (title, fields) in GROUPS.items():
        if only not in ("", group):
            continue
        prefix = f"{group}." if group else ""
        yield "\n" + _column(f"  --config.{prefix}FIELD=VALUE  ", f"{title}:")
        shown = [(f"{name}={_plain(default)}", text) for name, (default, text) in fields.items()]
        width = max(len(name) for name, _ in shown)
        for name, text in shown:
            yield _column(f"    {name:<{width}}  ", text).rstrip()


def _flag_line(flag: str, text: str) -> str:
    return _column(f"  {flag:<28} ", text)


def _column(name: str, text: str) -> str:
    """A name and, behind it, a text that keeps to its own column."""
    return textwrap.fill(text, 100, initial_indent=name, subsequent_indent=" " * len(name)) or name


def _plain(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(f"{v:g}" if isinstance(v, float) else str(v) for v in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
