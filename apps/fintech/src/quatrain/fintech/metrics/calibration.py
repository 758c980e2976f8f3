"""Whether scores are probabilities: the gap between score and fraud rate."""

from __future__ import annotations

import numpy as np

from quatrain.fintech.metrics.scored import Floats, Labels

_ECE_BINS = 15


def expected_calibration_error(label: Labels, score: Floats, *, n_bins: int = _ECE_BINS) -> float:
    """Return the mean gap between score and fraud rate over equal-width bins of [0, 1], weighted by rows."""
    bins = calibration_bins(label, score, n_bins=n_bins)
    n_rows = sum(bin_["n"] for bin_ in bins)
    return float(sum(bin_["n"] * abs(bin_["score"] - bin_["rate"]) for bin_ in bins) / n_rows)


def calibration_bins(label: Labels, score: Floats, *, n_bins: int = _ECE_BINS) -> list[dict[str, float]]:
    """Return n, mean score and fraud rate of each equal-width bin that holds rows."""
    place = np.clip((score * n_bins).astype(np.int64), 0, n_bins - 1)
    n = np.bincount(place, minlength=n_bins)
    score_sum = np.bincount(place, weights=score, minlength=n_bins)
    fraud_sum = np.bincount(place, weights=label.astype(np.float64), minlength=n_bins)
    return [
        {"n": float(n[i]), "score": float(score_sum[i] / n[i]), "rate": float(fraud_sum[i] / n[i])}
        for i in np.flatnonzero(n)
    ]
