"""One HTML page for one evaluation: figures, curves and the pictures, the worst first.

The page stands alone: pictures, plots, style and script are inside it, and it asks for nothing
from outside, so it can be mailed, archived or opened years later.
"""

import base64
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources

import jinja2
import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from markupsafe import Markup
from PIL import Image

from draem_jax.reports import plots
from draem_jax.reports.pictures import Mask, Picture, heat_map, outline, overlay, to_uint8

Figure = float | int | None

WORST_FIRST = (
    "A defective picture is the worse the more good pictures score at least as high, a good one "
    "the worse the more defective pictures score at most as high; among equals, the one whose map "
    "differs more from the true mask comes first."
)

_LONGEST_SIDE = 512  # of a picture on the page, in pixels
_JPEG_QUALITY = 85

_EXPLANATIONS = {
    "image_auroc": "The chance that a defective picture scores higher than a good one.",
    "image_ap": "Precision averaged over recall, the pictures ranked by their score.",
    "image_f1_max": "The best F1 that one threshold on the image score reaches.",
    "pixel_auroc": "The chance that a defect pixel has a higher map value than a good pixel.",
    "pixel_ap": "Precision averaged over recall, all pixels ranked by their map value.",
    "pixel_f1_max": "The best F1 of pixels that one threshold on the map reaches.",
    "aupro": "Overlap with each defect, large or small, averaged over low false-positive rates.",
}
_WORDS = {"auroc": "AUROC", "ap": "AP", "f1": "F1", "aupro": "AUPRO", "tpr": "TPR", "tnr": "TNR"}
_SHARES = {*_WORDS, "accuracy", "precision", "recall"}


@dataclass(frozen=True)
class ReportPicture:
    """One test picture and what the model made of it.

    Attributes:
        name: how the picture is called, such as its path in the test folder.
        defect_type: the group it belongs to, such as "crack", or "good".
        score: the image score; higher is more anomalous.
        image: the picture, RGB or grey: float in [0, 1] or uint8.
        reconstruction: the same, as the model would have it without a defect.
        anomaly_map: float in [0, 1].
        mask: the true defect, values above 0; None where it is not known.
        is_defective: whether the picture is of a defect.
        rank_error: see `rank_errors`. Give it for every picture or for none; where it is None,
            `render` works it out from the pictures that it is given.
    """

    name: str
    defect_type: str
    score: float
    image: Picture
    reconstruction: Picture
    anomaly_map: Float[np.ndarray, "H W"]
    mask: Mask | None
    is_defective: bool
    rank_error: float | None = None


@dataclass(frozen=True)
class Report:
    """What a page shows. What is left empty is left out.

    Attributes:
        title: of the page.
        facts: name → value of what was run: data, checkpoint, configuration.
        notes: sentences that the reader must not miss, such as that the data are a demonstration.
        metrics: key (such as image_auroc, pixel_ap) → value; None or NaN where the test set does
            not define it. What the key calls a share (auroc, ap, f1, precision and so on) is
            written in per cent, a whole number as a count, all else with four digits.
        metrics_by_type: defect type → key → value, as `metrics`. The values of pixel_ap are also
            plotted.
        roc_curves: name → (false positive rates, true positive rates, AUROC).
        pr_curves: name → (recalls, precisions, average precision).
        scores_by_type: type → image scores; those of `pictures` when empty.
        threshold: on the image score, drawn among the scores when given.
        pictures: all test pictures, or those chosen for the page, in any order.
        total_pictures: how many the test set has; the number of `pictures` when None.
    """

    title: str
    facts: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()
    metrics: Mapping[str, Figure] = field(default_factory=dict)
    metrics_by_type: Mapping[str, Mapping[str, Figure]] = field(default_factory=dict)
    roc_curves: Mapping[str, plots.Curve] = field(default_factory=dict)
    pr_curves: Mapping[str, plots.Curve] = field(default_factory=dict)
    scores_by_type: Mapping[str, plots.Values] = field(default_factory=dict)
    threshold: float | None = None
    pictures: Sequence[ReportPicture] = ()
    total_pictures: int | None = None


def rank_errors(
    scores: Float[np.ndarray, " N"], is_defective: Bool[np.ndarray, " N"]
) -> Float[np.ndarray, " N"]:
    """Says of each picture how far it stands on the wrong side of the others.

    Args:
        scores: image scores; higher is more anomalous.
        is_defective: which pictures are of a defect.

    Returns:
        For a defective picture, the share of the good ones that score at least as high; for a
        good one, the share of the defective ones that score at most as high. All 0 where the
        pictures are all good or all defective.
    """
    good, defective = np.sort(scores[~is_defective]), np.sort(scores[is_defective])
    errors = np.zeros(len(scores))
    if good.size and defective.size:
        below = np.searchsorted(good, scores[is_defective], side="left")
        errors[is_defective] = 1 - below / good.size
        errors[~is_defective] = (
            np.searchsorted(defective, scores[~is_defective], side="right") / defective.size
        )
    return errors


