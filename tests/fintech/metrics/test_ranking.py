"""Average precision, ROC AUC and the curve, against scikit-learn and worked examples."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score  # type: ignore[import-untyped]  # ships no types
from sklearn.metrics import precision_recall_curve as sklearn_curve

from quatrain.fintech.metrics.levels import Levels
from quatrain.fintech.metrics.ranking import average_precision, precision_recall_curve, roc_auc

CASES = st.lists(st.tuples(st.booleans(), st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9, 1.0])), min_size=2, max_size=60)


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


@given(cases=CASES, seed=st.integers(0, 1000))
def test_many_weightings_at_once_agree_with_one_at_a_time(cases: list[tuple[bool, float]], seed: int) -> None:
    """Units of rows weighed together, against scikit-learn on the rows repeated that often."""
    label, score = np.array([c[0] for c in cases]), np.array([c[1] for c in cases])
    rng = np.random.default_rng(seed)
    unit = rng.integers(0, 4, len(label))
    weight = rng.integers(0, 3, (4, 7)).astype(float)
    ap, auc = Levels(label, score, unit, n_units=4).ranking(weight)
    for place in range(7):
        repeated = np.repeat(np.arange(len(label)), weight[unit, place].astype(int))
        drawn = label[repeated]
        if not drawn.any():
            assert math.isnan(ap[place])
            continue
        assert ap[place] == pytest.approx(average_precision_score(drawn, score[repeated]))
        if drawn.all():
            assert math.isnan(auc[place])
        else:
            assert auc[place] == pytest.approx(roc_auc_score(drawn, score[repeated]))


def test_levels_in_blocks_are_the_levels_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded by blocks of levels; what is carried from one to the next is nothing less."""
    rng = np.random.default_rng(0)
    label, score = rng.random(3000) < 0.2, rng.integers(0, 500, 3000) / 500
    levels = Levels(label, score, rng.integers(0, 9, 3000), n_units=9)
    weight = rng.integers(0, 3, (9, 4)).astype(float)
    whole = levels.ranking(weight)
    monkeypatch.setattr("quatrain.fintech.metrics.levels._BLOCK_VALUES", 40)
    np.testing.assert_allclose(levels.ranking(weight), whole)


def test_a_worked_example_of_average_precision() -> None:
    """Frauds at ranks 1 and 3 of 4: (1/1 + 2/3) / 2."""
    label = np.array([True, False, True, False])
    assert average_precision(label, np.array([0.9, 0.8, 0.7, 0.1])) == pytest.approx((1 + 2 / 3) / 2)


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
    with pytest.raises(ValueError, match="one length above 0, got 0 and 0"):
        Levels(empty.astype(bool), empty, empty.astype(np.int64), n_units=1)
