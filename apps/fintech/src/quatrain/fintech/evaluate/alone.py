"""How well one column alone tells frauds from the rest, on later rows than those it was looked at on."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np

from quatrain.fintech.metrics.intervals import Days, intervals
from quatrain.fintech.metrics.ranking import average_precision, roc_auc
from quatrain.fintech.metrics.scored import Floats, Ints, Labels, Scored
from quatrain.fintech.metrics.tally import MeasureSettings

# No honest column is known to do this alone. In real card data that is known to be clean, the 28
# principal components of the ULB set, the strongest reach an AP of .65 [lower end .59] (V12) and an
# AUC of .942 [.913] (V14) when they are judged this way.
_AP = 0.75
_AUC = 0.96
# Nor does one have values that come to half of the frauds and to nothing else: of V12's most
# fraudulent values, those that come to half of the frauds hold 5 % legitimate rows.
_PURE, _PURE_LOW, _PURE_RECALL = 0.97, 0.95, 0.5
# The share of the rows, in time order, on which a column is looked at; it is judged on the rest.
_EARLIER = 0.6
# Frauds that each part needs: fewer say nothing.
_MIN_FRAUDS = 10
# A column's bins: so many edges by the values of frauds, and by those of legitimate rows.
_EDGES_EACH = 33
# Weight of the overall fraud rate in a bin's, in rows.
_PRIOR_ROWS = 20.0
_N_RESAMPLES = 200
# Two-sided 95 %.
_Z = 1.96


@dataclass(frozen=True, kw_only=True)
class Strength:
    """What a column alone reaches on the later rows, and where that is implausible, the lower ends of intervals."""

    ap: float
    auc: float
    # Of the rows whose value was almost always fraud before, and the share of the frauds among them.
    precision: float
    recall: float
    ap_low: float = 0.0
    auc_low: float = 0.0
    precision_low: float = 0.0

    @property
    def is_implausible(self) -> bool:
        """Whether no honest column is known to do this."""
        is_pure = self.precision_low >= _PURE_LOW and self.recall >= _PURE_RECALL
        return self.ap_low >= _AP or self.auc_low >= _AUC or is_pure


class Judge:
    """Labelled rows in time order, cut into those on which a column is looked at and those on which it is judged."""

    def __init__(self, label: Labels, day: Ints, *, seed: int) -> None:
        self._label = label
        self._day = day
        self._seed = seed
        self._cut = int(_EARLIER * len(label))
        self.base_rate = float(label.mean()) if len(label) else 0.0

    @property
    def can_judge(self) -> bool:
        """Whether both parts hold frauds enough, and legitimate rows."""
        parts = self._label[: self._cut], self._label[self._cut :]
        return all(part.sum() >= _MIN_FRAUDS and not part.all() for part in parts)

    def bins(self, values: Floats) -> Ints:
        """Return the bin of each value, NaN in a bin of its own: finer where the earlier frauds are."""
        early, label = values[: self._cut], self._label[: self._cut]
        edges = [
            np.quantile(of_class, np.linspace(0, 1, _EDGES_EACH))
            for of_class in (early[label & ~np.isnan(early)], early[~label & ~np.isnan(early)])
            if len(of_class)
        ]
        distinct = np.unique(np.concatenate(edges)) if edges else np.zeros(0)
        # A value on an edge has a bin of its own: edges are where many rows share a value.
        place = np.searchsorted(distinct, values, side="left") + np.searchsorted(distinct, values, side="right")
        place[np.isnan(values)] = 2 * len(distinct) + 1
        return place.astype(np.int64)

    def strength(self, code: Ints) -> Strength:
        """Return what the codes say of the later rows, by the fraud rate that each had before."""
        size = int(code.max()) + 1
        rows = np.bincount(code[: self._cut], minlength=size)
        frauds = np.bincount(code[: self._cut], weights=self._label[: self._cut], minlength=size)
        rate = (frauds + _PRIOR_ROWS * self._label[: self._cut].mean()) / (rows + _PRIOR_ROWS)
        later, label = code[self._cut :], self._label[self._cut :]
        score = rate[later]
        is_pure = np.divide(frauds, rows, out=np.zeros(size), where=rows > 0)[later] >= _PURE
        n_pure, caught = int(is_pure.sum()), int((is_pure & label).sum())
        found = Strength(
            ap=average_precision(label, score),
            auc=roc_auc(label, score),
            precision=caught / n_pure if n_pure else 0.0,
            recall=caught / int(label.sum()),
        )
        return self._bounded(found, score, n_pure)

    def _bounded(self, found: Strength, score: Floats, n_pure: int) -> Strength:
        """Return the strength with lower bounds where its values call for them."""
        if found.ap < _AP and found.auc < _AUC and (found.precision < _PURE or found.recall < _PURE_RECALL):
            return found
        label, day = self._label[self._cut :], self._day[self._cut :]
        rows = Scored(label=label, score=score, amount=np.ones(len(label)), day=day)
        found_intervals = intervals(Days([rows], MeasureSettings(), seed=self._seed), n_resamples=_N_RESAMPLES)
        return Strength(
            ap=found.ap,
            auc=found.auc,
            precision=found.precision,
            recall=found.recall,
            # Where frauds are common, a high average precision is nothing special.
            ap_low=(found_intervals["ap"][0] - self.base_rate) / (1 - self.base_rate),
            auc_low=found_intervals["auc"][0],
            precision_low=_wilson_low(found.precision, n_pure),
        )


def _wilson_low(share: float, n: int) -> float:
    """Return the lower end of Wilson's 95 % interval of a share of n."""
    if not n:
        return 0.0
    centre = share + _Z**2 / (2 * n)
    return (centre - _Z * sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))) / (1 + _Z**2 / n)
