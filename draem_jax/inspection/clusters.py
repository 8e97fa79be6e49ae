"""Groups of regions that are alike, found without any labels, for a person to name."""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8
from sklearn.cluster import AgglomerativeClustering
from sklearn.metrics import silhouette_score

from draem_jax import files
from draem_jax.data.depth import tell_outside
from draem_jax.data.folders import list_pictures, look
from draem_jax.detector import Draem, Inspection
from draem_jax.errors import UserError
from draem_jax.inspection.classifier import centre_and_scale, scaled
from draem_jax.inspection.examples import crop_around
from draem_jax.inspection.features import feature_names, feature_weights, region_features
from draem_jax.inspection.from_files import inspect_files
from draem_jax.regions.rule import RegionRule
from draem_jax.reports.pictures import contact_sheet, write_png

_COLUMNS = ("picture", "region", *("top", "left", "bottom", "right"), "group", "error")
_LISTED = ("path", "type")
_MOST_GROUPS = 12
_ON_SHEET = 48
"""Regions of a group that its sheet shows at most, those in its middle first."""


class ClusterSummary(NamedTuple):
    """How much was grouped.

    Attributes:
        pictures: how many were looked at.
        with_regions: in how many of them there is a region.
        sizes: the number of regions in each group, the largest group first.
        errors: of each picture that was left out, why.
        notes: on how the pictures were read, one line each.
    """

    pictures: int
    with_regions: int
    sizes: tuple[int, ...]
    errors: tuple[str, ...]
    notes: tuple[str, ...]


class _FoundRegion(NamedTuple):
    path: Path
    label: int
    bbox: tuple[int, int, int, int]
    crop: UInt8[np.ndarray, "h w 3"]


def group_features(
    features: Float[np.ndarray, "N F"], names: Sequence[str], *, groups: int | None = None
) -> Int[np.ndarray, " N"]:
    """Groups what is alike, by Ward's method.

    Args:
        features: one row a region; columns as in `draem_jax.inspection.features.feature_names`.
        names: the names of the columns.
        groups: how many; where None, the number from 2 to 12 with the best mean silhouette
            (Rousseeuw, 1987).

    Returns:
        The group of each, from 0, the largest first. One group if there are fewer than three rows.

    Raises:
        ValueError: there are fewer rows than groups, or no rows.
    """
    count = len(features)
    if not count or not 0 < (groups or 1) <= count:
        raise ValueError(f"{count} regions cannot be put into {groups or 1} groups")
    if count < 3 and groups is None:
        return np.zeros(count, int)
    places = _places(features, names)
    numbers = [groups] if groups else range(2, min(_MOST_GROUPS, count - 1) + 1)
    found = [
        AgglomerativeClustering(n_clusters=number).fit_predict(places)
        if number > 1
        else np.zeros(count, int)
        for number in numbers
    ]
    quality = [silhouette_score(places, labels) for labels in found] if len(found) > 1 else [0.0]
    labels = found[int(np.argmax(quality))]
    order = np.argsort(-np.bincount(labels), kind="stable")
    return np.argsort(order)[labels]


