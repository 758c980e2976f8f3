"""How far probabilities are from the truth: expected calibration error."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Bins of Guo et al. 2017.
N_BINS = 15


def expected_calibration_error(label: NDArray[Any], probability: NDArray[Any], *, n_bins: int = N_BINS) -> float:
    """Return the mean gap between probability and how often it came true, over bins of equal width.

    `probability` (n,) of label 1; labels 0 or 1. It cannot be 0 for finitely many cases: each bin's share is itself
    uncertain.
    """
    p, y = np.asarray(probability, np.float64), np.asarray(label, np.float64)
    if p.shape != y.shape or p.ndim != 1:
        raise ValueError(f"expected label and probability of one shape (n,), got {y.shape} and {p.shape}")
    place = np.clip((p * n_bins).astype(np.int64), 0, n_bins - 1)
    gap = np.bincount(place, weights=p - y, minlength=n_bins)
    return float(np.abs(gap).sum() / len(p))


def top_label_error(label: NDArray[Any], probability: NDArray[Any], *, n_bins: int = N_BINS) -> float:
    """Return the expected calibration error of the most probable class: probability (n, K), labels (n,) in 0..K-1."""
    p = np.asarray(probability, np.float64)
    return expected_calibration_error(p.argmax(1) == np.asarray(label), p.max(1), n_bins=n_bins)
