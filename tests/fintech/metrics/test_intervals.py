"""Bootstrap intervals: coverage by simulation, pairing, folds, and blocks of days that resemble each other."""

from __future__ import annotations

import functools
import math
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from quatrain.fintech.metrics.intervals import (
    Days,
    Difference,
    difference,
    intervals,
    paired_day_difference,
    paired_difference,
)
from quatrain.fintech.metrics.ranking import average_precision
from quatrain.fintech.metrics.scored import Scored
from quatrain.fintech.metrics.tally import MeasureSettings

SETTINGS = MeasureSettings(alert_budget=0.05, cards_per_day=5)
ROWS_PER_DAY = 150
FOLD_DAYS = 7


def world(rng: np.random.Generator, *, n_days: int, likeness: float = 0.0) -> tuple[Scored, Scored]:
    """Return the same days scored by a better and a worse model.

    How well frauds stand out differs from day to day (an AR(1) process with this `likeness` of neighbours).
    """
    ease = np.zeros(n_days)
    ease[0] = rng.normal()
    for day in range(1, n_days):
        ease[day] = likeness * ease[day - 1] + math.sqrt(1 - likeness**2) * rng.normal()
    day = np.repeat(np.arange(n_days), ROWS_PER_DAY)
    label = rng.random(len(day)) < 0.1
    signal = rng.normal(label * (1.5 + 0.6 * ease[day]))
    other = rng.normal(label * 1.2)
    rows = Scored(
        label=label,
        score=1 / (1 + np.exp(4 - 1.5 * signal)),
        amount=rng.gamma(2, 30, len(day)),
        day=day,
        customer=rng.integers(0, 10**6, len(day)),
        threshold=0.3,
    )
    return rows, replace(rows, score=1 / (1 + np.exp(4 - 0.8 * (signal + other))))


