"""Evaluating a trained detector on its data set's test pictures, in one pass and little memory."""

import hashlib
import itertools
import json
import math
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import Bool, Float32

import draem_jax
from draem_jax import files
from draem_jax.config import data_set, flat, tile_overlap
from draem_jax.data.fitting import Fitting
from draem_jax.data.loading import LabelledPicture, StoredTestPictures
from draem_jax.data.roi import Plane
from draem_jax.detector import Draem
from draem_jax.evaluation.calibration import calibrated
from draem_jax.evaluation.options import EvaluationOptions
from draem_jax.evaluation.protocols import PROTOCOLS
from draem_jax.evaluation.report import write_report
from draem_jax.evaluation.results import Evaluation, Metrics, compute_metrics
from draem_jax.evaluation.simulated import SIMULATED, simulated_pictures
from draem_jax.evaluation.stream import MetricOptions, MetricStream, gather_totals
from draem_jax.evaluation.truth import GOOD, LEFT_OUT, encode_mask
from draem_jax.evaluation.within import Looked, look, mean_share, within_roi
from draem_jax.hosts.joining import is_first
from draem_jax.hosts.talking import agree, together
from draem_jax.reports.pictures import write_map_png
from draem_jax.training.parallel import local_devices
from draem_jax.training.trained_on import digests_of

_OPTIONS = EvaluationOptions()
# Sides that maps of original size are padded to, so that few programs are compiled.
_PADDED_TO = 128


@runtime_checkable
class LabelledPictures(Protocol):
    """Test pictures that are read one by one."""

    def __len__(self) -> int:
        """How many there are."""
        ...

    def __getitem__(self, index: int) -> LabelledPicture:
        """Reads one."""
        ...

    @property
    def names(self) -> tuple[str, ...]:
        """Of all, "<type>/<number>" each."""
        ...

    @property
    def normal(self) -> tuple[bool, ...]:
        """Which of them count as normal."""
        ...


def evaluate(
    workdir: str | Path,
    *,
    checkpoint: str = "latest",
    batch_size: int | None = None,
    options: EvaluationOptions = _OPTIONS,
    progress: Callable[[int, int], None] = lambda done, total: None,
    warn: Callable[[str], None] = lambda line: None,
) -> Metrics:
    """Evaluates a run and writes `metrics.json`, `scores.csv` and `report.html`.

    The files stand in `WORKDIR/evaluation/`. Maps are compared with the masks at the training size,
    brought there by each protocol of `draem_jax.evaluation.protocols`. Without test pictures,
    anomalies are simulated on normal pictures kept from training.

    Processes that have joined (see `draem_jax.hosts.joining`) all call it with the same arguments,
    each measures its share of the pictures, and the first one writes.

    Args:
        workdir: the work directory of the run, which all processes can read.
        checkpoint: "latest", "best" or a step.
        batch_size: pictures a call; `config.evaluation.batch_size` if None.
        options: what is measured, decided and written.
        progress: called with the pictures done and all of them.
        warn: is told what is odd about the data set, line by line.

    Returns:
        The metrics over all test pictures by the default protocol.

    Raises:
        UserError: there is no such run or checkpoint, the pictures cannot be read, or the results
            cannot be written; or, in all processes, one of them has other pictures, or is gone.
    """
    with together():
        return _evaluate(
            Path(workdir),
            checkpoint=checkpoint,
            batch_size=batch_size,
            options=options,
            progress=progress,
            warn=warn,
        )


