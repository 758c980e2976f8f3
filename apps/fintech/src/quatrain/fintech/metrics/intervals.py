"""How sure a measure is: bootstrap over days, of one model or of the difference between two."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist, fmean

import numpy as np

from quatrain.fintech.metrics.alerts import card_precision
from quatrain.fintech.metrics.scored import Floats, Ints, Labels, Scored
from quatrain.fintech.metrics.tally import MeasureSettings, Tally

# Fewer days than this say little about how days differ; then groups of rows are resampled instead.
MIN_DAYS = 10
# Groups of rows where days are too few: each holds a fraud or more, so that hardly a resample lacks them.
_MAX_GROUPS = 200
# Resamples that are measured together, to bound memory.
_CHUNK = 100


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A measure of one model minus that of another on the same rows, with its interval."""

    value: float
    low: float
    high: float


class Days:
    """The measures of one model over folds, each fold a model's scores of a stretch of days.

    A measure is the mean over the folds where it is defined. The days of all folds are resampled
    together, in circular blocks of `block_days` neighbours, and every model that is measured on
    these rows sees the same resamples of the same seed: differences are paired.
    """

    def __init__(self, folds: Sequence[Scored], settings: MeasureSettings, *, seed: int = 0) -> None:
        self.has_days = sum(len(np.unique(fold.day)) for fold in folds) >= MIN_DAYS
        self._seed = seed
        rng = np.random.default_rng(seed)
        units = [_days_of(fold) if self.has_days else _groups_of(fold.label, rng) for fold in folds]
        self._tallies = [
            Tally(fold, settings, unit, has_days=self.has_days) for fold, unit in zip(folds, units, strict=True)
        ]
        self._ends = np.cumsum([tally.n_units for tally in self._tallies])
        # A measure of whole days, which groups of rows cannot resample: it has a value, and no interval.
        cards = f"cp_{settings.cards_per_day}"
        self._unresampled: list[dict[str, float]] = [
            {cards: float(card_precision(fold, k=settings.cards_per_day).mean())}
            if fold.customer is not None and not self.has_days
            else {}
            for fold in folds
        ]

    @property
    def n_units(self) -> int:
        """How many days, or groups of rows where days are too few."""
        return int(self._ends[-1])

    def folds(self) -> list[dict[str, float]]:
        """Return each fold's measures; what is not defined is left out."""
        found = [tally.measure(np.ones((tally.n_units, 1))) for tally in self._tallies]
        return [
            {name: float(value[0]) for name, value in fold.items() if np.isfinite(value[0])} | fixed
            for fold, fixed in zip(found, self._unresampled, strict=True)
        ]

    def values(self) -> dict[str, float]:
        """Return the measures; what is defined in no fold is left out."""
        values = {name: float(value[0]) for name, value in self._mean(np.ones((self.n_units, 1))).items()}
        names = {name for fixed in self._unresampled for name in fixed}
        return values | {name: fmean(fixed[name] for fixed in self._unresampled if name in fixed) for name in names}

    def draws(self, *, n_resamples: int, block_days: int = 1) -> dict[str, Floats]:
        """Return each measure in each resample, of shape (n_resamples,)."""
        rng = np.random.default_rng(self._seed)
        parts = [
            self._mean(_weights(rng, self.n_units, min(_CHUNK, n_resamples - done), block_days))
            for done in range(0, n_resamples, _CHUNK)
        ]
        names = [name for name in parts[0] if all(name in part for part in parts)]
        return {name: np.concatenate([part[name] for part in parts]) for name in names}

    def _mean(self, weight: Floats) -> dict[str, Floats]:
        starts = [0, *self._ends[:-1]]
        folds = [
            tally.measure(weight[start:end])
            for tally, start, end in zip(self._tallies, starts, self._ends, strict=True)
        ]
        stacked = {name: np.stack([fold[name] for fold in folds if name in fold]) for name in folds[0]}  # (folds, R)
        means = {name: _nanmean(values) for name, values in stacked.items()}
        return {name: mean for name, mean in means.items() if np.isfinite(mean).any()}


def intervals(
    days: Days, *, n_resamples: int = 500, level: float = 0.95, block_days: int = 1
) -> dict[str, tuple[float, float]]:
    """Return bootstrap intervals of the measures; cp_k has one only where days are enough.

    Expanded percentile intervals (Hesterberg 2015, "What Teachers Should Know about the Bootstrap"):
    the plain ones are too narrow for a few dozen days. With fewer than 10 days, groups of rows are
    drawn in place of days: the interval then knows nothing of how days differ. An ECE's interval
    lies too high where the scores are calibrated, because an absolute gap cannot be below 0.
    """
    draws = days.draws(n_resamples=n_resamples, block_days=block_days)
    wide = _expanded(level, days.n_units)
    return {name: _interval(values, wide) for name, values in draws.items()}