def cluster_files(
    detector: Draem,
    images: str | Path,
    out: str | Path,
    *,
    rule: RegionRule | None = None,
    groups: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> ClusterSummary:
    """Groups the regions of a picture, or of all pictures of a folder and of the folders within.

    `out` gets

    - `group_1.png` and so on: crops around the regions of each group, the most typical first.
    - `regions.csv`: of each region the picture, its number there, its bounding box and its group;
      of each picture that cannot be read a line with the reason, as `error`.
    - `examples.csv`: of each picture with a region the group of its largest one, as its type. Once
      a person has put names in place of the groups, it is a list of examples for `types fit`.

    Args:
        detector: the trained detector.
        images: a picture's file or a folder of pictures.
        out: the folder to write to; files of the same names are replaced. Its pictures are marked
            as output, so that they are never read as input.
        rule: what is called a region; the detector's own if None.
        groups: see `group_features`.
        progress: called with the pictures done and all of them.

    Raises:
        UserError: there are no pictures or regions, or fewer than groups; or `out` holds the
            pictures, or others or tables that were not written here, or a list of examples that
            was changed since, or cannot be written.
    """
    paths, out = list_pictures(images, recursive=True), Path(out)
    _check_apart(Path(images), out)
    check_out(out)
    inspections = inspect_files(detector, paths, rule=rule, with_features=True)
    found: list[_FoundRegion] = []
    errors: dict[Path, str] = {}
    highest: list[int | None] = []
    rows: list[Float[np.ndarray, "R F"]] = []
    for done, (path, inspection) in enumerate(zip(paths, inspections, strict=True), start=1):
        path = path.absolute()
        if isinstance(inspection, Inspection):
            highest.append(inspection.highest)
            rows.append(region_features(inspection))
            for region in inspection.regions:
                crop = crop_around(inspection.image, region)
                found.append(_FoundRegion(path, region.label, region.bbox, crop))
        else:
            errors[path] = str(inspection)
        progress(done, len(paths))
    if len(found) < (groups or 1):
        cause = f" ({len(errors)} of its pictures cannot be read)" if errors else ""
        raise UserError(
            f"only {len(found)} regions were found in {images}{cause}, too few for {groups or 1} "
            "groups; give more pictures, or a lower --min_area"
        )
    features = np.concatenate(rows)
    files.mark_output(out)
    names = feature_names(detector.feature_channels)
    labels, places = group_features(features, names, groups=groups), _places(features, names)
    titles = [f"group {label + 1}" for label in range(labels.max() + 1)]
    for label, title in enumerate(titles):
        members = np.flatnonzero(labels == label)
        off = np.linalg.norm(places[members] - places[members].mean(axis=0), axis=1)
        shown = members[np.argsort(off, kind="stable")][:_ON_SHEET]
        write_png(
            out / f"group_{label + 1}.png",
            contact_sheet(
                [found[i].crop for i in shown],
                [f"{files.escaped(found[i].path.name)} #{found[i].label}" for i in shown],
                title=f"{title}: {len(members)} regions"
                + (f", the {len(shown)} most typical" if len(shown) < len(members) else ""),
            ),
        )
    groups_of = [titles[label] for label in labels]
    files.write_csv(
        out / "regions.csv",
        _COLUMNS,
        [(f.path, f.label, *f.bbox, name, "") for f, name in zip(found, groups_of, strict=True)]
        + [(path, *[""] * (len(_COLUMNS) - 2), error) for path, error in errors.items()],
    )
    # A list takes paths from its own folder, unless they are whole.
    files.write_csv(
        out / "examples.csv",
        _LISTED,
        [(f.path, name) for f, name in zip(found, groups_of, strict=True) if f.label == 1],
    )
    return ClusterSummary(
        pictures=len(rows),
        with_regions=sum(f.label == 1 for f in found),
        sizes=tuple(np.bincount(labels).tolist()),
        errors=tuple(errors.values()),
        notes=tuple(
            tell_outside(highest, full_scale=detector.full_scale, depth=detector.config.data.depth)
        ),
    )


def _check_apart(images: Path, out: Path) -> None:
    """Raises UserError where the sheets would lie among the pictures, or beside their folder."""
    folder = images.resolve() if images.is_dir() else images.resolve().parent
    if out.resolve() in (folder, *folder.parents):
        raise UserError(
            f"{images} lies in {out}, where group_1.png and the others would be taken for pictures "
            "later; write to another folder"
        )


def check_out(out: Path) -> None:
    """Raises UserError where `out` holds what was not written here, or a list changed since.

    All of `out` is marked, so that pictures of the user's in it would never be read again.
    """
    regions, examples = out / "regions.csv", out / "examples.csv"
    grouped = files.has_columns(regions, _COLUMNS, least=len(_COLUMNS) - 1)
    if not out.is_dir():
        return
    if files.is_marked(out) or (grouped and (out / "group_1.png").exists()):
        if examples.exists() and not _is_as_written(examples, regions):
            raise UserError(
                f"{examples} was changed since it was written, and would be lost; choose another "
                "folder for the outputs, or move it away"
            )
        return
    for path in (regions, examples, *look(out).pictures[:1]):
        if path.exists():
            raise UserError(
                f"{path} was not written by types cluster; choose a new folder for the outputs"
            )


def _is_as_written(examples: Path, regions: Path) -> bool:
    """Whether a list of examples says what the table of regions beside it does."""
    if not (
        files.has_columns(examples, _LISTED, least=len(_LISTED))
        and files.has_columns(regions, _COLUMNS, least=len(_COLUMNS) - 1)
    ):
        return False
    listed = [(row["path"], row["type"]) for row in _rows(examples)]
    return listed == [(r["picture"], r["group"]) for r in _rows(regions) if r["region"] == "1"]


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        return list(csv.DictReader(file))


def _places(features: Float[np.ndarray, "N F"], names: Sequence[str]) -> Float[np.ndarray, "N F"]:
    """Features scaled so that what is alike is near."""
    places = scaled(features, *centre_and_scale(features, np.ones(len(features))))
    return places * np.sqrt(feature_weights(names))
