"""Calibration measures against scikit-learn and worked examples."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve  # type: ignore[import-untyped]  # ships no types
from sklearn.metrics import brier_score_loss  # type: ignore[import-untyped]  # ships no types
from sklearn.metrics import log_loss as sklearn_log_loss

from quatrain.fintech.metrics.calibration import brier, calibration_bins, expected_calibration_error, log_loss


def test_calibration_error_of_a_worked_example() -> None:
    """Bins [0, .5) and [.5, 1]: gaps .2 - 0 over 2 rows and .9 - .5 over 2 rows."""
    label = np.array([False, False, True, False])
    score = np.array([0.2, 0.2, 0.8, 1.0])
    assert expected_calibration_error(label, score, n_bins=2) == pytest.approx(0.5 * 0.2 + 0.5 * 0.4)


def test_bins_of_equal_mass_hold_equally_many_rows() -> None:
    """Scores near 0 would share one bin of equal width; their quarters have gaps of their own."""
    score = np.array([0.001, 0.002, 0.003, 0.004])
    label = np.array([False, False, False, True])
    assert expected_calibration_error(label, score, n_bins=4) == pytest.approx(abs(0.25 - score.mean()))
    by_mass = expected_calibration_error(label, score, n_bins=4, bins="mass")
    assert by_mass == pytest.approx((0.001 + 0.002 + 0.003 + 0.996) / 4)


@pytest.mark.parametrize(("bins", "strategy"), [("width", "uniform"), ("mass", "quantile")])
@given(seed=st.integers(0, 1000))
def test_bins_agree_with_sklearn(bins: str, strategy: str, seed: int) -> None:
    """Mean score and fraud rate of every bin that holds rows."""
    rng = np.random.default_rng(seed)
    score = rng.random(500) ** 3
    label = rng.random(500) < score
    rate, mean = calibration_curve(label, score, n_bins=15, strategy=strategy)
    found = calibration_bins(label, score, bins="width" if bins == "width" else "mass")
    assert [bin_["rate"] for bin_ in found] == pytest.approx(rate)
    assert [bin_["score"] for bin_ in found] == pytest.approx(mean)


def test_a_calibrated_score_has_a_small_error() -> None:
    """Labels drawn from the scores themselves."""
    rng = np.random.default_rng(0)
    score = rng.random(200_000)
    label = rng.random(200_000) < score
    assert expected_calibration_error(label, score) < 0.01
    assert expected_calibration_error(label, score, bins="mass") < 0.01


@given(seed=st.integers(0, 1000))
def test_brier_and_log_loss_agree_with_sklearn(seed: int) -> None:
    """Scores of exactly 0 and 1 included: a sure and wrong score costs much, not infinitely much."""
    rng = np.random.default_rng(seed)
    score = np.r_[rng.random(50), 0.0, 1.0]
    label = np.r_[rng.random(50) < 0.5, True, False]
    assert brier(label, score).mean() == pytest.approx(brier_score_loss(label, score))
    clipped = np.clip(score, 1e-7, 1 - 1e-7)
    assert log_loss(label, score).mean() == pytest.approx(sklearn_log_loss(label, clipped))
