"""The batch sizes that backends are timed and compiled for."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quatrain.core.backends.protocol import Arrays

# Rows: one request, a few at once, a small and a large batch.
BUCKETS = (1, 8, 64, 256)


def bucket_of(n_rows: int) -> int:
    """Return the smallest bucket that holds so many rows, the largest one for more."""
    return BUCKETS[min(bisect_left(BUCKETS, n_rows), len(BUCKETS) - 1)]


def sized(arrays: Arrays, n_rows: int) -> dict[str, NDArray[Any]]:
    """Return exactly n rows: the first ones again where there are fewer, cut where there are more."""
    return {name: np.ascontiguousarray(array[np.arange(n_rows) % len(array)]) for name, array in arrays.items()}


def in_buckets(arrays: Arrays, run: Callable[[dict[str, NDArray[Any]], int], list[NDArray[Any]]]) -> list[NDArray[Any]]:
    """Return what `run` gives for batches that are exactly a bucket's size: long ones in parts, short ones filled up.

    What fills up is the last row again, and is cut from the answers; so rows must not look at each other.
    """
    n_rows = len(next(iter(arrays.values())))
    answers = []
    for start in range(0, n_rows, BUCKETS[-1]):
        stop = min(start + BUCKETS[-1], n_rows)
        bucket = bucket_of(stop - start)
        rows = np.minimum(np.arange(start, start + bucket), stop - 1)
        is_whole = start == 0 and stop == n_rows == bucket
        part = dict(arrays) if is_whole else {name: array[rows] for name, array in arrays.items()}
        answers.append([array[: stop - start] for array in run(part, bucket)])
    return answers[0] if len(answers) == 1 else [np.concatenate(each) for each in zip(*answers, strict=True)]
