"""Looking for anomalies in any pictures: files in, maps and overlays out."""

import csv
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.special import expit

from draem_jax import files
from draem_jax.data.pictures import list_pictures, read_picture, resize, resize_plane
from draem_jax.detector import Draem
from draem_jax.reports.pictures import overlay, write_map_png, write_png
from draem_jax.thresholds import Thresholds

_COLUMNS = ("picture", "score", "p_value", "anomalous", "anomalous_share", "map", "overlay")


def predict_files(
    detector: Draem,
    images: str | Path,
    out: str | Path,
    *,
    thresholds: Thresholds | None = None,
    alpha: float = 0.05,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Predicts for a picture, or for all pictures of a folder and of the folders within.

    For each, `out` gets the anomaly map at the picture's own size as `maps/NAME.png` (16 bits,
    65535 for certainty), the map laid over the picture as `overlays/NAME.png`, and a line in
    `predictions.csv`: picture, score, p-value, whether it is called anomalous, share of its pixels
    above the pixel threshold, map, overlay. The pixel threshold is the one of the best F1 on
    simulated anomalies, a map of 0.5 where there is none; without thresholds p-value and decision
    stay empty.

    Args:
        detector: the trained detector.
        images: a picture's file or a folder of pictures.
        out: the folder to write to; files of the same names are replaced.
        thresholds: of the detector, see `draem_jax.evaluation.calibration`.
        alpha: the share of good pictures that may be called anomalous.
        progress: called with the pictures done and all of them.

    Returns:
        The number of pictures.

    Raises:
        UserError: there are no pictures, one cannot be read, or `out` cannot be written. What was
            written before stays; `predictions.csv` is written last.
    """
    images, out = Path(images), Path(out)
    paths = list_pictures(images, recursive=True)
    root = images if images.is_dir() else images.parent
    names = _output_names([path.relative_to(root) for path in paths])
    level = 0.5
    if thresholds is not None and thresholds.best_f1_margin is not None:
        level = float(expit(thresholds.best_f1_margin))
    rows = []
    for start in range(0, len(paths), detector.batch_size):
        chosen = slice(start, start + detector.batch_size)
        pictures = [read_picture(path) for path in paths[chosen]]
        prediction = detector.predict(
            np.stack([resize(picture, detector.image_size) for picture in pictures])
        )
        for path, name, picture, small_map, score in zip(
            paths[chosen],
            names[chosen],
            pictures,
            prediction.anomaly_map,
            prediction.score,
            strict=True,
        ):
            anomaly_map = resize_plane(small_map, picture.shape[:2])
            map_path, overlay_path = out / "maps" / name, out / "overlays" / name
            write_map_png(map_path, anomaly_map)
            write_png(overlay_path, overlay(picture, anomaly_map))
            rows.append(
                (
                    path,
                    f"{score:.6f}",
                    *_decision(float(score), thresholds, alpha),
                    f"{np.mean(anomaly_map > level):.6f}",
                    map_path.relative_to(out),
                    overlay_path.relative_to(out),
                )
            )
        progress(len(rows), len(paths))
    with (
        files.atomic_path(out / "predictions.csv") as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(
            ["picture", "score", "p_value", "anomalous", "anomalous_share", "map", "overlay"]
        )
        writer.writerows(rows)
    return len(rows)


def _decision(score: float, thresholds: Thresholds | None, alpha: float) -> tuple[str, str]:
    if thresholds is None:
        return "", ""
    (p_value,) = thresholds.p_values(np.array([score]))
    return f"{p_value:.6g}", str(int(p_value <= alpha))


def _output_names(paths: list[Path]) -> list[Path]:
    """Names the outputs as PNG, keeping the suffix where `a.jpg` and `a.png` would collide."""
    plain = [path.with_suffix(".png") for path in paths]
    counts = Counter(plain)
    return [
        name if counts[name] == 1 else path.with_name(path.name + ".png")
        for name, path in zip(plain, paths, strict=True)
    ]
