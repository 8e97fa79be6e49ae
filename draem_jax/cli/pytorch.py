"""`draem-jax import-torch` and `draem-jax export-torch`."""

from pathlib import Path
from typing import Any

from absl import flags

from draem_jax.cli.common import (
    PROGRAM,
    Verb,
    define_checkpoint,
    define_path,
    define_workdir,
    parse_workdir,
    say,
)
from draem_jax.errors import UserError


def _define_channels(values: flags.FlagValues, text: str) -> None:
    flags.DEFINE_enum("channels", "bgr", ("bgr", "rgb"), text, flag_values=values)


def _define_import(values: flags.FlagValues) -> None:
    define_path(
        values, "reconstructive", None, "The state dict of the authors' reconstructive network, "
        "such as NAME.pckl.",
    )  # fmt: skip
    define_path(
        values, "discriminative", None, "The state dict of the authors' discriminative network, "
        "such as NAME_seg.pckl.",
    )  # fmt: skip
    define_path(
        values, "anomalib", None, "In their place: a checkpoint (.ckpt), an exported model (.pt) "
        "or a state dict of anomalib's Draem.",
    )  # fmt: skip
    _define_channels(
        values, "In which order the authors' files take colours: bgr, as their code reads "
        "pictures, or rgb. Anomalib's are rgb.",
    )  # fmt: skip
    define_workdir(values, "The work directory to make.")


def _import(values: Any) -> None:
    from draem_jax.pytorch.importing import import_torch

    workdir = parse_workdir(values)
    config = import_torch(_source(values), workdir, values.config)
    model = config.model
    say(
        f"imported networks of widths {model.reconstructive_width} and "
        f"{model.discriminative_width} into {workdir}"
    )
    if config.data.holdout:
        say(
            "note: thresholds come from the pictures that config.data.holdout keeps apart; they "
            "mean what they say only if the imported networks were not trained on these"
        )
    say(f"next: {PROGRAM} evaluate --workdir={workdir}")


def _source(values: Any) -> Any:
    """The files that the flags name."""
    from draem_jax.pytorch.importing import Source

    pair = values.reconstructive, values.discriminative
    if values.anomalib:
        if any(pair):
            raise UserError("--anomalib goes without --reconstructive and --discriminative")
        return Source.anomalib(values.anomalib)
    if not all(pair):
        raise UserError(
            "give --reconstructive=NAME.pckl and --discriminative=NAME_seg.pckl, or --anomalib=FILE"
        )
    return Source.authors(*pair, channels=values.channels)


def _define_export(values: flags.FlagValues) -> None:
    define_workdir(values, "Of the run whose networks to write.")
    define_path(values, "out", None, "The folder to write NAME.pckl and NAME_seg.pckl to.")
    flags.DEFINE_string(
        "name", None, "What the files are called; as the work directory if not given.",
        flag_values=values,
    )  # fmt: skip
    define_checkpoint(values)
    _define_channels(
        values, "In which order the networks take colours: bgr, as the authors' code reads "
        "pictures, or rgb.",
    )  # fmt: skip


def _export(values: Any) -> None:
    from draem_jax.pytorch.exporting import export_torch

    workdir = parse_workdir(values)
    if not values.out:
        raise UserError("--out=DIRECTORY is missing")
    paths = export_torch(
        workdir,
        Path(values.out),
        name=values.name,
        checkpoint=values.checkpoint,
        channels=values.channels,
    )
    say("written: " + ", ".join(map(str, paths)))


VERBS = (
    Verb(
        "import-torch",
        "Make a work directory of weights from PyTorch.",
        """\
    Reads the state dicts of the authors' code, or files of anomalib, of networks of any width.
    PyTorch is not needed, and nothing in the files is run. What comes out is a work directory as
    any other: evaluate, predict, types and finetune take it, and train goes on from its networks
    with a new optimizer.

      draem-jax import-torch --reconstructive=bottle.pckl --discriminative=bottle_seg.pckl \\
          --config=configs/mvtec_ad.py:bottle --workdir=runs/bottle
      draem-jax import-torch --anomalib=model.ckpt --workdir=runs/mine \\
          --config.data.name=folder --config.data.root=pictures/

    The config says which pictures belong to the networks, and at which size they see them; how wide
    they are is told by the weights. docs/pytorch.md says more.
    """,
        _define_import,
        _import,
        config="run",
        needs_config=False,
    ),
    Verb(
        "export-torch",
        "Write a detector's networks as the authors' code does.",
        """\
    Writes NAME.pckl and NAME_seg.pckl, which `torch.load` and the authors' code load. What was
    imported by import-torch comes out bit for bit as it was.

      draem-jax export-torch --workdir=runs/bottle --out=weights/ --name=DRAEM_bottle_
    """,
        _define_export,
        _export,
    ),
)
