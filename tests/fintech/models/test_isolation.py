"""The isolation forest gives a column; odd rows have short paths."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.ensemble import IsolationForest

from quatrain.core.graphs import average_path
from quatrain.fintech.models.fold import X
from quatrain.fintech.models.isolation import grow_isolation
from quatrain.fintech.models.recipe_settings import IsolationSettings

SETTINGS = IsolationSettings(n_trees=20, n_rows=64)


@pytest.fixture(scope="module")
def x() -> X:
    """Return a cloud, and one row far from it."""
    rows = np.random.default_rng(0).normal(size=(500, 4)).astype(np.float32)
    rows[0] = 9
    return rows


def test_the_odd_row_has_the_shortest_path(x: X) -> None:
    """One float32 column; the row that stands apart is found first."""
    column = grow_isolation(SETTINGS, x, seed=0).column(x)
    assert column.shape == (500, 1)
    assert column.dtype == np.float32
    assert column.argmin() == 0


def test_it_is_scikit_learns_forest(x: X) -> None:
    """The score of its own implementation, for the same seed."""
    length = grow_isolation(SETTINGS, x, seed=3).column(x)[:, 0]
    forest = IsolationForest(n_estimators=20, max_samples=64, random_state=3).fit(x)
    expected = -forest.score_samples(x)
    np.testing.assert_allclose(2 ** (-length / average_path(np.array([64]))), expected, rtol=2e-6)


def test_fewer_rows_than_a_tree_draws_are_enough(x: X) -> None:
    """Then each tree takes them all."""
    assert np.isfinite(grow_isolation(SETTINGS, x[:10], seed=0).column(x)).all()
