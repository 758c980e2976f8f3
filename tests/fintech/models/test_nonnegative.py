"""Logistic regression under signs, against scikit-learn and a search."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression

from quatrain.fintech.metrics.scored import Floats, Labels
from quatrain.fintech.models.nonnegative import fit_nonnegative


def world(weights: tuple[float, ...], *, seed: int = 0, n: int = 3000) -> tuple[Floats, Labels]:
    """Return rows whose log odds are -2 + x @ weights."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, len(weights))) + rng.normal(size=(n, 1))
    return x, rng.random(n) < 1 / (1 + np.exp(2 - x @ np.array(weights)))


def test_without_a_binding_sign_it_is_ridge_regression() -> None:
    """All weights above 0: scikit-learn's fit with C = 1 / ridge."""
    x, y = world((1.0, 0.5))
    weights, intercept = fit_nonnegative(x, y, centre=np.zeros(2), ridge=2.0)
    other = LogisticRegression(C=0.5, tol=1e-10, max_iter=1000).fit(x, y)
    np.testing.assert_allclose([*weights, intercept], [*other.coef_[0], *other.intercept_], rtol=1e-5)


@pytest.mark.parametrize("true", [(1.0, -0.6), (-0.5, 0.9, -0.2), (-1.0, -1.0)])
def test_a_weight_that_would_be_negative_is_zero(true: tuple[float, ...]) -> None:
    """The same minimum as a bounded search finds, with the penalty's centre off zero."""
    x, y = world(true)
    centre, ridge = np.full(len(true), 0.3), 4.0

    def loss(at: Floats) -> float:
        odds = x @ at[:-1] + at[-1]
        return float(np.logaddexp(0, odds).sum() - odds[y].sum() + ridge * ((at[:-1] - centre) ** 2).sum() / 2)

    weights, intercept = fit_nonnegative(x, y, centre=centre, ridge=ridge)
    bounds = [(0, None)] * len(true) + [(None, None)]
    found = minimize(loss, np.zeros(len(true) + 1), bounds=bounds, method="L-BFGS-B", options={"ftol": 1e-14})
    np.testing.assert_allclose([*weights, intercept], found.x, atol=2e-4)
    assert (weights[np.array(true) < 0] == 0).any()
    assert (weights >= 0).all()


def test_separable_labels_have_a_finite_fit() -> None:
    """The penalty holds what the likelihood would send to infinity."""
    x = np.linspace(-1, 1, 40)[:, None]
    weights, intercept = fit_nonnegative(x, x[:, 0] > 0, centre=np.zeros(1), ridge=1.0)
    assert 1 < weights[0] < 100
    assert abs(intercept) < 1


def test_one_label_alone_is_refused() -> None:
    """There is nothing to be fitted to."""
    with pytest.raises(ValueError, match="both labels are needed, got 0 frauds in 5 rows"):
        fit_nonnegative(np.zeros((5, 1)), np.zeros(5, dtype=bool), centre=np.zeros(1), ridge=1.0)
