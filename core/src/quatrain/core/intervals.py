"""How sure a measure is: DeLong for areas under the ROC curve, Wilson for shares, the bootstrap for the rest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import exp, log, sqrt
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Auc:
    """An area under the ROC curve with its variance and what each case contributes to it."""

    value: float
    variance: float
    # Of the positives, then of the negatives: DeLong's structural components.
    components: tuple[Floats, Floats]

    def interval(self, level: float = 0.95) -> Interval:
        """Return the interval on the logit scale, which stays within [0, 1]; (v, v) where nothing varies."""
        if self.variance <= 0 or not 0 < self.value < 1:
            return self.value, self.value
        centre = log(self.value / (1 - self.value))
        half = _z(level) * sqrt(self.variance) / (self.value * (1 - self.value))
        low, high = (1 / (1 + exp(-(centre + side * half))) for side in (-1, 1))
        return low, high


def delong(label: NDArray[Any], score: NDArray[Any]) -> Auc:
    """Return the area under the ROC curve and its variance (DeLong et al. 1988; ranks after Sun and Xu 2014).

    Labels 0 or 1, both present; ties count half.
    """
    y = np.asarray(label) > 0
    s = np.asarray(score, np.float64)
    positive, negative = s[y], s[~y]
    m, n = len(positive), len(negative)
    if not m or not n:
        raise ValueError(f"an AUC needs cases of both kinds, got {m} positive and {n} negative")
    everyone = midranks(np.concatenate([positive, negative]))
    above_negatives = (everyone[:m] - midranks(positive)) / n
    below_positives = 1 - (everyone[m:] - midranks(negative)) / m
    spread = [float(np.var(part, ddof=1)) if len(part) > 1 else 0.0 for part in (above_negatives, below_positives)]
    return Auc(
        value=float(above_negatives.mean()),
        variance=spread[0] / m + spread[1] / n,
        components=(above_negatives, below_positives),
    )


def delong_difference(
    label: NDArray[Any], first: NDArray[Any], second: NDArray[Any], *, level: float = 0.95
) -> tuple[float, float, float]:
    """Return (difference, low, high) of two models' areas on the same cases, their covariance counted."""
    a, b = delong(label, first), delong(label, second)
    variance = sum(
        float(np.var(mine - theirs, ddof=1)) / len(mine) if len(mine) > 1 else 0.0
        for mine, theirs in zip(a.components, b.components, strict=True)
    )
    difference, half = a.value - b.value, _z(level) * sqrt(variance)
    return difference, difference - half, difference + half


def wilson(n_hits: int, n: int, *, level: float = 0.95) -> Interval:
    """Return the interval of a share (Wilson 1927), within [0, 1] and sensible at 0 and 1; all of it for no cases."""
    if n == 0:
        return 0.0, 1.0
    z = _z(level)
    share, spread = n_hits / n, z * z / n
    centre = (share + spread / 2) / (1 + spread)
    half = sqrt(share * (1 - share) * spread + spread * spread / 4) / (1 + spread)
    return max(0.0, centre - half), min(1.0, centre + half)


def bootstrap(
    measure: Callable[[NDArray[np.int64]], float],
    strata: NDArray[Any],
    *,
    n_resamples: int = 500,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Return the percentile interval of measure(rows) over resamples that keep each stratum's size."""
    rng = np.random.default_rng(seed)
    groups = [np.flatnonzero(strata == value) for value in np.unique(strata)]
    values = [measure(np.concatenate([rng.choice(group, len(group)) for group in groups])) for _ in range(n_resamples)]
    low, high = np.nanquantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def midranks(values: NDArray[Any]) -> Floats:
    """Return ranks from 1, equal values sharing the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.asarray((last - (counts - 1) / 2)[inverse], dtype=np.float64)


def _z(level: float) -> float:
    if not 0 < level < 1:
        raise ValueError(f"level must be in (0, 1), got {level}")
    return NormalDist().inv_cdf((1 + level) / 2)
