"""Whether scores are probabilities: the gap between score and fraud rate, Brier score, log loss."""

from __future__ import annotations

from typing import Literal

import numpy as np

from quatrain.fintech.metrics.scored import Floats, Ints, Labels

_ECE_BINS = 15
# Scores are kept this far from 0 and 1 in the log loss: float32 cannot hold a finer distance from 1.
_CLIP = 1e-7

Bins = Literal["width", "mass"]


def expected_calibration_error(label: Labels, score: Floats, *, n_bins: int = _ECE_BINS, bins: Bins = "width") -> float:
    """Return the mean gap between score and fraud rate over bins of the score, weighted by rows."""
    found = calibration_bins(label, score, n_bins=n_bins, bins=bins)
    n_rows = sum(bin_["n"] for bin_ in found)
    return float(sum(bin_["n"] * abs(bin_["score"] - bin_["rate"]) for bin_ in found) / n_rows)


def calibration_bins(
    label: Labels, score: Floats, *, n_bins: int = _ECE_BINS, bins: Bins = "width"
) -> list[dict[str, float]]:
    """Return n, mean score and fraud rate of each bin that holds rows."""
    place = bin_of(score, n_bins=n_bins, bins=bins)
    n = np.bincount(place, minlength=n_bins)
    score_sum = np.bincount(place, weights=score, minlength=n_bins)
    fraud_sum = np.bincount(place, weights=label.astype(np.float64), minlength=n_bins)
    return [
        {"n": float(n[i]), "score": float(score_sum[i] / n[i]), "rate": float(fraud_sum[i] / n[i])}
        for i in np.flatnonzero(n)
    ]


def bin_of(score: Floats, *, n_bins: int = _ECE_BINS, bins: Bins = "width") -> Ints:
    """Return each score's bin: of equal width in [0, 1], or holding equally many rows (equal scores stay together)."""
    if bins == "width":
        return np.clip((score * n_bins).astype(np.int64), 0, n_bins - 1)
    edges = np.quantile(score, np.arange(1, n_bins) / n_bins)
    return np.searchsorted(edges, score, side="left")


def brier(label: Labels, score: Floats) -> Floats:
    """Return each row's squared gap between score and outcome; its mean is the Brier score."""
    return np.asarray((score - label) ** 2)


def log_loss(label: Labels, score: Floats) -> Floats:
    """Return each row's surprise in nats; its mean is the log loss."""
    clipped = np.clip(score, _CLIP, 1 - _CLIP)
    return np.asarray(-np.log(np.where(label, clipped, 1 - clipped)))
