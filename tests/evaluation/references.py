"""Metrics written from their definitions, and pictures to hold others to them."""

from typing import NamedTuple

import numpy as np
from skimage.measure import label
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from draem_jax.evaluation.truth import encode_mask


def f1_max(labels, scores) -> float:
    precision, recall, _ = precision_recall_curve(labels, scores)
    return np.max(2 * precision * recall / np.maximum(precision + recall, 1e-300))


def aupro(maps, masks, limits) -> list[float]:
    """Per-region overlap: at every threshold, for every region, how much of it is found."""
    regions = []
    for scores, mask in zip(maps, masks, strict=True):
        labels = label(mask, connectivity=2)
        regions += [np.sort(scores[labels == i]) for i in range(1, labels.max() + 1)]
    good = np.sort(maps[~masks])
    needed = good[int((1 - max(limits)) * 0.9 * len(good))]  # below, rates exceed all limits
    thresholds = np.unique(maps[maps >= needed])[::-1]
    rates = np.r_[0, _share_from(good, thresholds)]
    overlaps = np.r_[0, np.mean([_share_from(r, thresholds) for r in regions], axis=0)]
    areas = []
    for limit in limits:
        last = np.flatnonzero(rates < limit)[-1]  # where the curve is vertical, its top
        slope = (overlaps[last + 1] - overlaps[last]) / (rates[last + 1] - rates[last])
        x = np.r_[rates[: last + 1], limit]
        y = np.r_[overlaps[: last + 1], overlaps[last] + slope * (limit - rates[last])]
        areas.append(np.trapezoid(y, x) / limit)
    return areas


def aupimo(good_maps, scores, mask, bounds) -> float:
    """Per-image overlap: this picture's true-positive rate over the log of the shared rate."""
    thresholds = np.unique(np.r_[good_maps.ravel(), scores.ravel()])[::-1]
    shared = np.mean([_share_from(np.sort(m.ravel()), thresholds) for m in good_maps], axis=0)
    found = _share_from(np.sort(scores[mask]), thresholds)
    no_alarm = shared == 0
    before = found[no_alarm][-1] if no_alarm.any() else 0
    x, y = np.log(shared[~no_alarm]), found[~no_alarm]
    x, y = np.r_[-np.inf, x[0], x], np.r_[before, before, y]
    low, high = np.log(bounds)
    area = 0.0
    for i in np.flatnonzero((x[1:] > low) & (x[:-1] < high) & (x[1:] > x[:-1])):
        ends = np.clip(x[i : i + 2], low, high)
        heights = np.interp(ends, x[i : i + 2], y[i : i + 2]) if i else before
        area += np.mean(heights) * (ends[1] - ends[0])
    return area / (high - low)


def pixel_metrics(maps, masks, limits=(0.3,)) -> dict[str, float]:
    labels, scores = masks.ravel(), maps.ravel()
    return {
        "pixel_auroc": roc_auc_score(labels, scores),
        "pixel_ap": average_precision_score(labels, scores),
        "pixel_f1_max": f1_max(labels, scores),
        **{f"aupro_{n:g}": v for n, v in zip(limits, aupro(maps, masks, limits), strict=True)},
    }


class Pictures(NamedTuple):
    margins: np.ndarray
    masks: np.ndarray
    scores: np.ndarray
    types: list[str]

    @property
    def truth(self) -> np.ndarray:
        return np.stack([encode_mask(mask) for mask in self.masks])

    def chosen(self, which) -> "Pictures":
        places = np.flatnonzero(which)
        return Pictures(*(part[places] for part in self[:3]), types=[self.types[i] for i in places])


def draw_pictures(case: str, *, size: int = 64, normal: int = 32, defective: int = 32) -> Pictures:
    """Margins of two overlapping heavy-tailed distributions, normal pictures first."""
    rng = np.random.default_rng(7)
    number = normal + defective
    holes = defective // 2
    types = ["good"] * normal + ["hole"] * holes + ["line"] * (defective - holes)
    row, column = np.ogrid[:size, :size]
    masks = np.zeros((number, size, size), bool)
    for i in range(normal, number):
        if case == "rare defects":
            if i % 2:
                masks[i][tuple(rng.integers(1, size - 1, 2))] = True
            continue
        for _ in range(rng.integers(1, 4)):
            y, x, radius = rng.uniform((0, 0, 1), (size, size, size / 8))
            masks[i] |= (row - y) ** 2 + (column - x) ** 2 < radius**2
    if case == "empty masks":
        masks[normal + 1 :: 3] = False
    if case == "all-defect pictures":
        masks[normal + 1 :: 5] = True
    margins = 1.5 * rng.standard_t(3, masks.shape) - 5 + 5 * masks
    if case == "ties":
        margins = np.round(margins * 2) / 2
    if case == "saturated softmax":
        with np.errstate(over="ignore", divide="ignore"):
            probability = (1 / (1 + np.exp(-4 * margins))).astype(np.float32)
            margins = np.log(probability) - np.log1p(-probability)
    margins = margins.astype(np.float32)
    scores = np.sort(margins.reshape(number, -1))[:, -20] + rng.normal(size=number)
    return Pictures(margins, masks, np.round(scores, 1).astype(np.float32), types)


def _share_from(ascending, thresholds):
    return 1 - np.searchsorted(ascending, thresholds) / len(ascending)
