"""Inputs that a transaction has by itself: amount, time of day, day of the week, the file's own numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import overload

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from quatrain.fintech.data.arrays import to_numpy

MINUTE_US = 60_000_000
HOUR_US = 60 * MINUTE_US
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


@overload
def stateless(at_us: NDArray[np.int64], amount: NDArray[np.float64], name: str) -> NDArray[np.generic]: ...
@overload
def stateless(at_us: int, amount: float, name: str) -> float: ...
def stateless(
    at_us: NDArray[np.int64] | int, amount: NDArray[np.float64] | float, name: str
) -> NDArray[np.generic] | float:
    """Return one of BUILT_IN of each row or of one: amount in its currency, hour in UTC from 0 to 24, Monday as 0."""
    if name in AMOUNT:
        return np.log1p(amount) if name == "log_amount" else amount
    if name in TIME_OF_DAY:
        hour = (at_us % DAY_US) / HOUR_US
        return hour < _NIGHT_ENDS_HOUR if name == "is_night" else hour
    weekday = (at_us // DAY_US + _EPOCH_WEEKDAY) % 7
    return weekday >= _SATURDAY if name == "is_weekend" else weekday


def fill_rows(
    matrix: NDArray[np.float32], places: Mapping[str, int], rows: pa.Table | pa.RecordBatch, at_us: NDArray[np.int64]
) -> None:
    """Write the inputs that need no history into the matrix (n, F), each at its place.

    A name that is not built in is the file's own column, as float32.
    """
    amount = to_numpy(rows.column("amount"))
    for name, place in places.items():
        is_built_in = name in BUILT_IN
        matrix[:, place] = stateless(at_us, amount, name) if is_built_in else to_numpy(rows.column(name))