def _evaluate(
    workdir: Path,
    *,
    checkpoint: str,
    batch_size: int | None,
    options: EvaluationOptions,
    progress: Callable[[int, int], None],
    warn: Callable[[str], None],
) -> Metrics:
    detector = calibrated(
        Draem.load(
            workdir,
            checkpoint=checkpoint,
            batch_size=batch_size,
            roi=options.roi,
            ignore_border=options.ignore_border,
        )
    )
    test, simulated = open_test_pictures(detector, warn=warn)
    agree(
        {
            "the version of draem_jax": draem_jax.__version__,
            "the version of jax": jax.__version__,
            "the step of the checkpoint": detector.step,
            "what is asked for": repr((options, detector.batch_size)),
            "the digest of all names of test pictures": _digest(test.names),
        }
        | {f"config.{name}": repr(value) for name, value in flat(detector.config)}
    )
    out = workdir / "evaluation"
    files.mark_output(out)
    evaluations = measure(
        detector,
        test,
        options=options.metrics,
        original_size=options.original_size,
        maps_folder=out / "maps" if options.save_maps else None,
        progress=progress,
    )
    main = evaluations["default"]
    if not is_first():
        return main.overall
    facts = _facts(detector, main, simulated=simulated, original_size=options.original_size)
    files.write_text(
        out / "metrics.json",
        json.dumps(
            {
                **main.as_json(),
                "protocols": {name: one.as_json() for name, one in evaluations.items()},
                "decisions": _decisions(detector, main, options.alpha),
                "data_set": detector.config.data.name,
                "category": detector.config.data.category,
                **facts,
            },
            indent=2,
            allow_nan=False,
        )
        + "\n",
    )
    _write_scores(out / "scores.csv", detector, test, main, options.alpha)
    write_report(
        out / "report.html",
        detector,
        test,
        main,
        facts=facts,
        options=options,
        simulated=simulated,
    )
    return main.overall


def _digest(names: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(names).encode()).hexdigest()


def open_test_pictures(
    detector: Draem,
    *,
    warn: Callable[[str], None] = lambda line: None,
) -> tuple[LabelledPictures, bool]:
    """The data set's test pictures, or simulated ones where it has none, and whether they are.

    Args:
        detector: whose config names the data set.
        warn: is told what is odd about the data set, line by line.
    """
    data = data_set(detector.config, full_scale=detector.full_scale)
    test = data.test_pictures(size=detector.image_size, roi=detector.roi)
    test = test.fitted(detector.fitting)
    if line := detector.roi_warning():
        warn(line)
    for line in test.warnings:
        warn(line)
    if len(test):
        if seen := _trained_on(detector, test):
            warn(
                f"{len(seen)} test pictures are among those that the run was trained on "
                f"({seen[0]} first); figures of them say nothing"
            )
        return within_roi(test, warn=warn), False
    simulated = simulated_pictures(
        detector.config, trained_on=detector.trained_on, roi=detector.roi
    )
    return simulated, True


def _trained_on(detector: Draem, test: StoredTestPictures) -> list[str]:
    """Names of the test pictures that the detector was trained on, whatever they are called."""
    if detector.trained_on is None:
        return []
    seen = set(detector.trained_on.training.values())
    return [name for name, digest in digests_of(test.pictures).items() if digest and digest in seen]


