"""What can be chosen for an evaluation."""

from dataclasses import dataclass, field

from draem_jax.evaluation.stream import MetricOptions


@dataclass(frozen=True)
class EvaluationOptions:
    """What an evaluation measures, decides and writes.

    Attributes:
        metrics: what is measured, and whether in bins or exactly.
        alpha: false-alarm rate that decisions are made at, if normal pictures were held out.
        original_size: bring the maps to the pictures' original size, for the default protocol,
            instead of the masks to the training size; margins are interpolated bilinearly.
        save_maps: write each picture's map to `WORKDIR/evaluation/maps/`, as 16-bit PNG.
        roi: where to look, as `config.data.roi`; where the run was trained to look if None.
        ignore_border: as `config.data.ignore_border`; that of the run if None.
    """

    metrics: MetricOptions = field(default_factory=MetricOptions)
    alpha: float = 0.05
    original_size: bool = False
    save_maps: bool = False
    roi: str | None = None
    ignore_border: int | None = None
