"""Beta calibration against scikit-learn, scipy and the distribution that gives it its name."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression

from quatrain.core.graphs_calibration import Curve, log_odds
from quatrain.fintech.metrics.scored import Labels
from quatrain.fintech.models.beta import IDENTITY, fit_beta

Scores = NDArray[np.float32]


def draw(rng: np.random.Generator, n: int, curve: Curve, *, centre: float = -2.0) -> tuple[Scores, Labels]:
    """Return scores, and labels whose log odds follow the curve."""
    score = (1 / (1 + np.exp(-rng.normal(centre, 2, n)))).astype(np.float32)
    return score, rng.random(n) < 1 / (1 + np.exp(-log_odds(score, curve)))


def loss(curve: Curve, score: Scores, label: Labels, ridge: float) -> float:
    """Return what the fit minimises, written out once more."""
    odds = log_odds(score, curve)
    return float(
        np.logaddexp(0, np.where(label, -odds, odds)).sum() + ridge * ((curve[0] - 1) ** 2 + (curve[1] - 1) ** 2) / 2
    )


def test_without_a_penalty_it_is_logistic_regression_on_two_logarithms() -> None:
    """Kull et al. (2017), section 3.3: where both slopes come out positive."""
    score, label = draw(np.random.default_rng(0), 4000, (0.7, 1.6, -0.3))
    x = np.stack([np.log(score.astype(np.float64)), -np.log1p(-score.astype(np.float64))], axis=1)
    oracle = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(x, label)
    a, b, c = fit_beta(score, label, ridge=0)
    np.testing.assert_allclose([a, b, c], [*oracle.coef_[0], oracle.intercept_[0]], rtol=1e-4, atol=1e-4)


def test_beta_distributed_scores_give_their_own_parameters() -> None:
    """Section 3.1: scores of beta distributions (a1, b1) and (a0, b0) have a = a1 - a0 and b = b0 - b1."""
    rng = np.random.default_rng(1)
    score = np.concatenate([rng.beta(4, 2, 60_000), rng.beta(2, 5, 60_000)]).astype(np.float32)
    a, b, _ = fit_beta(score, np.arange(120_000) < 60_000)
    assert (a, b) == pytest.approx((2, 3), abs=0.15)


@pytest.mark.parametrize(
    ("curve", "zeros"),
    [((-0.8, 1.5, 0.0), [0]), ((1.5, -0.8, 0.0), [1]), ((-0.5, -0.5, 0.0), [0, 1]), ((0.6, 1.4, -1.0), [])],
    ids=["a", "b", "both", "neither"],
)
def test_a_slope_that_would_be_negative_is_zero(curve: Curve, zeros: list[int]) -> None:
    """A higher score never means a lower probability; the fit is scipy's best within the signs."""
    score, label = draw(np.random.default_rng(2), 3000, curve, centre=0.0)
    fitted = fit_beta(score, label)
    assert [place for place in (0, 1) if fitted[place] == 0] == zeros
    oracle = minimize(
        lambda at: loss((at[0], at[1], at[2]), score, label, 4.0),
        IDENTITY,
        bounds=[(0, None), (0, None), (None, None)],
        method="L-BFGS-B",
        options={"ftol": 1e-14, "gtol": 1e-10},
    )
    assert loss(fitted, score, label, 4.0) <= oracle.fun + 1e-6
    np.testing.assert_allclose(fitted, oracle.x, atol=2e-3)


@given(
    st.lists(st.tuples(st.floats(0, 1, width=32), st.booleans()), min_size=2, max_size=40).filter(
        lambda rows: len({label for _, label in rows}) == 2
    )
)
@settings(deadline=None)
def test_any_scores_have_a_finite_map_that_never_falls(rows: list[tuple[float, bool]]) -> None:
    """Scores of 0 and 1, one fraud, labels that scores part perfectly: slopes stay finite and not negative."""
    score, label = (np.array(values) for values in zip(*rows, strict=True))
    curve = fit_beta(score.astype(np.float32), label)
    assert np.isfinite(curve).all()
    assert min(curve[:2]) >= 0
    assert loss(curve, score, label, 4.0) <= loss((1.0, 1.0, 0.0), score, label, 4.0) + 1e-6


def test_the_average_probability_is_the_share_of_frauds() -> None:
    """The constant is free, so on its own rows the map neither over- nor understates the total."""
    score, label = draw(np.random.default_rng(3), 5000, (1.3, 0.5, -2.0))
    probability = 1 / (1 + np.exp(-log_odds(score, fit_beta(score, label))))
    assert probability.sum() == pytest.approx(label.sum(), rel=1e-5)


def test_few_frauds_hardly_move_the_slopes() -> None:
    """With five frauds the map is nearly a shift of the score; with thousands it is the true curve."""
    curve = (0.5, 1.8, 0.5)
    few = fit_beta(*draw(np.random.default_rng(4), 60, curve, centre=-4))
    many = fit_beta(*draw(np.random.default_rng(4), 100_000, curve, centre=-4))
    assert abs(few[0] - 1) < 0.5
    assert abs(few[1] - 1) < 0.5
    assert many == pytest.approx(curve, abs=0.2)


@pytest.mark.parametrize("value", [True, False])
def test_one_label_alone_is_refused(value: bool) -> None:
    """Without frauds, or with nothing else, there is nothing to fit."""
    with pytest.raises(ValueError, match="needs both labels, got"):
        fit_beta(np.linspace(0, 1, 5, dtype=np.float32), np.full(5, value))
