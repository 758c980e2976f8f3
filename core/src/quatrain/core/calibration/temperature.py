"""One number that makes a network's confidence match its hit rate (Guo et al., "On Calibration", ICML 2017)."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Link = Literal["sigmoid", "softmax"]
Floats = NDArray[np.float64]
# Beyond these a network is not miscalibrated but broken.
_SMALLEST, _LARGEST = 0.05, 20.0
# Where a golden-section search stops, in log temperature.
_TOLERANCE = 1e-4


def fit_temperature(logits: NDArray[Any], labels: NDArray[Any], *, link: Link, weight: Floats | None = None) -> float:
    """Return the temperature in [0.05, 20] that gives the labels the smallest log loss.

    With `softmax`, logits (n, K) and labels (n,) in 0..K-1; with `sigmoid`, both (n,) or (n, K), labels 0 or 1.
    The loss is convex in 1 / T, so that its one minimum in log T is found by golden section.
    """
    logits = np.asarray(logits, np.float64)
    labels = np.asarray(labels)
    if len(logits) != len(labels) or not len(logits):
        raise ValueError(f"expected as many labels as logits and at least one, got {len(labels)} and {len(logits)}")
    golden = (np.sqrt(5.0) - 1) / 2
    low, high = np.log(_SMALLEST), np.log(_LARGEST)
    left, right = high - golden * (high - low), low + golden * (high - low)
    at = {t: log_loss(logits / np.exp(t), labels, link=link, weight=weight) for t in (left, right)}
    while high - low > _TOLERANCE:
        if at[left] <= at[right]:
            high, right, left = right, left, right - golden * (right - low)
        else:
            low, left, right = left, right, left + golden * (high - left)
        for t in (left, right):
            at.setdefault(t, log_loss(logits / np.exp(t), labels, link=link, weight=weight))
    return float(np.exp((low + high) / 2))


def log_loss(logits: Floats, labels: NDArray[Any], *, link: Link, weight: Floats | None = None) -> float:
    """Return the mean surprise in nats, exact however large a logit is."""
    if link == "softmax":
        loss = np.logaddexp.reduce(logits, axis=1) - logits[np.arange(len(labels)), labels]
    else:
        loss = np.logaddexp(0.0, np.where(labels > 0, -logits, logits))
        loss = loss.reshape(len(loss), -1).mean(1)
    return float(np.average(loss, weights=weight))


def sigmoid(logits: NDArray[Any]) -> Floats:
    """Return 1 / (1 + exp(-x)) without overflow."""
    x = np.asarray(logits, np.float64)
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e))


def softmax(logits: NDArray[Any]) -> Floats:
    """Return exp(x) / sum(exp(x)) over the last axis without overflow."""
    x = np.asarray(logits, np.float64)
    e = np.exp(x - x.max(-1, keepdims=True))
    return np.asarray(e / e.sum(-1, keepdims=True))
