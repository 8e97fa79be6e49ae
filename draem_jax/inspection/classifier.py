"""Learning types from a few pictures of each: which type a region is of, and how far it is off.

*Which type* is told by a logistic regression, whose penalty keeps it sensible with five pictures of
a type. *How far off* is the mean distance to the regions of a type, for the nearest type. With few
pictures the spread of a feature is hardly known, and relations between features not at all: so
distances are sums over the features, each in units of its spread and bounded, and no single odd
figure decides. A picture counts once, however many regions it has.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.special import log_softmax

Pictures = Sequence[Float[np.ndarray, "_ F"]]

_BOUND = 2.5  # of a feature, in units of its spread
_DIGITS = 4  # that scaled features are kept with
_MOST_FOLDS = 50
_TEMPERATURES = (0.05, 20.0)


@dataclass(frozen=True, eq=False)
class Classifier:
    """What was learned.

    Attributes:
        centre: of each feature.
        scale: of each feature: its spread over the pictures, or 1 if it never changes.
        weights: how much each feature counts.
        coefficients: the coefficients of the logistic regression, for scaled features, a row for
            each type.
        intercepts: the intercepts of the same.
        regions: scaled features of what it was learned from.
        region_types: the type of each, from 0.
        region_weights: of each, 1 over the number of regions in its picture.
    """

    centre: Float[np.ndarray, " F"]
    scale: Float[np.ndarray, " F"]
    weights: Float[np.ndarray, " F"]
    coefficients: Float[np.ndarray, "K F"]
    intercepts: Float[np.ndarray, " K"]
    regions: Float[np.ndarray, "N F"]
    region_types: Int[np.ndarray, " N"]
    region_weights: Float[np.ndarray, " N"]

    @classmethod
    def fit(
        cls, pictures: Pictures, types: Int[np.ndarray, " P"], weights: Float[np.ndarray, " F"]
    ) -> Classifier:
        """Learns from pictures.

        Args:
            pictures: of each the features of its regions, one at least.
            types: of each picture: all numbers from 0 to one or more.
            weights: the weights of the features.
        """
        # It takes a second to import, which those who only use a classifier need not wait for.
        from sklearn.linear_model import LogisticRegression

        features = np.concatenate(pictures)
        counts = [len(rows) for rows in pictures]
        region_weights = np.repeat(1 / np.array(counts), counts)
        region_types = np.repeat(types, counts)
        centre, scale = centre_and_scale(features, region_weights)
        regions = np.round(scaled(features, centre, scale), _DIGITS)
        # Weights go into the features, so that the penalty takes them into account.
        root = np.sqrt(weights)
        regression = LogisticRegression(max_iter=1000)
        regression.fit(regions * root, region_types, sample_weight=region_weights)
        coefficients, intercepts = regression.coef_ * root, regression.intercept_
        if len(intercepts) == 1:  # of two types, only the difference is fitted
            coefficients = np.concatenate([np.zeros_like(coefficients), coefficients])
            intercepts = np.concatenate([np.zeros_like(intercepts), intercepts])
        return cls(
            centre=centre,
            scale=scale,
            weights=weights,
            coefficients=coefficients,
            intercepts=intercepts,
            regions=regions,
            region_types=region_types,
            region_weights=region_weights,
        )

    def logits(self, features: Float[np.ndarray, "R F"]) -> Float[np.ndarray, "R K"]:
        """Logarithms of how likely each type is, up to a constant."""
        rows = scaled(features, self.centre, self.scale)
        return rows @ self.coefficients.T + self.intercepts

    def distances(self, features: Float[np.ndarray, "R F"]) -> Float[np.ndarray, " R"]:
        """How far each region is from the nearest type, in mean spreads of a feature."""
        shares = self.weights / self.weights.sum()
        found = []
        for row in scaled(features, self.centre, self.scale):
            apart = np.abs(self.regions - row) @ shares
            sums = np.bincount(self.region_types, self.region_weights * apart)
            found.append(np.min(sums / np.bincount(self.region_types, self.region_weights)))
        return np.array(found, float)


class HeldOut(NamedTuple):
    """What is said of pictures by classifiers that were not fitted to them.

    Attributes:
        logits: of each picture's largest region.
        distances: the distances of the same.
        types: what the pictures are.
    """

    logits: Float[np.ndarray, "P K"]
    distances: Float[np.ndarray, " P"]
    types: Int[np.ndarray, " P"]


def hold_out(
    pictures: Pictures, types: Int[np.ndarray, " P"], weights: Float[np.ndarray, " F"]
) -> HeldOut:
    """Lets classifiers judge pictures that they were not fitted to.

    Pictures are left out of the fit one at a time or, if there are many, a few at a time.

    Args:
        pictures: see `Classifier.fit`; the first region of each is the largest.
        types: of each.
        weights: the weights of the features.

    Returns:
        What is said of them, in another order. The only picture of a type is not left out.
    """
    count = int(types.max()) + 1
    logits, distances, truth = [np.zeros((0, count))], [np.zeros(0)], [np.zeros(0, int)]
    for kept, left in folds(types):
        part = Classifier.fit([pictures[i] for i in kept], types[kept], weights)
        rows = np.stack([pictures[i][0] for i in left])
        logits.append(part.logits(rows))
        distances.append(part.distances(rows))
        truth.append(types[left])
    return HeldOut(np.concatenate(logits), np.concatenate(distances), np.concatenate(truth))


def folds(
    types: Int[np.ndarray, " P"], *, most: int = _MOST_FOLDS
) -> Iterator[tuple[Int[np.ndarray, " _"], Int[np.ndarray, " _"]]]:
    """Splits pictures into those to learn from and those to leave out, by their index.

    Args:
        types: of each picture. The only one of its type is never left out.
        most: folds; with fewer pictures, each is left out by itself.
    """
    counts = Counter(types.tolist())
    order = [i for i in np.argsort(types, kind="stable") if counts[int(types[i])] > 1]
    number = min(most, len(order))
    for fold in range(number):
        left = np.array(order[fold::number])
        yield np.setdiff1d(np.arange(len(types)), left), left


def temperature(held_out: HeldOut) -> float:
    """The number that logits are divided by so that their softmax fits best what is held out.

    It has the greatest likelihood (Guo et al., On Calibration of Modern Neural Networks, ICML
    2017), where half a picture more than there are counts as taken for another type: among a few
    pictures that are all told apart, nothing is certain.

    Args:
        held_out: what is said of pictures that were left out.

    Returns:
        From 0.05 to 20; 1 if nothing was held out.
    """
    # Those who only use a classifier need not wait for it.
    from scipy.optimize import minimize_scalar

    count, types = held_out.logits.shape
    if not count:
        return 1.0
    mistaken = 0.5 / (count + 1)
    targets = np.full((count, types), mistaken / (types - 1))
    targets[np.arange(count), held_out.types] = 1 - mistaken

    def loss(logarithm: float) -> float:
        return -float(np.sum(targets * log_softmax(held_out.logits / np.exp(logarithm), axis=1)))

    found = minimize_scalar(loss, bounds=tuple(np.log(_TEMPERATURES)), method="bounded")
    return float(np.exp(found.x))


def centre_and_scale(
    features: Float[np.ndarray, "R F"], weights: Float[np.ndarray, " R"]
) -> tuple[Float[np.ndarray, " F"], Float[np.ndarray, " F"]]:
    """The mean and the standard deviation of each feature.

    A feature that never changes has a standard deviation of 1, so that it can be divided by.

    Args:
        features: the regions' features.
        weights: the weights of the regions.
    """
    centre = np.average(features, axis=0, weights=weights)
    spread = np.sqrt(np.average((features - centre) ** 2, axis=0, weights=weights))
    return centre, np.where(spread > 1e-9 * np.maximum(1e-9, abs(centre)), spread, 1.0)


def scaled(
    features: Float[np.ndarray, "R F"],
    centre: Float[np.ndarray, " F"],
    scale: Float[np.ndarray, " F"],
) -> Float[np.ndarray, "R F"]:
    """Features in units of their spread, at most 2.5 of them from the centre."""
    return np.clip((features - centre) / scale, -_BOUND, _BOUND)
