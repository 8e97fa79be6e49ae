"""Compares recipes by the defects that they find: all, small ones, and faint ones.

    python tools/measure_missed.py runs/recipes/runs/code runs/recipes/runs/plus

Each folder is the work directory of a run, or holds those of several, such as all products and
seeds of a variant of a study; they are compared as far as all have them, and held against the first
one. A defect is an 8-connected region of a mask. It is found if any of its pixels lies above the
margin that the share --exceeded of the pixels of the run's normal test pictures exceeds, so that
all runs are compared at the same rate of false alarms. Small are defects below 0.3 % of the
picture's area, faint those with a contrast below 15 levels: to the undamaged picture for
`surfaces`, to a ring around for others.
"""

import argparse
import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
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
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--exceeded", type=float, default=0.001)
    options = parser.parse_args()

    use_cpu_devices()
    folders: list[Path] = options.folders
    runs = common_runs(folders)
    defects: dict[str, list[list[Defect]]] = defaultdict(lambda: [[] for _ in folders])
    for run in runs:
        for place, folder in enumerate(folders):
            product, of_run = look_for_defects(folder / run, exceeded=options.exceeded)
            defects[product][place].extend(of_run)
    defects["all"] = [
        list(itertools.chain(*parts)) for parts in zip(*defects.values(), strict=True)
    ]
    print(f"{len(runs)} runs each; {options.exceeded:.2%} of normal pixels are above thresholds")
    print(table(defects, [folder.name for folder in folders]))


def common_runs(folders: Sequence[Path]) -> list[Path]:
    """The work directories that all folders have, relative to them."""
    found = [
        {p.parent.relative_to(folder) for p in folder.rglob("checkpoints")} for folder in folders
    ]
    common = set.intersection(*found)
    if not common:
        names = ", ".join(map(str, folders))
        raise SystemExit(f"{names} have no run in common; give folders that are alike within")
    return sorted(common)


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


def table(defects: Mapping[str, Sequence[Sequence[Defect]]], names: Sequence[str]) -> str:
    """The recall of each recipe in per cent, and how much that is more than the first one's."""
    titles = [f"{name[-16:]:>16}" for name in names]
    lines = [f"{'product':16} {'defects':16} {'number':>7} {' '.join(titles)}"]
    for product, sides in defects.items():
        for title, belongs in BINS.items():
            chosen = [[defect for defect in side if belongs(defect)] for side in sides]
            base, *others = (100 * recall(side) for side in chosen)
            cells = [f"{base:16.1f}", *(f"{one:8.1f} {one - base:+7.1f}" for one in others)]
            lines.append(f"{product[:16]:16} {title:16} {len(chosen[0]):7} {' '.join(cells)}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
