"""What a day's alerts catch: fraudulent cards, the rows of a budget, and the threshold of a budget."""

from __future__ import annotations

import numpy as np

from quatrain.fintech.metrics.scored import Floats, Ints, Labels, Scored


def card_precision(scored: Scored, *, k: int = 100, removes_detected: bool = True) -> Floats:
    """Return per day the share of fraudulent cards among the k cards with the highest score that day.

    Card Precision@k of the fraud-detection handbook (chapter 4.3); a card is fraudulent on a day
    with at least one fraud. A fraudulent card in the top k is detected, and with `removes_detected`
    it takes no part in later days, as the handbook counts. Fewer than k cards still divide by k;
    rows without a card take no part.
    """
    if scored.customer is None:
        raise ValueError("card precision needs customer ids")
    day, customer, best, is_fraud = _cards_by_day(scored, scored.customer)
    days = np.unique(scored.day)
    edges = np.searchsorted(day, days), np.searchsorted(day, days, side="right")
    is_detected = np.zeros(customer.max(initial=-1) + 1, dtype=bool)
    found = np.zeros(len(days))
    for place, (low, high) in enumerate(zip(*edges, strict=True)):
        rows = low + np.flatnonzero(~is_detected[customer[low:high]])
        top = rows[np.argsort(-best[rows], kind="stable")[:k]]
        hits = top[is_fraud[top]]
        found[place] = len(hits) / k
        if removes_detected:
            is_detected[customer[hits]] = True
    return found


def top_of_each_day(scored: Scored, *, budget: float, per_day: int | None = None) -> Labels:
    """Return which rows analysts would look at: the highest scores of each day.

    `per_day` rows a day; without it the `budget` share of the rows, dealt out day by day in
    proportion, so that the days together take exactly the budget (but one row at least).
    """
    days, place, n_rows = np.unique(scored.day, return_inverse=True, return_counts=True)
    if per_day is not None:
        allowed = np.full(len(days), per_day)
    else:
        allowed = np.diff(np.floor(budget * np.cumsum(n_rows) + 1e-9), prepend=0.0).astype(np.int64)
        allowed[-1] += not allowed.any()
    order = np.lexsort((-scored.score, place))
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order)) - np.repeat(np.cumsum(n_rows) - n_rows, n_rows)
    return np.asarray(rank < allowed[place])


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


def _cards_by_day(scored: Scored, customer: Ints) -> tuple[Ints, Ints, Floats, Labels]:
    """Return (day, number of the card from 0, highest score, any fraud) of each card and day, sorted by both."""
    has_card = np.flatnonzero(customer >= 0)
    _, card = np.unique(customer[has_card], return_inverse=True)
    order = np.lexsort((card, scored.day[has_card]))
    rows, card = has_card[order], card[order]
    day = scored.day[rows]
    if not len(rows):
        return day, card, np.zeros(0), np.zeros(0, dtype=bool)
    starts = np.flatnonzero(np.r_[True, (day[1:] != day[:-1]) | (card[1:] != card[:-1])])
    best = np.maximum.reduceat(scored.score[rows], starts)
    is_fraud = np.logical_or.reduceat(scored.label[rows], starts)
    return day[starts], card[starts], best, is_fraud
