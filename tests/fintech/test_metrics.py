"""Measures against scikit-learn, brute force, closed forms and worked examples."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import (  # type: ignore[import-untyped]  # ships no types
    average_precision_score,
    roc_auc_score,
)
from sklearn.metrics import (
    precision_recall_curve as sklearn_curve,
)

from quatrain.fintech.metrics.alerts import card_precision, threshold_for_budget, value_recall
from quatrain.fintech.metrics.calibration import expected_calibration_error
from quatrain.fintech.metrics.intervals import intervals, paired_difference
from quatrain.fintech.metrics.ranking import average_precision, precision_recall_curve, roc_auc
from quatrain.fintech.metrics.scored import Scored
from quatrain.fintech.metrics.summary import summarise

CASES = st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9, 1.0])), min_size=2, max_size=60)


def scored(label: list[int], score: list[float], day: list[int], customer: list[int] | None = None) -> Scored:
    """Return rows with an amount of 1 each."""
    return Scored(
        label=np.array(label, dtype=bool),
        score=np.array(score),
        amount=np.ones(len(label)),
        day=np.array(day),
        customer=None if customer is None else np.array(customer),
    )


@given(cases=CASES)
def test_ranking_measures_agree_with_sklearn(cases: list[tuple[bool, float]]) -> None:
    """Ties included; NaN where a class is missing."""
    label, score = np.array([c[0] for c in cases]), np.array([c[1] for c in cases])
    ap, auc = average_precision(label, score), roc_auc(label, score)
    if not label.any():
        assert math.isnan(ap)
    else:
        assert ap == pytest.approx(average_precision_score(label, score))
    if label.all() or not label.any():
        assert math.isnan(auc)
    else:
        assert auc == pytest.approx(roc_auc_score(label, score))


@given(cases=CASES, seed=st.integers(0, 1000))
def test_weights_count_rows(cases: list[tuple[bool, float]], seed: int) -> None:
    """A weight of 2 is the row twice, 0 is the row left out: the bootstrap relies on it."""
    label, score = np.array([c[0] for c in cases]), np.array([c[1] for c in cases])
    times = np.random.default_rng(seed).integers(0, 3, len(label))
    if not label[times > 0].any() or label[times > 0].all():
        return
    repeated = np.repeat(np.arange(len(label)), times)
    for measure in (average_precision, roc_auc):
        expected = measure(label[repeated], score[repeated])
        assert measure(label, score, times.astype(float)) == pytest.approx(expected)


def test_a_worked_example_of_average_precision() -> None:
    """Frauds at ranks 1 and 3 of 4: (1/1 + 2/3) / 2."""
    label = np.array([True, False, True, False])
    assert average_precision(label, np.array([0.9, 0.8, 0.7, 0.1])) == pytest.approx((1 + 2 / 3) / 2)


def test_a_worked_example_of_card_precision() -> None:
    """Two days, k = 2.

    Day 0: card 1 has scores .9 and .1 with the fraud on the lower one, card 2 has .8, card 3 .7 and is fraud.
    The top two cards are 1 and 2; card 1 is fraudulent that day: 1/2. Day 1: card 3 alone, fraud: 1/2.
    """
    rows = scored([0, 1, 0, 1, 1], [0.9, 0.1, 0.8, 0.7, 0.2], [0, 0, 0, 0, 1], [1, 1, 2, 3, 3])
    np.testing.assert_allclose(card_precision(rows, k=2), [0.5, 0.5])
    assert summarise(rows, budget=0.5, k=2)["cp_2"] == pytest.approx(0.5)


def _card_precision_by_hand(rows: Scored, k: int) -> list[float]:
    assert rows.customer is not None
    found = []
    for day in sorted(set(rows.day.tolist())):
        cards: dict[int, tuple[float, bool]] = {}
        for i in np.flatnonzero(rows.day == day):
            best, is_fraud = cards.get(int(rows.customer[i]), (-1.0, False))
            cards[int(rows.customer[i])] = (max(best, float(rows.score[i])), is_fraud or bool(rows.label[i]))
        top = sorted(cards.values(), key=lambda card: -card[0])[:k]
        found.append(sum(is_fraud for _, is_fraud in top) / k)
    return found


@pytest.mark.parametrize("seed", range(5))
def test_card_precision_agrees_with_brute_force(seed: int) -> None:
    """Random days, cards and distinct scores."""
    rng = np.random.default_rng(seed)
    n = 300
    rows = Scored(
        label=rng.random(n) < 0.2,
        score=rng.permutation(n) / n,
        amount=np.ones(n),
        day=rng.integers(0, 6, n),
        customer=rng.integers(0, 30, n),
    )
    for k in (1, 5, 100):
        np.testing.assert_allclose(card_precision(rows, k=k), _card_precision_by_hand(rows, k))


def test_card_precision_needs_cards() -> None:
    """Without ids there is nothing to rank; the summary leaves the measure out."""
    rows = scored([0, 1], [0.1, 0.9], [0, 0])
    with pytest.raises(ValueError, match="needs customer ids"):
        card_precision(rows)
    assert "cp_100" not in summarise(rows, budget=0.5)


def test_value_recall_counts_money() -> None:
    """Of 100 + 300 stolen, the budget of two alerts finds the 300."""
    label = np.array([True, False, True, False])
    amount = np.array([100.0, 50.0, 300.0, 5.0])
    score = np.array([0.1, 0.8, 0.9, 0.2])
    assert value_recall(label, score, amount, budget=0.5) == pytest.approx(0.75)
    assert math.isnan(value_recall(~label & False, score, amount, budget=0.5))


def test_calibration_error_of_a_worked_example() -> None:
    """Bins [0, .5) and [.5, 1]: gaps .2 - 0 over 2 rows and .9 - .5 over 2 rows."""
    label = np.array([False, False, True, False])
    score = np.array([0.2, 0.2, 0.8, 1.0])
    assert expected_calibration_error(label, score, n_bins=2) == pytest.approx(0.5 * 0.2 + 0.5 * 0.4)


def test_a_calibrated_score_has_a_small_error() -> None:
    """Labels drawn from the scores themselves."""
    rng = np.random.default_rng(0)
    score = rng.random(200_000)
    assert expected_calibration_error(rng.random(200_000) < score, score) < 0.01


@given(
    scores=st.lists(st.sampled_from([0.0, 0.1, 0.2, 0.5, 0.9]), min_size=1, max_size=50),
    budget=st.floats(0.001, 1.0),
)
def test_threshold_keeps_the_budget(scores: list[float], budget: float) -> None:
    """At most the budget is alerted unless ties at the top leave no choice; a lower distinct score would break it."""
    array = np.array(scores)
    threshold = threshold_for_budget(array, budget=budget)
    n_allowed = max(int(budget * len(array)), 1)
    n_alerts = int((array >= threshold).sum())
    assert n_alerts >= 1
    assert n_alerts <= n_allowed or threshold == array.max()
    lower = array[array < threshold]
    if len(lower):
        assert int((array >= lower.max()).sum()) > n_allowed


def test_intervals_cover_the_truth() -> None:
    """Of 95 % intervals over simulated days, about 95 % hold the AUC of the normal model, Phi(d / sqrt 2)."""
    truth = 0.5 * (1 + math.erf(1.0 / math.sqrt(2) / math.sqrt(2)))
    n_hits, n_runs = 0, 120
    for run in range(n_runs):
        rng = np.random.default_rng(run)
        label = rng.random(1500) < 0.1
        rows = Scored(label=label, score=rng.normal(label * 1.0), amount=np.ones(1500), day=rng.integers(0, 30, 1500))
        low, high = intervals(rows, n_resamples=150, seed=run)["auc"]
        n_hits += low <= truth <= high
    assert 0.87 <= n_hits / n_runs <= 0.99


def test_day_blocks_see_that_days_differ() -> None:
    """When whole days go well or badly, drawing days gives a wider interval than drawing rows would."""
    rng = np.random.default_rng(1)
    day = np.repeat(np.arange(20), 200)
    label = rng.random(4000) < 0.1
    score = rng.normal(label * np.where(day % 2 == 0, 3.0, 0.0))
    rows = Scored(label=label, score=score, amount=np.ones(4000), day=day)
    low, high = intervals(rows, seed=0)["ap"]
    few = Scored(label=label, score=score, amount=np.ones(4000), day=day % 5)
    row_low, row_high = intervals(few, seed=0)["ap"]
    assert high - low > 1.3 * (row_high - row_low)
    assert low < average_precision(label, score) < high


def test_intervals_of_cards_come_with_cards() -> None:
    """cp_k has an interval where there are cards and days."""
    rng = np.random.default_rng(0)
    n = 2000
    label = rng.random(n) < 0.2
    rows = Scored(
        label=label, score=rng.normal(label), amount=np.ones(n), day=np.arange(n) % 20, customer=rng.integers(0, 99, n)
    )
    found = intervals(rows, k=10, n_resamples=100)
    low, high = found["cp_10"]
    assert low < card_precision(rows, k=10).mean() < high


def test_paired_difference_is_zero_for_equal_scores() -> None:
    """The same scores differ nowhere; a better score differs clearly."""
    rng = np.random.default_rng(0)
    label = rng.random(2000) < 0.1
    score = rng.normal(label * 1.0)
    measure = average_precision
    assert paired_difference(measure, label=label, first=score, second=score, n_resamples=20) == (0.0, 0.0)
    better = rng.normal(label * 3.0)
    assert paired_difference(measure, label=label, first=better, second=score, n_resamples=50)[0] > 0.2


@settings(max_examples=50)
@given(cases=CASES)
def test_curve_points_lie_on_sklearns_curve(cases: list[tuple[bool, float]]) -> None:
    """Every point (threshold, precision, recall) is one of scikit-learn's."""
    label, score = np.array([c[0] for c in cases]), np.array([c[1] for c in cases])
    points = precision_recall_curve(label, score)
    if not label.any():
        assert points == []
        return
    precision, recall, thresholds = sklearn_curve(label, score)
    known = {float(t): (p, r) for t, p, r in zip(thresholds, precision, recall, strict=False)}
    for point in points:
        assert (point["precision"], point["recall"]) == pytest.approx(known[point["threshold"]])
    assert points[-1]["recall"] == pytest.approx(1.0)


def test_lengths_must_agree() -> None:
    """A caller's bug is named."""
    empty: NDArray[np.float64] = np.array([])
    with pytest.raises(ValueError, match="one length above 0, got 0 and 0"):
        average_precision(empty.astype(bool), empty)
