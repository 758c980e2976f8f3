"""The batch sizes that backends are timed and compiled for."""

from __future__ import annotations

from bisect import bisect_left

import numpy as np

from quatrain.core.backends.protocol import Arrays

# Rows: one request, a few at once, a small and a large batch.
BUCKETS = (1, 8, 64, 256)


def bucket_of(n_rows: int) -> int:
    """Return the smallest bucket that holds so many rows, the largest one for more."""
    return BUCKETS[min(bisect_left(BUCKETS, n_rows), len(BUCKETS) - 1)]


def sized(arrays: Arrays, n_rows: int) -> dict[str, np.ndarray]:
    """Return exactly n rows: the first ones again where there are fewer, cut where there are more."""
    return {name: np.ascontiguousarray(array[np.arange(n_rows) % len(array)]) for name, array in arrays.items()}
