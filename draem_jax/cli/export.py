"""`draem-jax export`."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from draem_jax.cli.common import (
    Verb,
    check_alpha,
    define_alpha,
    define_checkpoint,
    define_cpu_devices,
    define_path,
    define_workdir,
    parse_workdir,
    say,
)
from draem_jax.errors import UserError

if TYPE_CHECKING:
    from draem_jax.export.proof import Comparison

# As in draem_jax.export.contract, which is imported by those who export.
_FORMATS = ("onnx", "stablehlo", "safetensors")
_PRECISIONS = ("float32", "float16", "bfloat16", "int8")


def _define(values: flags.FlagValues) -> None:
    define_workdir(values, "Of the run to export.")
    define_path(values, "out", None, "The folder to make; it must not be there yet.")
    flags.DEFINE_list(
        "format", ["onnx"], "What to write: onnx, stablehlo, safetensors, or several of them with "
        "commas between.", flag_values=values,
    )  # fmt: skip
    flags.DEFINE_enum(
        "precision", "float32", _PRECISIONS, "What the networks compute in: float16 and int8 are "
        "of onnx, bfloat16 is of stablehlo. What it costs is measured and printed.",
        flag_values=values,
    )  # fmt: skip
    flags.DEFINE_float(
        "max_loss", 0.02, "What a precision below float32 may cost at most: in image AUROC, in "
        "pixel AP, and in the share of pictures that are decided otherwise.", flag_values=values,
    )  # fmt: skip
    flags.DEFINE_integer(
        "pictures", 50, "How many pictures the export is proved on at most, spread over all test "
        "pictures.", lower_bound=1, upper_bound=10_000, flag_values=values,
    )  # fmt: skip
    define_path(
        values, "images", None, "A folder of pictures to prove it on, where the data set is not at "
        "hand; what a precision costs is told by the decisions alone then.",
    )  # fmt: skip
    flags.DEFINE_string(
        "license", "", "Under which the models may be used, noted in the manifest.",
        flag_values=values,
    )  # fmt: skip
    define_checkpoint(values)
    define_alpha(values)
    define_cpu_devices(values)


def _run(values: Any) -> None:
    workdir = parse_workdir(values)
    if not values.out:
        raise UserError("--out=DIRECTORY is missing; see `draem-jax export --help`")
    formats = tuple(dict.fromkeys(values.format))
    for name in formats or [""]:
        if name not in _FORMATS:
            raise UserError(f"--format={name} is none of {', '.join(_FORMATS)}")
    check_alpha(values.alpha)
    if not 0 <= values.max_loss < math.inf:
        raise UserError(f"--max_loss={values.max_loss:g} must be 0 or more, such as 0.01")
    from draem_jax.export.export import ExportOptions, export
    from draem_jax.training.parallel import use_cpu_devices

    use_cpu_devices(values.cpu_devices)
    options = ExportOptions(
        formats=formats,
        precision=values.precision,
        max_loss=values.max_loss,
        pictures=values.pictures,
        images=values.images,
        alpha=values.alpha,
        license=values.license,
    )
    exported = export(workdir, values.out, checkpoint=values.checkpoint, options=options)
    for name, proof in exported.proofs.items():
        _tell(f"{name} in {values.precision}", proof, exported.proved_on)
    say(f"see {Path(values.out) / 'manifest.json'}")


def _tell(what: str, proof: "Comparison", proved_on: str) -> None:
    """Says how a model compares with the checkpoint."""
    differences = proof.differences
    say(
        f"{what}: within {differences['score']:.1e} of the checkpoint's scores and "
        f"{differences['anomaly_map']:.1e} of its maps, on {proof.pictures} {proved_on}"
    )
    for name, of in (("image AUROC", "image_auroc"), ("pixel AP", "pixel_ap")):
        before, after = (getattr(figures, of) for figures in (proof.checkpoint, proof.model))
        if before is not None and after is not None:
            say(f"  {name:<12} {before:.4f} of the checkpoint, {after:.4f} of the model")
    if proof.decisions is None:
        say("  nothing is decided: the run held no normal pictures out")
    else:
        differ = proof.decisions + proof.on_threshold
        say(f"  decisions    {differ} of {proof.pictures} pictures decided otherwise")


VERB = Verb(
    "export",
    "Write a detector for other programs, proved to say the same.",
    """\
    Writes into --out, which appears once all is proved,

      model.onnx         for onnxruntime, OpenVINO, TensorRT (opset 18)
      model.stablehlo    for JAX on cpu, cuda and tpu; JAX promises to read it for six months
      weights.safetensors, network.json
                         the weights, and the networks as a list of layers, to rebuild them from
      thresholds.json    what decisions follow from
      manifest.json      versions, what goes in and comes out, proofs and checksums

    A model takes pictures of 8 bits at the size that the networks see, in batches of any size, and
    gives maps and scores. It is run in its own runtime on held-out pictures. In float32, scores
    must be within 1e-4 of the checkpoint's, maps within 1e-3, and decisions the same; what a lower
    --precision costs must be within --max_loss. Else nothing is left on disk. Needs
    pip install 'draem-jax[export]'.

      draem-jax export --workdir=runs/quickstart --out=exported/
      draem-jax export --workdir=runs/quickstart --out=exported_int8/ --precision=int8
      draem-jax export --workdir=runs/quickstart --out=archive/ --format=onnx,safetensors
    """,
    _define,
    _run,
)
