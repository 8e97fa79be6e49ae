"""Measures how well a run's regions are told apart by type, from a few examples of each.

    python tools/measure_types.py --workdir=runs/quickstart

Examples are drawn at random from the test pictures, the others are named by the type of their
largest region. Printed are, as means and ranges over the draws: the macro-F1 of the others; the
share of them that is called unknown; and with each type left out in turn, the share of its
pictures that is called unknown, and that of the known types' others. Pictures in which no region is
found count as wrong, and not as unknown.
"""

import argparse
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from draem_jax import Draem
from draem_jax.config import data_set
from draem_jax.data.features import GOOD
from draem_jax.evaluation.calibration import calibrated
from draem_jax.inspection.examples import Example, make_example
from draem_jax.inspection.features import feature_names
from draem_jax.inspection.types import UNKNOWN, TypeModel
from draem_jax.regions.rule import RegionRule
from draem_jax.training.parallel import use_cpu_devices

_NOTHING = "no region"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", required=True)
    parser.add_argument("--checkpoint", default="latest")
    parser.add_argument("--types", help="known types; all but scratch if not given")
    parser.add_argument("--examples", type=int, default=5, help="of each type")
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--unknown_rate", type=float, default=0.1)
    parser.add_argument("--join_gap", type=float, default=RegionRule.join_gap)
    parser.add_argument("--min_area", type=float, default=RegionRule.min_area)
    options = parser.parse_args()

    use_cpu_devices()
    detector = Draem.load(options.workdir, checkpoint=options.checkpoint)
    examples = _read(detector, options)
    names = feature_names(detector.feature_channels)
    present = sorted({e.defect_type for e in examples})
    types = options.types.split(",") if options.types else [t for t in present if t != "scratch"]
    draws = [_draw(examples, types, options.examples, seed) for seed in range(options.draws)]

    f1s, unknown, probability = [], [], []
    confusion: Counter[tuple[str, str]] = Counter()
    for learned, others in draws:
        called = _called(learned, others, names, options.unknown_rate)
        pairs = [(e.defect_type, name) for e, (name, _) in zip(others, called, strict=True)]
        confusion.update(pairs)
        f1s.append(_macro_f1(pairs, types))
        unknown.append(np.mean([name == UNKNOWN for _, name in pairs]))
        probability += [
            (p, name == e.defect_type)
            for e, (name, p) in zip(others, called, strict=True)
            if p is not None
        ]
    print(f"{options.examples} examples of each of {', '.join(types)}; {options.draws} draws")
    print(f"macro-F1 of the others:      {_range(f1s)}")
    print(f"others called unknown:       {_range(unknown)}")
    p, right = np.array(probability, float).T
    print(f"mean probability of what is named {p.mean():.3f}, right {right.mean():.3f}")
    print("\nleft out           called unknown             known called unknown")
    for left in present:
        missed, false = [], []
        for learned, others in draws:
            kept = [e for e in learned if e.defect_type != left]
            known = [e for e in others if e.defect_type != left]
            away = [e for e in examples if e.defect_type == left]
            called = _called(kept, [*away, *known], names, options.unknown_rate)
            is_unknown = [name == UNKNOWN for name, _ in called]
            missed.append(np.mean(is_unknown[: len(away)]))
            false.append(np.mean(is_unknown[len(away) :]))
        print(f"{left:18} {_range(missed):26} {_range(false)}")
    given = [*types, UNKNOWN, _NOTHING]
    print("\nmean number called" + "".join(f"{name[:10]:>12}" for name in given))
    for name in types:
        counts = [confusion[name, called] / options.draws for called in given]
        print(f"{name:18}" + "".join(f"{count:12.2f}" for count in counts))


def _read(detector: Draem, options: argparse.Namespace) -> list[Example]:
    detector = calibrated(detector)
    rule = detector.region_rule(join_gap=options.join_gap, min_area=options.min_area)
    source = data_set(detector.config).test_pictures(size=detector.image_size)
    pictures = [p for p in (source[i] for i in range(len(source))) if p.defect_type != GOOD]
    images = (picture.image for picture in pictures)
    inspections = detector.inspect_pictures(images, rule=rule, with_features=True)
    return [
        make_example(picture.name, picture.defect_type, inspection)
        for picture, inspection in zip(pictures, inspections, strict=True)
    ]


def _draw(
    examples: list[Example], types: list[str], count: int, seed: int
) -> tuple[list[Example], list[Example]]:
    rng = np.random.default_rng(seed)
    learned, others = [], []
    for name in types:
        of_type = [e for e in examples if e.defect_type == name]
        order = rng.permutation(len(of_type))
        usable = [i for i in order if len(of_type[i].features)][:count]
        learned += [of_type[i] for i in usable]
        others += [of_type[i] for i in order if i not in usable]
    return learned, others


def _called(
    learned: list[Example], others: list[Example], names: tuple[str, ...], unknown_rate: float
) -> list[tuple[str, float | None]]:
    model = TypeModel.fit(
        [e.features for e in learned],
        [e.defect_type for e in learned],
        names,
        unknown_rate=unknown_rate,
    )
    found = [model.name_picture(e.features) if len(e.features) else None for e in others]
    return [(_NOTHING, None) if n is None else (n.defect_type, n.probability) for n in found]


def _macro_f1(pairs: list[tuple[str, str]], types: list[str]) -> float:
    scores = []
    for name in types:
        right = sum(true == name == called for true, called in pairs)
        total = sum((true == name) + (called == name) for true, called in pairs)
        scores.append(2 * right / total)
    return float(np.mean(scores))


def _range(values: Sequence[Any]) -> str:
    return f"{np.mean(values):.3f} ({min(values):.3f} to {max(values):.3f})"


if __name__ == "__main__":
    main()
