"""Inputs are told in words that an analyst uses."""

from __future__ import annotations

import pytest

from quatrain.fintech.features.names import feature_names
from quatrain.fintech.features.row import DAY_US
from quatrain.fintech.wording import wording


@pytest.mark.parametrize(
    ("name", "value", "usual", "told"),
    [
        ("customer_count_1d", 14, 2, "customer: transactions in 1 day 14, usually 2"),
        ("customer_terminal_count_30d", 1, 6, "customer with this terminal: transactions in 30 days 1, usually 6"),
        ("customer_sum_1h", 1234.5, 20, "customer: spent in 1 hour 1,234.50, usually 20.00"),
        ("customer_ratio_1d", 7.06, 1, "customer: amount against the average in 1 day 7.1 times, usually 1.0 times"),
        ("terminal_risk_7d", 0.125, 0, "terminal: fraud rate in 7 days 12.5%, usually 0.0%"),
        ("terminal_frauds_10m", 3, 0, "terminal: known frauds in 10 minutes 3, usually 0"),
        ("customer_since", 0.25, 30, "customer: time since the last transaction 15 min, usually 30.0 h"),
        ("device_since_fraud", 72, 1440, "device: time since the last known fraud 3.0 days, usually none in 60 days"),
        ("device_distinct_customer_7d", 9, 1, "device: different customers in 7 days 9, usually 1"),
        ("device_component", 23, 1, "customers linked by shared devices 23, usually 1"),
        ("hour", 3.125, 13.5, "time of day 03:07, usually 13:30"),
        ("V14", -7.25, 0.05, "V14 -7.25, usually 0.05"),
    ],
)  # fmt: skip
def test_an_input_is_told_in_words(name: str, value: float, usual: float, told: str) -> None:
    """Label, value and usual value, each with its unit."""
    assert wording(name).told(value, usual=usual) == told


def test_every_feature_has_words_of_its_own() -> None:
    """No two inputs of the full set are told alike, and none by its technical name."""
    ids = ("customer_id", "terminal_id", "device_id", "merchant_id")
    names = feature_names(ids, (), span_us=365 * DAY_US, history="full")
    history = [name for name in names if "_" in name and name not in ("log_amount", "is_night", "is_weekend")]
    labels = [wording(name).label for name in history]
    assert len(set(labels)) == len(labels)
    assert not [label for label in labels if "_" in label]
