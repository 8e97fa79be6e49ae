"""What lies in an exported folder besides the models: thresholds, and the manifest of it all."""

from __future__ import annotations

import datetime
import hashlib
import importlib.metadata
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from draem_jax.detector import Draem
from draem_jax.export.contract import OUTPUTS, Detection, input_contract
from draem_jax.export.proof import TOLERANCE
from draem_jax.export.stablehlo import PROMISE
from draem_jax.thresholds import Thresholds

FORMAT = "draem_jax export"
VERSION = 1
MANIFEST = "manifest.json"

_RATES = (0.01, 0.02, 0.05, 0.1, 0.2)


def thresholds_json(thresholds: Thresholds, *, alpha: float) -> str:
    """The thresholds, so that decisions can be made without this package.

    Args:
        thresholds: of the detector.
        alpha: the share of normal pictures that may be called anomalous, if nothing else is chosen.
    """
    rates = sorted({*_RATES, alpha})
    content = {
        "format": "draem_jax exported thresholds",
        "version": VERSION,
        "score": thresholds.score,
        "alpha": alpha,
        "decision": "a picture is anomalous if its score > image_thresholds[alpha], which is so "
        "exactly if its p_value <= alpha; with null too few normal pictures were held out for any "
        "picture to be called at that rate",
        "p_value": "(1 + how many of normal_scores are >= score) / (1 + how many there are)",
        "region": "a pixel belongs to a region if its margin > best_f1_margin (0 if null)",
        "image_thresholds": {f"{rate:g}": thresholds.image_threshold(rate) for rate in rates},
        "margin_thresholds": {f"{rate:g}": thresholds.margin_threshold(rate) for rate in rates},
        "best_f1_score": thresholds.best_f1_score,
        "best_f1_margin": thresholds.best_f1_margin,
        "normal_scores": list(thresholds.normal_scores),
        "normal_margins": list(thresholds.normal_margins),
        "made_from": dict(thresholds.made_from),
    }
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def write_manifest(
    folder: Path,
    detector: Draem,
    detection: Detection,
    *,
    models: Mapping[str, Mapping[str, Any]],
    pictures: str,
    license: str,
) -> None:
    """Writes the manifest of a folder; all other files must be there.

    Args:
        folder: that is exported.
        detector: that it was made of.
        detection: what it does.
        models: of each model's file, what is to be known of it.
        pictures: what the models were proved on.
        license: under which the models may be used; "" if that was not said.
    """
    files = {}
    for path in sorted(folder.iterdir()):
        written = path.read_bytes()
        files[path.name] = {
            "sha256": hashlib.sha256(written).hexdigest(),
            "bytes": len(written),
            **models.get(path.name, {}),
        }
    data = detector.config.data
    content = {
        "format": FORMAT,
        "version": VERSION,
        "written": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "license": license or None,
        "made_with": _versions(),
        "made_from": {
            "data": data.name,
            "category": data.category,
            "step": detector.step,
            "seed": detector.config.seed,
        },
        "input": input_contract(detection, full_scale=detector.full_scale),
        "outputs": OUTPUTS,
        "score": detection.score,
        "flips": detection.flips,
        "thresholds": "thresholds.json" if detector.thresholds is not None else None,
        "files": files,
        "proved_on": pictures,
        "tolerance": {"of": "models in float32", **TOLERANCE},
        "metrics": _metrics(detector),
        "archive": PROMISE,
    }
    text = json.dumps(content, indent=1, allow_nan=False) + "\n"
    (folder / MANIFEST).write_text(text, encoding="utf-8")


def _versions() -> dict[str, str]:
    versions = {}
    for name in ("draem-jax", "jax", "flax", "numpy", "onnx", "onnxruntime", "safetensors"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _metrics(detector: Draem) -> Any:
    """What `evaluate` measured of the same step; None where it was not run."""
    try:
        text = (detector.workdir / "evaluation" / "metrics.json").read_text(encoding="utf-8")
        measured = json.loads(text)
        if measured["step"] != detector.step:
            return None
        facts = {name: measured[name] for name in ("anomalies", "test_pictures", "compared_at")}
        values = {name: value for name, value in measured.items() if isinstance(value, float)}
        return values | facts
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
