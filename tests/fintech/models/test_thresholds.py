"""The alert threshold of a budget and its prediction interval, by simulation."""

from __future__ import annotations

import re

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from quatrain.fintech.models.thresholds import _student_t, threshold_from_unlabelled

Scores = NDArray[np.float32]
Days = NDArray[np.int64]


def draw(rng: np.random.Generator, *, n_days: int, per_day: int, wave: float) -> tuple[Scores, Days]:
    """Return scores whose tail grows by a common factor exp(wave x normal) on each day."""
    day = np.repeat(np.arange(n_days), per_day)
    score = rng.exponential(1, len(day)) + np.repeat(rng.normal(0, wave, n_days), per_day)
    return score.astype(np.float32), day


@pytest.mark.parametrize(
    ("n_days", "horizon_days", "per_day", "wave"),
    [(7, 7, 2000, 0.0), (7, 7, 2000, 0.4), (7, 1, 2000, 0.4), (14, 7, 500, 0.2), (1, 7, 2000, 0.0)],
    ids=["rows apart", "days of waves", "one day ahead", "small days", "one day known"],
)
def test_the_interval_holds_the_alert_rate_of_coming_days(
    n_days: int, horizon_days: int, per_day: int, wave: float
) -> None:
    """Of 95 % intervals about 95 % hold it, whether rows are independent or the rows of a day are not."""
    rng = np.random.default_rng(0)
    is_inside, rates = [], []
    for _ in range(600):
        score, day = draw(rng, n_days=n_days + horizon_days, per_day=per_day, wave=wave)
        known = n_days * per_day
        found = threshold_from_unlabelled(score[:known], day[:known], budget=0.005, horizon_days=horizon_days)
        rate = float((score[known:] >= np.float32(found.threshold)).mean())
        is_inside.append(found.low <= rate <= found.high)
        rates.append(rate)
    assert 0.92 <= np.mean(is_inside) <= 0.98
    assert np.mean(rates) == pytest.approx(0.005, rel=0.08)


def test_rows_that_the_model_has_not_seen_give_the_budget() -> None:
    """A threshold from scores of another distribution misses the budget; one from later unlabelled rows keeps it.

    The earlier model's scores are a quarter lower in log odds, as after retraining on more frauds.
    """
    rng = np.random.default_rng(1)
    earlier, day = draw(rng, n_days=7, per_day=5000, wave=0.0)
    later, _ = draw(rng, n_days=7, per_day=5000, wave=0.0)
    coming, _ = draw(rng, n_days=70, per_day=5000, wave=0.0)
    sealed_with_trial = threshold_from_unlabelled(earlier - np.float32(0.25), day, budget=0.005)
    fresh = threshold_from_unlabelled(later, day, budget=0.005)
    assert (coming >= np.float32(sealed_with_trial.threshold)).mean() > 0.0058
    assert fresh.low < (coming >= np.float32(fresh.threshold)).mean() < fresh.high
    assert (coming >= np.float32(fresh.threshold)).mean() == pytest.approx(0.005, abs=0.0008)


def test_the_budget_is_never_exceeded_where_it_was_set() -> None:
    """Rows that share the score at the border are left out together; n and the rate say what was reached."""
    score = np.repeat(np.array([0.1, 0.5, 0.9], dtype=np.float32), [900, 80, 20])
    found = threshold_from_unlabelled(score, np.arange(1000) % 10, budget=0.05)
    assert found.threshold == np.float32(0.9)
    assert (found.rate, found.n, found.n_days, found.budget) == (0.02, 1000, 10, 0.05)


def test_the_threshold_is_a_float32() -> None:
    """It is compared with float32 scores; a float64 between two of them would be rounded to one side."""
    score, day = draw(np.random.default_rng(2), n_days=5, per_day=500, wave=0.0)
    threshold = threshold_from_unlabelled(score, day, budget=0.01).threshold
    assert threshold == float(np.float32(threshold))
    assert threshold in score


def test_a_longer_horizon_is_known_better() -> None:
    """One day's rate varies more than a week's mean."""
    score, day = draw(np.random.default_rng(3), n_days=7, per_day=2000, wave=0.2)
    day_ahead, week_ahead = (threshold_from_unlabelled(score, day, budget=0.005, horizon_days=d) for d in (1, 7))
    assert day_ahead.low < week_ahead.low < 0.005 < week_ahead.high < day_ahead.high


@pytest.mark.parametrize("degrees", [1, 2, 3, 6, 13, 30])
def test_students_t_is_scipys(degrees: int) -> None:
    """Quantiles for odd and even degrees of freedom."""
    for probability in (0.6, 0.9, 0.975, 0.999):
        assert _student_t(probability, degrees) == pytest.approx(stats.t.ppf(probability, degrees), rel=1e-9)


@pytest.mark.parametrize(
    ("score", "options", "message"),
    [
        (np.zeros(3), {"budget": 0.1}, "scores must be float32, as the sealed graph gives them; got float64"),
        (np.zeros(2, dtype=np.float32), {"budget": 0.1}, "one length above 0, got 2 and 3"),
        (np.zeros(3, dtype=np.float32), {"budget": 0.0}, "a share of rows above 0 and below 1, got 0.0"),
        (np.zeros(3, dtype=np.float32), {"budget": 5.0}, "a share of rows above 0 and below 1, got 5.0"),
        (np.zeros(3, dtype=np.float32), {"budget": 0.1, "horizon_days": 0}, "at least 1 day, got 0"),
    ],
    ids=["float64", "two lengths", "no budget", "per cent", "no horizon"],
)
def test_what_gives_no_threshold_is_refused(score: Scores, options: dict[str, float], message: str) -> None:
    """The message says what came."""
    with pytest.raises(ValueError, match=re.escape(message)):
        threshold_from_unlabelled(score, np.arange(3), **options)
