"""Compares two recipes by the defects that they find: all, small ones, and faint ones.

    python tools/measure_missed.py --base=runs/recipes/runs/code --other=runs/recipes/runs/plus

Each folder is the work directory of a run, or holds those of several, such as all products and
seeds of a variant of a study; they are compared as far as both have them. A defect is an
8-connected region of a mask. It is found if any of its pixels lies above the margin that the share
--exceeded of the pixels of the run's normal test pictures exceeds, so that all runs are compared at
the same rate of false alarms. Small are defects below 0.3 % of the picture's area, faint those with
a contrast below 15 levels: to the undamaged picture for `surfaces`, to a ring around for others.
"""

import argparse
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from draem_jax import Draem
from draem_jax.config import data_set
from draem_jax.data.loading import StoredTestPictures
from draem_jax.data.pictures import decode_picture
from draem_jax.data.surfaces import Category, draw_sample
from draem_jax.evaluation.missed import Defect, list_defects, recall, threshold_of_normal
from draem_jax.training.parallel import use_cpu_devices

BINS: dict[str, Callable[[Defect], bool]] = {
    "all": lambda defect: True,
    "small": lambda defect: defect.is_small,
    "faint": lambda defect: defect.is_faint,
    "small and faint": lambda defect: defect.is_small and defect.is_faint,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", required=True, type=Path)
    parser.add_argument("--other", required=True, type=Path)
    parser.add_argument("--exceeded", type=float, default=0.001)
    options = parser.parse_args()

    use_cpu_devices()
    runs = pair_runs(options.base, options.other)
    defects: dict[str, tuple[list[Defect], list[Defect]]] = defaultdict(lambda: ([], []))
    for run in runs:
        for side, folder in enumerate((options.base, options.other)):
            product, of_run = look_for_defects(folder / run, exceeded=options.exceeded)
            for name in (product, "all"):
                defects[name][side].extend(of_run)
    print(
        f"{len(runs)} pairs of runs; {options.exceeded:.2%} of normal pixels are above thresholds"
    )
    print(table(defects))


def pair_runs(base: Path, other: Path) -> list[Path]:
    """The work directories that both folders have, relative to them."""
    of_base, of_other = (
        {path.parent.relative_to(folder) for path in folder.rglob("checkpoints")}
        for folder in (base, other)
    )
    if not of_base & of_other:
        raise SystemExit(f"{base} and {other} have no run in common; give folders alike within")
    return sorted(of_base & of_other)


def look_for_defects(workdir: Path, *, exceeded: float) -> tuple[str, list[Defect]]:
    """The name of a run's product, and the defects of its test pictures."""
    detector = Draem.load(workdir)
    data = detector.config.data
    source = data_set(detector.config, full_scale=detector.full_scale)
    test = source.test_pictures(size=detector.image_size).fitted(detector.fitting)
    normal = [i for i, is_normal in enumerate(test.normal) if is_normal]
    defective = [i for i, is_normal in enumerate(test.normal) if not is_normal]
    threshold = threshold_of_normal(
        [margin for _, margin in look(detector, test, normal)], exceeded=exceeded
    )
    defects = []
    for index, margin in look(detector, test, defective):
        record, name = test.pictures.record(index), test.names[index]
        if record["has_mask"]:
            defects += list_defects(
                name,
                decode_picture(record["image"]),
                decode_picture(record["mask"])[..., 0] > 0,
                margin,
                threshold=threshold,
                undamaged=undamaged(data.category, name) if data.name == "surfaces" else None,
            )
    return data.category or Path(data.root).name, defects


def look(
    detector: Draem, test: StoredTestPictures, indices: Sequence[int]
) -> Iterator[tuple[int, np.ndarray]]:
    """The margins of some test pictures, at their own size."""
    seen = detector.see(((test[i].image, None) for i in indices), with_reconstruction=False)
    for index, one in zip(indices, seen, strict=True):
        yield index, detector.fitting.restore(one.margin, test.pictures.own_size(index))


def undamaged(category: Category, name: str) -> np.ndarray:
    """A test picture of `surfaces` without its defect."""
    kind, _, number = name.partition("/")
    sample = draw_sample(category=category, split="test", defect_type=kind, index=int(number))
    return sample.undamaged


def table(defects: dict[str, tuple[list[Defect], list[Defect]]]) -> str:
    """Recalls side by side, in per cent."""
    lines = [f"{'product':20} {'defects':16} {'number':>7} {'base':>6} {'other':>6} {'more':>6}"]
    for product, sides in defects.items():
        for title, belongs in BINS.items():
            chosen = [[defect for defect in side if belongs(defect)] for side in sides]
            base, other = (100 * recall(side) for side in chosen)
            lines.append(
                f"{product:20} {title:16} {len(chosen[0]):7} {base:6.1f} {other:6.1f} "
                f"{other - base:+6.1f}"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
