"""How rows of a table are measured: one protocol for every model in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from quatrain.fintech.metrics.intervals import Days, Difference, difference, intervals
from quatrain.fintech.metrics.scored import Scored
from quatrain.fintech.metrics.tally import MeasureSettings


@dataclass(frozen=True, kw_only=True)
class Row:
    """One model on one part of the data."""

    name: str
    split: str
    n: int
    metrics: dict[str, float]
    intervals: dict[str, tuple[float, float]]
    # The measures of each fold, the earliest first, where there is more than one.
    folds: tuple[dict[str, float], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values; `folds` only where there are some."""
        return {name: value for name, value in vars(self).items() if name != "folds" or value}


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How rows are measured; one for every model of a table."""

    alert_budget: float
    cards_per_day: int
    n_resamples: int
    seed: int
    # In place of the share `alert_budget`: so many of the highest scores of each day.
    alerts_per_day: int | None = None
    # Neighbouring days that are resampled together.
    block_days: int = 1

    def measure(self, name: str, split: str, scored: Scored | Sequence[Scored]) -> Row:
        """Return a model's row: of one part, or the mean over folds."""
        folds = [scored] if isinstance(scored, Scored) else list(scored)
        days = self._days(folds)
        return Row(
            name=name,
            split=split,
            n=sum(len(fold.label) for fold in folds),
            metrics=days.values(),
            intervals=intervals(days, n_resamples=self.n_resamples, block_days=self.block_days),
            folds=tuple(days.folds()) if len(folds) > 1 else (),
        )

    def compare(self, first: Sequence[Scored], second: Sequence[Scored]) -> dict[str, Difference]:
        """Return the measures of `first` minus those of `second`, with paired intervals over the same days."""
        ours, theirs = self._days(first), self._days(second)
        return difference(ours, theirs, n_resamples=self.n_resamples, block_days=self.block_days)

    def _days(self, folds: Sequence[Scored]) -> Days:
        settings = MeasureSettings(
            alert_budget=self.alert_budget, alerts_per_day=self.alerts_per_day, cards_per_day=self.cards_per_day
        )
        return Days(folds, settings, seed=self.seed)
