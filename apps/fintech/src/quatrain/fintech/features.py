"""Transactions to model inputs: the same function for training and scoring, one row at a time, no state.

Each value depends on its own row only, so nothing can leak from the future or from another card.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quatrain.core.errors import BadDataError
from quatrain.fintech.data.arrays import to_numpy

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
WEEK_US = 7 * DAY_US
# 1970-01-01 was a Thursday; Monday is day 0.
_EPOCH_WEEKDAY = 3
# The handbook's night ends at 6 (chapter 3.4); its weekend is Saturday and Sunday.
_NIGHT_ENDS_HOUR = 6
_SATURDAY = 5

AMOUNT = ("amount", "log_amount")
TIME_OF_DAY = ("hour", "is_night")
DAY_OF_WEEK = ("weekday", "is_weekend")
BUILT_IN = (*AMOUNT, *TIME_OF_DAY, *DAY_OF_WEEK)


def feature_names(extras: Sequence[str], *, span_us: int) -> tuple[str, ...]:
    """Return the inputs of a model trained on rows that span this many microseconds.

    The day and the week become inputs only where training saw a whole one: of a part of a week
    a model would learn which dates the frauds fell on. Raises BadDataError for an extra column
    that is named like a built-in feature.
    """
    clashes = [name for name in extras if name in BUILT_IN]
    if clashes:
        raise BadDataError(f"extra columns may not be named {', '.join(clashes)}: features of that name are built in")
    daily = TIME_OF_DAY if span_us >= DAY_US else ()
    weekly = DAY_OF_WEEK if span_us >= WEEK_US else ()
    return (*AMOUNT, *daily, *weekly, *extras)


def extra_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return the file's own columns among a model's inputs."""
    return tuple(name for name in names if name not in BUILT_IN)


def build(rows: pa.Table | pa.RecordBatch, names: Sequence[str]) -> NDArray[np.float32]:
    """Return model inputs, float32 of shape (n, len(names)): amount in its own currency, hour in UTC from 0 to 24."""
    amount = to_numpy(rows.column("amount"))
    at_us = to_numpy(rows.column("timestamp").cast(pa.int64()))
    hour = (at_us % DAY_US) / HOUR_US
    weekday = (at_us // DAY_US + _EPOCH_WEEKDAY) % 7
    known: Mapping[str, NDArray[np.generic]] = {
        "amount": amount,
        "log_amount": np.log1p(amount),
        "hour": hour,
        "is_night": hour < _NIGHT_ENDS_HOUR,
        "weekday": weekday,
        "is_weekend": weekday >= _SATURDAY,
    }
    matrix = np.empty((rows.num_rows, len(names)), dtype=np.float32)  # (n, F)
    for place, name in enumerate(names):
        matrix[:, place] = known[name] if name in known else to_numpy(rows.column(name))
    return matrix


def reference_values(matrix: NDArray[np.float32], names: Sequence[str]) -> dict[str, float]:
    """Return the median of each input: what a usual transaction looks like."""
    medians = np.median(matrix, axis=0)
    return {name: float(value) for name, value in zip(names, medians, strict=True)}
