"""The measures of fraud detection, in NumPy: ranking, card precision, value, calibration, intervals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Labels = NDArray[np.bool_]

# Fewer days than this say little about how days differ; then rows are resampled instead.
_MIN_DAYS = 10
_ECE_BINS = 15


@dataclass(frozen=True, kw_only=True)
class Scored:
    """Transactions with what a model said of them; `customer` is None where the data has no cards."""

    label: Labels
    score: Floats
    amount: Floats
    # Days since 1970, UTC.
    day: NDArray[np.int64]
    # Numbers that stand for the cards.
    customer: NDArray[np.int64] | None = None


def average_precision(label: Labels, score: Floats, weight: Floats | None = None) -> float:
    """Return the area under the precision-recall steps; NaN without frauds."""
    return _ap(_Ranked(label, score), np.ones(len(label)) if weight is None else weight)


def roc_auc(label: Labels, score: Floats, weight: Floats | None = None) -> float:
    """Return the chance that a fraud scores above a legitimate row, ties counting half; NaN with one class."""
    return _auc(_Ranked(label, score), np.ones(len(label)) if weight is None else weight)


def expected_calibration_error(label: Labels, score: Floats, *, n_bins: int = _ECE_BINS) -> float:
    """Return the mean gap between score and fraud rate over equal-width bins of [0, 1], weighted by rows."""
    bins = calibration_bins(label, score, n_bins=n_bins)
    n_rows = sum(bin_["n"] for bin_ in bins)
    return float(sum(bin_["n"] * abs(bin_["score"] - bin_["rate"]) for bin_ in bins) / n_rows)


def calibration_bins(label: Labels, score: Floats, *, n_bins: int = _ECE_BINS) -> list[dict[str, float]]:
    """Return n, mean score and fraud rate of each equal-width bin that holds rows."""
    place = np.clip((score * n_bins).astype(np.int64), 0, n_bins - 1)
    n = np.bincount(place, minlength=n_bins)
    score_sum = np.bincount(place, weights=score, minlength=n_bins)
    fraud_sum = np.bincount(place, weights=label.astype(np.float64), minlength=n_bins)
    return [
        {"n": float(n[i]), "score": float(score_sum[i] / n[i]), "rate": float(fraud_sum[i] / n[i])}
        for i in np.flatnonzero(n)
    ]


def value_recall(label: Labels, score: Floats, amount: Floats, *, budget: float) -> float:
    """Return the share of the fraudulent amount among the `budget` share of rows with the highest scores."""
    n_alerts = max(int(budget * len(score)), 1)
    alerted = np.argsort(-score, kind="stable")[:n_alerts]
    stolen = float(amount[label].sum())
    return float(amount[alerted][label[alerted]].sum()) / stolen if stolen > 0 else float("nan")


def card_precision(scored: Scored, *, k: int = 100) -> Floats:
    """Return per day the share of fraudulent cards among the k cards with the highest score that day.

    Card Precision@k of the fraud-detection handbook (chapter 4.3); a card is fraudulent on a day
    with at least one fraud. Fewer than k cards still divide by k.
    """
    if scored.customer is None:
        raise ValueError("card precision needs customer ids")
    order = np.lexsort((scored.customer, scored.day))
    day, customer = scored.day[order], scored.customer[order]
    starts = np.flatnonzero(np.r_[True, (day[1:] != day[:-1]) | (customer[1:] != customer[:-1])])
    best = np.maximum.reduceat(scored.score[order], starts)
    is_fraud = np.logical_or.reduceat(scored.label[order], starts)
    days = day[starts]
    ranked = np.lexsort((-best, days))
    first = np.searchsorted(days[ranked], days[ranked])
    is_top = np.arange(len(ranked)) - first < k
    _, at = np.unique(days[ranked], return_inverse=True)
    return np.bincount(at, weights=is_top & is_fraud[ranked]) / k


def threshold_for_budget(score: Floats, *, budget: float) -> float:
    """Return the lowest threshold at which at most the `budget` share of rows are alerts (score >= threshold).

    With fewer rows than one alert takes, the highest score: a model that never alerts helps nobody.
    """
    n_alerts = max(int(budget * len(score)), 1)
    ranked = np.sort(score)[::-1]
    if n_alerts >= len(ranked):
        return float(ranked[-1])
    threshold = ranked[n_alerts - 1]
    if ranked[n_alerts] == threshold:
        higher = ranked[ranked > threshold]
        threshold = higher[-1] if len(higher) else threshold
    return float(threshold)


def summarise(scored: Scored, *, budget: float, k: int = 100) -> dict[str, float]:
    """Return every measure that the data allows, by its flat name; what is not defined is left out."""
    measures = {
        "ap": average_precision(scored.label, scored.score),
        "auc": roc_auc(scored.label, scored.score),
        "value_recall": value_recall(scored.label, scored.score, scored.amount, budget=budget),
        "ece": expected_calibration_error(scored.label, scored.score),
    }
    if scored.customer is not None:
        measures[f"cp_{k}"] = float(card_precision(scored, k=k).mean())
    return {name: value for name, value in measures.items() if np.isfinite(value)}


def intervals(
    scored: Scored, *, k: int = 100, n_resamples: int = 500, level: float = 0.95, seed: int = 0
) -> dict[str, tuple[float, float]]:
    """Return percentile bootstrap intervals of ap, auc and, with cards, cp_k.

    Whole days are drawn where there are enough: transactions of one day share its frauds. Else
    frauds and legitimate rows are drawn apart, so that no resample lacks frauds.
    """
    rng = np.random.default_rng(seed)
    days, day_of_row = np.unique(scored.day, return_inverse=True)
    ranked = _Ranked(scored.label, scored.score)
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
        draws["ap"].append(_ap(ranked, weight))
        draws["auc"].append(_auc(ranked, weight))
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


def precision_recall_curve(label: Labels, score: Floats, *, max_points: int = 200) -> list[dict[str, float]]:
    """Return points of threshold, precision and recall from the highest score down, thinned evenly in recall."""
    ranked = _Ranked(label, score)
    caught, alerted = ranked.totals(np.ones(len(label)))
    if not len(caught) or caught[-1] == 0:
        return []
    recall, precision = caught / caught[-1], caught / alerted
    wanted = np.searchsorted(recall, np.linspace(recall[0], 1, max_points))
    keep = np.unique(np.r_[0, wanted.clip(max=len(recall) - 1)])
    return [
        {"threshold": float(ranked.scores[i]), "precision": float(precision[i]), "recall": float(recall[i])}
        for i in keep
    ]


class _Ranked:
    """Rows sorted by falling score, rows of one score as one step."""

    def __init__(self, label: Labels, score: Floats) -> None:
        if len(label) == 0 or len(label) != len(score):
            raise ValueError(f"labels and scores need one length above 0, got {len(label)} and {len(score)}")
        self._order = np.argsort(-score, kind="stable")
        ranked = score[self._order]
        self._ends = np.flatnonzero(np.r_[ranked[1:] != ranked[:-1], True])
        self._label = label[self._order].astype(np.float64)
        self.scores = ranked[self._ends]

    def totals(self, weight: Floats) -> tuple[Floats, Floats]:
        """Return (frauds, rows) at or above each distinct score, counted by weight."""
        ordered = weight[self._order]
        return np.cumsum(ordered * self._label)[self._ends], np.cumsum(ordered)[self._ends]


def _ap(ranked: _Ranked, weight: Floats) -> float:
    caught, alerted = ranked.totals(weight)
    if caught[-1] <= 0:
        return float("nan")
    precision = np.divide(caught, alerted, out=np.zeros_like(caught), where=alerted > 0)
    return float(np.sum(np.diff(caught, prepend=0.0) * precision) / caught[-1])


def _auc(ranked: _Ranked, weight: Floats) -> float:
    caught, alerted = ranked.totals(weight)
    false = alerted - caught
    if caught[-1] <= 0 or false[-1] <= 0:
        return float("nan")
    # Frauds above each legitimate row, those of the same score counting half.
    above = (caught + np.r_[0.0, caught[:-1]]) / 2
    return float(np.sum(np.diff(false, prepend=0.0) * above) / (caught[-1] * false[-1]))


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
