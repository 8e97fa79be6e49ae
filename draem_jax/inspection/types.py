"""The kinds of defects that a run knows, and what is like none of them.

A region is of the type that the classifier says, with a probability that is calibrated on examples
which it was not fitted to. It is unknown if it is further from the types' examples than these are
from each other, by the conformal p-values of `draem_jax.thresholds`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.special import softmax
from threadpoolctl import threadpool_limits

from draem_jax import files
from draem_jax.errors import UserError
from draem_jax.inspection.classifier import Classifier, Pictures, hold_out, temperature
from draem_jax.inspection.features import feature_weights
from draem_jax.thresholds import Fact, conformal_threshold, p_values

UNKNOWN = "unknown"
"""What a region is called that is like no known type."""

_FORMAT = "draem_jax types"
_VERSION = 1


class Named(NamedTuple):
    """What a region is called.

    Attributes:
        defect_type: a known type, or `UNKNOWN`.
        probability: of that type, in [0, 1], given that it is one of the known ones; None where it
            is unknown.
        likeness: the share of the examples that are at least as far from the others as this region
            is, in (0, 1]: small for what is like no known type.
    """

    defect_type: str
    probability: float | None
    likeness: float


@dataclass(frozen=True, eq=False)
class TypeModel:
    """Types of defects, as learned from examples.

    Attributes:
        types: their names, in order.
        names: the names of the features.
        classifier: what was learned.
        temperature: that its logits are divided by.
        distances: of each example from the others, ascending.
        unknown_rate: the share of known regions that may be called unknown.
        made_from: what they come from, such as the training step of the detector.
    """

    types: tuple[str, ...]
    names: tuple[str, ...]
    classifier: Classifier
    temperature: float
    distances: Float[np.ndarray, " P"]
    unknown_rate: float
    made_from: Mapping[str, Fact] = field(default_factory=dict)

    @classmethod
    def fit(
        cls,
        pictures: Pictures,
        types: Sequence[str],
        names: Sequence[str],
        *,
        unknown_rate: float = 0.1,
        made_from: Mapping[str, Fact] | None = None,
    ) -> TypeModel:
        """Learns types.

        Args:
            pictures: of each example picture the features of its regions, one at least, the
                largest first; see `draem_jax.inspection.features.region_features`.
            types: of each picture; two different ones at least.
            names: the names of the features.
            unknown_rate: the share of regions of known types that may be called unknown, about; or
                one in as many as there are examples, if that is more.
            made_from: kept with the types.

        Raises:
            ValueError: there is only one type, or a picture without regions.
        """
        if len(set(types)) < 2 or not all(len(rows) for rows in pictures):
            raise ValueError("types need two names at least, and a region in each picture")
        known = tuple(sorted(set(types)))
        numbers = np.array([known.index(name) for name in types])
        weights = feature_weights(names)
        with threadpool_limits(1):  # in many small fits, threads only wait for each other
            held_out = hold_out(pictures, numbers, weights)
        return cls(
            types=known,
            names=tuple(names),
            classifier=Classifier.fit(pictures, numbers, weights),
            temperature=temperature(held_out),
            distances=np.sort(held_out.distances),
            unknown_rate=unknown_rate,
            made_from=dict(made_from or {}),
        )

    @classmethod
    def load(cls, path: str | Path) -> TypeModel:
        """Reads what `save` wrote.

        Raises:
            UserError: there is no such file, or it is damaged, or holds something else.
        """
        path = Path(path)
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise UserError(
                f"cannot read the types in {path}: {error.strerror}; fit the types again"
            ) from error
        except (ValueError, RecursionError) as error:
            raise _unusable(path, "it is not JSON") from error
        if not isinstance(content, dict) or content.pop("format", None) != _FORMAT:
            raise _unusable(path, "it is another kind of file")
        if content.pop("version", None) != _VERSION:
            raise _unusable(path, "it was written by another version")
        try:
            return _model(content)
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            raise _unusable(path, "fields are missing or damaged") from error

    def save(self, path: str | Path) -> None:
        """Writes the types as JSON, atomically.

        Raises:
            UserError: the folder cannot be written.
        """
        content = {
            "format": _FORMAT,
            "version": _VERSION,
            **_plain(self),
            "classifier": _plain(self.classifier),
            "made_from": dict(self.made_from),
        }
        files.write_text(path, json.dumps(content, allow_nan=False) + "\n")

    def probabilities(self, features: Float[np.ndarray, "R F"]) -> Float[np.ndarray, "R K"]:
        """How likely each region is of each type, given that it is of a known one.

        Args:
            features: the regions' features.

        Returns:
            Shares that add up to 1 in each row; columns as in `types`.
        """
        return softmax(self.classifier.logits(features) / self.temperature, axis=1)

    def name_regions(self, features: Float[np.ndarray, "R F"]) -> list[Named]:
        """Names regions.

        Args:
            features: the features of the regions; there may be none.
        """
        distances = self.classifier.distances(features)
        limit = conformal_threshold(self.distances, self.unknown_rate)
        if limit is None:  # too few examples for the rate
            limit = float(self.distances.max(initial=0)) or math.inf
        named = []
        for row, distance, likeness in zip(
            self.probabilities(features),
            distances,
            p_values(self.distances, distances),
            strict=True,
        ):
            best = int(row.argmax())
            if distance > limit:
                named.append(Named(UNKNOWN, None, float(likeness)))
            else:
                named.append(Named(self.types[best], float(row[best]), float(likeness)))
        return named

    def name_picture(self, features: Float[np.ndarray, "R F"]) -> Named:
        """Names a picture by its largest region.

        Args:
            features: the features of its regions, one at least, the largest first.
        """
        return self.name_regions(features[:1])[0]


def _plain(values: TypeModel | Classifier) -> dict[str, Any]:
    content = {f.name: getattr(values, f.name) for f in fields(values)}
    return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in content.items()}


def _model(content: dict[str, Any]) -> TypeModel:
    """Builds the types from a file's content; raises ValueError or the like if it does not fit."""
    given = dict(content.pop("classifier"))
    names, types = (_texts(content.pop(key)) for key in ("names", "types"))
    regions = len(given["regions"])
    shapes = {
        "centre": (len(names),),
        "scale": (len(names),),
        "weights": (len(names),),
        "coefficients": (len(types), len(names)),
        "intercepts": (len(types),),
        "regions": (regions, len(names)),
        "region_types": (regions,),
        "region_weights": (regions,),
    }
    arrays = {key: _array(given.pop(key), shape) for key, shape in shapes.items()}
    region_types = arrays["region_types"].astype(int)
    if (region_types != arrays["region_types"]).any() or set(region_types) != set(
        range(len(types))
    ):
        raise ValueError("regions are of other types")
    for key in ("scale", "region_weights"):
        if not (arrays[key] > 0).all():
            raise ValueError(f"{key} is not above 0")
    if not (arrays["weights"] >= 0).all() or not arrays["weights"].any():
        raise ValueError("weights are below 0")
    distances = _array(content.pop("distances"), (None,))
    rate, heat = (float(_array(content.pop(key), ())) for key in ("unknown_rate", "temperature"))
    made_from = content.pop("made_from")
    if not (0 < rate < 1 and heat > 0 and isinstance(made_from, dict)) or content or given:
        raise ValueError("a field is out of range, or unknown")
    return TypeModel(
        types=types,
        names=names,
        classifier=Classifier(**{**arrays, "region_types": region_types}),
        temperature=heat,
        distances=np.sort(distances),
        unknown_rate=rate,
        made_from=made_from,
    )


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise ValueError("not a list of texts")
    return tuple(value)


def _array(value: object, shape: tuple[int | None, ...]) -> np.ndarray:
    array = np.array(value)
    fits = array.ndim == len(shape) and all(
        n in (None, size) for n, size in zip(shape, array.shape, strict=True)
    )
    if (array.dtype.kind not in "if" and array.size) or not fits or not np.isfinite(array).all():
        raise ValueError("not finite numbers of the expected shape")
    return array.astype(float)


def _unusable(path: Path, why: str) -> UserError:
    shown = re.sub(r"\s+", " ", str(path))
    return UserError(f"{shown} holds no usable types: {why}; fit the types again")
