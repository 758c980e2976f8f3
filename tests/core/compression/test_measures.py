"""Measures against scikit-learn and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from quatrain.core.compression.measures import (
    Scored,
    accuracy,
    area_under_roc,
    held_back,
    labels_of,
    paired_drop,
    sqnr_db,
)


def test_the_area_under_the_curve_is_scikit_learns_ties_included() -> None:
    """Scores of one decimal tie often."""
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 2, 200)
    scores = np.round(rng.random(200) + 0.2 * targets, 1)
    assert area_under_roc(targets, scores) == pytest.approx(roc_auc_score(targets, scores), abs=1e-12)
    both = np.stack([1 - scores, scores], axis=1)
    assert area_under_roc(targets, both) == area_under_roc(targets, scores)
    assert math.isnan(area_under_roc(np.ones(3), np.ones(3)))


def test_accuracy_takes_the_highest_score_or_even_odds() -> None:
    """Two classes may come as one probability or as one for each."""
    assert accuracy(np.array([1, 0, 2]), np.eye(3)[[1, 0, 0]]) == pytest.approx(2 / 3)
    assert accuracy(np.array([1, 0]), np.array([0.5, 0.4])) == 1.0


@pytest.mark.parametrize("bits", [4, 8, 12])
def test_a_uniform_quantizer_has_six_decibels_a_bit(bits: int) -> None:
    """A signal uniform in [-1, 1] with rounding errors uniform in a step: 20 log10(2^bits) dB."""
    signal = np.random.default_rng(0).uniform(-1, 1, 400_000)
    step = 2 / 2**bits
    rounded = (np.floor(signal / step) + 0.5) * step
    assert sqnr_db(signal, rounded) == pytest.approx(20 * math.log10(2**bits), abs=0.05)


def test_the_same_numbers_have_no_noise() -> None:
    """And noise where there was no signal is the worst there is."""
    assert sqnr_db(np.ones(3), np.ones(3)) == math.inf
    assert sqnr_db(np.zeros(3), np.ones(3)) == -math.inf


def test_a_paired_interval_is_that_of_the_differences() -> None:
    """For a mean it is 1.96 standard errors of the row-wise differences, far inside either model's own."""
    rng = np.random.default_rng(0)
    before = rng.normal(0, 10, 500)
    after = before - 1 + rng.normal(0, 1, 500)
    targets = np.zeros(500)

    def mean(_: np.ndarray, scores: np.ndarray) -> float:
        return float(scores.mean())

    drop = paired_drop(mean, Scored(targets, before), Scored(targets, after), n_resamples=2000)
    error = 1.96 * (before - after).std() / math.sqrt(500)
    assert drop.value == pytest.approx((before - after).mean())
    assert drop.high - drop.value == pytest.approx(error, rel=0.1)
    assert drop.value - drop.low == pytest.approx(error, rel=0.1)


def test_the_interval_of_an_area_under_the_curve_covers_the_truth_and_is_no_wider_than_it_must() -> None:
    """Two models of .99 on 500 rows, alike but for noise: 95 % cover, as wide as the drop itself varies.

    So a drop that is all but none passes a budget of .01, and one of the budget passes as rarely as 2.5 % says.
    """
    rng = np.random.default_rng(0)

    def drawn(n: int, noise: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        targets = (rng.random(n) < 0.7).astype(int)
        before = rng.normal(3.29 * targets, 1)  # sqrt(2) x the normal quantile of .99
        return targets, before, before + rng.normal(0, noise, n)

    def lost(targets: np.ndarray, before: np.ndarray, after: np.ndarray) -> float:
        return area_under_roc(targets, before) - area_under_roc(targets, after)

    for noise, passes in ((0.2, True), (0.55, False)):
        truth = lost(*drawn(300_000, noise))
        varies = np.std([lost(*drawn(500, noise)) for _ in range(300)])
        drops = []
        for seed in range(60):
            targets, before, after = drawn(500, noise)
            drops.append(
                paired_drop(area_under_roc, Scored(targets, before), Scored(targets, after), n_resamples=200, seed=seed)
            )
        covered = np.mean([drop.low <= truth <= drop.high for drop in drops])
        width = np.mean([drop.high - drop.low for drop in drops])
        passed = np.mean([drop.high <= 0.01 for drop in drops])
        assert covered >= 0.85  # 60 draws of .95: below this one time in a thousand
        assert width == pytest.approx(2 * 1.96 * varies, rel=0.15)
        assert passed == 1.0 if passes else passed <= 0.12


def test_a_model_loses_nothing_against_itself() -> None:
    """The interval is zero wide, so that few rows are enough to show it."""
    rng = np.random.default_rng(0)
    same = Scored(rng.integers(0, 2, 30), rng.random(30))
    drop = paired_drop(area_under_roc, same, same, n_resamples=100)
    assert (drop.value, drop.low, drop.high) == (0, 0, 0)


def test_a_measure_that_is_undefined_is_an_error() -> None:
    """One class only has no area under a curve."""
    one_class = Scored(np.ones(5), np.arange(5.0))
    with pytest.raises(ValueError, match="hold back rows of each class"):
        paired_drop(area_under_roc, one_class, one_class, n_resamples=10)


def test_targets_without_scores_are_an_error() -> None:
    """A row lost on the way would shift all others."""
    with pytest.raises(ValueError, match="expected a score for each"):
        Scored(np.ones(3), np.ones(2))


def test_held_back_rows_come_in_their_order_a_batch_at_a_time() -> None:
    """Nine rows in batches of four."""
    sizes = []

    def predict(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        sizes.append(len(inputs["x"]))
        return {"y": 2 * inputs["x"]}

    scored = held_back({"x": np.arange(9)}, np.zeros(9), output="y", batch_size=4)(predict)
    assert sizes == [4, 4, 1]
    np.testing.assert_array_equal(scored.scores, 2 * np.arange(9))


def test_labels_are_read_from_probabilities_only() -> None:
    """The highest of several; .5 of one in [0, 1]; none of a number that is no probability."""
    np.testing.assert_array_equal(labels_of({"p": np.eye(3)[[2, 0]]}), [2, 0])
    np.testing.assert_array_equal(labels_of({"p": np.array([[0.4], [0.6]])}), [False, True])
    assert labels_of({"dose": np.array([3.0, 0.2])}) is None
    assert labels_of({"count": np.array([1, 0])}) is None
