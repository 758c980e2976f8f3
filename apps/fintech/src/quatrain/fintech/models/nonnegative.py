"""Logistic regression whose weights may not fall below 0."""

from __future__ import annotations

from itertools import product

import numpy as np

from quatrain.fintech.metrics.scored import Floats, Labels

_MAX_STEPS = 100
_MAX_HALVINGS = 40
# Newton's decrement per row at which the fit has converged.
_TOLERANCE = 1e-13


def fit_nonnegative(x: Floats, label: Labels, *, centre: Floats, ridge: float) -> tuple[Floats, float]:
    """Return (weights, intercept) with the least log loss among weights >= 0, for x of shape (n, m).

    The penalty ridge x |weights - centre|^2 / 2 keeps the fit finite where labels are separable.
    Raises ValueError without both labels: there is then nothing to be fitted to.
    """
    if not label.any() or label.all():
        raise ValueError(f"both labels are needed, got {int(label.sum())} frauds in {len(label)} rows")
    fits = []
    # The loss is convex: if the free fit breaks a sign, the best one within the signs is on their border.
    for choice in product((True, False), repeat=x.shape[1]):
        is_free = np.array(choice)
        free, intercept, loss = _newton(x[:, is_free], label, centre[is_free], ridge)
        weights = np.zeros(x.shape[1])
        weights[is_free] = free
        if (weights >= 0).all():
            fits.append((loss + ridge * float((centre[~is_free] ** 2).sum()) / 2, weights, intercept))
            if is_free.all():
                break
    _, weights, intercept = min(fits, key=lambda fit: fit[0])
    return weights, intercept


def _newton(x: Floats, label: Labels, centre: Floats, ridge: float) -> tuple[Floats, float, float]:
    """Return weights, intercept and loss of the fit without signs."""
    design = np.column_stack([x, np.ones(len(x))])
    target, penalty = np.append(centre, 0.0), np.append(np.full(len(centre), ridge), 0.0)

    def loss_at(at: Floats) -> float:
        odds = design @ at
        return float(np.logaddexp(0, odds).sum() - odds[label].sum() + (penalty * (at - target) ** 2).sum() / 2)

    at = target.copy()
    loss = loss_at(at)
    for _ in range(_MAX_STEPS):
        p = np.exp(-np.logaddexp(0, -(design @ at)))
        gradient = design.T @ (p - label) + penalty * (at - target)
        hessian = (design * (p * (1 - p))[:, None]).T @ design + np.diag(penalty)
        step = np.linalg.lstsq(hessian, gradient, rcond=None)[0]
        if gradient @ step <= _TOLERANCE * len(label):
            break
        size = 1.0
        for _ in range(_MAX_HALVINGS):
            if loss_at(at - size * step) < loss:
                break
            size /= 2
        at = at - size * step
        loss = loss_at(at)
    return at[:-1], float(at[-1]), loss
