"""Average precision and ROC AUC under many weightings of the rows at once: what a bootstrap needs."""

from __future__ import annotations

import numpy as np

from quatrain.fintech.metrics.scored import Floats, Ints, Labels

# Values of one (levels, weightings) array: 16 MB.
_BLOCK_VALUES = 2_000_000
# Kinds of rows at a level: a fraud of that score, a legitimate row of that score, one between it and the level above.
_FRAUD, _TIED, _BETWEEN = range(3)


class Levels:
    """Rows counted by unit (a day) at the distinct scores of frauds: only there do AP and AUC move.

    A weighting gives each unit's rows one weight. `ranking` costs O(levels x units) per weighting,
    not O(rows), so that 500 resamples of 500,000 rows take about a second.
    """

    def __init__(self, label: Labels, score: Floats, unit: Ints, *, n_units: int) -> None:
        if len(label) == 0 or len(label) != len(score):
            raise ValueError(f"labels and scores need one length above 0, got {len(label)} and {len(score)}")
        steps = np.unique(score[label])
        place = np.searchsorted(steps, score, side="right")
        is_tied = np.zeros(len(score), dtype=bool)
        if len(steps):
            is_tied = (place > 0) & (steps[np.maximum(place, 1) - 1] == score)
        kind = np.where(label, _FRAUD, np.where(is_tied, _TIED, _BETWEEN))
        self._n_levels, self._n_units = len(steps), n_units
        # Level 0 is the highest; the level after the last holds what is below every fraud.
        self._keys = np.sort(((len(steps) - place) * 3 + kind) * n_units + unit)

    def ranking(self, weight: Floats) -> tuple[Floats, Floats]:
        """Return (AP, AUC), each of shape (R,), for weights of the units of shape (n_units, R).

        NaN where a weighting leaves no fraud, or for AUC no legitimate row.
        """
        n_weightings = weight.shape[1]
        caught, false, ap, lost = np.zeros((4, n_weightings))
        size = max(_BLOCK_VALUES // n_weightings, 1)
        for start in range(0, self._n_levels, size):
            fraud, tied, between = self._counts(start, min(start + size, self._n_levels), weight)  # each (levels, R)
            total = caught + np.cumsum(fraud, axis=0)
            above = false + np.cumsum(between, axis=0) + np.cumsum(tied, axis=0) - tied
            alerted = total + above + tied
            ap += np.divide(fraud * total, alerted, out=np.zeros_like(alerted), where=alerted > 0).sum(axis=0)
            lost += (fraud * (above + tied / 2)).sum(axis=0)
            caught, false = total[-1], above[-1] + tied[-1]
        below = self._counts(self._n_levels, self._n_levels + 1, weight)[_BETWEEN][0]
        return _ratio(ap, caught), 1 - _ratio(lost, caught * (false + below))

    def _counts(self, start: int, stop: int, weight: Floats) -> Floats:
        """Return the weighted rows of the levels by kind, of shape (3, stop - start, R)."""
        width = 3 * self._n_units
        low, high = np.searchsorted(self._keys, [start * width, stop * width])
        counts = np.bincount(self._keys[low:high] - start * width, minlength=(stop - start) * width)
        by_kind = counts.reshape(stop - start, 3, self._n_units).transpose(1, 0, 2)  # (3, levels, units)
        return np.asarray(by_kind.astype(np.float64) @ weight)


def _ratio(part: Floats, whole: Floats) -> Floats:
    return np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 0)
