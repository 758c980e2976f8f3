"""Isotonic regression and Venn-ABERS against refits, and the promise that the pair keeps."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.isotonic import IsotonicRegression

from quatrain.fintech.metrics.scored import Floats, Labels
from quatrain.fintech.models.venn_abers import Groups, grouped, isotonic, merged, venn_abers

Scores = NDArray[np.float32]

# Sixteenths, so that scores meet often.
rows = st.lists(st.tuples(st.integers(0, 16), st.booleans()), min_size=1, max_size=30)


def of(pairs: list[tuple[int, bool]]) -> tuple[Scores, Labels]:
    """Return scores and labels from drawn pairs."""
    score, label = zip(*pairs, strict=True)
    return (np.array(score) / 16).astype(np.float32), np.array(label)


def refitted(score: Scores, label: Labels, new: np.float32, *, with_label: bool) -> float:
    """Return what isotonic regression gives a new row when it has joined: sklearn's, fitted for this row alone."""
    x = np.append(score, new).astype(np.float64)
    fitted = IsotonicRegression().fit(x, np.append(label, with_label).astype(np.float64))
    return float(fitted.predict([float(new)])[0])


def read(groups: Groups, new: np.float32) -> tuple[float, float]:
    """Return (p0, p1) at a new score, as the docstring says where each holds."""
    p0, p1 = venn_abers(groups)
    left, right = (int(np.searchsorted(groups.score, new, side)) for side in ("left", "right"))
    return float(np.append(0.0, p0)[right]), float(np.append(p1, 1.0)[left])


@given(rows)
@settings(deadline=None)
def test_isotonic_is_sklearns(pairs: list[tuple[int, bool]]) -> None:
    """The same value at every score, ties and all."""
    score, label = of(pairs)
    groups = grouped(score, label)
    oracle = IsotonicRegression().fit(score.astype(np.float64), label.astype(np.float64))
    np.testing.assert_allclose(isotonic(groups), oracle.predict(groups.score.astype(np.float64)), atol=1e-12)


@given(pairs=rows, new=st.integers(-1, 33))
@settings(deadline=None, max_examples=200)
def test_the_pair_is_what_two_refits_give(pairs: list[tuple[int, bool]], new: int) -> None:
    """At scores of the set, between them and outside: as refitting with the new row, once per label."""
    score, label = of(pairs)
    at = np.float32(new / 32)
    p0, p1 = read(grouped(score, label), at)
    assert p0 == pytest.approx(refitted(score, label, at, with_label=False), abs=1e-12)
    assert p1 == pytest.approx(refitted(score, label, at, with_label=True), abs=1e-12)


def test_the_pair_at_thousands_of_rare_frauds() -> None:
    """The same on a set as large and as unequal as a window of transactions, at some scores."""
    rng = np.random.default_rng(0)
    score = (rng.random(5000) ** 4).astype(np.float32)
    label = rng.random(5000) < score**2 * 0.2
    groups = grouped(score, label)
    for at in rng.choice(groups.score, 40):
        p0, p1 = read(groups, at)
        assert p0 == pytest.approx(refitted(score, label, at, with_label=False), abs=1e-12)
        assert p1 == pytest.approx(refitted(score, label, at, with_label=True), abs=1e-12)


@given(rows)
@settings(deadline=None)
def test_both_rise_and_hold_the_isotonic_value(pairs: list[tuple[int, bool]]) -> None:
    """At every score 0 <= p0 <= isotonic <= p1 <= 1, none of them falls, and the merged value lies between."""
    groups = grouped(*of(pairs))
    p0, p1 = venn_abers(groups)
    middle = isotonic(groups)
    for values in (p0, middle, p1):
        assert (np.diff(values) >= -1e-12).all()
    assert (p0 >= 0).all()
    assert (p0 <= middle + 1e-12).all()
    assert (middle <= p1 + 1e-12).all()
    assert (p1 <= 1).all()
    one = merged(p0, p1)
    assert ((one >= p0 - 1e-12) & (one <= p1 + 1e-12)).all()


def draw(rng: np.random.Generator, n: int) -> tuple[Scores, Labels]:
    """Return scores whose odds are the square of what they say, and labels."""
    score = rng.beta(0.4, 3, n).astype(np.float32)
    odds = (score.astype(np.float64) / (1 - score)) ** 2
    return score, rng.random(n) < odds / (1 + odds)


def test_the_probability_of_the_label_that_came_is_calibrated() -> None:
    """Validity (Vovk and Petej 2014, theorem 1): where p is p1 for frauds and p0 for others, P(fraud | p) = p.

    Calibration sets of 50 rows, so small that each of the two alone is far off; the score's own
    distribution, and how wrong it is, do not matter.
    """
    rng = np.random.default_rng(0)
    pairs, came = [], []
    for _ in range(8000):
        score, label = draw(rng, 51)
        pairs.append(read(grouped(score[:50], label[:50]), score[50]))
        came.append(label[50])
    p0, p1 = np.array(pairs).T
    is_fraud = np.array(came)
    assert max(z_scores(np.where(is_fraud, p1, p0), is_fraud)) < 4
    # The same look tells that neither of the two alone is calibrated.
    assert max(z_scores(p0, is_fraud)) > 8
    assert max(z_scores(p1, is_fraud)) > 8


def z_scores(probability: Floats, label: Labels) -> list[float]:
    """Return how far the frauds in each tenth of [0, 1] are from the sum of probabilities, in standard errors."""
    place = np.minimum((probability * 10).astype(int), 9)
    z = []
    for bin_ in np.unique(place):
        p, y = probability[place == bin_], label[place == bin_]
        z.append(float(abs(y.sum() - p.sum()) / np.sqrt((p * (1 - p)).sum() + 1)))
    return z


def test_the_pair_closes_as_rows_are_added() -> None:
    """The mean width falls with the size of the set, faster than its square root."""
    rng = np.random.default_rng(1)
    at, _ = draw(rng, 2000)
    widths = []
    for n in (100, 1600, 25_600):
        p0, p1 = venn_abers(groups := grouped(*draw(rng, n)))
        low = np.append(0.0, p0)[np.searchsorted(groups.score, at, side="right")]
        high = np.append(p1, 1.0)[np.searchsorted(groups.score, at, side="left")]
        widths.append(float((high - low).mean()))
    assert widths[0] > 4 * widths[1] > 16 * widths[2]


def test_one_row_says_next_to_nothing() -> None:
    """With a single fraud the pair is (0, 1) below it, and (1/2, 1) at its score."""
    groups = grouped(np.array([0.5], dtype=np.float32), np.array([True]))
    assert read(groups, np.float32(0.4)) == (0.0, 1.0)
    assert read(groups, np.float32(0.5)) == (0.5, 1.0)


@pytest.mark.parametrize(
    ("score", "label", "message"),
    [
        (np.zeros(2), np.zeros(2, dtype=bool), "scores must be float32, as the sealed graph gives them; got float64"),
        (np.zeros(0, dtype=np.float32), np.zeros(0, dtype=bool), "one length above 0, got 0 and 0"),
        (np.zeros(2, dtype=np.float32), np.zeros(1, dtype=bool), "one length above 0, got 2 and 1"),
        (np.full(1, np.nan, dtype=np.float32), np.zeros(1, dtype=bool), "scores must be finite"),
    ],
    ids=["float64", "no rows", "two lengths", "NaN"],
)
def test_rows_that_cannot_be_grouped_are_refused(score: Scores, label: Labels, message: str) -> None:
    """The message says what came."""
    with pytest.raises(ValueError, match=re.escape(message)):
        grouped(score, label)
