"""How common a class is at a new place, from unlabelled scores alone, and probabilities that say so."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def shifted(probability: NDArray[Any], *, known: NDArray[Any], new: NDArray[Any]) -> Floats:
    """Return probability (n, K) for class shares `new` in place of the `known` ones that it was made with."""
    p = np.asarray(probability, np.float64) * (np.asarray(new) / np.asarray(known))
    return np.asarray(p / p.sum(1, keepdims=True))


def estimate_priors(
    probability: NDArray[Any], *, known: NDArray[Any], n_steps: int = 200, tolerance: float = 1e-7
) -> Floats:
    """Return the class shares of unlabelled cases by expectation maximisation.

    Saerens, Latinne and Decaestecker 2002, "Adjusting the outputs of a classifier to new a priori probabilities".
    It assumes that cases of a class look as they did, only more or fewer of them: where their looks change as well,
    the estimate is wrong, and labels are needed.
    """
    known = np.asarray(known, np.float64)
    if (known <= 0).any() or abs(known.sum() - 1) > 1e-6:  # noqa: PLR2004 - rounding
        raise ValueError(f"known class shares must be above 0 and sum to 1, got {known}")
    new = known.copy()
    for _ in range(n_steps):
        updated = shifted(probability, known=known, new=np.maximum(new, 1e-12)).mean(0)
        if float(np.abs(updated - new).max()) < tolerance:
            return np.asarray(updated)
        new = updated
    return new
