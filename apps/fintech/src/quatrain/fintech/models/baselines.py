"""What every fraud model must beat in the same table."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

from quatrain.core.errors import require
from quatrain.core.hardware import cpu_limit
from quatrain.fintech.metrics.scored import Floats, Labels
from quatrain.fintech.models.trees import load_lightgbm

_EXTRA = "quatrain-fintech[train]"
# A tree of the forest draws at most so many rows: beyond it grows for hours and is no better a baseline.
_FOREST_ROWS = 250_000
FOREST = "random forest"


def default_lightgbm(x: NDArray[np.float32], y: Labels, test: NDArray[np.float32]) -> Floats:
    """Return the scores of LightGBM with the settings it comes with."""
    model = load_lightgbm().LGBMClassifier(verbose=-1, n_jobs=cpu_limit(), random_state=0)
    model.fit(x, y)
    return np.asarray(model.booster_.predict(test), dtype=np.float64)


def random_forest(x: NDArray[np.float32], y: Labels, test: NDArray[np.float32]) -> Floats:
    """Return the scores of scikit-learn's random forest with the settings it comes with."""
    ensemble = require("sklearn.ensemble", package=_EXTRA)
    max_samples = _FOREST_ROWS if len(x) > _FOREST_ROWS else None
    model = ensemble.RandomForestClassifier(n_jobs=cpu_limit(), random_state=0, max_samples=max_samples)
    model.fit(x, y)
    return np.asarray(model.predict_proba(test)[:, 1], dtype=np.float64)


def logistic_regression(x: NDArray[np.float32], y: Labels, test: NDArray[np.float32]) -> Floats:
    """Return the scores of logistic regression on standardised inputs."""
    linear = require("sklearn.linear_model", package=_EXTRA)
    scaling = require("sklearn.preprocessing", package=_EXTRA)
    scaler = scaling.StandardScaler()
    model = linear.LogisticRegression(max_iter=1000)
    with warnings.catch_warnings():
        # A baseline that is not quite converged is still that baseline.
        warnings.filterwarnings("ignore", message="lbfgs failed to converge")
        model.fit(scaler.fit_transform(x.astype(np.float64)), y)
    return np.asarray(model.predict_proba(scaler.transform(test.astype(np.float64)))[:, 1], dtype=np.float64)


BASELINES = {
    "logistic regression": logistic_regression,
    FOREST: random_forest,
    "lightgbm default": default_lightgbm,
}
