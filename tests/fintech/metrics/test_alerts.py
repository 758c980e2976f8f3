"""Card precision, the rows of a budget and its threshold, against worked examples and brute force."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from quatrain.fintech.metrics.alerts import card_precision, threshold_for_budget, top_of_each_day
from quatrain.fintech.metrics.scored import Scored


def scored(label: list[int], score: list[float], day: list[int], customer: list[int] | None = None) -> Scored:
    """Return rows with an amount of 1 each."""
    return Scored(
        label=np.array(label, dtype=bool),
        score=np.array(score),
        amount=np.ones(len(label)),
        day=np.array(day),
        customer=None if customer is None else np.array(customer),
    )


def world(seed: int, n: int = 300) -> Scored:
    """Return random days and cards with distinct scores."""
    rng = np.random.default_rng(seed)
    return Scored(
        label=rng.random(n) < 0.2,
        score=rng.permutation(n) / n,
        amount=np.ones(n),
        day=rng.integers(0, 6, n),
        customer=rng.integers(0, 30, n),
    )


def test_a_worked_example_of_card_precision() -> None:
    """Three days, k = 2.

    Day 0: card 1 has scores .9 and .1 with the fraud on the lower one, card 2 has .8, card 3 .7 and is fraud.
    The top two are cards 1 and 2; card 1 is fraudulent that day, so it is detected: 1/2. Day 1: card 3 alone,
    fraud, detected: 1/2. Day 2: cards 1 and 3 are gone although they have the highest scores and frauds; card 4
    is fraud: 1/2. Had they stayed, they would have been the two cards of the day: 2/2.
    """
    rows = scored(
        [0, 1, 0, 1, 1, 1, 1, 1, 0],
        [0.9, 0.1, 0.8, 0.7, 0.2, 0.9, 0.8, 0.3, 0.2],
        [0, 0, 0, 0, 1, 2, 2, 2, 2],
        [1, 1, 2, 3, 3, 1, 3, 4, 2],
    )
    np.testing.assert_allclose(card_precision(rows, k=2), [0.5, 0.5, 0.5])
    np.testing.assert_allclose(card_precision(rows, k=2, removes_detected=False), [0.5, 0.5, 1.0])


def _as_the_handbook_counts(rows: Scored, k: int, *, removes_detected: bool) -> list[float]:
    """Follow the description of the handbook, chapter 4.3, day by day in pandas."""
    frame = pd.DataFrame({"day": rows.day, "card": rows.customer, "score": rows.score, "fraud": rows.label})
    detected: set[int] = set()
    found = []
    for _, of_day in frame.groupby("day"):
        cards = of_day[~of_day.card.isin(detected)].groupby("card").max()
        top = cards.sort_values("score", ascending=False).head(k)
        hits = top[top.fraud].index
        found.append(len(hits) / k)
        if removes_detected:
            detected.update(hits)
    return found


@pytest.mark.parametrize("removes_detected", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_card_precision_agrees_with_the_handbooks_description(seed: int, *, removes_detected: bool) -> None:
    """Random days, cards and distinct scores."""
    rows = world(seed)
    for k in (1, 5, 100):
        expected = _as_the_handbook_counts(rows, k, removes_detected=removes_detected)
        np.testing.assert_allclose(card_precision(rows, k=k, removes_detected=removes_detected), expected)


def test_rows_without_a_card_take_no_part() -> None:
    """A day of such rows alone counts as a day on which no card was found."""
    rows = scored([1, 1, 1], [0.9, 0.8, 0.7], [0, 0, 1], [-1, 5, -1])
    np.testing.assert_allclose(card_precision(rows, k=1), [1.0, 0.0])
    nobody = scored([1, 0], [0.9, 0.8], [0, 1], [-1, -1])
    np.testing.assert_allclose(card_precision(nobody, k=1), [0.0, 0.0])


def test_card_precision_needs_cards() -> None:
    """Without ids there is nothing to rank."""
    with pytest.raises(ValueError, match="needs customer ids"):
        card_precision(scored([0, 1], [0.1, 0.9], [0, 0]))


def test_a_day_gives_its_highest_scores() -> None:
    """Two a day; a day with one row gives that one."""
    rows = scored([0] * 6, [0.1, 0.9, 0.5, 0.2, 0.3, 0.4], [0, 0, 0, 1, 2, 2])
    np.testing.assert_array_equal(top_of_each_day(rows, budget=0.5, per_day=2), [0, 1, 1, 1, 1, 1])
    np.testing.assert_array_equal(top_of_each_day(rows, budget=0.5, per_day=1), [0, 1, 0, 1, 0, 1])


@given(sizes=st.lists(st.integers(1, 40), min_size=1, max_size=8), budget=st.floats(0.001, 1.0), seed=st.integers(0, 9))
def test_the_share_is_dealt_out_over_the_days(sizes: list[int], budget: float, seed: int) -> None:
    """Together the budget, one row at least; each day its proportion to within a row; always the day's highest."""
    n = sum(sizes)
    score = np.random.default_rng(seed).permutation(n) / n
    day = np.repeat(np.arange(len(sizes)), sizes)
    is_top = top_of_each_day(
        Scored(label=np.zeros(n, dtype=bool), score=score, amount=np.ones(n), day=day), budget=budget
    )
    assert is_top.sum() == max(int(np.floor(budget * n + 1e-9)), 1)
    for of_day, size in enumerate(sizes):
        top, rest = score[(day == of_day) & is_top], score[(day == of_day) & ~is_top]
        assert abs(len(top) - budget * size) <= 1 + 1e-6
        assert top.min(initial=1.0) > rest.max(initial=-1.0)


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
