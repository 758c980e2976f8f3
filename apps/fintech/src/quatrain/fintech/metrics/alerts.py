"""What a day's alerts catch: stolen value, fraudulent cards, and the threshold of a budget."""

from __future__ import annotations

import numpy as np

from quatrain.fintech.metrics.scored import Floats, Labels, Scored


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
