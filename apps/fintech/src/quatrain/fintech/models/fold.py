"""What models are chosen on, and what a trained one becomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quatrain.fintech.metrics.intervals import Difference, paired_day_difference
from quatrain.fintech.metrics.ranking import average_precision
from quatrain.fintech.metrics.scored import Floats, Ints, Labels, Scored

X = NDArray[np.float32]

_RESAMPLES = 500


@dataclass(frozen=True, kw_only=True)
class Fold:
    """Rows to learn from, and later ones to be compared on."""

    x_train: X
    y_train: Labels
    x_valid: X
    y_valid: Labels
    # Days of the later rows, counted from anywhere; with them, a gain is judged over days.
    day_valid: Ints | None = None


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A trained model as a graph, with its weights by name where it has any."""

    onnx: bytes
    weights: Mapping[str, NDArray[Any]] | None = None


def mean_ap(folds: Sequence[Fold], scores: Sequence[Floats]) -> float:
    """Return the mean average precision over the folds."""
    return float(np.mean([average_precision(f.y_valid, s) for f, s in zip(folds, scores, strict=True)]))


def is_better(
    folds: Sequence[Fold], scores: Sequence[Floats], than: Sequence[Floats], *, level: float, seed: int
) -> bool:
    """Return whether the paired interval of the gain in average precision lies above 0, days resampled.

    Groups of rows are resampled in place of days where there are too few days, or none are known.
    """
    return ap_gain(folds, scores, than, n_resamples=_RESAMPLES, level=level, seed=seed).low > 0


def ap_gain(
    folds: Sequence[Fold],
    scores: Sequence[Floats],
    than: Sequence[Floats],
    *,
    n_resamples: int,
    level: float,
    seed: int,
) -> Difference:
    """Return the gain in average precision with its paired interval, resampled as for `is_better`."""
    pair = _scored(folds, scores), _scored(folds, than)
    return paired_day_difference(*pair, n_resamples=n_resamples, level=level, seed=seed)["ap"]


def _scored(folds: Sequence[Fold], scores: Sequence[Floats]) -> list[Scored]:
    return [
        Scored(
            label=fold.y_valid,
            score=score,
            amount=np.ones(len(score)),
            day=np.zeros(len(score), dtype=np.int64) if fold.day_valid is None else fold.day_valid,
        )
        for fold, score in zip(folds, scores, strict=True)
    ]
