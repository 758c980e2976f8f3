"""Sets of classes that hold the truth with a promised probability in each class, or no answer where they cannot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class ClassThresholds:
    """A class is in the set where its probability is at least its `floor`; floors of 0 keep a class in every set."""

    floors: tuple[float, ...]
    level: float

    def sets(self, probability: NDArray[Any]) -> Bools:
        """Return which classes are in each row's set, of shape (n, K)."""
        return np.asarray(probability >= np.asarray(self.floors)[None, :])


def fit_class_thresholds(
    probability: NDArray[Any], labels: NDArray[Any], *, level: float = 0.9, interpolate: bool = False
) -> ClassThresholds:
    """Return floors under which a new case of each class has its class in its set with probability `level`.

    Split conformal prediction by class (Vovk 2012, "Conditional validity of inductive conformal predictors"):
    probability (n, K), labels (n,) in 0..K-1. The floor is the k-th smallest probability that cases of the class
    gave to it, k = floor((1 - level) (n + 1)): coverage is at least the level, and above it by at most 1 / (n + 1).
    `interpolate` takes the point between two neighbours that makes coverage the level itself on average, for few
    cases. With too few cases for the level (fewer than level / (1 - level)) the class is in every set.
    """
    p, y = np.asarray(probability, np.float64), np.asarray(labels)
    if p.ndim != 2 or len(p) != len(y):  # noqa: PLR2004 - rows, classes
        raise ValueError(f"expected probability (n, K) and labels (n,), got {p.shape} and {y.shape}")
    if not 0 < level < 1:
        raise ValueError(f"level must be in (0, 1), got {level}")
    floors = tuple(_floor(np.sort(p[y == k, k]), level=level, interpolate=interpolate) for k in range(p.shape[1]))
    return ClassThresholds(floors=floors, level=level)


def coverage(sets: Bools, labels: NDArray[Any]) -> list[float]:
    """Return for each class the share of its cases whose set holds it; NaN for a class without cases."""
    own = sets[np.arange(len(labels)), labels]
    return [float(own[labels == k].mean()) if (labels == k).any() else float("nan") for k in range(sets.shape[1])]


def abstained(sets: Bools) -> float:
    """Return the share of rows whose set is no answer: empty, or of several classes."""
    return float((sets.sum(1) != 1).mean())


def _floor(ascending: Floats, *, level: float, interpolate: bool) -> float:
    place = (1 - level) * (len(ascending) + 1)
    # A product such as 0.1 * 30 lies a rounding error below its integer.
    k = int(np.floor(place + 1e-9))
    if k == 0:
        return 0.0
    low = float(ascending[k - 1])
    if not interpolate or k == len(ascending):
        return low
    return low + max(place - k, 0.0) * (float(ascending[k]) - low)
