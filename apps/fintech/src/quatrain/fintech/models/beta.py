"""Beta calibration: a strictly increasing map of scores to probabilities with three parameters.

Source: Kull, Silva Filho and Flach, "Beta calibration: a well-founded and easily implemented
improvement on logistic calibration for binary classifiers" (AISTATS 2017).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from quatrain.core.graphs_calibration import LARGEST, SMALLEST, Curve
from quatrain.fintech.metrics.scored import Floats, Labels
from quatrain.fintech.models.nonnegative import fit_nonnegative

# (1, 1, 0) leaves scores as they are.
IDENTITY: Curve = (1.0, 1.0, 0.0)

# Weight of the penalty ((a - 1)^2 + (b - 1)^2) / 2: a normal prior of standard deviation 1/2 around "as it is".
# Without it, frauds that all score above all others have no finite fit. By simulation at .2 % frauds the expected
# excess of log loss is 4 % with 5 frauds, 1 % with 20 and .1 % with 200, where scores are right and where they are not.
_RIDGE = 4.0


def fit_beta(score: NDArray[np.floating], label: Labels, *, ridge: float = _RIDGE) -> Curve:
    """Return the beta map with the least log loss among those with a, b >= 0.

    Raises ValueError without both labels: there is then nothing that a map could be fitted to.
    """
    if not label.any() or label.all():
        raise ValueError(f"beta calibration needs both labels, got {int(label.sum())} frauds in {len(label)} rows")
    weights, intercept = fit_nonnegative(_design(score), label, centre=np.array(IDENTITY[:2]), ridge=ridge)
    return float(weights[0]), float(weights[1]), intercept


def _design(score: NDArray[np.floating]) -> Floats:
    inside = np.clip(score.astype(np.float64), SMALLEST, LARGEST)
    return np.stack([np.log(inside), -np.log(1 - inside)], axis=1)  # (n, 2)
