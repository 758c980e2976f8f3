"""How well scores rank frauds first: average precision, ROC AUC, the precision-recall curve."""

from __future__ import annotations

import numpy as np

from quatrain.fintech.metrics.scored import Floats, Labels


def average_precision(label: Labels, score: Floats, weight: Floats | None = None) -> float:
    """Return the area under the precision-recall steps; NaN without frauds."""
    return weighted_ap(Ranked(label, score), np.ones(len(label)) if weight is None else weight)


def roc_auc(label: Labels, score: Floats, weight: Floats | None = None) -> float:
    """Return the chance that a fraud scores above a legitimate row, ties counting half; NaN with one class."""
    return weighted_auc(Ranked(label, score), np.ones(len(label)) if weight is None else weight)


def precision_recall_curve(label: Labels, score: Floats, *, max_points: int = 200) -> list[dict[str, float]]:
    """Return points of threshold, precision and recall from the highest score down, thinned evenly in recall."""
    ranked = Ranked(label, score)
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


class Ranked:
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


def weighted_ap(ranked: Ranked, weight: Floats) -> float:
    """Return the average precision with each row counted by its weight."""
    caught, alerted = ranked.totals(weight)
    if caught[-1] <= 0:
        return float("nan")
    precision = np.divide(caught, alerted, out=np.zeros_like(caught), where=alerted > 0)
    return float(np.sum(np.diff(caught, prepend=0.0) * precision) / caught[-1])


def weighted_auc(ranked: Ranked, weight: Floats) -> float:
    """Return the ROC AUC with each row counted by its weight."""
    caught, alerted = ranked.totals(weight)
    false = alerted - caught
    if caught[-1] <= 0 or false[-1] <= 0:
        return float("nan")
    # Frauds above each legitimate row, those of the same score counting half.
    above = (caught + np.r_[0.0, caught[:-1]]) / 2
    return float(np.sum(np.diff(false, prepend=0.0) * above) / (caught[-1] * false[-1]))
