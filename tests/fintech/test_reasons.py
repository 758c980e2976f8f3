"""Reasons name what made the score high, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from quatrain.fintech.features.row import BUILT_IN
from quatrain.fintech.reasons import Predict, explain

NAMES = (*BUILT_IN, "V1", "V2")
USUAL = dict(zip(NAMES, [20.0, np.log1p(20.0), 13.5, 0.0, 3.0, 0.0, 0.1, -0.2], strict=True))


def row(**changes: float) -> NDArray[np.float32]:
    """Return a usual transaction with some values changed."""
    return np.array([[(USUAL | changes)[name] for name in NAMES]], dtype=np.float32)


def linear(weights: dict[str, float]) -> Predict:
    """Return a model whose log-odds are a weighted sum: each drop has a closed form."""
    vector = np.array([weights.get(name, 0.0) for name in NAMES], dtype=np.float32)

    def predict(x: NDArray[np.float32]) -> NDArray[np.float32]:
        odds = 1 / (1 + np.exp(-(x @ vector - 4.0)))
        return np.asarray(odds, dtype=np.float32)

    return predict


def test_reasons_come_in_the_order_of_their_weight() -> None:
    """For a linear model the order is that of weight times distance from the usual value."""
    model = linear({"V1": 1.0, "V2": -1.0, "log_amount": 1.0, "hour": 0.0})
    found = explain(model, row(V1=3.1, V2=-2.2, amount=200.0, log_amount=np.log1p(200.0)), names=NAMES, reference=USUAL)
    assert found == [("V1 3.1, usually 0.1", "amount 200.00, usually 20.00", "V2 -2.2, usually -0.2")]


def test_inputs_that_lower_the_score_are_no_reasons() -> None:
    """Only what speaks for fraud is listed."""
    model = linear({"V1": 1.0, "V2": 1.0})
    assert explain(model, row(V1=2.0, V2=-9.0), names=NAMES, reference=USUAL) == [("V1 2, usually 0.1",)]
    assert explain(model, row(), names=NAMES, reference=USUAL) == [()]


def test_two_inputs_of_one_thing_are_changed_together() -> None:
    """A model that reads the amount through either input gives one reason, in words."""

    def either(x: NDArray[np.float32]) -> NDArray[np.float32]:
        high = (x[:, 0] > 100) | (x[:, 1] > np.log1p(100))
        return np.where(high, 0.9, 0.01).astype(np.float32)

    found = explain(either, row(amount=1234.5, log_amount=np.log1p(1234.5)), names=NAMES, reference=USUAL)
    assert found == [("amount 1,234.50, usually 20.00",)]


def test_time_and_day_are_told_as_people_tell_them() -> None:
    """03:07 on a Sunday."""
    model = linear({"is_night": 2.0, "is_weekend": 1.0})
    changes = {"hour": 3 + 7.5 / 60, "is_night": 1.0, "weekday": 6.0, "is_weekend": 1.0}
    found = explain(model, row(**changes), names=NAMES, reference=USUAL)
    assert found == [("time of day 03:07, usually 13:30", "day of week Sunday, usually Thursday")]


def test_many_rows_are_explained_alike() -> None:
    """Chunks change nothing, and no rows give no reasons."""
    model = linear({"V1": 1.0, "V2": -0.5})
    rng = np.random.default_rng(0)
    x = np.concatenate([row(V1=v, V2=w) for v, w in rng.normal(0, 3, (1100, 2))])
    together = explain(model, x, names=NAMES, reference=USUAL)
    assert len(together) == 1100
    for i in (0, 511, 512, 1099):
        assert explain(model, x[i : i + 1], names=NAMES, reference=USUAL) == [together[i]]
    assert explain(model, x[:0], names=NAMES, reference=USUAL) == []


@pytest.mark.parametrize("names", [("V1",), ("amount", "log_amount", "V1")])
def test_models_without_a_calendar_are_explained(names: tuple[str, ...]) -> None:
    """Only the inputs that there are take part."""

    def predict(x: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.where(x[:, -1] > 1, 0.9, 0.1).astype(np.float32)

    x = np.full((1, len(names)), 2.0, dtype=np.float32)
    assert explain(predict, x, names=names, reference=USUAL) == [("V1 2, usually 0.1",)]
