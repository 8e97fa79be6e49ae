"""The fields of the configuration: of each its default and what it means, as --help shows it."""

import dataclasses
import inspect
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

from draem_jax.anomalies import AnomalyParams
from draem_jax.data.depth import AUTO
from draem_jax.data.texture_sources import NAMED_SOURCES
from draem_jax.losses import COSTLY_TERMS, Losses, LossWeights
from draem_jax.networks import RECONSTRUCTIVE_INPUTS, STARTS, VARIANTS


class Field(NamedTuple):
    """A field of the config.

    Attributes:
        default: its value in the recipe of the authors' code at full width.
        text: what it means, in so few words that a line of --help holds them.
    """

    default: Any
    text: str


class Group(NamedTuple):
    """Fields that belong together.

    Attributes:
        title: what they are about.
        fields: by the name behind the group's own and a dot.
    """

    title: str
    fields: Mapping[str, Field]


def _groups_of(
    prefix: str, params: Any, *, explained_by: type | None = None
) -> Iterator[tuple[str, Group]]:
    """The groups of a dataclass and those within it, explained by its docstring's `Attributes`.

    Of an explanation the part before the first full stop or semicolon is taken.
    """
    values = {field.name: getattr(params, field.name) for field in dataclasses.fields(params)}
    groups = {name: value for name, value in values.items() if dataclasses.is_dataclass(value)}
    title = (inspect.getdoc(type(params)) or "").partition("\n")[0]
    texts = _explanations(explained_by or type(params)) | _words(type(params))
    fields = {
        name: Field(value, texts.get(name, ""))
        for name, value in values.items()
        if name not in groups
    }
    yield prefix, Group(_first_part(title), fields)
    for name, value in groups.items():
        yield from _groups_of(f"{prefix}.{name}", value)


def _explanations(of: type) -> dict[str, str]:
    attributes = (inspect.getdoc(of) or "").partition("\nAttributes:\n")[2]
    entries = re.findall(r"^( +)(\w+): (.*(?:\n\1 +.*)*)", attributes, re.MULTILINE)
    return {name: _first_part(" ".join(text.split())) for _, name, text in entries}


def _words(of: type) -> dict[str, str]:
    """The words that those fields take that take no numbers."""
    hints = get_type_hints(of).items()
    return {name: _listed(hint) for name, hint in hints if get_origin(hint) is Literal}


def _listed(words: Any) -> str:
    return ", ".join(get_args(words))


def _first_part(text: str) -> str:
    return re.split(r"[.;](?:\s|$)", text, maxsplit=1)[0]


# A config has no None: a weight of 0 stands for it.
_ALL_TERMS = LossWeights(**dict.fromkeys(COSTLY_TERMS, 0.0))