def measure(
    detector: Draem,
    test: LabelledPictures,
    *,
    options: MetricOptions = _OPTIONS.metrics,
    original_size: bool = False,
    maps_folder: Path | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Evaluation]:
    """Measures a detector in one pass: the next pictures are read while the devices work.

    Of several processes each measures its share.

    Args:
        detector: to be measured.
        test: the pictures.
        options: what is measured, and whether in bins or exactly.
        original_size: see `EvaluationOptions`.
        maps_folder: where each picture's map is written as 16-bit PNG; None for none.
        progress: called with the pictures done and all of them.

    Returns:
        The evaluation by each protocol's name, the same in all processes. Its pictures stand in the
        order of `test`.
    """
    original_size = original_size or detector.fitting.way != "squeeze"
    protocols = ["default"] if original_size else list(PROTOCOLS)
    # Intervals are given for the default protocol alone: they cost more than all else here.
    chosen = {
        name: options if name == "default" else replace(options, replicates=0) for name in protocols
    }
    streams = {name: MetricStream(options) for name, options in chosen.items()}
    normal, defective = (
        [i for i, is_normal in enumerate(test.normal) if is_normal == wanted][
            jax.process_index() :: jax.process_count()
        ]
        for wanted in (True, False)
    )
    shares: list[float] = []
    # Names have no suffix; a dot in one is a dot.
    maps = files.distinct_names([PurePath(f"{name}.png") for name in test.names], ".png")
    done = 0
    # The metrics need all normal pictures, of all processes, before the defective ones.
    # Of pictures that are seen in tiles, a batch holds tiles of several groups.
    group = len(local_devices()) if detector.fitting.is_tiled else detector.batch_size
    for part in (normal, defective):
        read, kept = itertools.tee(_read_ahead(test, part, group))
        looks = look(detector, (pictures for _, pictures in read), with_reconstruction=False)
        for (indices, pictures), looked in zip(kept, looks, strict=True):
            kinds = [picture.defect_type for picture in pictures]
            shares += looked.shares
            for name, stream in streams.items():
                margin: Any = looked.margin
                if original_size:
                    margin, truth = _at_original_size(detector.fitting, looked, pictures)
                else:
                    truth = _truths(pictures, looked.small, name, detector)
                stream.update(margin, truth, looked.score, kinds, indices=indices)
            if maps_folder is not None:
                paths = [maps_folder / maps[index] for index in indices]
                _write_maps(detector.fitting, paths, pictures, looked)
            done += len(pictures)
            progress(done, len(normal) + len(defective))
        if part is normal:
            for stream in streams.values():
                stream.close_normal(merge=gather_totals)
    looked_at = mean_share(shares)
    return {
        name: replace(
            compute_metrics(gather_totals(stream.totals()), chosen[name]), looked_at=looked_at
        )
        for name, stream in streams.items()
    }


