"""Measures what fine-tuning does for a detector of the built-in surfaces.

    python tools/measure_finetuning.py --workdir=runs/quickstart --out=/tmp/finetuning

With ten accepted stained pictures, and with ten labelled pictures of the defect type whose pixel AP
is worst; with --draws=3 three times each, with other pictures. All are drawn from the half of the
photograph that training sees, and measured on pictures from the other half: the stain split, and
the test pictures. Thresholds are those for 5 % of normal pictures.
"""

import argparse
import math
from pathlib import Path

import numpy as np

from draem_jax.config import data_set, from_json
from draem_jax.data.surfaces import STAIN, export_samples
from draem_jax.detector import Draem
from draem_jax.evaluation.calibration import calibrated
from draem_jax.evaluation.evaluate import measure, open_test_pictures
from draem_jax.evaluation.finetuning import compare
from draem_jax.evaluation.stream import MetricOptions
from draem_jax.training.finetune import finetune
from draem_jax.training.parallel import use_cpu_devices

_ALPHA = 0.05


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", type=Path, required=True, help="of a run on surfaces")
    parser.add_argument("--out", type=Path, required=True, help="folder for what is made")
    parser.add_argument("--count", type=int, default=10, help="pictures that are given")
    parser.add_argument("--draws", type=int, default=1, help="of those pictures, one after another")
    parser.add_argument("--only", choices=("accept", "defects"), help="measure one of the two")
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="FIELD=NUMBER", help="of config.finetune"
    )
    options = parser.parse_args()
    use_cpu_devices(dividing=8)

    before = _measure(options.workdir)
    worst = min((kind for kind in before if kind.startswith("pixel AP, ")), key=before.__getitem__)
    defect_type = worst.partition(", ")[2]
    for flag, kind in (("accept", STAIN), ("defects", defect_type)):
        if options.only in (None, flag):
            after = [_tuned(options, flag, kind, draw) for draw in range(options.draws)]
            print(f"\n{options.count} pictures of {kind}, --{flag}: before, after, change")
            for name, value in before.items():
                values = [figures[name] for figures in after]
                each = "  ".join(f"{value:.3f}" for value in values)
                print(f"{name:<32} {value:.3f}  {each}  {np.mean(values) - value:+.3f}")


def _tuned(options: argparse.Namespace, flag: str, kind: str, draw: int) -> dict[str, float]:
    """The figures of the detector tuned on one draw of pictures, from the training half."""
    config = from_json(options.workdir / "config.json")
    given, out = options.out / f"{kind}-{draw}", options.out / f"run-{kind}-{draw}"
    first = draw * options.count
    export_samples(
        given,
        category=config.data.category,
        split="train",
        defect_type=kind,
        indices=range(first, first + options.count),
    )
    for field in options.set:
        name, _, value = field.partition("=")
        config.finetune[name] = type(config.finetune[name])(float(value))
    finetune(options.workdir, out, **{flag: given}, config=config)
    comparison = compare(out)
    comparison.save(out)
    print(comparison.table())
    return _measure(out)


def _measure(workdir: Path) -> dict[str, float]:
    """False alarms on stains and normal test pictures, and how well true defects are found."""
    detector = calibrated(Draem.load(workdir), keep=False)
    stains = data_set(detector.config).test_pictures(size=detector.image_size, split=STAIN)
    images = np.stack([stains[i].image for i in range(len(stains))])
    limit = detector.thresholds.image_threshold(_ALPHA) if detector.thresholds else None
    if limit is None:
        raise SystemExit("too few normal pictures were held out to count false alarms")
    test, _ = open_test_pictures(detector)
    evaluation = measure(detector, test, options=MetricOptions(replicates=0))["default"]
    good = np.array([row.score for row in evaluation.pictures if row.defect_type == "good"])
    found = {
        "image AUROC": evaluation.overall.values["image_auroc"],
        "pixel AP": evaluation.overall.values["pixel_ap"],
    } | {f"pixel AP, {kind}": m.values["pixel_ap"] for kind, m in evaluation.types.items()}
    return {
        "false alarms, stains": float(np.mean(detector.predict(images).score > limit)),
        "false alarms, normal test pictures": float(np.mean(good > limit)),
    } | {name: math.nan if value is None else value for name, value in found.items()}


if __name__ == "__main__":
    main()
