"""The rows of a fold: what may be learned by the first test day, and who is tested."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from quatrain.core.errors import BadDataError
from quatrain.fintech.data.arrays import to_numpy
from quatrain.fintech.data.table import Labelled
from quatrain.fintech.evaluate.windows import Window
from quatrain.fintech.features.row import DAY_US
from quatrain.fintech.metrics.scored import Floats, Ints, Labels, Scored


@dataclass(frozen=True, kw_only=True)
class Fold:
    """The rows of a window, as places in the table."""

    window: Window
    train: Ints
    # Which train rows were known to be fraud when the test began.
    y_train: Labels
    # Rows of the days between train and test: no labels yet, but scores, which is what a threshold needs.
    waiting: Ints
    test: Ints
    n_removed_rows: int
    n_removed_cards: int

    def to_dict(self) -> dict[str, Any]:
        """Return dates and counts."""
        return {
            **self.window.to_dict(),
            "n_train": len(self.train),
            "n_train_frauds": int(self.y_train.sum()),
            "n_test": len(self.test),
            "removed_cards": self.n_removed_cards,
            "removed_rows": self.n_removed_rows,
        }


class Timeline:
    """Labelled rows by day and card."""

    def __init__(self, labelled: Labelled, *, delay_days: int) -> None:
        self._labelled = labelled
        self._delay_us = delay_days * DAY_US
        self.day: Ints = labelled.timestamp_us // DAY_US
        self.customer = customers(labelled)
        self.label = labelled.label
        self._amount = labelled.amount
        self._is_labelled = labelled.is_labelled

    def fold(self, window: Window) -> Fold:
        """Return a window's rows; raises BadDataError where there is nothing to learn from.

        From the test are removed, as the fraud-detection handbook does (chapter 5.3), the cards
        that are known to be compromised: on each test day those with a fraud since the first train
        day that was known before the day began.
        """
        train = self._rows(window.train_start, window.train_stop)
        y_train = self._known_by(window.test_start)[train]
        if not y_train.any() or y_train.all():
            raise BadDataError(
                f"the {len(train)} train rows of {window.to_dict()['train_from']} to {window.to_dict()['train_to']} "
                f"hold {int(y_train.sum())} known frauds: nothing can be learned from them; give longer --train-days"
            )
        kept, removed, n_cards = self._test_rows(window)
        if not len(kept):
            dates = window.to_dict()
            raise BadDataError(
                f"{dates['test_from']} to {dates['test_to']} hold no labelled rows to test on, "
                f"{removed} of known compromised cards apart; give longer --test-days"
            )
        return Fold(
            window=window,
            train=train,
            y_train=y_train,
            waiting=self._between(window.train_stop, window.test_start),
            test=kept,
            n_removed_rows=removed,
            n_removed_cards=n_cards,
        )

    def scored(self, fold: Fold, score: Floats, probability: Floats, *, threshold: float | None) -> Scored:
        """Return a fold's test rows with what a model says of them."""
        return Scored(
            label=self.label[fold.test],
            score=score,
            amount=self._amount[fold.test],
            day=self.day[fold.test],
            customer=None if self.customer is None else self.customer[fold.test],
            threshold=threshold,
            meant=probability,
        )

    def _test_rows(self, window: Window) -> tuple[Ints, int, int]:
        """Return (test rows, how many were removed, of how many cards)."""
        rows = [self._rows(day, day + 1) for day in range(window.test_start, window.test_stop)]
        if self.customer is None:
            return np.concatenate(rows), 0, 0
        kept, gone = [], []
        since = np.searchsorted(self.day, window.train_start)
        for day, of_day in zip(range(window.test_start, window.test_stop), rows, strict=True):
            is_known = self._known_by(day)
            is_known[:since] = False
            is_removed = np.isin(self.customer[of_day], self.customer[is_known & (self.customer >= 0)])
            kept.append(of_day[~is_removed])
            gone.append(of_day[is_removed])
        removed = np.concatenate(gone)
        return np.concatenate(kept), len(removed), len(np.unique(self.customer[removed]))

    def _known_by(self, day: int) -> NDArray[np.bool_]:
        """Return which rows were known to be fraud before the day began."""
        return self._labelled.label_known(day * DAY_US - 1, delay_us=self._delay_us)

    def _rows(self, start: int, stop: int) -> Ints:
        """Return the labelled rows of these days."""
        rows = self._between(start, stop)
        return rows[self._is_labelled[rows]]

    def _between(self, start: int, stop: int) -> Ints:
        return np.arange(*np.searchsorted(self.day, [start, stop]))


def customers(labelled: Labelled) -> Ints | None:
    """Return numbers that stand for the cards, -1 where a row names none; None where no row does."""
    if "customer_id" not in labelled.table.column_names:
        return None
    codes = labelled.table["customer_id"].combine_chunks().dictionary_encode().indices.fill_null(-1)
    found = to_numpy(codes).astype(np.int64)
    return found if (found >= 0).any() else None
