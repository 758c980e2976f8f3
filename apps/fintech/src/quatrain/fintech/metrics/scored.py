"""Scored transactions: what every measure is taken of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Labels = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Scored:
    """Transactions with what a model said of them; `customer` is None where the data has no cards."""

    label: Labels
    score: Floats
    amount: Floats
    # Days since 1970, UTC.
    day: Ints
    # Numbers that stand for the cards; -1 where a row names none.
    customer: Ints | None = None
    # The score from which this model alerts, where it has one.
    threshold: float | None = None
    # What the score means, where the model says so apart from it; calibration is measured on this.
    meant: Floats | None = None

    @property
    def probability(self) -> Floats:
        """What the model says is the chance of fraud."""
        return self.score if self.meant is None else self.meant