def worst_first(
    scores: Float[np.ndarray, " N"],
    is_defective: Bool[np.ndarray, " N"],
    anomaly_maps: Iterable[np.ndarray],
    masks: Iterable[np.ndarray | None],
) -> Int[np.ndarray, " N"]:
    """Orders pictures by how badly the model judged them.

    The worst have the greatest rank error (see `rank_errors`). Among equals, the greatest mean of
    |map − mask| comes first, a good picture's mask being empty and a defective picture without a
    mask coming last; then the score that is further on the wrong side, then the given order.

    Args:
        scores: image scores; higher is more anomalous.
        is_defective: which pictures are of a defect.
        anomaly_maps: N maps (H, W), float in [0, 1]; sizes may differ.
        masks: N masks (H, W), values above 0 being the defect, or None where unknown.

    Returns:
        Indices of the pictures, the worst first.
    """
    return _order(rank_errors(scores, is_defective), scores, is_defective, anomaly_maps, masks)


def render(report: Report, *, max_pictures: int = 48) -> str:
    """Writes a report as one HTML page.

    Args:
        report: what to show.
        max_pictures: at most so many pictures are shown, the worst ones; each takes some 60 kB
            of the page at 256 × 256.

    Returns:
        The page. Texts are escaped, so names may hold any characters.
    """
    pictures = report.pictures
    errors = _errors(pictures)
    order = _order(
        errors,
        np.array([picture.score for picture in pictures], float),
        np.array([picture.is_defective for picture in pictures], bool),
        [picture.anomaly_map for picture in pictures],
        [picture.mask for picture in pictures],
    )[:max_pictures]
    gallery = [_gallery_entry(pictures[index], float(errors[index])) for index in order]
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = resources.files(__package__).joinpath("page.html.j2").read_text("utf-8")
    return environment.from_string(template).render(
        report=report,
        cards=[_card(report, key, value) for key, value in report.metrics.items()],
        table=_table(report),
        figures=_figures(report),
        gallery=gallery,
        types=_type_counts([pictures[index] for index in order]),
        total=len(pictures) if report.total_pictures is None else report.total_pictures,
        worst_first=WORST_FIRST,
    )


def _order(
    errors: Float[np.ndarray, " N"],
    scores: Float[np.ndarray, " N"],
    is_defective: Bool[np.ndarray, " N"],
    anomaly_maps: Iterable[np.ndarray],
    masks: Iterable[np.ndarray | None],
) -> Int[np.ndarray, " N"]:
    map_errors = [
        _map_error(anomaly_map, mask, bool(defective))
        for anomaly_map, mask, defective in zip(anomaly_maps, masks, is_defective, strict=True)
    ]
    wrongness = np.where(is_defective, -scores, scores)
    # The last key is the first in rank, and lexsort is stable.
    return np.lexsort((-wrongness, -np.asarray(map_errors, float), -errors))


def _map_error(anomaly_map: np.ndarray, mask: np.ndarray | None, defective: bool) -> float:
    if mask is None:
        return -1.0 if defective else float(np.mean(np.abs(anomaly_map)))
    return float(np.mean(np.abs(anomaly_map - (mask > 0))))


def _errors(pictures: Sequence[ReportPicture]) -> Float[np.ndarray, " N"]:
    given = [picture.rank_error for picture in pictures if picture.rank_error is not None]
    if given and len(given) != len(pictures):
        raise ValueError("give rank_error for all pictures of a report or for none")
    if given:
        return np.array(given, float)
    scores = np.array([picture.score for picture in pictures], float)
    return rank_errors(scores, np.array([picture.is_defective for picture in pictures], bool))


def _label(key: str) -> str:
    words = [_WORDS.get(word, word) for word in key.split("_")]
    text = " ".join(words).replace("F1 max", "best F1")
    return text[:1].upper() + text[1:]


def _explanation(key: str) -> str:
    # A key may name its protocol at the end, as in pixel_ap_eroded.
    known = (name for name in _EXPLANATIONS if key == name or key.startswith(f"{name}_"))
    return _EXPLANATIONS.get(next(known, ""), "")


def _number(key: str, value: Figure) -> str:
    if value is None or not math.isfinite(value):
        return plots.UNKNOWN
    if isinstance(value, int):
        return f"{value:,}"
    if _SHARES.intersection(key.split("_")):
        return plots.percent(value)
    return f"{value:.4g}"


def _card(report: Report, key: str, value: Figure) -> dict[str, str]:
    text = _number(key, value)
    missing = _why_missing(report, key) if text == plots.UNKNOWN else ""
    return {
        "label": _label(key),
        "value": text,
        "explanation": _explanation(key),
        "missing": missing,
    }


def _why_missing(report: Report, key: str) -> str:
    kinds = {picture.is_defective for picture in report.pictures}
    complete = report.total_pictures in (None, len(report.pictures))
    if complete and kinds == {True}:
        return "Not defined: the test set has no good picture."
    if complete and kinds == {False}:
        return "Not defined: the test set has no defective picture."
    if key.startswith("image"):
        return "Not defined: it needs good and defective pictures."
    return "Not defined: it needs true masks of defects."


