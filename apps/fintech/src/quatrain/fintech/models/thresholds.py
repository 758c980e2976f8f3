"""The alert threshold of a budget, set on rows without labels, and how far the alert rate may then drift.

A model retrained on every matured label has seen all labelled rows, and scores those too well: a
threshold taken from them, or from the scores of the model before retraining, belongs to another
distribution. The rows of the label delay are new to the model, and a budget needs no labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, pi, sin, sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from quatrain.fintech.metrics.alerts import threshold_for_budget

# Fewer days do not show how much days differ; then rows are taken as independent.
_MIN_DAYS = 3
# Halvings that bring a quantile of Student's t to its last digits.
_HALVINGS = 80


@dataclass(frozen=True, kw_only=True)
class AlertThreshold:
    """A threshold on the raw score, a float32: rows at or above it are alerts."""

    threshold: float
    # The share of rows that was asked for, and the share that is reached where it was set.
    budget: float
    rate: float
    # Prediction interval of the share over the next `horizon_days`, if the days are like those it was set on.
    low: float
    high: float
    horizon_days: int
    n: int
    n_days: int


def threshold_from_unlabelled(
    score: NDArray[np.float32], day: NDArray[np.int64], *, budget: float, horizon_days: int = 7, level: float = 0.95
) -> AlertThreshold:
    """Return the lowest threshold with at most `budget` alerts among rows that the model did not learn from.

    `score` is float32, as the graph gives it when it runs; `day` numbers the rows' days, best whole
    weeks of whole days. Labels are not needed, so the latest rows of all can be used.
    """
    if score.dtype != np.float32:
        raise ValueError(f"scores must be float32, as the sealed graph gives them; got {score.dtype}")
    if len(score) != len(day) or len(score) == 0:
        raise ValueError(f"scores and days need one length above 0, got {len(score)} and {len(day)}")
    if not 0 < budget < 1:
        raise ValueError(f"the budget must be a share of rows above 0 and below 1, got {budget}")
    if horizon_days < 1:
        raise ValueError(f"the horizon must be at least 1 day, got {horizon_days}")
    threshold = threshold_for_budget(score.astype(np.float64), budget=budget)
    is_alert = score >= np.float32(threshold)
    low, high = _prediction(is_alert, day, horizon_days=horizon_days, level=level)
    return AlertThreshold(
        threshold=threshold,
        budget=budget,
        rate=float(is_alert.mean()),
        low=low,
        high=high,
        horizon_days=horizon_days,
        n=len(score),
        n_days=len(np.unique(day)),
    )


def _prediction(
    is_alert: NDArray[np.bool_], day: NDArray[np.int64], *, horizon_days: int, level: float
) -> tuple[float, float]:
    """Return the interval of the alert rate over coming days, on the scale of square roots.

    There a count's spread hardly depends on the count. Days are the units: their own spread holds
    both the chance of single rows and what the rows of a day share, such as a wave of fraud.
    """
    _, place = np.unique(day, return_inverse=True)
    n = np.bincount(place)
    rate = np.bincount(place, weights=is_alert) / n
    if len(n) < _MIN_DAYS:
        rows_ahead = n.mean() * horizon_days
        half = NormalDist().inv_cdf((1 + level) / 2) / 2 * sqrt(1 / n.sum() + 1 / rows_ahead)
    else:
        spread = float(np.sqrt(rate).std(ddof=1))
        half = _student_t((1 + level) / 2, len(n) - 1) * spread * sqrt(1 / len(n) + 1 / horizon_days)
    centre = sqrt(is_alert.mean())
    return max(centre - half, 0.0) ** 2, min(centre + half, 1.0) ** 2


def _student_t(probability: float, degrees: int) -> float:
    """Return the quantile above the median of Student's t with a whole number of degrees of freedom."""
    low, high = 0.0, pi / 2
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if (1 + _within(middle, degrees)) / 2 < probability:
            low = middle
        else:
            high = middle
    return sqrt(degrees) * sin(low) / cos(low)


def _within(angle: float, degrees: int) -> float:
    """Return P(|t| <= sqrt(degrees) tan(angle)) (Abramowitz and Stegun 1964, 26.7.3 and 26.7.4)."""
    is_odd = degrees % 2
    term, total = (cos(angle), 0.0) if is_odd else (1.0, 0.0)
    for j in range(1, degrees // 2 + 1):
        total += term
        term *= cos(angle) ** 2 * ((2 * j) / (2 * j + 1) if is_odd else (2 * j - 1) / (2 * j))
    return 2 / pi * (angle + sin(angle) * total) if is_odd else sin(angle) * total