def _read_ahead(
    test: LabelledPictures, indices: Sequence[int], batch_size: int
) -> Iterator[tuple[np.ndarray, list[LabelledPicture]]]:
    """Reads batches by threads, two beyond the one that is being worked on."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        waiting: deque[tuple[np.ndarray, list[Future[LabelledPicture]]]] = deque()

        def first() -> tuple[np.ndarray, list[LabelledPicture]]:
            chosen, pictures = waiting.popleft()
            return chosen, [picture.result() for picture in pictures]

        try:
            for start in range(0, len(indices), batch_size):
                chosen = indices[start : start + batch_size]
                pictures = [pool.submit(test.__getitem__, index) for index in chosen]
                waiting.append((np.array(chosen), pictures))
                if len(waiting) > 2:
                    yield first()
            while waiting:
                yield first()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _write_maps(
    fitting: Fitting,
    paths: Sequence[Path],
    pictures: Sequence[LabelledPicture],
    looked: Looked,
) -> None:
    maps = jax.device_get(looked.anomaly_map)
    for path, picture, plane, inside in zip(paths, pictures, maps, looked.own, strict=False):
        resized = fitting.restore(plane, picture.mask.shape)
        write_map_png(path, resized if inside is None else np.where(inside, resized, 0))


def _truths(
    pictures: Sequence[LabelledPicture],
    inside: Sequence[Plane] | Bool[np.ndarray, "n H W"] | None,
    protocol: str,
    detector: Draem,
) -> Float32[np.ndarray, "B H W"]:
    size = detector.image_size
    truth = np.full((detector.batch_size, *size), LEFT_OUT, np.float32)
    for i, picture in enumerate(pictures):
        if picture.has_mask:
            mask = PROTOCOLS[protocol](picture.mask, size)
            truth[i] = encode_mask(mask, None if inside is None else inside[i])
    return truth


def _at_original_size(
    fitting: Fitting, looked: Looked, pictures: Sequence[LabelledPicture]
) -> tuple[Float32[np.ndarray, "B H W"], Float32[np.ndarray, "B H W"]]:
    shapes = [picture.mask.shape for picture in pictures]
    height, width = (-(-max(side) // _PADDED_TO) * _PADDED_TO for side in zip(*shapes, strict=True))
    margins = np.zeros((len(looked.score), height, width), np.float32)
    truth = np.full(margins.shape, LEFT_OUT, np.float32)
    planes = jax.device_get(looked.margin)
    for i, (plane, picture) in enumerate(zip(planes, pictures, strict=False)):
        h, w = picture.mask.shape
        margins[i, :h, :w] = fitting.restore(plane, (h, w))
        if picture.has_mask:
            truth[i, :h, :w] = encode_mask(picture.mask, looked.own[i])
    return margins, truth


def _facts(
    detector: Draem, evaluation: Evaluation, *, simulated: bool, original_size: bool
) -> dict[str, str | int | float]:
    height, width = detector.image_size
    config = detector.config
    return {
        "data": data_title(detector),
        "anomalies": SIMULATED if simulated else "real",
        "test_pictures": len(evaluation.pictures),
        "defective_pictures": sum(row.defect_type != GOOD for row in evaluation.pictures),
        "image_size": f"{height} x {width}",
        "seen": _seen(detector),
        "compared_at": (
            "original size"
            if original_size or detector.fitting.way != "squeeze"
            else f"{height} x {width}"
        ),
        "step": detector.step,
        "widths": f"{config.model.reconstructive_width} / {config.model.discriminative_width}",
        "region_of_interest": str(detector.roi),
        "share_looked_at": round(evaluation.looked_at, 4),
        "image_score": detector.score_name,
        "mask_protocol": "default: nearest, above 0",
    }


def _seen(detector: Draem) -> str:
    """How pictures are brought to the networks."""
    match detector.fitting.way:
        case "letterbox":
            return "whole, letterboxed"
        case "tile":
            overlap = tile_overlap(detector.config)
            return f"in tiles at scale {detector.fitting.scale:g}, {overlap} pixels shared"
    return "whole, squeezed"


def data_title(detector: Draem) -> str:
    """The data set and the category that the detector was trained on, as a title for people."""
    data = detector.config.data
    if data.category:
        return f"{data.name}: {data.category}"
    return f"{data.name}: {Path(data.root).name or data.root}"


def _decisions(detector: Draem, evaluation: Evaluation, alpha: float) -> dict[str, Any] | None:
    """How many test pictures are decided rightly and wrongly at a false-alarm rate."""
    thresholds = detector.thresholds
    if thresholds is None:
        return None
    limit = thresholds.image_threshold(alpha)
    scores = np.array([row.score for row in evaluation.pictures])
    called = scores > (math.inf if limit is None else limit)
    defective = np.array([row.defect_type != GOOD for row in evaluation.pictures])
    return {
        "alpha": alpha,
        "image_threshold": limit,
        "margin_threshold": thresholds.margin_threshold(alpha),
        "normal_pictures": thresholds.normal_pictures,
        "best_f1_score": thresholds.best_f1_score,
        "best_f1_margin": thresholds.best_f1_margin,
        "found": int((called & defective).sum()),
        "missed": int((~called & defective).sum()),
        "false_alarms": int((called & ~defective).sum()),
        "passed": int((~called & ~defective).sum()),
        "promise": thresholds.warning(alpha) or thresholds.guarantee(alpha),
    }


def _write_scores(
    path: Path, detector: Draem, test: LabelledPictures, evaluation: Evaluation, alpha: float
) -> None:
    rows = evaluation.pictures
    p_values = None
    if detector.thresholds is not None:
        p_values = detector.thresholds.p_values(np.array([row.score for row in rows]))
    table = []
    for i, row in enumerate(rows):
        p_value = None if p_values is None else p_values[i]
        table.append(
            (
                test.names[row.index],
                row.defect_type,
                int(row.defect_type != GOOD),
                f"{row.score:.9g}",
                "" if p_value is None else f"{p_value:.6g}",
                "" if p_value is None else int(p_value <= alpha),
            )
        )
    columns = ("name", "defect_type", "is_defective", "score", "p_value", "anomalous")
    files.write_csv(path, columns, table)
