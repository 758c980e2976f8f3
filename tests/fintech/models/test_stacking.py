"""Stacking weighs models by what they add, never below zero."""

from __future__ import annotations

import numpy as np
import pytest

from quatrain.fintech.metrics.scored import Floats, Labels
from quatrain.fintech.models.stacking import fit_stack


def world(n: int = 20_000) -> tuple[Floats, Labels]:
    """Return log odds of two models that saw one half of the evidence each, and labels."""
    rng = np.random.default_rng(0)
    halves = rng.normal(size=(n, 2)) * 2
    return halves - 2, rng.random(n) < 1 / (1 + np.exp(3 - halves.sum(axis=1)))


def test_two_halves_of_the_evidence_add_up() -> None:
    """Both count in full, and what both say of the base rate is taken back once."""
    odds, y = world()
    stack = fit_stack(odds, y)
    np.testing.assert_allclose([*stack.weights, stack.intercept], [1, 1, 1], atol=0.15)
    np.testing.assert_allclose(stack(odds), odds @ np.array(stack.weights) + stack.intercept)


def test_a_model_of_noise_counts_for_little() -> None:
    """And one that is wrong throughout for nothing."""
    odds, y = world()
    right = odds.sum(axis=1) + 1
    noise = np.random.default_rng(1).normal(size=len(y))
    assert fit_stack(np.column_stack([right, noise]), y).weights == pytest.approx([1, 0], abs=0.06)
    assert fit_stack(odds * [1, -1], y).weights[1] == 0


def test_models_that_agree_share_the_weight() -> None:
    """Nothing tells them apart, so each gets the same."""
    odds, y = world()
    both = np.column_stack([odds.sum(axis=1)] * 2)
    first, second = fit_stack(both, y).weights
    assert first == pytest.approx(second, abs=1e-6)


def test_without_frauds_there_is_nothing_to_weigh() -> None:
    """A window without a fraud."""
    with pytest.raises(ValueError, match="both labels are needed"):
        fit_stack(np.zeros((4, 2)), np.zeros(4, dtype=bool))
