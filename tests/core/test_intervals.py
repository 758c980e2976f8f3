"""DeLong against sklearn, a direct double loop and its own coverage; Wilson against statsmodels' published numbers."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from quatrain.core.intervals import bootstrap, delong, delong_difference, midranks, wilson


def slow_delong(label: np.ndarray, score: np.ndarray) -> tuple[float, float]:
    """Return AUC and variance by the definition: every pair compared."""
    positive, negative = score[label > 0], score[label == 0]
    pairs = (positive[:, None] > negative).astype(float) + 0.5 * (positive[:, None] == negative)
    v10, v01 = pairs.mean(1), pairs.mean(0)
    return float(pairs.mean()), float(v10.var(ddof=1) / len(v10) + v01.var(ddof=1) / len(v01))


@pytest.mark.parametrize("seed", range(4))
def test_delong_is_the_definition_with_ties(seed: int) -> None:
    """Ranks give what all pairs give, and sklearn's area."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 2, 120)
    score = np.round(rng.normal(label, 1.0), 1)
    auc = delong(label, score)
    assert (auc.value, auc.variance) == pytest.approx(slow_delong(label, score), abs=1e-12)
    assert auc.value == pytest.approx(roc_auc_score(label, score), abs=1e-12)


def test_delong_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """95 % of intervals hold the area of two normals, Phi(1 / sqrt 2) = .7602."""
    rng = np.random.default_rng(0)
    label = np.repeat([0, 1], [60, 40])
    found = [delong(label, rng.normal(label, 1.0)).interval() for _ in range(1000)]
    assert np.mean([low <= 0.7602 <= high for low, high in found]) == pytest.approx(0.95, abs=0.02)


def test_a_models_difference_from_itself_is_zero_without_doubt() -> None:
    """The covariance is counted: the interval has no width."""
    rng = np.random.default_rng(1)
    label = rng.integers(0, 2, 80)
    score = rng.normal(label, 1.0)
    assert delong_difference(label, score, 2 * score + 1) == pytest.approx((0, 0, 0), abs=1e-9)


def test_a_perfect_ranking_has_no_width_and_one_class_is_refused() -> None:
    """Nothing varies at an area of one; an area of one class does not exist."""
    assert delong(np.array([0, 0, 1, 1]), np.arange(4)).interval() == (1.0, 1.0)
    with pytest.raises(ValueError, match="both kinds"):
        delong(np.ones(3), np.arange(3))


def test_wilson_gives_the_textbook_values() -> None:
    """Newcombe 1998, table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29 by the score method without correction."""
    for hits, n, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611)):
        assert wilson(hits, n) == pytest.approx((low, high), abs=6e-5)
    assert wilson(1, 29) == pytest.approx((0.0061, 0.1718), abs=6e-5)
    assert wilson(0, 0) == (0.0, 1.0)


def test_the_bootstrap_keeps_strata_and_its_seed() -> None:
    """Each resample has as many of each stratum; the same seed gives the same interval."""
    strata = np.array([0] * 30 + [1] * 10)
    values = np.random.default_rng(0).normal(strata, 1.0)
    seen = []

    def measure(rows: np.ndarray) -> float:
        seen.append(int((strata[rows] == 1).sum()))
        return float(values[rows].mean())

    first = bootstrap(measure, strata, n_resamples=50, seed=4)
    assert set(seen) == {10}
    assert first == bootstrap(measure, strata, n_resamples=50, seed=4)
    assert first[0] < values.mean() < first[1]


def test_midranks_share_ties() -> None:
    """Equal values get the mean of their ranks."""
    assert midranks(np.array([3, 1, 3, 2])).tolist() == [3.5, 1.0, 3.5, 2.0]
