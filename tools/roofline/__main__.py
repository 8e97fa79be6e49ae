"""The command line: `python -m tools.roofline --help`."""

import argparse
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from draem_jax import files
from draem_jax.errors import UserError
from tools.roofline import report
from tools.roofline.compilers import use_compilers
from tools.roofline.devices import DEVICES, Device
from tools.roofline.hlo import Module, parse_module
from tools.roofline.kernels import read_kernels
from tools.roofline.memory import fullest_moment

PARTS = ("step", "generator", "forward")
"""Those of `programs`, which must not be imported before the compilers are chosen."""

# Loops of unknown length are those over the texture operations that a sample gets.
_PASSES = 3

_EXAMPLES = """\
examples:
  python -m tools.roofline --device=h100 --batch=8 --compilers=~/compilers
  python -m tools.roofline --device=h100 --batch=8 --compilers=~/compilers --save_hlo=step.hlo
  python -m tools.roofline --device=h100 --batch=8 --hlo=step.hlo --largest=normalisation

The train step takes a minute or two to compile for an H100, for a TPU about seven on one core.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        _run(options)
    except UserError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools.roofline",
        description="What a program moves and computes on an accelerator that need not be there, "
        "and the least time that takes, part by part.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--device", choices=tuple(DEVICES), required=True)
    parser.add_argument(
        "--part", choices=PARTS, default="step",
        help="the whole train step, its generator alone, or the networks as in prediction",
    )  # fmt: skip
    parser.add_argument("--config", help="a recipe; the defaults at full width if not given")
    parser.add_argument("--widths", metavar="R/D", help="of both networks, such as 128/64")
    parser.add_argument("--batch", type=int, help="pictures at a time; the config's if not given")
    parser.add_argument("--size", type=int, help="height and width; the config's if not given")
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), help="of the activations")
    parser.add_argument("--remat", action="store_true", help="as config.model.remat=True")
    parser.add_argument(
        "--compilers",
        type=files.expand,
        metavar="DIR",
        help="where pip has put the device's compilers",
    )
    parser.add_argument("--hlo", type=files.expand, help="read this program, and compile nothing")
    parser.add_argument("--save_hlo", type=files.expand, help="where to write the compiled program")
    parser.add_argument("--largest", metavar="PART", help="show the largest kernels of a part too")
    return parser


def _run(options: argparse.Namespace) -> None:
    device = DEVICES[options.device]
    if options.batch is not None and options.batch < 1:
        raise UserError(f"--batch must be at least 1, not {options.batch}")
    if options.hlo:
        text, memory, batch = _read(options.hlo), None, options.batch
        print(f"{options.hlo}, at the rates of {device.title}\n")
    else:
        text, memory, batch = _compile(options, device)
    module = _parse(text, options.hlo)
    kernels = read_kernels(module, passes=_PASSES)
    shown = [report.parts_table(kernels, device)]
    if batch:
        shown.append(report.picture_line(kernels, device, batch=batch))
    if memory is not None:
        shown.append(report.memory_line(memory))
    shown += ["", report.held_table(fullest_moment(module), kernels, count=12)]
    if options.largest:
        if not any(kernel.part.startswith(options.largest) for kernel in kernels):
            parts = ", ".join(report.totals_by_part(kernels, device))
            raise UserError(f"there is no part {options.largest!r}; the parts are {parts}")
        shown += ["", report.largest_kernels(kernels, device, part=options.largest, count=25)]
    shown += ["", textwrap.fill(report.cannot_know(device, passes=_PASSES), 100)]
    print("\n".join(shown))


def _compile(options: argparse.Namespace, device: Device) -> tuple[str, Any, int]:
    """Compiles the program; returns it with XLA's account of its memory, and the batch's size."""
    use_compilers(device, options.compilers)
    # They import JAX, which looks at what was prepared just now.
    from draem_jax.config import check_config
    from tools.roofline.programs import compile_part

    config = _config(options)
    check_config(config)
    model, size = config.model, " x ".join(map(str, config.data.image_size))
    print(
        f"{device.title}: {options.part}, {config.train.batch_size} pictures of {size}, widths "
        f"{model.reconstructive_width}/{model.discriminative_width}, {model.dtype}"
        f"{', remat' if model.remat else ''}",
        flush=True,
    )
    start = time.monotonic()
    compiled = compile_part(options.part, config, device)
    print(f"compiled in {time.monotonic() - start:.0f} s\n")
    text = compiled.as_text() or ""
    if options.save_hlo:
        files.write_text(options.save_hlo, text)
    return text, compiled.memory_analysis(), config.train.batch_size


def _config(options: argparse.Namespace) -> Any:
    from draem_jax.cli.recipes import recipe_config
    from draem_jax.config import default_config

    config = recipe_config(options.config) if options.config else default_config()
    if options.widths:
        try:
            widths = [int(width) for width in options.widths.split("/")]
            config.model.reconstructive_width, config.model.discriminative_width = widths
        except ValueError:
            raise UserError(f"--widths must be as 128/64, not {options.widths}") from None
    if options.batch:
        config.train.batch_size = options.batch
    if options.size:
        config.data.image_size = (options.size,)
    if options.remat:
        config.model.remat = True
    if options.dtype or config.model.dtype == "auto":  # which is bfloat16 on accelerators
        config.model.dtype = options.dtype or "bfloat16"
    return config


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path}: {error}; --save_hlo writes such a file") from error


def _parse(text: str, path: Path | None) -> Module:
    try:
        return parse_module(text)
    except ValueError as error:
        if path is None:
            raise
        raise UserError(
            f"{path} is no compiled program ({error}); --save_hlo writes such a file"
        ) from error


if __name__ == "__main__":
    sys.exit(main())
