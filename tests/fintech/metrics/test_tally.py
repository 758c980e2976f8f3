"""Every measure by its flat name, each against its own definition."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import precision_score, recall_score  # type: ignore[import-untyped]  # ships no types

from quatrain.fintech.metrics.alerts import card_precision
from quatrain.fintech.metrics.calibration import brier, expected_calibration_error, log_loss
from quatrain.fintech.metrics.ranking import average_precision, roc_auc
from quatrain.fintech.metrics.scored import Scored
from quatrain.fintech.metrics.tally import MeasureSettings, Tally

SETTINGS = MeasureSettings(alert_budget=0.05, cards_per_day=5)


def world(seed: int, n: int = 2000) -> Scored:
    """Return five days of scored rows with a threshold."""
    rng = np.random.default_rng(seed)
    label = rng.random(n) < 0.1
    return Scored(
        label=label,
        score=1 / (1 + np.exp(2 - rng.normal(label * 2.0))),
        amount=rng.gamma(2, 30, n),
        day=rng.integers(0, 5, n),
        customer=rng.integers(0, 200, n),
        threshold=0.4,
    )


def measured(rows: Scored, settings: MeasureSettings = SETTINGS) -> dict[str, float]:
    """Return the measures with every day counted once."""
    tally = Tally(rows, settings, rows.day)
    return {name: float(value[0]) for name, value in tally.measure(np.ones((tally.n_units, 1))).items()}


def test_each_measure_agrees_with_its_definition() -> None:
    """Two ways to the same number: summed by day here, from the rows there."""
    rows = world(0)
    found = measured(rows)
    alerted = rows.score >= 0.4
    expected = {
        "ap": average_precision(rows.label, rows.score),
        "auc": roc_auc(rows.label, rows.score),
        "cp_5": card_precision(rows, k=5).mean(),
        "precision": precision_score(rows.label, alerted),
        "recall": recall_score(rows.label, alerted),
        "alert_rate": alerted.mean(),
        "alerts_per_day": alerted.sum() / 5,
        "ece": expected_calibration_error(rows.label, rows.score),
        "ece_mass": expected_calibration_error(rows.label, rows.score, bins="mass"),
        "brier": brier(rows.label, rows.score).mean(),
        "log_loss": log_loss(rows.label, rows.score).mean(),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert set(found) - set(expected) == {
        "value_recall",
        "budget_precision",
        "budget_recall",
        "budget_alerts_per_day",
    }


def test_a_worked_example_of_the_budget() -> None:
    """Two rows a day over two days: day 0 catches the 300 of its 100 + 300, day 1 the 50; of 500 stolen, 350."""
    rows = Scored(
        label=np.array([1, 0, 1, 0, 1, 0, 1], dtype=bool),
        score=np.array([0.1, 0.8, 0.9, 0.2, 0.6, 0.5, 0.4]),
        amount=np.array([100.0, 5.0, 300.0, 5.0, 50.0, 5.0, 50.0]),
        day=np.array([0, 0, 0, 0, 1, 1, 1]),
    )
    found = measured(rows, MeasureSettings(alerts_per_day=2))
    assert found["value_recall"] == pytest.approx(350 / 500)
    assert found["budget_precision"] == pytest.approx(2 / 4)
    assert found["budget_recall"] == pytest.approx(2 / 4)
    assert found["budget_alerts_per_day"] == 2


def test_a_weighted_day_counts_as_often() -> None:
    """Weight 2 on a day is the day twice, under another date; 0 leaves it out."""
    rows = world(1)
    weight = np.array([[2.0], [0.0], [1.0], [1.0], [1.0]])
    kept = np.concatenate([np.flatnonzero(rows.day != 1), np.flatnonzero(rows.day == 0)])
    label, score = rows.label[kept], rows.score[kept]
    alerted = score >= 0.4
    found = {name: value[0] for name, value in Tally(rows, SETTINGS, rows.day).measure(weight).items()}
    per_day = card_precision(rows, k=5)
    expected = {
        "ap": average_precision(label, score),
        "auc": roc_auc(label, score),
        "cp_5": (2 * per_day[0] + per_day[2:].sum()) / 5,
        "recall": recall_score(label, alerted),
        "alert_rate": alerted.mean(),
        "alerts_per_day": alerted.sum() / 5,
        "ece": expected_calibration_error(label, score),
        "brier": brier(label, score).mean(),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected)


def test_what_is_not_defined_is_nan_or_absent() -> None:
    """No frauds: no ranking, no recall; no cards or threshold: no such measures."""
    n = 50
    rows = Scored(label=np.zeros(n, dtype=bool), score=np.arange(n) / n, amount=np.ones(n), day=np.arange(n) % 2)
    found = measured(rows)
    assert {name for name, value in found.items() if np.isnan(value)} == {"ap", "auc", "value_recall", "budget_recall"}
    assert not {"cp_5", "precision", "alert_rate"} & set(found)
