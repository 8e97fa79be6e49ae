"""Running one cell of a study's grid: training, measuring, and what the report shows of it."""

import dataclasses
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from draem_jax import files
from draem_jax.config import anomaly_params
from draem_jax.data.pictures import resize_plane
from draem_jax.detector import Draem
from draem_jax.errors import DivergedError
from draem_jax.evaluation.evaluate import LabelledPictures, measure, open_test_pictures
from draem_jax.evaluation.stream import MetricOptions
from draem_jax.evaluation.within import look
from draem_jax.reports.pictures import to_uint8, write_png
from draem_jax.studies.study import Run
from draem_jax.training.feed import read_samples
from draem_jax.training.loop import train
from draem_jax.training.parallel import replicate
from draem_jax.training.pictures import open_pictures
from draem_jax.training.samples import Draw
from draem_jax.training.state import run_keys

MAX_SHOWN = 8
"""Test pictures whose maps are kept for the report."""

_STRIP_PICTURES = 8
_GAP = 2


@dataclass(frozen=True)
class Result:
    """What came of a run.

    Attributes:
        run: which one.
        protocols: the metrics of its test pictures by name, by the name of the mask protocol (see
            `draem_jax.evaluation.protocols`); empty if it diverged.
        diverged: why there are none, in one line; "" if it did not.
    """

    run: Run
    protocols: Mapping[str, Mapping[str, float | None]]
    diverged: str = ""

    def metrics(self, protocol: str) -> Mapping[str, float | None]:
        """Those of one protocol."""
        return self.protocols.get(protocol, {})


def read_result(run: Run, workdir: Path) -> Result | None:
    """The result that a finished run left; None if it has not been run to its end."""
    try:
        path = workdir / run.folder / "result.json"
        stored = files.parse_json(path.read_text(encoding="utf-8"))
        return Result(run, dict(stored["protocols"]), str(stored["diverged"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def execute(run: Run, workdir: Path, *, watch: Callable[[int], bool]) -> Result | None:
    """Trains and measures, or goes on with it, on the devices that the thread works on.

    The run is an ordinary work directory: `draem-jax evaluate` and `predict` take it.

    Args:
        run: to make.
        workdir: the work directory of the study.
        watch: see `draem_jax.training.loop.train`.

    Returns:
        The result, which is kept as `result.json`; None if the run was asked to stop.

    Raises:
        UserError: the data set cannot be had, or the directory cannot be written.
    """
    folder = workdir / run.folder
    try:
        state = train(run.config, folder, quiet=True, watch=watch)
    except DivergedError as error:
        result = Result(run, {}, " ".join(str(error).split()))
    else:
        detector = Draem.load(folder)
        if int(state.step) < detector.config.train.steps:
            return None
        test, _ = open_test_pictures(detector)
        evaluations = measure(detector, test, options=MetricOptions(replicates=0))
        result = Result(run, {name: one.overall.values for name, one in evaluations.items()})
        _keep_maps(folder, detector, test)
    _keep_strip(run, folder)
    # Last, since it says that all else is there.
    files.write_text(
        folder / "result.json",
        json.dumps({"protocols": result.protocols, "diverged": result.diverged}, indent=2) + "\n",
    )
    return result


def shown_pictures(names: Sequence[str], *, most: int = MAX_SHOWN) -> list[int]:
    """Which test pictures the report shows, `most` of them: the first of each type, in turn."""
    by_type: dict[str, list[int]] = {}
    for index, name in enumerate(names):
        by_type.setdefault(name.rpartition("/")[0], []).append(index)
    in_turn = itertools.chain.from_iterable(itertools.zip_longest(*by_type.values()))
    return sorted([index for index in in_turn if index is not None][:most])


def read_maps(run: Run, workdir: Path) -> dict[int, Float32[np.ndarray, "H W"]]:
    """The anomaly maps that a finished run kept, by the test picture's index; in [0, 1]."""
    try:
        with np.load(workdir / run.folder / "maps.npz", allow_pickle=False) as kept:
            planes = kept["maps"].astype(np.float32) / 65535
            return dict(zip(kept["indices"].tolist(), planes, strict=True))
    except (OSError, ValueError, KeyError):
        return {}


def _keep_maps(folder: Path, detector: Draem, test: LabelledPictures) -> None:
    indices = shown_pictures(test.names)
    maps: list[np.ndarray] = []
    groups, kept = itertools.tee(
        [test[index] for index in indices[start : start + detector.batch_size]]
        for start in range(0, len(indices), detector.batch_size)
    )
    looks = look(detector, groups, with_reconstruction=False)
    for pictures, looked in zip(kept, looks, strict=True):
        for plane in looked.contents(detector, pictures):
            shown = resize_plane(plane, detector.image_size)
            maps.append(np.rint(shown * 65535).astype(np.uint16))
    with files.atomic_path(folder / "maps.npz") as temporary:
        np.savez_compressed(temporary, indices=np.array(indices), maps=np.stack(maps))


def _keep_strip(run: Run, folder: Path) -> None:
    """Draws some of the run's simulated anomalies side by side, their masks below them."""
    # As many as training looks at, and placed alike, so that the program is there already.
    indices = np.arange(run.config.train.validation_pictures, dtype=np.int32)
    params = dataclasses.replace(anomaly_params(run.config), untouched_share=0.0)
    params, key = replicate((params, run_keys(run.config)[1]))
    samples = read_samples(open_pictures(run.config), Draw(key, 0, indices), params)
    parts = samples.augmented, samples.mask.repeat(3, axis=-1)
    # A row of pictures with a white line to the right of and below each.
    border = [(0, 0), (0, _GAP), (0, _GAP), (0, 0)]
    rows = [
        np.concatenate(list(np.pad(part[:_STRIP_PICTURES], border, constant_values=1)), axis=1)
        for part in map(np.asarray, parts)
    ]
    write_png(folder / "strip.png", to_uint8(np.concatenate(rows))[:-_GAP, :-_GAP])
