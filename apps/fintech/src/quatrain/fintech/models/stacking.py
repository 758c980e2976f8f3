"""Non-negative stacking: what each model's log odds count for in one common answer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from quatrain.fintech.metrics.scored import Floats, Labels
from quatrain.fintech.models.nonnegative import fit_nonnegative

# Weight of the penalty that draws the weights to the plain average: rows must say otherwise.
_RIDGE = 4.0


@dataclass(frozen=True, kw_only=True)
class Stack:
    """Weights of the models' log odds, in their order, none below 0."""

    weights: tuple[float, ...]
    intercept: float

    def __call__(self, odds: Floats) -> Floats:
        """Return the common log odds, (n,), of those of the models, (n, models)."""
        return np.asarray(odds @ np.array(self.weights) + self.intercept)


def fit_stack(odds: Floats, label: Labels, *, ridge: float = _RIDGE) -> Stack:
    """Return the stack with the least log loss for the models' log odds, (n, models).

    Give it rows that the models had not seen: of their own they are too sure. Raises ValueError
    without both labels.
    """
    n_models = odds.shape[1]
    weights, intercept = fit_nonnegative(odds, label, centre=np.full(n_models, 1 / n_models), ridge=ridge)
    return Stack(weights=tuple(float(weight) for weight in weights), intercept=intercept)