def _table(report: Report) -> dict[str, list]:
    keys = list(dict.fromkeys(key for row in report.metrics_by_type.values() for key in row))
    rows = [
        (name, [_number(key, row.get(key)) for key in keys])
        for name, row in report.metrics_by_type.items()
    ]
    return {"labels": [_label(key) for key in keys], "rows": rows}


def _figures(report: Report) -> dict[str, list[tuple[str, Markup]]]:
    by_type, curves = [], []
    good = {picture.defect_type for picture in report.pictures if not picture.is_defective}
    scores = report.scores_by_type or _scores_by_type(report.pictures)
    if scores:
        plot = plots.scores(scores, good=good or ("good",), threshold=report.threshold)
        by_type.append(("Image scores", plot))
    pixel_ap = {
        name: row["pixel_ap"] for name, row in report.metrics_by_type.items() if "pixel_ap" in row
    }
    if pixel_ap:
        by_type.append(("Pixel AP", plots.bars(pixel_ap, label="Pixel AP")))
    if report.roc_curves:
        curves.append(("ROC", plots.roc(report.roc_curves)))
    if report.pr_curves:
        curves.append(("Precision and recall", plots.precision_recall(report.pr_curves)))
    return {
        "by_type": [(title, _inline(plot)) for title, plot in by_type],
        "curves": [(title, _inline(plot)) for title, plot in curves],
    }


def _inline(svg: str) -> Markup:
    # HTML knows the namespaces of SVG; without them the page holds no address at all.
    return Markup(re.sub(r' xmlns(?::\w+)?="[^"]*"', "", svg))


def _scores_by_type(pictures: Sequence[ReportPicture]) -> dict[str, plots.Values]:
    """Groups the scores: the good pictures first, then the defect types by name."""
    groups: dict[str, list[float]] = {}
    for picture in sorted(
        pictures, key=lambda picture: (picture.is_defective, picture.defect_type)
    ):
        groups.setdefault(picture.defect_type, []).append(picture.score)
    return {name: np.array(scores, float) for name, scores in groups.items()}


def _type_counts(pictures: Sequence[ReportPicture]) -> list[tuple[str, int]]:
    return [(name, len(scores)) for name, scores in _scores_by_type(pictures).items()]


def _remark(picture: ReportPicture, rank_error: float) -> str:
    if rank_error == 0:
        return ""
    share = plots.percent(rank_error)
    if picture.is_defective:
        return f"{share} of the good pictures score at least as high"
    return f"{share} of the defective pictures score at most as high"


def _gallery_entry(picture: ReportPicture, rank_error: float) -> dict[str, object]:
    image, reconstruction = _fit(to_uint8(picture.image)), _fit(to_uint8(picture.reconstruction))
    anomaly_map = _fit(picture.anomaly_map.astype(np.float32))
    glow = overlay(image, anomaly_map)
    mask = None
    if picture.mask is not None and picture.mask.any():
        mask = _fit((picture.mask > 0).astype(np.uint8), Image.Resampling.NEAREST) > 0
        glow = outline(glow, mask)
    tiles = [
        ("Picture", _jpeg(image)),
        ("Reconstruction", _jpeg(reconstruction)),
        ("Anomaly map", _jpeg(heat_map(anomaly_map))),
        ("Overlay", _jpeg(glow)),
        ("True mask", None if mask is None else _png(to_uint8(mask))),
    ]
    empty = "not known" if picture.mask is None and picture.is_defective else "no defect"
    remark = _remark(picture, rank_error)
    return {"picture": picture, "tiles": tiles, "empty": empty, "remark": remark}


def _fit(
    image: np.ndarray, resampling: Image.Resampling = Image.Resampling.BOX
) -> UInt8[np.ndarray, "..."] | Float[np.ndarray, "..."]:
    height, width = image.shape[:2]
    factor = _LONGEST_SIDE / max(height, width)
    if factor >= 1:
        return image
    size = max(1, round(width * factor)), max(1, round(height * factor))
    grey = image.ndim == 3 and image.shape[-1] == 1
    small = Image.fromarray(image[..., 0] if grey else image).resize(size, resampling)
    return np.asarray(small)[..., None] if grey else np.asarray(small)


def _jpeg(image: UInt8[np.ndarray, "H W C"]) -> str:
    data = io.BytesIO()
    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    # Full colour resolution keeps thin outlines and map edges clean.
    picture.save(data, "JPEG", quality=_JPEG_QUALITY, subsampling=0, optimize=True)
    return _data_uri("image/jpeg", data.getvalue())


def _png(mask: UInt8[np.ndarray, "H W"]) -> str:
    data = io.BytesIO()
    Image.fromarray(mask).convert("1").save(data, "PNG", optimize=True)
    return _data_uri("image/png", data.getvalue())


def _data_uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
