"""How sure a measure is: bootstrap intervals over days."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from quatrain.fintech.metrics.alerts import card_precision
from quatrain.fintech.metrics.ranking import Ranked, weighted_ap, weighted_auc
from quatrain.fintech.metrics.scored import Floats, Labels, Scored

# Fewer days than this say little about how days differ; then rows are resampled instead.
_MIN_DAYS = 10


def intervals(
    scored: Scored, *, k: int = 100, n_resamples: int = 500, level: float = 0.95, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Return percentile bootstrap intervals of ap, auc and, with cards, cp_k.

    Whole days are drawn where there are enough: transactions of one day share its frauds. Else
    frauds and legitimate rows are drawn apart, so that no resample lacks frauds.
    """
    rng = np.random.default_rng(seed)
    days, day_of_row = np.unique(scored.day, return_inverse=True)
    ranked = Ranked(scored.label, scored.score)
    draws: dict[str, list[float]] = {"ap": [], "auc": []}
    has_days = len(days) >= _MIN_DAYS
    per_day = card_precision(scored, k=k) if scored.customer is not None else None
    if per_day is not None and has_days:
        draws[f"cp_{k}"] = []
    for _ in range(n_resamples):
        if has_days:
            times = rng.multinomial(len(days), np.full(len(days), 1 / len(days)))
            weight = times[day_of_row].astype(np.float64)
            if per_day is not None:
                draws[f"cp_{k}"].append(float(per_day @ times) / len(days))
        else:
            weight = _stratified(rng, scored.label)
        draws["ap"].append(weighted_ap(ranked, weight))
        draws["auc"].append(weighted_auc(ranked, weight))
    return {name: _interval(values, level) for name, values in draws.items() if np.isfinite(values).any()}


def paired_difference(
    measure: Callable[[Labels, Floats, Floats], float],
    *,
    label: Labels,
    first: Floats,
    second: Floats,
    n_resamples: int = 500,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the interval of measure(first) - measure(second) over the same stratified resamples."""
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(n_resamples):
        weight = _stratified(rng, label)
        values.append(measure(label, first, weight) - measure(label, second, weight))
    return _interval(values, level)


def _stratified(rng: np.random.Generator, label: Labels) -> Floats:
    weight = np.zeros(len(label))
    for is_fraud in (False, True):
        rows = np.flatnonzero(label == is_fraud)
        if len(rows):
            weight[rows] = np.bincount(rng.integers(0, len(rows), len(rows)), minlength=len(rows))
    return weight


def _interval(values: list[float], level: float) -> tuple[float, float]:
    low, high = np.nanquantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
