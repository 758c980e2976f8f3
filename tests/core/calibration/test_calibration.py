"""Temperature, Platt, class-conditional sets and prior shift against sklearn, scipy and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from sklearn.linear_model import LogisticRegression

from quatrain.core.calibration.conformal import abstained, coverage, fit_class_thresholds
from quatrain.core.calibration.error import expected_calibration_error, top_label_error
from quatrain.core.calibration.platt import fit_platt
from quatrain.core.calibration.priors import estimate_priors, shifted
from quatrain.core.calibration.temperature import fit_temperature, log_loss, sigmoid, softmax


def overconfident(n: int = 4000, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return logits three times too large, and labels."""
    rng = np.random.default_rng(seed)
    honest = rng.normal(0, 1.5, n)
    return 3 * honest, (rng.random(n) < sigmoid(honest)).astype(np.int64)


def test_temperature_finds_the_factor_that_was_put_in() -> None:
    """Logits three times too large need a temperature of three."""
    logits, labels = overconfident()
    assert fit_temperature(logits, labels, link="sigmoid") == pytest.approx(3.0, rel=0.08)


@pytest.mark.parametrize("link", ["sigmoid", "softmax"])
def test_temperature_is_the_minimum_that_scipy_finds(link: str) -> None:
    """Golden section and Brent agree."""
    rng = np.random.default_rng(1)
    logits = rng.normal(0, 4, (500, 3))
    labels = rng.integers(0, 3, 500) if link == "softmax" else rng.integers(0, 2, (500, 3))
    found = minimize_scalar(
        lambda t: log_loss(logits / np.exp(t), labels, link=link),  # type: ignore[arg-type]
        bounds=(np.log(0.05), np.log(20)),
        method="bounded",
    )
    ours = fit_temperature(logits, labels, link=link)  # type: ignore[arg-type]
    assert log_loss(logits / ours, labels, link=link) <= found.fun + 1e-5  # type: ignore[arg-type]


def test_softmax_and_sigmoid_survive_huge_logits() -> None:
    """No overflow, no NaN, and rows sum to one."""
    assert np.isfinite(softmax(np.array([[1e4, -1e4, 0.0]]))).all()
    assert sigmoid(np.array([-1e4, 0.0, 1e4])).tolist() == [0.0, 0.5, 1.0]


def test_platt_without_a_prior_is_sklearns_unpenalised_regression() -> None:
    """The same slope and offset to four digits."""
    logits, labels = overconfident(800)
    ours = fit_platt(logits, labels)
    theirs = LogisticRegression(C=np.inf, tol=1e-10).fit(logits[:, None], labels)
    assert ours.slope == pytest.approx(theirs.coef_[0, 0], abs=1e-4)
    assert ours.offset == pytest.approx(theirs.intercept_[0], abs=1e-4)


def test_a_prior_holds_few_labels_back() -> None:
    """Four separable labels leave a finite slope; without a prior they are refused."""
    logits, labels = np.array([-2.0, -1.0, 1.0, 2.0]), np.array([0, 0, 1, 1])
    with pytest.raises(ValueError, match="separable"):
        fit_platt(logits, labels)
    assert 1 < fit_platt(logits, labels, slope_sd=0.5, offset_sd=1.0).slope < 3
    tight = fit_platt(logits, labels, slope_sd=1e-4, offset_sd=1e-4)
    assert (tight.slope, tight.offset) == pytest.approx((1, 0), abs=1e-3)


@pytest.mark.parametrize("interpolate", [False, True])
def test_each_class_keeps_its_promise_on_average(interpolate: bool) -> None:
    """Over many draws of 30 calibration cases coverage is the level; plain split conformal is never below it."""
    rng = np.random.default_rng(2)
    found = []
    for _ in range(1500):
        y = np.repeat([0, 1], [20, 60])
        positive = sigmoid(rng.normal(np.where(y > 0, 1.0, -0.5), 1.0))
        p = np.stack([1 - positive, positive], 1)
        seen = np.r_[:10, 20:50]
        rest = np.setdiff1d(np.arange(80), seen)
        sets = fit_class_thresholds(p[seen], y[seen], level=0.9, interpolate=interpolate).sets(p[rest])
        found.append(coverage(sets, y[rest]))
    mean = np.mean(found, axis=0)
    # Split conformal by class: between the level and level + 1 / (n + 1), n = 10 and 30.
    assert mean[0] == pytest.approx(0.9 if interpolate else 10 / 11, abs=0.01)
    assert mean[1] == pytest.approx(0.9 if interpolate else 1 - 3 / 31, abs=0.01)


