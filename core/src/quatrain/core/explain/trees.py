"""SHAP values of boosted trees: what each column adds to a row's score."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quatrain.core.errors import require

# TreeSHAP adds hundreds of leaves in float64; what is farther off is another model, not rounding.
_LARGEST_GAP = 1e-4


@dataclass(frozen=True)
class TreeShap:
    """Contributions to the raw score (log odds of a classifier): `base` plus a row's values is its score."""

    # float64 (n, columns).
    values: NDArray[np.float64]
    # The mean score that contributions are counted from.
    base: float

    def strongest(self, n: int) -> NDArray[np.intp]:
        """Return the columns of each row with the largest contributions, strongest first, (rows, n)."""
        return np.argsort(-np.abs(self.values), axis=1, kind="stable")[:, :n]


def tree_shap(booster: Any, x: NDArray[np.floating[Any]]) -> TreeShap:
    """Return path-dependent TreeSHAP values (Lundberg et al., "From local explanations to global understanding", 2020).

    `booster` is a LightGBM booster with one output. Raises ValueError where the values do not add
    up to the booster's own raw score, which would be an explanation of something else.
    """
    shap = require("shap", package="quatrain-core[explain]")
    explainer = shap.TreeExplainer(booster, feature_perturbation="tree_path_dependent")
    found = explainer.shap_values(x)
    # For two classes some versions give one array for each; the last is that of the positive class.
    values = np.asarray(found[-1] if isinstance(found, list) else found, dtype=np.float64)
    if values.shape != x.shape:
        raise ValueError(f"expected contributions of shape {x.shape}, got {values.shape}; explain one output at a time")
    base = float(np.ravel(explainer.expected_value)[-1])
    scores = np.asarray(booster.predict(x, raw_score=True), dtype=np.float64)
    gap = float(np.abs(base + values.sum(1) - scores).max(initial=0.0))
    if gap > _LARGEST_GAP * max(1.0, float(np.abs(scores).max(initial=0.0))):
        raise ValueError(f"contributions differ from the raw scores by {gap:.3g}; they explain another model")
    return TreeShap(values, base)