def folds_of(rows: Scored, *, n_days: int = FOLD_DAYS) -> list[Scored]:
    """Return the rows of every `n_days` days as a fold."""
    return [part(rows, rows.day // n_days == fold) for fold in range(int(rows.day.max()) // n_days + 1)]


def part(rows: Scored, where: NDArray[np.bool_]) -> Scored:
    """Return the rows where `where` is True."""
    values = {name: value[where] for name, value in vars(rows).items() if isinstance(value, np.ndarray)}
    return replace(rows, **values)


@functools.cache
def truth() -> tuple[dict[str, float], dict[str, float]]:
    """Return what the better model's fold measures are on average, and how far they exceed the other's."""
    both = world(np.random.default_rng(99), n_days=1400)
    ours, theirs = (Days(folds_of(rows), SETTINGS).values() for rows in both)
    return ours, {name: ours[name] - theirs[name] for name in ours}


def test_intervals_cover_the_truth() -> None:
    """Of nominal 95 % intervals of four folds of seven days, 90 to 98 % hold the truth, for every measure.

    All but the calibration gaps: those of a week are larger than those of many weeks by nature.
    """
    n_runs = 110
    alone, paired = truth()
    hits: dict[str, int] = {}
    for run in range(n_runs):
        both = world(np.random.default_rng(run), n_days=28)
        ours, theirs = (Days(folds_of(rows), SETTINGS, seed=run) for rows in both)
        for name, (low, high) in intervals(ours, n_resamples=200).items():
            hits[name] = hits.get(name, 0) + (low <= alone[name] <= high)
        for name, found in difference(ours, theirs, n_resamples=200).items():
            key = f"difference of {name}"
            hits[key] = hits.get(key, 0) + (found.low <= paired[name] <= found.high)
    shown = ("ap", "auc", "cp_5", "value_recall", "budget_precision", "budget_recall", "precision", "recall", "brier")
    names = [*shown, "alert_rate", "alerts_per_day", "log_loss", *(f"difference of {name}" for name in shown)]
    coverage = {name: hits[name] / n_runs for name in names}
    # Two standard errors of a simulation of this length are .042.
    assert min(coverage.values()) >= 0.90 - 0.042, coverage
    assert max(coverage.values()) <= 0.98 + 0.02, coverage
    assert 0.90 <= np.mean(list(coverage.values())) <= 0.98, coverage


def test_blocks_of_days_cover_better_where_neighbours_are_alike() -> None:
    """Days drawn one by one take a bad fortnight for fourteen independent bad days."""
    n_runs, n_days = 80, 60
    many, _ = world(np.random.default_rng(7), n_days=n_days * 40, likeness=0.5)
    everywhere = Days(folds_of(many, n_days=n_days), SETTINGS).values()["ap"]
    hits = {1: 0, 6: 0}
    for run in range(n_runs):
        rows, _ = world(np.random.default_rng(1000 + run), n_days=n_days, likeness=0.5)
        days = Days([rows], SETTINGS, seed=run)
        for block in hits:
            low, high = intervals(days, n_resamples=100, block_days=block)["ap"]
            hits[block] += low <= everywhere <= high
    assert hits[6] / n_runs >= hits[1] / n_runs + 0.05
    assert hits[6] / n_runs >= 0.8


def test_a_measure_is_the_mean_of_its_folds() -> None:
    """And each fold is listed with its own."""
    rows, _ = world(np.random.default_rng(0), n_days=28)
    days = Days(folds_of(rows), SETTINGS)
    assert len(days.folds()) == 4
    by_hand = [average_precision(fold.label, fold.score) for fold in folds_of(rows)]
    assert [fold["ap"] for fold in days.folds()] == pytest.approx(by_hand)
    assert days.values()["ap"] == pytest.approx(np.mean(by_hand))


def test_a_fold_without_frauds_is_left_out_of_the_mean() -> None:
    """Its alert rate is defined, its average precision is not."""
    rows, _ = world(np.random.default_rng(0), n_days=21)
    first, *rest = folds_of(rows)
    days = Days([replace(first, label=np.zeros(len(first.label), dtype=bool)), *rest], SETTINGS)
    assert "ap" not in days.folds()[0]
    assert days.values()["ap"] == pytest.approx(np.mean([fold["ap"] for fold in days.folds()[1:]]))
    assert days.values()["alert_rate"] == pytest.approx(np.mean([fold["alert_rate"] for fold in days.folds()]))
    low, high = intervals(days, n_resamples=50)["ap"]
    assert low < days.values()["ap"] < high


def test_day_blocks_see_that_days_differ() -> None:
    """When whole days go well or badly, drawing days gives a wider interval than drawing rows would."""
    rng = np.random.default_rng(1)
    day = np.repeat(np.arange(20), 200)
    label = rng.random(4000) < 0.1
    score = rng.normal(label * np.where(day % 2 == 0, 3.0, 0.0)).clip(-4, 8) / 12 + 0.4
    rows = Scored(label=label, score=score, amount=np.ones(4000), day=day)
    low, high = intervals(Days([rows], SETTINGS))["ap"]
    row_low, row_high = intervals(Days([replace(rows, day=day % 5)], SETTINGS))["ap"]
    assert high - low > 1.3 * (row_high - row_low)
    assert low < average_precision(label, score) < high


def test_few_days_fall_back_to_rows() -> None:
    """On one day the interval of the AUC is about as wide as DeLong's theory says; cards have none."""
    n, spread = 4000, []
    rng = np.random.default_rng(0)
    label = np.arange(n) < 200
    for _ in range(200):
        score = rng.normal(label * 1.0)
        spread.append(np.mean(score[label][:, None] > score[~label][None, :]))
    score = 1 / (1 + np.exp(-rng.normal(label * 1.0)))
    days = Days(
        [Scored(label=label, score=score, amount=np.ones(n), day=np.zeros(n, dtype=int), customer=np.arange(n))],
        SETTINGS,
    )
    assert not days.has_days
    found = intervals(days, n_resamples=400)
    low, high = found["auc"]
    assert (high - low) == pytest.approx(2 * 1.96 * np.std(spread), rel=0.2)
    assert "cp_5" not in found


def test_equal_models_do_not_differ_and_a_better_one_does() -> None:
    """The paired interval of a model against itself is exactly zero."""
    better, worse = world(np.random.default_rng(3), n_days=28)
    same = paired_day_difference(folds_of(better), folds_of(better), settings=SETTINGS, n_resamples=50)
    assert set(same.values()) == {Difference(value=0.0, low=0.0, high=0.0)}
    found = paired_day_difference(folds_of(better), folds_of(worse), settings=SETTINGS, n_resamples=200)
    assert found["ap"].low < found["ap"].value < found["ap"].high
    assert found["ap"].value == pytest.approx(
        np.mean([average_precision(a.label, a.score) for a in folds_of(better)])
        - np.mean([average_precision(b.label, b.score) for b in folds_of(worse)])
    )


def test_a_paired_interval_is_narrower_than_two_apart() -> None:
    """What a hard day costs both models does not blur their difference."""
    rows, _ = world(np.random.default_rng(4), n_days=28)
    rng = np.random.default_rng(0)
    logit = np.log(rows.score / (1 - rows.score)) + rng.normal(size=len(rows.score)) * 0.2
    close = replace(rows, score=1 / (1 + np.exp(-logit)))
    low, high = intervals(Days([rows], SETTINGS))["ap"]
    found = paired_day_difference([rows], [close], settings=SETTINGS, n_resamples=500)["ap"]
    assert found.high - found.low < 0.5 * (high - low)


def test_models_must_have_scored_the_same_rows() -> None:
    """A caller's bug is named."""
    rows, other = world(np.random.default_rng(0), n_days=14)
    with pytest.raises(ValueError, match="same rows in the same folds"):
        paired_day_difference([rows], folds_of(other))
    with pytest.raises(ValueError, match="same rows in the same folds"):
        paired_day_difference([rows], [replace(other, label=~other.label)])


def test_the_same_seed_gives_the_same_interval() -> None:
    """A table can be repeated."""
    rows, _ = world(np.random.default_rng(0), n_days=14)
    first, again = (intervals(Days([rows], SETTINGS, seed=5), n_resamples=30) for _ in range(2))
    assert first == again
    assert intervals(Days([rows], SETTINGS, seed=6), n_resamples=30) != first


def test_paired_difference_of_rows_is_zero_for_equal_scores() -> None:
    """The same scores differ nowhere; a better score differs clearly."""
    rng = np.random.default_rng(0)
    label = rng.random(2000) < 0.1
    score = rng.normal(label * 1.0)
    same = paired_difference(average_precision, label=label, first=score, second=score, n_resamples=20)
    assert same == (0.0, 0.0)
    better = rng.normal(label * 3.0)
    assert paired_difference(average_precision, label=label, first=better, second=score, n_resamples=50)[0] > 0.2
