"""How rows of a table are measured: one protocol for every model in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from quatrain.fintech.metrics.intervals import intervals
from quatrain.fintech.metrics.scored import Scored
from quatrain.fintech.metrics.summary import summarise


@dataclass(frozen=True, kw_only=True)
class Row:
    """One model on one part of the data."""

    name: str
    split: str
    n: int
    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return dict(vars(self))


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How rows are measured; one for every model of a table."""

    alert_budget: float
    cards_per_day: int
    n_resamples: int
    seed: int

    def measure(self, name: str, split: str, scored: Scored) -> Row:
        """Return a model's row."""
        k = self.cards_per_day
        return Row(
            name=name,
            split=split,
            n=len(scored.label),
            metrics=summarise(scored, budget=self.alert_budget, k=k),
            intervals=intervals(scored, k=k, n_resamples=self.n_resamples, seed=self.seed),
        )
