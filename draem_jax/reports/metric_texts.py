"""How metrics are called, what they mean, and how their values are written."""

import math

from draem_jax.reports.plots import UNKNOWN, percent

Value = float | int | None

_EXPLANATIONS = {
    "image_auroc": "The chance that a defective picture scores higher than a good one.",
    "image_ap": "Precision averaged over recall, the pictures ranked by their score.",
    "image_f1_max": "The best F1 that one threshold on the image score reaches.",
    "pixel_auroc": "The chance that a defect pixel has a higher map value than a good pixel.",
    "pixel_ap": "Precision averaged over recall, all pixels ranked by their map value.",
    "pixel_f1_max": "The best F1 of pixels that one threshold on the map reaches.",
    "aupro": "Overlap with each defect, large or small, averaged over low false-positive rates.",
    "aupimo": "Overlap with each defect at false-positive rates that hardly any good pixel meets.",
}
_WORDS = {
    "auroc": "AUROC",
    "ap": "AP",
    "f1": "F1",
    "aupro": "AUPRO",
    "aupimo": "AUPIMO",
    "tpr": "TPR",
    "tnr": "TNR",
}
_SHARES = {*_WORDS, "accuracy", "precision", "recall"}


def label(key: str) -> str:
    """Says how people call a metric: "Image AUROC" for image_auroc."""
    words = [_WORDS.get(word, word) for word in key.split("_")]
    text = " ".join(words).replace("F1 max", "best F1")
    return text[:1].upper() + text[1:]


def explanation(key: str) -> str:
    """Says in a sentence what a metric is; nothing of a metric that is not known.

    A key may name its protocol at the end, as in pixel_ap_eroded.
    """
    known = (name for name in _EXPLANATIONS if key == name or key.startswith(f"{name}_"))
    return _EXPLANATIONS.get(next(known, ""), "")


def number(key: str, value: Value) -> str:
    """Writes a metric's value.

    Args:
        key: the metric's; what it calls a share (auroc, ap, f1, precision and so on) is written
            in per cent, a whole number as a count, all else with four digits.
        value: a dash is written for None and NaN.
    """
    if value is None or not math.isfinite(value):
        return UNKNOWN
    if isinstance(value, int):
        return f"{value:,}"
    if _SHARES.intersection(key.split("_")):
        return percent(value)
    return f"{value:.4g}"
