"""Which rows of a batch are good, and for what the others are rejected."""

from __future__ import annotations

import numpy as np

from quatrain.fintech.data import parse
from quatrain.fintech.data.arrays import Mask
from quatrain.fintech.data.parse import Problems
from quatrain.fintech.data.source import RawBatch, Reject


class Verdict:
    """Per row of a batch the first problem found, if any."""

    def __init__(self, raw: RawBatch, reject: Reject) -> None:
        self._raw = raw
        self._reject = reject
        self._problems: list[tuple[str, str]] = []
        self._code = np.zeros(len(raw.rows), dtype=np.int32)

    @property
    def is_good(self) -> Mask:
        """Which rows have no problem so far."""
        return np.asarray(self._code == 0)

    def add(self, column: str, problems: Problems) -> None:
        """Add what is wrong with a column of the file: a reason, and the rows that have it."""
        for reason, mask in problems:
            if mask.any():
                self._problems.append((column, reason))
                self._code[mask & self.is_good] = len(self._problems)

    def deliver(self) -> None:
        """Reject each bad row once, its value shown as it stands in the file."""
        for index in np.flatnonzero(self._code):
            column, reason = self._problems[self._code[index] - 1]
            value = parse.shown(self._raw.columns.column(column), int(index))
            self._reject(row=int(self._raw.rows[index]), reason=reason, column=column, value=value)
