"""All metrics: what each is called, what it says, and how it follows from a ranking.

All are shares of which more is better. Another one takes an entry here, and its formula in
`draem_jax.metrics.rankings`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from draem_jax.metrics.rankings import Ranking, Values, aupro, auroc, average_precision, f1_max

Ranked = Literal["image", "pixel"]

LIMIT = 0.3
"""The false-positive rate up to which AUPRO is taken, if nothing else is asked for."""


@dataclass(frozen=True)
class Metric:
    """One metric, or one for each limit.

    Attributes:
        name: in files and on the command line. A metric that has limits has one name for each, such
            as aupro_0.3.
        title: what people call it, within a sentence.
        explanation: what it says, as a sentence.
        ranked: what must be ranked to know it; None where it takes more than a ranking.
        compute: its values for a ranking, with a limit if it has limits.
        has_limits: whether it is taken up to a false-positive rate, or several.
    """

    name: str
    title: str
    explanation: str
    ranked: Ranked | None = None
    compute: Callable[..., Values] | None = None
    has_limits: bool = False

    def names(self, limits: Sequence[float]) -> dict[str, float | None]:
        """Its name, or one for each limit."""
        if not self.has_limits:
            return {self.name: None}
        return {f"{self.name}_{limit:g}": limit for limit in limits}


def _auroc(ranking: Ranking) -> Values:
    return auroc(ranking.normal, ranking.defect)


def _ap(ranking: Ranking) -> Values:
    return average_precision(ranking.normal, ranking.defect)


def _f1_max(ranking: Ranking) -> Values:
    return f1_max(ranking.normal, ranking.defect)[0]


def _aupro(ranking: Ranking, *, limit: float) -> Values:
    assert ranking.regions is not None
    return aupro(ranking.normal, ranking.regions, limit=limit)


METRICS = (
    Metric(
        "image_auroc",
        "image AUROC",
        "The chance that a defective picture scores higher than a normal one.",
        "image",
        _auroc,
    ),
    Metric(
        "image_ap",
        "image AP",
        "Precision averaged over recall, the pictures ranked by their score.",
        "image",
        _ap,
    ),
    Metric(
        "image_f1_max",
        "image best F1",
        "The best F1 that one threshold on the image score reaches.",
        "image",
        _f1_max,
    ),
    Metric(
        "pixel_auroc",
        "pixel AUROC",
        "The chance that a defect pixel has a higher map value than a normal pixel.",
        "pixel",
        _auroc,
    ),
    Metric(
        "pixel_ap",
        "pixel AP",
        "Precision averaged over recall, all pixels ranked by their map value.",
        "pixel",
        _ap,
    ),
    Metric(
        "pixel_f1_max",
        "pixel best F1",
        "The best F1 of pixels that one threshold on the map reaches.",
        "pixel",
        _f1_max,
    ),
    Metric(
        "aupro",
        "AUPRO",
        "Overlap with each defect, large or small, averaged over low false-positive rates.",
        "pixel",
        _aupro,
        has_limits=True,
    ),
    Metric(
        "aupimo",
        "AUPIMO",
        "Overlap with each defect at false-positive rates that hardly any normal pixel meets.",
    ),
)

NAMES = tuple(name for metric in METRICS for name in metric.names([LIMIT]))
"""Of all, in the order of tables."""

_BY_NAME = {metric.name: metric for metric in METRICS}


def metrics_of(
    ranked: Ranked, *, limits: Sequence[float]
) -> dict[str, Callable[[Ranking], Values]]:
    """The metrics that follow from a ranking of images, or of pixels, as functions by name.

    Args:
        ranked: what is ranked.
        limits: the false-positive rates up to which those that have limits are taken.
    """
    return {
        name: metric.compute if limit is None else partial(metric.compute, limit=limit)
        for metric in METRICS
        if metric.ranked == ranked and metric.compute is not None
        for name, limit in metric.names(limits).items()
    }


def metric_of(name: str) -> Metric:
    """The metric of a name, which may end in a limit, as aupro_0.3 does.

    Raises:
        KeyError: there is none.
    """
    return _BY_NAME.get(name) or _BY_NAME[name.rpartition("_")[0]]


def title(name: str) -> str:
    """What people call a metric within a sentence: "image AUROC" for image_auroc."""
    metric = metric_of(name)
    return f"{metric.title}{name.removeprefix(metric.name).replace('_', ' ')}"


def heading(name: str) -> str:
    """What people call a metric at the beginning of a line: "Image AUROC" for image_auroc."""
    text = title(name)
    return text[:1].upper() + text[1:]
