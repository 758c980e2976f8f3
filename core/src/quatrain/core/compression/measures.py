"""What a compression is judged by: the task's measure on held-back rows, and how far two models' answers differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Arrays = Mapping[str, Array]
# A model as far as its evaluation knows it: inputs by name in, outputs by name out.
Predict = Callable[[Arrays], Arrays]
# metric(targets, scores) of the same rows; larger is better, NaN where it is not defined.
Metric = Callable[[Array, Array], float]

# Bounds of the interval of 95 %.
_BOUNDS = (2.5, 97.5)


@dataclass(frozen=True)
class Scored:
    """Held-back rows: what is true of each, (n, ...), and what a model says of it, (n, ...)."""

    targets: Array
    scores: Array

    def __post_init__(self) -> None:
        """Refuse rows that do not pair."""
        if len(self.targets) != len(self.scores) or len(self.targets) == 0:
            raise ValueError(f"expected a score for each of 1 or more targets, got {len(self.scores)} scores")


Evaluate = Callable[[Predict], Scored]


@dataclass(frozen=True)
class Drop:
    """How much a measure fell, with a 95 % interval; negative is a gain."""

    value: float
    low: float
    high: float


def held_back(inputs: Arrays, targets: Array, *, output: str, batch_size: int = 64) -> Evaluate:
    """Return the evaluation that asks a model for `output` of these rows, a batch at a time."""

    def evaluate(predict: Predict) -> Scored:
        parts = [
            predict({name: array[start : start + batch_size] for name, array in inputs.items()})[output]
            for start in range(0, len(targets), batch_size)
        ]
        return Scored(targets, np.concatenate(parts))

    return evaluate


def area_under_roc(targets: Array, scores: Array) -> float:
    """Return the chance that a positive row scores above a negative one, ties half; NaN without both classes.

    Targets are 0 or 1, (n,); scores (n,), or (n, 2) of which the second column counts.
    """
    positive = targets.astype(bool)
    flat = scores[:, 1] if scores.ndim > 1 and scores.shape[1] > 1 else scores.reshape(-1)
    n_positive, n_negative = int(positive.sum()), int((~positive).sum())
    if n_positive == 0 or n_negative == 0:
        return float("nan")
    _, place, counts = np.unique(flat, return_inverse=True, return_counts=True)
    mean_rank = np.cumsum(counts) - (counts - 1) / 2
    rank_sum = mean_rank[place][positive].sum()
    return float((rank_sum - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative))


def accuracy(targets: Array, scores: Array) -> float:
    """Return the share of rows whose highest score, or whose score of .5 or more, names their target."""
    named = scores.argmax(axis=1) if scores.ndim > 1 and scores.shape[1] > 1 else scores.reshape(-1) >= 0.5  # noqa: PLR2004 - even odds
    return float((named == targets).mean())


def paired_drop(metric: Metric, before: Scored, after: Scored, *, n_resamples: int, seed: int = 0) -> Drop:
    """Return metric(before) - metric(after) with its bootstrap interval: both models see the same resamples.

    Raises ValueError where the two were not evaluated on the same rows, or the measure is undefined there.
    """
    if not np.array_equal(before.targets, after.targets):
        raise ValueError("both models need the same held-back rows in the same order; fix the order in `evaluate`")
    targets = before.targets
    value = metric(targets, before.scores) - metric(targets, after.scores)
    if not np.isfinite(value):
        raise ValueError(f"the measure of these {len(targets)} held-back rows is {value}; hold back rows of each class")
    rng = np.random.default_rng(seed)
    drops = np.empty(n_resamples)
    for place in range(n_resamples):
        rows = rng.integers(0, len(targets), len(targets))
        drops[place] = metric(targets[rows], before.scores[rows]) - metric(targets[rows], after.scores[rows])
    low, high = np.nanpercentile(drops, _BOUNDS)
    return Drop(float(value), float(low), float(high))


def fingerprint(metric: Metric, scored: Scored, *, n_orders: int = 4) -> list[str]:
    """Return what the metric says of these scores, in their order and dealt to other rows.

    Two metrics of one name, or one with another threshold, hardly agree in all of them.
    """
    rng = np.random.default_rng(0)
    orders = [np.arange(len(scored.scores)), *(rng.permutation(len(scored.scores)) for _ in range(n_orders))]
    return [repr(float(metric(scored.targets, scored.scores[order]))) for order in orders]


def sqnr_db(reference: Array, actual: Array) -> float:
    """Return 10 log10 of the reference's power over that of the difference; infinite for the same numbers."""
    wide = reference.astype(np.float64)
    noise = float(np.square(wide - actual).sum())
    power = float(np.square(wide).sum())
    if noise == 0:
        return float("inf")
    return float(10 * np.log10(power / noise)) if power > 0 else float("-inf")


def labels_of(outputs: Arrays) -> Array | None:
    """Return each row's label by the first output that names one, or None.

    Of float (batch, classes) it is the highest; of float (batch,) or (batch, 1) within [0, 1] whether it is .5 or more.
    """
    for array in outputs.values():
        if array.dtype.kind != "f":
            continue
        if array.ndim == 2 and array.shape[1] > 1:  # noqa: PLR2004 - rows, classes
            return np.asarray(array.argmax(axis=1))
        if array.size == len(array) and array.min() >= 0 and array.max() <= 1:
            return np.asarray(array.reshape(-1) >= 0.5)  # noqa: PLR2004 - even odds
    return None
