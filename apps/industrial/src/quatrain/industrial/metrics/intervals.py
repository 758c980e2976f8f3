"""How sure a share or a ranking measure is."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta, binom  # type: ignore[import-untyped]  # scipy brings no stubs

Floats = NDArray[np.float64]
Labels = NDArray[np.bool_]


def clopper_pearson(n_hits: int, n: int, *, level: float = 0.95) -> tuple[float, float]:
    """Return the exact interval of a share (Clopper and Pearson 1934); (0, 1) of nothing."""
    if n == 0:
        return 0.0, 1.0
    tail = (1 - level) / 2
    low = 0.0 if n_hits == 0 else float(beta.ppf(tail, n_hits, n - n_hits + 1))
    high = 1.0 if n_hits == n else float(beta.ppf(1 - tail, n_hits + 1, n - n_hits))
    return low, high


def binomial_band(share: float, n: int, *, level: float = 0.95) -> tuple[int, int]:
    """Return the counts between which a binomial count of n lies with at least this probability."""
    tail = (1 - level) / 2
    return int(binom.ppf(tail, n, share)), int(binom.ppf(1 - tail, n, share))


def bootstrap(
    measure: Callable[[Labels, Floats], float],
    is_bad: Labels,
    score: Floats,
    *,
    n_resamples: int = 500,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the percentile interval of measure(is_bad, score) over resamples of the good and of the bad images."""
    rng = np.random.default_rng(seed)
    parts = [np.flatnonzero(is_bad), np.flatnonzero(~is_bad)]
    values = []
    for _ in range(n_resamples):
        rows = np.concatenate([rng.choice(part, len(part)) for part in parts])
        values.append(measure(is_bad[rows], score[rows]))
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
