"""Probabilities of a new place from few labels: a slope and an offset on the logit, held back by what was known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quatrain.core.calibration.temperature import sigmoid

Floats = NDArray[np.float64]
_MAX_STEPS = 50
_TOLERANCE = 1e-9


@dataclass(frozen=True, kw_only=True)
class Platt:
    """Probability = sigmoid(slope * logit + offset)."""

    slope: float
    offset: float

    def __call__(self, logits: NDArray[Any]) -> Floats:
        """Return the probability of label 1 at each logit."""
        return sigmoid(self.slope * np.asarray(logits, np.float64) + self.offset)


def fit_platt(
    logits: NDArray[Any],
    labels: NDArray[Any],
    *,
    slope_sd: float = np.inf,
    offset_sd: float = np.inf,
) -> Platt:
    """Return the most probable slope and offset under normal priors around 1 and 0 of these deviations.

    Infinite deviations give Platt's plain logistic fit (Platt 1999, without his smoothed targets). Newton's method
    with halved steps; labels are 0 or 1, logits (n,). With separable labels and no prior nothing is most probable:
    ValueError.
    """
    x = np.asarray(logits, np.float64)
    y = np.asarray(labels, np.float64)
    if x.shape != y.shape or x.ndim != 1 or not len(x):
        raise ValueError(f"expected logits and labels of one shape (n,), got {x.shape} and {y.shape}")
    has_prior = np.isfinite(slope_sd) and np.isfinite(offset_sd)
    if not has_prior and _is_separable(x, y):
        raise ValueError("the labels are separable by the logit, so no slope is the best one; give a prior")
    design = np.stack([x, np.ones_like(x)], axis=1)  # (n, 2)
    start = np.array([1.0, 0.0])
    precision = np.array([slope_sd, offset_sd], np.float64) ** -2.0
    theta = start.copy()
    for _ in range(_MAX_STEPS):
        p = sigmoid(design @ theta)
        gradient = design.T @ (p - y) + precision * (theta - start)
        hessian = (design * (p * (1 - p))[:, None]).T @ design + np.diag(precision + 1e-12)
        step = np.linalg.solve(hessian, gradient)
        size = 1.0
        before = _loss(design, y, theta, start, precision)
        while size > _TOLERANCE and _loss(design, y, theta - size * step, start, precision) > before:
            size /= 2
        theta = theta - size * step
        if float(np.abs(size * step).max()) < _TOLERANCE:
            break
    return Platt(slope=float(theta[0]), offset=float(theta[1]))


def _is_separable(x: Floats, y: Floats) -> bool:
    positive, negative = x[y > 0], x[y == 0]
    if not len(positive) or not len(negative):
        return True
    return bool(positive.min() >= negative.max() or positive.max() <= negative.min())


def _loss(design: Floats, y: Floats, theta: Floats, start: Floats, precision: Floats) -> float:
    z = design @ theta
    surprise = np.logaddexp(0.0, np.where(y > 0, -z, z)).sum()
    return float(surprise + 0.5 * (precision * (theta - start) ** 2).sum())
