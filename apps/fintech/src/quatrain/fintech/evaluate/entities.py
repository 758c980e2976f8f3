"""Columns that say the same of every transaction of an entity: whether they hold what came later."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from quatrain.fintech.metrics.scored import Floats, Ints, Labels

# Rows that an entity needs for its aggregate over the whole file to differ from what was known at each row.
_MIN_ROWS = 2
_MIN_ENTITIES = 20
# Entities of which the column must say one thing only: a few bad rows do not hide it.
_CONSTANT = 0.98
# A rank correlation this close to 1 over all entities is the aggregate itself, in whatever unit. What
# was known of a customer beforehand can come near its mean amount (.997 in simulated data), not this near;
# and near its number of frauds comes nothing that is known beforehand.
_SAME_ORDER = 0.9999
_SAME_FRAUDS = 0.95


class Entity:
    """The rows of each customer, terminal, device or merchant, and their aggregates over the whole file."""

    def __init__(self, code: Ints, amount: Floats, label: Labels) -> None:
        self._rows = np.flatnonzero(code >= 0)
        self._code = code[self._rows]
        self._n = np.bincount(self._code) if len(self._code) else np.zeros(0, dtype=np.int64)
        self._is_used = self._n >= _MIN_ROWS
        self._amount = amount[self._rows]
        self._label = label[self._rows]

    def aggregate_like(self, values: Floats) -> str | None:
        """Return which aggregate over an entity's whole time the column is, or None for anything else."""
        per_entity = self.constant(values)
        if per_entity is None:
            return None
        for name, aggregate, least in self._aggregates():
            if _rank_correlation(per_entity, aggregate[self._is_used]) >= least:
                return name
        return None

    def constant(self, values: Floats) -> Floats | None:
        """Return the one value of each entity with several rows, or None where entities have more than one."""
        if self._is_used.sum() < _MIN_ENTITIES:
            return None
        of_rows = values[self._rows]
        high = np.full(len(self._n), -np.inf)
        low = np.full(len(self._n), np.inf)
        is_missing = np.isnan(of_rows)
        np.maximum.at(high, self._code, np.where(is_missing, np.inf, of_rows))
        np.minimum.at(low, self._code, np.where(is_missing, -np.inf, of_rows))
        is_constant = (high == low)[self._is_used]
        if is_constant.mean() < _CONSTANT:
            return None
        return np.asarray(high[self._is_used])

    def _aggregates(self) -> Iterator[tuple[str, Floats, float]]:
        """Yield (name, value of each entity, rank correlation from which a column is that aggregate)."""
        n = np.maximum(self._n, 1)
        total = np.bincount(self._code, weights=self._amount).astype(np.float64)
        frauds = np.bincount(self._code, weights=self._label).astype(np.float64)
        squares = np.bincount(self._code, weights=(self._amount - (total / n)[self._code]) ** 2)
        largest = np.full(len(n), -np.inf)
        np.maximum.at(largest, self._code, self._amount)
        yield "the number of its frauds", frauds, _SAME_FRAUDS
        yield "its share of frauds", frauds / n, _SAME_FRAUDS
        yield "whether it ever has a fraud", (frauds > 0).astype(np.float64), _SAME_FRAUDS
        yield "the number of its transactions", self._n.astype(np.float64), _SAME_ORDER
        yield "the sum of its amounts", total, _SAME_ORDER
        yield "the mean of its amounts", total / n, _SAME_ORDER
        yield "the spread of its amounts", squares / n, _SAME_ORDER
        yield "its largest amount", largest, _SAME_ORDER


def _rank_correlation(values: Floats, aggregate: Floats) -> float:
    """Return Spearman's rank correlation, equal values sharing their rank; 0 where either says one thing only."""
    first, second = _ranks(values), _ranks(aggregate)
    if first.std() == 0 or second.std() == 0:
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])


def _ranks(values: Floats) -> Floats:
    """Return mean ranks, equal values sharing theirs."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    return ((last - count + last - 1) / 2)[place]
