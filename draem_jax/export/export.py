"""Exporting a trained detector: models are written, proved in their runtimes, and then kept."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from draem_jax import files
from draem_jax.detector import Draem
from draem_jax.errors import UserError
from draem_jax.evaluation.calibration import calibrated
from draem_jax.export.architecture import Architecture, describe, settings_of
from draem_jax.export.contract import Detection, Look, check_precision, detection_of
from draem_jax.export.manifest import thresholds_json, write_manifest
from draem_jax.export.proof import (
    Comparison,
    compare,
    held_out_pictures,
    said_by,
    said_by_checkpoint,
    spread,
)
from draem_jax.export.stablehlo import PLATFORMS, make_stablehlo, open_stablehlo
from draem_jax.export.weights import named_arrays, read_weights, same_bits, write_weights
from draem_jax.networks import DraemNetwork
from draem_jax.training.parallel import on_devices, replicate
from draem_jax.training.pictures import open_pictures
from draem_jax.training.state import create_network

_NEEDED = {
    "onnx": ("onnx", "onnxruntime"),
    "stablehlo": ("flatbuffers",),
    "safetensors": ("safetensors", "onnx", "onnxruntime"),
}
"""Packages that each format needs, to be written and to be proved."""

_LARGEST_ONNX = 2**31 - 2**20  # bytes, as its encoding has it; the graph takes the rest
_QUANTISED_BY = 64  # pictures


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """What is exported, and what it may cost.

    Attributes:
        formats: of `draem_jax.export.contract.FORMATS`.
        precision: one of `draem_jax.export.contract.PRECISIONS`.
        max_loss: what a precision below float32 may cost at most: of image AUROC, of pixel AP, and
            of the pictures that are decided otherwise, as a share.
        pictures: how many pictures the models are proved on at most.
        images: a picture or a folder of pictures to prove them on; the data set's where None.
        alpha: the share of normal pictures that may be called anomalous.
        license: under which the models may be used; "" if that is not said.
    """

    formats: tuple[str, ...] = ("onnx",)
    precision: str = "float32"
    max_loss: float = 0.02
    pictures: int = 50
    images: str | Path | None = None
    alpha: float = 0.05
    license: str = ""


@dataclass(frozen=True)
class Export:
    """What was exported.

    Attributes:
        proofs: by format, how the model compares with the checkpoint.
        proved_on: which pictures.
    """

    proofs: Mapping[str, Comparison]
    proved_on: str


@dataclass(frozen=True)
class _Source:
    """What models are made of."""

    detector: Draem
    detection: Detection
    network: DraemNetwork
    architecture: Architecture
    arrays: Mapping[str, np.ndarray]
    precision: str


@dataclass(frozen=True)
class _Model:
    """A model that was written: its file, how it is run, and what the manifest says of it."""

    name: str
    look: Look
    facts: Mapping[str, Any]


_OPTIONS = ExportOptions()


def export(
    workdir: str | Path,
    out: str | Path,
    *,
    checkpoint: str = "latest",
    options: ExportOptions = _OPTIONS,
) -> Export:
    """Exports a run's detector into a new folder; see `export_detector`.

    Args:
        workdir: the work directory of the run.
        out: the folder to make.
        checkpoint: "latest", "best" or a step.
        options: what is exported.

    Raises:
        UserError: there is no such run or checkpoint; or see `export_detector`.
    """
    # What is wrong with what was asked for shall be told before anything is computed.
    _check(Path(out), options)
    with on_devices(_cpus()):
        loaded = Draem.load(workdir, checkpoint=checkpoint)
        detection_of(loaded)
        return export_detector(calibrated(loaded), out, options=options)


def export_detector(
    detector: Draem, out: str | Path, *, options: ExportOptions = _OPTIONS
) -> Export:
    """Exports a detector into a new folder, which appears only once all is proved.

    Each model is run in its own runtime on held-out pictures, and compared with the checkpoint in
    float32; all of it on the CPU. In float32 it must say the same within
    `draem_jax.export.proof.TOLERANCE`; below, it must not lose more than was allowed.

    Args:
        detector: with the thresholds that decisions shall follow from, if any.
        out: the folder to make.
        options: what is exported.

    Raises:
        UserError: the detector does what an export cannot hold; `out` is there or cannot be
            written; a package is missing; there are no pictures to prove the export on;
            or a model differs from the checkpoint by more than it may.
    """
    _check(Path(out), options)
    detection = detection_of(detector)
    with on_devices(_cpus()):
        detector = _in_float32(detector)
        source = _source(detector, detection, options.precision)
        held_out = held_out_pictures(detector, count=options.pictures, images=options.images)
        expected = said_by_checkpoint(detector, held_out.images)
        thresholds = detector.thresholds
        threshold = None if thresholds is None else thresholds.image_threshold(options.alpha)
        proofs, facts = {}, {}
        with files.new_folder(out) as folder:
            for name in options.formats:
                model = _WRITERS[name](source, folder)
                found = said_by(model.look, held_out.images)
                proof = compare(
                    expected,
                    found,
                    held_out,
                    threshold=threshold,
                    decides=thresholds is not None,
                )
                _refuse(name, proof, options)
                proofs[name] = proof
                precision = {"precision": options.precision, "proof": proof.as_json()}
                facts[model.name] = {"format": name, **model.facts, **precision}
            if thresholds is not None:
                text = thresholds_json(thresholds, alpha=options.alpha)
                (folder / "thresholds.json").write_text(text, encoding="utf-8")
            write_manifest(
                folder,
                detector,
                source.detection,
                models=facts,
                pictures=held_out.source,
                license=options.license,
            )
    return Export(proofs, held_out.source)


def check_packages(formats: tuple[str, ...]) -> None:
    """Raises UserError unless the packages that formats need are installed."""
    for name in formats:
        missing = [p for p in _NEEDED[name] if importlib.util.find_spec(p) is None]
        if missing:
            raise UserError(
                f"--format={name} needs {' and '.join(missing)}; pip install 'draem-jax[export]'"
            )


def _cpus() -> list[jax.Device]:
    try:
        return jax.local_devices(backend="cpu")
    except RuntimeError as error:
        raise UserError(
            "an export is proved on the CPU, which JAX_PLATFORMS leaves out; add cpu to it, as in "
            "JAX_PLATFORMS=cuda,cpu"
        ) from error


def _check(out: Path, options: ExportOptions) -> None:
    check_precision(options.formats, options.precision)
    check_packages(options.formats)
    files.check_new_folder(out)


def _in_float32(detector: Draem) -> Draem:
    """The detector on the devices at hand, computing in float32."""
    config = detector.config.copy_and_resolve_references()
    config.model.dtype = "float32"
    return replace(
        detector, config=config, _variables=replicate(jax.device_get(detector.variables))
    )


def _source(detector: Draem, detection: Detection, precision: str) -> _Source:
    network = create_network(detector.config)
    return _Source(
        detector,
        detection,
        network,
        describe(network),
        named_arrays(detector.variables),
        precision,
    )


def _onnx(source: _Source, folder: Path) -> _Model:
    from draem_jax.export.onnx_graph import IR_VERSION, OPSET
    from draem_jax.export.onnx_model import make_onnx
    from draem_jax.export.onnx_runtime import open_onnx

    precision = source.precision
    dtype = np.float16 if precision == "float16" else np.float32
    size = sum(array.size for array in source.arrays.values()) * np.dtype(dtype).itemsize
    if size > _LARGEST_ONNX:
        raise UserError(
            f"an ONNX file holds 2 GiB at most, and the weights take {size / 2**30:.1f}; take "
            "--format=safetensors or --format=stablehlo"
        )
    model = make_onnx(
        source.architecture,
        source.arrays,
        source.detection,
        dtype=dtype,
        about="DRAEM; see manifest.json beside this file",
    )
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    if precision == "int8":
        from draem_jax.export.quantisation import quantise

        whole = path.rename(folder / "float32.onnx")
        quantise(whole, path, _normal_pictures(source.detector))
        whole.unlink()
    return _Model(
        path.name, open_onnx(str(path)), {"opset": OPSET, "ir_version": IR_VERSION, "archive": True}
    )


def _normal_pictures(detector: Draem) -> list[np.ndarray]:
    """Some that training never saw."""
    if not detector.config.data.holdout:
        raise UserError(
            "--precision=int8 is set by normal pictures that training never saw, and none were "
            "held out; train with --config.data.holdout=0.2, or take --precision=float16"
        )
    normal = open_pictures(
        detector.config, part="held_out", trained_on=detector.trained_on, roi=detector.roi
    ).normal
    return [normal[index] for index in spread(range(len(normal)), _QUANTISED_BY)]


def _stablehlo(source: _Source, folder: Path) -> _Model:
    path = folder / "model.stablehlo"
    path.write_bytes(
        make_stablehlo(
            source.network,
            source.detector.variables,
            source.detection,
            precision=source.precision,
        )
    )
    facts = {"platforms": list(PLATFORMS), "read_with": "jax.export.deserialize", "archive": False}
    return _Model(path.name, open_stablehlo(path), facts)


def _safetensors(source: _Source, folder: Path) -> _Model:
    from draem_jax.export.onnx_model import make_onnx
    from draem_jax.export.onnx_runtime import open_onnx

    path, description = folder / "weights.safetensors", folder / "network.json"
    write_weights(path, source.arrays)
    settings = settings_of(source.network)
    description.write_text(source.architecture.as_json(settings, source.arrays), encoding="utf-8")
    # It is proved by networks that are rebuilt from the two files alone.
    arrays = read_weights(path)
    if not same_bits(arrays, source.arrays):
        raise UserError(f"{path.name} does not hold the checkpoint's weights bit by bit")
    rebuilt = make_onnx(
        Architecture.from_json(description.read_text(encoding="utf-8")), arrays, source.detection
    )
    facts = {"described_by": description.name, "archive": True}
    return _Model(path.name, open_onnx(rebuilt.SerializeToString()), facts)


_WRITERS: Mapping[str, Callable[[_Source, Path], _Model]] = {
    "onnx": _onnx,
    "stablehlo": _stablehlo,
    "safetensors": _safetensors,
}


def _refuse(name: str, proof: Comparison, options: ExportOptions) -> None:
    """Raises UserError where a model differs from the checkpoint by more than it may."""
    if options.precision == "float32":
        if fault := proof.beyond_tolerance():
            raise UserError(
                f"--format={name} says other than the checkpoint: {fault}; nothing was written, "
                "please report it"
            )
    elif fault := proof.beyond_loss(options.max_loss):
        raise UserError(
            f"--precision={options.precision} costs too much: {fault}, --max_loss="
            f"{options.max_loss:g} may be; nothing was written, take float32 or allow more"
        )
