"""A gain counts when resampled days agree on it."""

from __future__ import annotations

import numpy as np
import pytest

from quatrain.fintech.metrics.scored import Floats
from quatrain.fintech.models.fold import Fold, is_better, mean_ap


def folds(*, days: bool) -> list[Fold]:
    """Return two folds of fourteen days, a fraud in twenty rows."""
    rng = np.random.default_rng(0)
    x = np.zeros((1400, 1), dtype=np.float32)
    day = np.repeat(np.arange(14), 100) if days else None
    labels = [rng.random(1400) < 0.05 for _ in range(2)]
    return [Fold(x_train=x, y_train=y, x_valid=x, y_valid=y, day_valid=day) for y in labels]


def scores(of: list[Fold], *, strength: float, seed: int) -> list[Floats]:
    """Return noise that frauds stand out of by so much."""
    rng = np.random.default_rng(seed)
    return [strength * fold.y_valid + rng.normal(size=len(fold.y_valid)) for fold in of]


@pytest.mark.parametrize("days", [True, False])
def test_a_plain_gain_counts_and_its_opposite_does_not(days: bool) -> None:
    """Frauds three deviations out against one, judged over days and over groups of rows."""
    both = folds(days=days)
    strong, weak = scores(both, strength=3, seed=1), scores(both, strength=1, seed=2)
    assert is_better(both, strong, weak, level=0.9, seed=0)
    assert not is_better(both, weak, strong, level=0.9, seed=0)
    assert not is_better(both, strong, strong, level=0.9, seed=0)


def test_a_gain_that_chance_explains_does_not_count() -> None:
    """Of forty pairs of equally good models about one in twenty may pass by its level."""
    both = folds(days=True)
    passed = [
        is_better(
            both, scores(both, strength=2, seed=2 * i), scores(both, strength=2, seed=2 * i + 1), level=0.9, seed=0
        )
        for i in range(40)
    ]
    assert sum(passed) <= 6


def test_mean_ap_is_the_mean_over_the_folds() -> None:
    """A perfect fold and one whose only fraud comes second: (1 + 1/2) / 2."""
    x = np.zeros((3, 1), dtype=np.float32)
    y = np.array([True, False, False])
    two = [Fold(x_train=x, y_train=y, x_valid=x, y_valid=y)] * 2
    assert mean_ap(two, [np.array([3.0, 2.0, 1.0]), np.array([2.0, 3.0, 1.0])]) == pytest.approx(0.75)
