"""An embedding ships only where it adds: a useless one is refused, a planted useful one accepted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from quatrain.fintech.metrics.ranking import average_precision
from quatrain.fintech.models import trees
from quatrain.fintech.models.fold import Fold, X
from quatrain.fintech.models.history_gate import history_gain
from quatrain.fintech.models.trees import TreeSettings

SETTINGS = TreeSettings(learning_rate=0.1, num_leaves=8, max_rounds=30, n_seeds=1)
N_DAYS, PER_DAY = 14, 150


def fold_and_signal(*, seed: int) -> tuple[Fold, tuple[X, X]]:
    """Return a fold whose inputs tell half of what decides fraud, and the other half."""
    rng = np.random.default_rng(seed)
    n_train, n = 3000, 3000 + N_DAYS * PER_DAY
    seen, hidden = rng.normal(size=(2, n))
    y = rng.random(n) < 1 / (1 + np.exp(4 - 1.5 * seen - 1.5 * hidden))
    x = np.column_stack([seen, rng.normal(size=n)]).astype(np.float32)
    fold = Fold(
        x_train=x[:n_train],
        y_train=y[:n_train],
        x_valid=x[n_train:],
        y_valid=y[n_train:],
        day_valid=np.repeat(np.arange(N_DAYS), PER_DAY),
    )
    signal = hidden[:, None].astype(np.float32)
    return fold, (signal[:n_train], signal[n_train:])


def test_a_useful_embedding_is_accepted() -> None:
    """Its gain is the difference of the two boosters' average precision, and its interval lies above 0."""
    fold, signal = fold_and_signal(seed=0)
    gain = history_gain([fold], [signal], SETTINGS, seed=0, n_resamples=200)
    assert 0 < gain.low < gain.value < gain.high
    wide = [np.hstack([x, s]) for x, s in zip((fold.x_train, fold.x_valid), signal, strict=True)]
    aps = [
        average_precision(fold.y_valid, trees.predict(trees.grow(SETTINGS, x, fold.y_train, seed=0), later))
        for x, later in ((fold.x_train, fold.x_valid), wide)
    ]
    assert gain.value == pytest.approx(aps[1] - aps[0])


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_useless_embedding_is_refused(seed: int) -> None:
    """Noise in place of the signal."""
    fold, signal = fold_and_signal(seed=seed)
    rng = np.random.default_rng(seed)
    noise = tuple(rng.normal(size=(len(part), 8)).astype(np.float32) for part in signal)
    assert history_gain([fold], [noise], SETTINGS, seed=0, n_resamples=200).low <= 0  # type: ignore[list-item]


def test_an_embedding_that_is_too_sure_of_what_it_learned_is_refused() -> None:
    """Train rows whose embedding knows their labels, which later rows' cannot."""
    fold, _ = fold_and_signal(seed=4)
    rng = np.random.default_rng(0)
    learned = (fold.y_train + 0.1 * rng.normal(size=len(fold.y_train)))[:, None].astype(np.float32)
    later = 0.1 * rng.normal(size=(len(fold.y_valid), 1)).astype(np.float32)
    assert history_gain([fold], [(learned, later)], SETTINGS, seed=0, n_resamples=200).low <= 0


def test_folds_without_days_are_refused() -> None:
    """Rows of one burst are not independent, so the days must be known."""
    fold, signal = fold_and_signal(seed=0)
    with pytest.raises(ValueError, match="each fold needs day_valid"):
        history_gain([replace(fold, day_valid=None)], [signal], SETTINGS, seed=0)