def paired_day_difference(
    first: Sequence[Scored],
    second: Sequence[Scored],
    *,
    settings: MeasureSettings | None = None,
    n_resamples: int = 2000,
    level: float = 0.95,
    block_days: int = 1,
    seed: int = 0,
) -> Mapping[str, Difference]:
    """Return each measure of `first` minus that of `second`, with the interval over the same days.

    One Scored per fold, the rows of both in the same order. A deep part ships only if the lower end
    of its difference is above 0. Raises ValueError where the rows differ.
    """
    if len(first) != len(second) or any(
        not (np.array_equal(a.label, b.label) and np.array_equal(a.day, b.day))
        for a, b in zip(first, second, strict=False)
    ):
        raise ValueError("both models must have scored the same rows in the same folds and order")
    chosen = settings or MeasureSettings()
    ours, theirs = (Days(folds, chosen, seed=seed) for folds in (first, second))
    return difference(ours, theirs, n_resamples=n_resamples, level=level, block_days=block_days)


def difference(
    first: Days, second: Days, *, n_resamples: int = 2000, level: float = 0.95, block_days: int = 1
) -> dict[str, Difference]:
    """Return the differences of two models measured on the same rows with one seed."""
    ours, theirs = (days.draws(n_resamples=n_resamples, block_days=block_days) for days in (first, second))
    values = first.values(), second.values()
    wide = _expanded(level, first.n_units)
    found = {}
    for name in ours.keys() & theirs.keys():
        low, high = _interval(ours[name] - theirs[name], wide)
        found[name] = Difference(value=values[0][name] - values[1][name], low=low, high=high)
    return {name: found[name] for name in ours if name in found}


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
    """Return the interval of measure(first) - measure(second) over the same stratified resamples of rows."""
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(n_resamples):
        weight = _stratified(rng, label)
        values.append(measure(label, first, weight) - measure(label, second, weight))
    return _interval(np.array(values), level)


def _days_of(fold: Scored) -> Ints:
    return np.unique(fold.day, return_inverse=True)[1].astype(np.int64)


def _groups_of(label: Labels, rng: np.random.Generator) -> Ints:
    """Return each row's group: frauds and legitimate rows are dealt out apart, in random order."""
    n_groups = int(np.clip(label.sum(), 2, _MAX_GROUPS))
    group = np.empty(len(label), dtype=np.int64)
    for is_fraud in (True, False):
        rows = rng.permutation(np.flatnonzero(label == is_fraud))
        group[rows] = np.arange(len(rows)) % n_groups
    return group


def _weights(rng: np.random.Generator, n_units: int, n_resamples: int, block: int) -> Floats:
    """Return how often each unit is drawn, of shape (n_units, n_resamples): blocks of neighbours, the ends joined."""
    block = min(block, n_units)
    starts = rng.integers(0, n_units, (n_resamples, -(-n_units // block)))
    drawn = ((starts[:, :, None] + np.arange(block)) % n_units).reshape(n_resamples, -1)[:, :n_units]
    keys = drawn + n_units * np.arange(n_resamples)[:, None]
    counts = np.bincount(keys.ravel(), minlength=n_units * n_resamples).reshape(n_resamples, n_units)
    return np.ascontiguousarray(counts.T, dtype=np.float64)


def _nanmean(values: Floats) -> Floats:
    """Return the mean over the first axis of what is defined, NaN where nothing is."""
    is_defined = np.isfinite(values)
    count = is_defined.sum(axis=0)
    total = np.where(is_defined, values, 0.0).sum(axis=0)
    return np.asarray(np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0))


def _stratified(rng: np.random.Generator, label: Labels) -> Floats:
    weight = np.zeros(len(label))
    for is_fraud in (False, True):
        rows = np.flatnonzero(label == is_fraud)
        if len(rows):
            weight[rows] = np.bincount(rng.integers(0, len(rows), len(rows)), minlength=len(rows))
    return weight


def _expanded(level: float, n_units: int) -> float:
    """Return the level at which a percentile interval of few units is as wide as Student's t asks for."""
    normal, freedom = NormalDist(), n_units - 1
    z = normal.inv_cdf((1 + level) / 2)
    # Student's quantile by the expansion of Abramowitz and Stegun, 26.7.5.
    t = z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
    return 2 * normal.cdf(t * sqrt(n_units / freedom)) - 1


def _interval(values: Floats, level: float) -> tuple[float, float]:
    low, high = np.nanquantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
