"""Scored transactions: what every measure is taken of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Labels = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Scored:
    """Transactions with what a model said of them; `customer` is None where the data has no cards."""

    label: Labels
    score: Floats
    amount: Floats
    # Days since 1970, UTC.
    day: NDArray[np.int64]
    # Numbers that stand for the cards.
    customer: NDArray[np.int64] | None = None
