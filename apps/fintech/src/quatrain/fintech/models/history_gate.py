"""Whether an embedding earns its place: the booster with it against the booster alone, on later days."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from quatrain.fintech.metrics.intervals import Difference
from quatrain.fintech.metrics.scored import Floats
from quatrain.fintech.models import trees
from quatrain.fintech.models.fold import Fold, X, ap_gain
from quatrain.fintech.models.trees import TreeSettings


def history_gain(
    folds: Sequence[Fold],
    embeddings: Sequence[tuple[X, X]],
    settings: TreeSettings,
    *,
    seed: int,
    n_resamples: int = 2000,
    level: float = 0.95,
) -> Difference:
    """Return what the embedding adds to the booster's average precision, with its paired interval over days.

    `embeddings` are those of each fold's train and later rows, by an encoder that saw nothing later
    than the train rows; both boosters grow alike, `settings.max_rounds` rounds. The embedding ships
    only if `low` is above 0. Raises ValueError where a fold does not know the days of its later rows.
    """
    if any(fold.day_valid is None for fold in folds):
        raise ValueError("a gain is judged over days: each fold needs day_valid")
    alone = [_odds(settings, fold, fold.x_train, fold.x_valid, seed=seed) for fold in folds]
    joined = [
        _odds(settings, fold, np.hstack([fold.x_train, learned]), np.hstack([fold.x_valid, later]), seed=seed)
        for fold, (learned, later) in zip(folds, embeddings, strict=True)
    ]
    return ap_gain(folds, joined, alone, n_resamples=n_resamples, level=level, seed=seed)


def _odds(settings: TreeSettings, fold: Fold, x: X, later: X, *, seed: int) -> Floats:
    booster = trees.grow(settings, x, fold.y_train, seed=seed)
    return trees.predict(booster, later)
