"""Every measure of one model, by its flat name, under one or many weightings of the days."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from pydantic import Field

from quatrain.core.config import Config
from quatrain.fintech.metrics.alerts import card_precision, top_of_each_day
from quatrain.fintech.metrics.calibration import Bins, bin_of, brier, log_loss
from quatrain.fintech.metrics.levels import Levels
from quatrain.fintech.metrics.scored import Floats, Ints, Scored

_ECE_NAMES: Mapping[str, Bins] = {"ece": "width", "ece_mass": "mass"}


class MeasureSettings(Config):
    """What the measures need to know besides the scores."""

    # Share of the transactions that analysts can look at.
    alert_budget: float = Field(default=0.001, gt=0, le=1)
    # Transactions that they can look at each day, in place of a share.
    alerts_per_day: int | None = Field(default=None, ge=1)
    # Cards a day that Card Precision looks at.
    cards_per_day: int = Field(default=100, ge=1)


class Tally:
    """Scored rows summed by unit: a unit is a day, or a group of rows where days are too few to resample.

    `ap`, `auc`; `cp_<k>` (only of whole days); at the budget, the highest scores of each day:
    `value_recall` (share of the fraudulent amount), `budget_precision`, `budget_recall`,
    `budget_alerts_per_day`; at the threshold, where there is one: `precision`, `recall`,
    `alert_rate`, `alerts_per_day`; of the probabilities: `ece` (15 bins of equal width),
    `ece_mass` (bins of equally many rows), `brier`, `log_loss`.
    """

    def __init__(self, scored: Scored, settings: MeasureSettings, unit: Ints, *, has_days: bool = True) -> None:
        self._n_units = int(unit.max()) + 1
        self._levels = Levels(scored.label, scored.score, unit, n_units=self._n_units)
        self._sums = {name: self._sum(unit, of) for name, of in _summands(scored, settings).items()}
        days = np.unique(scored.day)
        self._sums["days"] = np.full(self._n_units, len(days) / self._n_units)
        self._cards = None
        if scored.customer is not None and has_days:
            self._cards = (f"cp_{settings.cards_per_day}", card_precision(scored, k=settings.cards_per_day))
        self._bins = {name: self._binned(scored, unit, bins) for name, bins in _ECE_NAMES.items()}

    @property
    def n_units(self) -> int:
        """How many units there are."""
        return self._n_units

    def measure(self, weight: Floats) -> dict[str, Floats]:
        """Return each measure, of shape (R,), for weights of shape (n_units, R); NaN where it is not defined."""
        ap, auc = self._levels.ranking(weight)
        sums = {name: of_unit @ weight for name, of_unit in self._sums.items()}
        found = {"ap": ap, "auc": auc}
        if self._cards:
            name, per_day = self._cards
            found[name] = _ratio(per_day @ weight, sums["days"])
        found |= {
            "value_recall": _ratio(sums["budget_value"], sums["value"]),
            "budget_precision": _ratio(sums["budget_caught"], sums["budget_alerts"]),
            "budget_recall": _ratio(sums["budget_caught"], sums["frauds"]),
            "budget_alerts_per_day": _ratio(sums["budget_alerts"], sums["days"]),
        }
        if "alerts" in sums:
            found |= {
                "precision": _ratio(sums["caught"], sums["alerts"]),
                "recall": _ratio(sums["caught"], sums["frauds"]),
                "alert_rate": _ratio(sums["alerts"], sums["rows"]),
                "alerts_per_day": _ratio(sums["alerts"], sums["days"]),
            }
        # The sum over bins of |score - rate| n is that of |sum of scores - frauds|.
        found |= {name: _ratio(np.abs(gap @ weight).sum(axis=0), sums["rows"]) for name, gap in self._bins.items()}
        return found | {name: _ratio(sums[name], sums["rows"]) for name in ("brier", "log_loss")}

    def _sum(self, unit: Ints, of: Floats) -> Floats:
        return np.bincount(unit, weights=of, minlength=self._n_units).astype(np.float64)

    def _binned(self, scored: Scored, unit: Ints, bins: Bins) -> Floats:
        """Return the summed gap between score and label, of shape (bins, units)."""
        place = bin_of(scored.probability, bins=bins)
        n_bins = int(place.max()) + 1
        gap = np.bincount(
            place * self._n_units + unit, weights=scored.probability - scored.label, minlength=n_bins * self._n_units
        )
        return gap.astype(np.float64).reshape(n_bins, self._n_units)


def _summands(scored: Scored, settings: MeasureSettings) -> dict[str, Floats]:
    fraud, amount = scored.label.astype(np.float64), scored.amount
    top = top_of_each_day(scored, budget=settings.alert_budget, per_day=settings.alerts_per_day).astype(np.float64)
    found = {
        "rows": np.ones(len(fraud)),
        "frauds": fraud,
        "value": fraud * amount,
        "budget_alerts": top,
        "budget_caught": top * fraud,
        "budget_value": top * fraud * amount,
        "brier": brier(scored.label, scored.probability),
        "log_loss": log_loss(scored.label, scored.probability),
    }
    if scored.threshold is not None:
        alert = (scored.score >= scored.threshold).astype(np.float64)
        found |= {"alerts": alert, "caught": alert * fraud}
    return found


def _ratio(part: Floats, whole: Floats) -> Floats:
    return np.asarray(np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0))
