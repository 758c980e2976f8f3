"""Ratios are read off the names of the inputs."""

from __future__ import annotations

import numpy as np
import pytest

from quatrain.fintech.features.names import STANDARD
from quatrain.fintech.models.ratios import ratios_of, with_ratios


def named(names: tuple[str, ...]) -> list[str]:
    """Return the pairs as text."""
    return [f"{names[i]} / {names[j]}" for i, j in ratios_of(names)]


def test_the_handbooks_inputs_have_five() -> None:
    """The amount over each of the card's means, and the shorter means over the longest."""
    assert named(STANDARD) == [
        "amount / customer_mean_1d",
        "amount / customer_mean_7d",
        "amount / customer_mean_30d",
        "customer_mean_1d / customer_mean_30d",
        "customer_mean_7d / customer_mean_30d",
    ]


def test_a_ratio_that_is_an_input_is_not_made_again() -> None:
    """Only the window without one gets one; each key is apart, and windows are ordered by length, not by name."""
    names = ("customer_mean_30d", "customer_mean_6h", "customer_ratio_30d", "terminal_mean_7d", "amount")
    assert named(names) == [
        "amount / customer_mean_6h",
        "customer_mean_6h / customer_mean_30d",
        "amount / terminal_mean_7d",
    ]


def test_amounts_are_compared_with_what_a_card_usually_paid() -> None:
    """This one with either window, the largest of late with the longer; nothing with another key's."""
    names = (
        "amount",
        "customer_max_3d",
        "customer_usual_60d",
        "customer_usual_30d",
        "customer_max_14d",
        "device_max_7d",
    )
    assert named(names) == [
        "amount / customer_usual_30d",
        "amount / customer_usual_60d",
        "customer_max_3d / customer_usual_60d",
        "customer_max_14d / customer_usual_60d",
    ]


@pytest.mark.parametrize("names", [(), ("amount", "V1", "V2"), ("customer_count_7d", "terminal_risk_7d")])
def test_inputs_without_means_have_no_ratios(names: tuple[str, ...]) -> None:
    """The file's own columns have no units that a name would tell."""
    assert ratios_of(names) == ()
    x = np.ones((2, len(names)), dtype=np.float32)
    assert with_ratios(x, ()) is x


def test_ratios_come_after_the_inputs() -> None:
    """A new card, whose mean is 0, counts as usual."""
    x = np.array([[8, 2, 4], [8, 0, 0]], dtype=np.float32)
    pairs = ratios_of(("amount", "customer_mean_1d", "customer_mean_7d"))
    np.testing.assert_array_equal(with_ratios(x, pairs), [[8, 2, 4, 4, 2, 0.5], [8, 0, 0, 1, 1, 1]])