GROUPS: Mapping[str, Group] = {
    "": Group(
        "The run",
        {"seed": Field(0, "of the parameters and of all samples")},
    ),
    "data": Group(
        "The pictures",
        {
            "name": Field("surfaces", "`draem-jax data list` shows all data sets"),
            "category": Field("brick", "of the data set's pictures"),
            "image_size": Field((256,), "HEIGHT,WIDTH, or one number for a square"),
            "fit": Field("squeeze", "whole pictures to image_size, or letterbox: shape kept"),
            # Small defects of large pictures are lost in whole ones.
            "tile": Field((0,), "HEIGHT,WIDTH of tiles to see pictures in; 0 for whole ones"),
            "scale": Field(1.0, "that pictures seen in tiles are brought to before"),
            "tile_overlap": Field(-1, "pixels that tiles share; -1 for a quarter; 0: side by side"),
            "root": Field("", "folder or archive, unless the data set is prepared already"),
            "skip_bad": Field(False, "go on without pictures that cannot be used, and count them"),
            # auto: the fewest that hold the highest value of all; full: what files can hold.
            "depth": Field(
                AUTO, "of pictures with more than 8 bits: auto, full, or a number of bits"
            ),
            "holdout": Field(0.0, "share of the normal pictures that is kept from training"),
            # A mask is white where to look. What is outside raises nothing and is not measured.
            "roi": Field("", "where to look: a mask for all, a folder of masks, or foreground"),
            "ignore_border": Field(0, "pixels along the pictures' sides that are not looked at"),
            # dtd, self, solid, noise, blocks and elsewhere are told in the README.
            "texture_source": Field(
                "builtin", f"a folder, {', '.join(NAMED_SOURCES)}; or a mix such as dtd:3,DIR:1"
            ),
            "resident_gib": Field(4.0, "pictures that take more device memory than this stream"),
            "on_lost_picture": Field("stop", "or skip, where pictures stream; counted"),
            "workers": Field(
                -1, "processes that read streams; 0 for threads, -1 for half the cores"
            ),
        },
    ),
    "model": Group(
        "The networks",
        {
            "variant": Field("full", ", ".join(VARIANTS)),
            "reconstructive_width": Field(128, "channels of its first block"),
            "discriminative_width": Field(64, "channels of its first block"),
            "dtype": Field("auto", "of activations: bfloat16, float32; auto by platform"),
            "initialisation": Field("code", f"of kernels: {', '.join(STARTS)}"),
            "remat": Field(False, "less memory for about a third more computation"),
            # What the method's authors do without; by default the networks are theirs.
            "difference": Field(False, "show |picture - reconstruction| to the discriminative one"),
            "reconstructive_input": Field(
                "picture", f"{', '.join(RECONSTRUCTIVE_INPUTS)}: what pictures are restored from"
            ),
            "reconstructive_skips": Field(0, "deep stages with a skip connection, 0 to 4"),
            "copied_share": Field(0.0, "of a batch, learned with the picture for a reconstruction"),
            "sspcab": Field(False, "a predictive block before the reconstruction"),
            "deep_supervision": Field(0, "coarser maps to learn by, 0 to 4"),
        },
    ),
    # Numbers, which any run may change without compiling anew, and words, each of which costs a
    # compilation.
    **dict(_groups_of("anomalies", AnomalyParams.code())),
    **dict(_groups_of("losses", _ALL_TERMS, explained_by=Losses)),
    "optimizer": Group(
        "How the networks learn",
        {
            "name": Field("adam", "or muon, by which narrow networks learn more in few steps"),
            "learning_rate": Field(1e-4, "at the start"),
            "schedule": Field("milestones", "how the rate falls: milestones, cosine"),
            "warmup": Field(0.0, "share of the steps over which the rate rises before"),
            "milestones": Field((0.8, 0.9), "shares of the steps after which the rate falls"),
            "factor": Field(0.2, "that the rate is multiplied by at each"),
            "b1": Field(0.9, "share of a gradient's mean that a step of Adam keeps"),
            "b2": Field(0.999, "the same of the mean of its square"),
            "average": Field(
                0.0, "share of an average of the networks that a step keeps; 0: none is taken"
            ),
        },
    ),
    "train": Group(
        "Training",
        {
            "steps": Field(20_000, "of a batch each; 0 for a number of epochs"),
            "epochs": Field(
                0, "with steps=0; an epoch draws as many samples as there are pictures"
            ),
            "batch_size": Field(8, "over all devices, which must divide it"),
            "steps_per_call": Field(0, "steps that one call to the devices makes; 0 by platform"),
            "log_every": Field(50, "steps that a mean of the losses is told of"),
            "sample_every": Field(1000, "steps to a sheet of samples"),
            "checkpoint_every": Field(1000, "steps to a checkpoint"),
            "keep_checkpoints": Field(2, "of the latest ones, besides the best"),
            "validation_pictures": Field(32, "simulated, whose loss tells the best checkpoint"),
            # What a run does about faults; see docs/faults.md.
            "on_full_disk": Field("stop", "or go_on, and try again at the next checkpoint"),
            "on_nan": Field(
                "stop", "or rollback: to the last checkpoint, and on with other samples"
            ),
            "max_rollbacks": Field(3, "of a run, before it stops"),
            "profile": Field((0, 0), "FROM,TO: steps to write a trace of, to profile/; 0,0: none"),
        },
    ),
    "evaluation": Group(
        "Evaluation",
        {
            "batch_size": Field(16, "pictures that the devices take at once"),
            # mean21 is the paper's; auto chooses on simulated anomalies.
            "score": Field("mean21", "of a map: its largest mean of 21 x 21; top100; top1%; auto"),
            # Two or four times the computation.
            "flips": Field(
                "none", "mirrored pictures to average maps over: none, horizontal, both"
            ),
        },
    ),
    "finetune": Group(
        "How `draem-jax finetune` goes on with a trained detector",
        {
            "steps": Field(300, "more than training made"),
            # It rises over the first tenth of the steps and falls to 0.
            "relative_rate": Field(0.3, "highest learning rate, as a share of optimizer's"),
            # What is left of a batch are normal pictures with simulated anomalies.
            "accepted_share": Field(0.3, "of a batch, from --accept"),
            "defect_share": Field(0.3, "of a batch, from --defects"),
            "flip": Field(True, "mirror the given pictures both ways"),
            "turn": Field(False, "turn square ones by quarters"),
            "brightness": Field(0.1, "make them brighter or darker by up to this share"),
            "holdout": Field(0.2, "share of them that is kept to measure with"),
        },
    ),
}
"""All fields, by the names of their groups."""
