"""What fine-tuning has changed: the same pictures, measured before and after."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from ml_collections import ConfigDict
from sklearn.metrics import average_precision_score, roc_auc_score

from draem_jax import files
from draem_jax.config import fitting, image_size, region_of_interest
from draem_jax.data.examples import LEAST_HELD_OUT, read_examples
from draem_jax.data.loading import Part
from draem_jax.data.pictures import resize, resize_mask, resize_plane
from draem_jax.data.roi import both
from draem_jax.detector import Draem
from draem_jax.errors import UserError
from draem_jax.evaluation.calibration import (
    PictureSet,
    calibrated,
    judge,
    read_all,
    simulate_in_tiles,
    simulate_on,
)
from draem_jax.evaluation.canvases import (
    Canvases,
    GivenCanvases,
    JudgedCanvases,
    Shown,
    judge_canvases,
)
from draem_jax.metrics.table import title
from draem_jax.reports.pictures import sheet, write_png
from draem_jax.training.pictures import open_pictures
from draem_jax.training.trained_on import TrainedOn
from draem_jax.training.tuned_from import TunedFrom

WORSE = 0.01
"""A figure that got worse by more than this is warned of."""


# Without held-out normal pictures, so many of those trained on are looked at.
_MOST_TRAINED_ON = 64
# Pictures of each kind on the sheet.
_SHOWN = 4


@dataclass(frozen=True)
class Change:
    """One figure before and after fine-tuning.

    Attributes:
        name: in `finetune.json`.
        text: what it is of, for people.
        pictures: that it is measured on.
        before: its value for the detector that was tuned; None if it cannot be measured.
        after: its value for the tuned one.
        lower_is_better: as of false alarms.
    """

    name: str
    text: str
    pictures: int
    before: float | None
    after: float | None
    lower_is_better: bool

    @property
    def warning(self) -> str | None:
        """One line if it got worse by more than `WORSE`."""
        if self.before is None or self.after is None:
            return None
        change = self.after - self.before
        if (change if self.lower_is_better else -change) <= WORSE:
            return None
        return f"{self.text} got worse: {self.before:.3f} before, {self.after:.3f} after"


@dataclass(frozen=True)
class Comparison:
    """All figures of a fine-tuning, and what to know of them.

    Attributes:
        figures: in the order in which they are shown.
        notes: on what they were measured, one line each.
        sheet: some pictures of each kind that the detector judged worst before, RGB, with its
            anomaly maps of them before and after.
    """

    figures: tuple[Change, ...]
    notes: tuple[str, ...]
    sheet: UInt8[np.ndarray, "H W 3"]

    @property
    def warnings(self) -> list[str]:
        """One line for each figure that got worse."""
        return [figure.warning for figure in self.figures if figure.warning]

    def table(self) -> str:
        """The figures in columns of text."""
        width = max(len(figure.text) for figure in self.figures)
        lines = [f"{'':<{width}}  pictures  before   after"]
        for f in self.figures:
            numbers = f"{f.pictures:>8}  {_shown(f.before):>6}  {_shown(f.after):>6}"
            lines.append(f"{f.text:<{width}}  {numbers}")
        return "\n".join(lines)

    def save(self, workdir: str | Path) -> None:
        """Writes `finetune.json`, and the sheet as `finetune.png`."""
        content = {
            "figures": {
                f.name: {"pictures": f.pictures, "before": f.before, "after": f.after}
                for f in self.figures
            },
            "warnings": self.warnings,
            "notes": list(self.notes),
        }
        workdir = Path(workdir)
        files.write_text(
            workdir / "finetune.json", json.dumps(content, indent=2, allow_nan=False) + "\n"
        )
        write_png(workdir / "finetune.png", self.sheet)


def compare(workdir: str | Path, *, alpha: float = 0.05) -> Comparison:
    """Measures a fine-tuned detector and the one that it was made from.

    False alarms are counted at each detector's own threshold for the rate `alpha`, which one half
    of the held-out normal pictures sets; those of normal pictures are counted on the other half.
    Anomalies are simulated on that half, too.

    Args:
        workdir: the work directory of the fine-tuned run; its thresholds are worked out and kept
            there. In the directory of the run that was tuned nothing is written.
        alpha: false-alarm rate of the threshold.

    Raises:
        UserError: a run, its pictures, or those that were given cannot be read.
    """
    tuned, tuned_from = Draem.load(workdir), TunedFrom.load(Path(workdir))
    if tuned_from is None:
        raise UserError(f"{workdir} was not fine-tuned; give the --out-workdir of a fine-tuned run")
    base = Draem.load(tuned_from.workdir, checkpoint=str(tuned_from.step))
    kinds, notes = _pictures(tuned.config, tuned_from, tuned.trained_on)
    before = _measure(calibrated(base, keep=False), kinds, alpha)
    tuned = calibrated(tuned)
    after = _measure(tuned, kinds, alpha)
    if tuned.thresholds is None:
        notes.append(
            "no normal pictures were held out (config.data.holdout is 0), so there is no threshold "
            "to count false alarms at"
        )
    elif warning := tuned.thresholds.warning(alpha):
        notes.append(warning)
    figures = [
        replace(one, after=other.before)
        for one, other in zip(before.figures, after.figures, strict=True)
    ]
    return Comparison(tuple(figures), tuple(notes), _sheet(kinds, before, after))


@dataclass(frozen=True)
class _Kind:
    """Pictures of one kind to measure with: its name, what they are, and the pictures."""

    kind: str
    text: str
    pictures: PictureSet | Canvases | GivenCanvases

    @property
    def defective(self) -> bool:
        return self.kind in ("simulated", "defects")

    def __len__(self) -> int:
        return len(self.pictures.images if isinstance(self.pictures, PictureSet) else self.pictures)

    def __getitem__(self, index: int) -> Shown:
        if isinstance(self.pictures, PictureSet):
            images, masks, planes = self.pictures
            return Shown(images[index], masks[index], None if planes is None else planes[index])
        return self.pictures[index]

    def judged(self, detector: Draem) -> JudgedCanvases:
        """What a detector makes of them, by its own score."""
        names = (detector.score_name,)
        if isinstance(self.pictures, PictureSet):
            return judge(detector, self.pictures, names).flattened(self.pictures.masks)
        return judge_canvases(detector, self.pictures, names)


def _pictures(
    config: ConfigDict, tuned_from: TunedFrom, trained_on: TrainedOn | None
) -> tuple[list[_Kind], list[str]]:
    """All that is measured on, normal pictures first, and notes on them."""
    kinds, notes = [], []
    held_out = bool(config.data.holdout)
    part: Part = "selection" if held_out else "training"
    normal = open_pictures(config, part=part, trained_on=trained_on)
    if not len(normal.normal):  # of one picture held out, none is left to choose by
        normal = open_pictures(config, part="held_out", trained_on=trained_on)
    if not held_out:
        some = np.linspace(0, len(normal.normal) - 1, min(_MOST_TRAINED_ON, len(normal.normal)))
        normal = normal.take(np.unique(some.astype(int)).tolist())
    text = "held-out normal pictures" if held_out else "normal pictures trained on"
    if normal.fitting.is_tiled:
        simulated: Any = simulate_in_tiles(config, normal)
        kinds.append(_Kind("normal", text, replace(simulated, patches=())))
        simulated = replace(simulated, with_normal=False)
    else:
        kinds.append(_Kind("normal", text, read_all(normal)))
        simulated = simulate_on(config, normal)
    kinds.append(_Kind("simulated", "simulated anomalies", simulated))
    examples = read_examples(
        tuned_from.accept,
        tuned_from.defects,
        size=image_size(config),
        full_scale=normal.full_scale,
        depth=config.data.depth,
        roi=region_of_interest(config),
        fitting=fitting(config),
    )
    learned, apart = examples.divide(config.finetune.holdout)
    for kind, text in (("accepted", "accepted pictures"), ("defects", "labelled defects")):
        if not len(getattr(examples, kind)):
            continue
        enough = len(getattr(apart, kind)) > 0
        chosen = apart if enough else learned
        if kind == "defects":
            given = PictureSet(chosen.defects, chosen.masks, chosen.defect_planes)
            sizes = chosen.defect_sizes
        else:
            nothing = np.zeros(chosen.accepted.shape[:3], bool)
            given = PictureSet(chosen.accepted, nothing, chosen.accepted_planes)
            sizes = chosen.accepted_sizes
        pictures: PictureSet | GivenCanvases = given
        if sizes is not None:
            pictures = GivenCanvases(given.images, given.masks, given.planes, sizes)
        kinds.append(_Kind(kind, f"{'held-out' if enough else 'learned'} {text}", pictures))
        if not enough:
            notes.append(
                f"too few {text} to hold some out ({LEAST_HELD_OUT} are the least, at a share of "
                f"{config.finetune.holdout:g}): all were learned, and the figures are of these"
            )
    return kinds, notes


class _Measured(NamedTuple):
    """What one detector makes of all pictures.

    Attributes:
        detector: which one.
        figures: all that are shown, as figures before fine-tuning.
        judged: what it makes of each kind.
        scores: of each kind's pictures.
    """

    detector: Draem
    figures: list[Change]
    judged: list[JudgedCanvases]
    scores: list[Float[np.ndarray, " N"]]


def _measure(detector: Draem, kinds: Sequence[_Kind], alpha: float) -> _Measured:
    thresholds = detector.thresholds
    limit = thresholds.image_threshold(alpha) if thresholds is not None else None
    measured = _Measured(detector, [], [], [])
    figures = measured.figures
    for kind in kinds:
        judged = kind.judged(detector)
        scores = judged.scores[detector.score_name]
        measured.judged.append(judged)
        measured.scores.append(scores)
        if not kind.defective:
            alarms = None if limit is None else float(np.mean(scores > limit))
            figures.append(_figure(kind, "false_alarms", "false alarms", alarms, lower=True))
            continue
        # The normal pictures come first.
        pair = measured.judged[0], judged
        truth = np.concatenate([own.truth for own in pair])
        margins = np.concatenate([own.margins for own in pair])
        together = np.concatenate([measured.scores[0], scores])
        defective = np.arange(len(together)) >= len(measured.scores[0])
        auroc = float(roc_auc_score(defective, together))
        ap = float(average_precision_score(truth, margins)) if truth.any() else None
        figures.append(_figure(kind, "image_auroc", title("image_auroc"), auroc))
        figures.append(_figure(kind, "pixel_ap", title("pixel_ap"), ap))
    return measured


def _maps(detector: Draem, shown: Sequence[Shown]) -> Float[np.ndarray, "N H W"]:
    """Maps at the size that the networks see; 0 where the detector does not look."""
    seen_ones = detector.see(((one.image, one.plane) for one in shown), with_reconstruction=False)
    maps = []
    for one, seen in zip(shown, seen_ones, strict=True):
        inside = both(one.plane, seen.on_object)
        own = seen.anomaly_map if inside is None else np.where(inside, seen.anomaly_map, 0)
        maps.append(resize_plane(own.astype(np.float32), detector.image_size))
    return np.stack(maps)


def _sheet(
    kinds: Sequence[_Kind], before: _Measured, after: _Measured
) -> UInt8[np.ndarray, "H W 3"]:
    columns: dict[str, list[np.ndarray]] = {
        name: [] for name in ("picture", "mask", "before", "after")
    }
    labels = []
    for i, kind in enumerate(kinds):
        order = np.argsort(before.scores[i])
        worst = order[:_SHOWN] if kind.defective else order[::-1][:_SHOWN]
        shown = [kind[int(k)] for k in worst]
        size = before.detector.image_size
        columns["picture"].append(np.stack([resize(one.image, size) for one in shown]))
        columns["mask"].append(np.stack([resize_mask(one.mask, size) for one in shown])[..., None])
        for name, measured in (("before", before), ("after", after)):
            columns[name].append(_maps(measured.detector, shown)[..., None])
        labels += [
            f"{kind.kind} {before.scores[i][k]:.2f} to {after.scores[i][k]:.2f}" for k in worst
        ]
    return sheet({name: np.concatenate(parts) for name, parts in columns.items()}, labels)


def _figure(
    kind: _Kind, name: str, text: str, value: float | None, *, lower: bool = False
) -> Change:
    return Change(
        name=f"{name}_{kind.kind}",
        text=f"{text}, {kind.text}",
        pictures=len(kind),
        before=value,
        after=None,
        lower_is_better=lower,
    )


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