def test_too_few_cases_keep_the_class_in_every_set() -> None:
    """Eight cases cannot promise 90 %: the class is never left out."""
    p = np.full((8, 2), 0.5)
    thresholds = fit_class_thresholds(p, np.zeros(8, int), level=0.9)
    assert thresholds.floors[0] == 0.0
    assert thresholds.sets(np.array([[0.0, 1.0]])).tolist() == [[True, True]]


def test_sets_of_none_or_several_are_no_answer() -> None:
    """Abstention counts both kinds."""
    assert abstained(np.array([[True, False], [True, True], [False, False], [False, True]])) == 0.5


def test_calibration_error_is_the_worked_gap() -> None:
    """Two bins: .9 said and half true, .1 said and none true."""
    label, probability = np.array([1, 0, 0, 0]), np.array([0.9, 0.9, 0.1, 0.1])
    assert expected_calibration_error(label, probability) == pytest.approx(0.5 * 0.4 + 0.5 * 0.1)
    assert top_label_error(np.array([0, 1]), np.array([[0.8, 0.2], [0.6, 0.4]])) == pytest.approx(0.5 * 0.2 + 0.5 * 0.6)


def test_priors_of_a_new_place_are_found_without_labels() -> None:
    """EM finds that one class became rarer, and the shifted probabilities are calibrated there."""
    rng = np.random.default_rng(3)
    y = (rng.random(20000) < 0.2).astype(int)
    x = rng.normal(np.where(y > 0, 1.0, -1.0), 1.0)
    known = np.array([0.5, 0.5])
    # With equal priors and unit variances the log odds are 2 x.
    p = np.stack([1 - sigmoid(2 * x), sigmoid(2 * x)], 1)
    new = estimate_priors(p, known=known)
    assert new[1] == pytest.approx(0.2, abs=0.015)
    assert expected_calibration_error(y, shifted(p, known=known, new=new)[:, 1]) < 0.012
    assert expected_calibration_error(y, p[:, 1]) > 0.05


# MAPIE expects every class in what it calibrates on; here each is looked at alone.
@pytest.mark.filterwarnings("ignore:WARNING. your conformalization dataset")
def test_floors_are_mapies_quantiles_class_by_class() -> None:
    """MAPIE's LAC on the cases of one class gives 1 - floor: the same order statistic."""
    from mapie.classification import SplitConformalClassifier
    from sklearn.base import BaseEstimator, ClassifierMixin

    class Given(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # sklearn has no types
        """Probabilities that come as the features."""

        classes_ = np.array([0, 1])
        is_fitted_ = True

        def fit(self, x: np.ndarray, y: np.ndarray) -> Given:
            """Learn nothing."""
            del x, y
            return self

        def predict_proba(self, x: np.ndarray) -> np.ndarray:
            """Return the features."""
            return x

        def predict(self, x: np.ndarray) -> np.ndarray:
            """Return the likelier class."""
            return np.asarray(x.argmax(1))

    rng = np.random.default_rng(5)
    y = rng.integers(0, 2, 140)
    positive = sigmoid(rng.normal(2 * y - 1, 1.5))
    p = np.stack([1 - positive, positive], 1)
    floors = fit_class_thresholds(p, y, level=0.9).floors
    for k in (0, 1):
        theirs = SplitConformalClassifier(Given(), confidence_level=0.9, conformity_score="lac", prefit=True)
        theirs.conformalize(p[y == k], y[y == k])
        _, sets = theirs.predict_set(p)
        np.testing.assert_array_equal(sets[:, k, 0], p[:, k] >= floors[k] - 1e-12)
