"""The days and rows of a fold: what may be learned by the first test day, and who is tested."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quatrain.core.errors import BadDataError
from quatrain.fintech.data.arrays import from_numpy, from_strings
from quatrain.fintech.data.columns import TYPES
from quatrain.fintech.data.table import Labelled, Rejections
from quatrain.fintech.evaluate.folds import Timeline, customers
from quatrain.fintech.evaluate.windows import Shape, Window, plan
from quatrain.fintech.features.row import DAY_US

FIRST_DAY = 20_000
SHAPE = Shape(train_days=3, delay_days=2, test_days=2)


def labelled(
    day: list[float],
    customer: list[str | None],
    fraud: list[bool | None],
    *,
    labelled_day: list[float | None] | None = None,
) -> Labelled:
    """Return rows at these days (fractions are times of day), counted from the first."""
    order = np.argsort(day, kind="stable")
    at_us = np.round((FIRST_DAY + np.asarray(day, dtype=float)[order]) * DAY_US).astype(np.int64)
    columns = {
        "transaction_id": from_strings([f"T{i:06}" for i in range(len(day))]),
        "timestamp": from_numpy(at_us).cast(TYPES["timestamp"]),
        "customer_id": from_strings([customer[i] for i in order]),
        "amount": from_numpy(np.ones(len(day))),
        "is_fraud": pa.array([fraud[i] for i in order], pa.bool_()),
    }
    if labelled_day is not None:
        known = [labelled_day[i] for i in order]
        values = [None if d is None else round((FIRST_DAY + d) * DAY_US) for d in known]
        columns["labelled_at"] = pa.array(values, pa.int64()).cast(TYPES["labelled_at"])
    return Labelled(table=pa.table(columns), extras=(), digest="", rejections=Rejections(), is_synthetic=True)


def window(first: int = 0, shape: Shape = SHAPE) -> Window:
    """Return the window whose train days begin so many days after the first."""
    start = FIRST_DAY + first
    return Window(
        train_start=start,
        train_stop=start + shape.train_days,
        test_start=start + shape.train_days + shape.delay_days,
        test_stop=start + shape.days,
    )


def test_a_worked_example_of_windows() -> None:
    """Twenty-five days, two folds of 3 + 2 + 2: the last four days are tested, the four before two more choose."""
    found = plan(FIRST_DAY, FIRST_DAY + 24, SHAPE, folds=2)
    tests = [(w.train_start - FIRST_DAY, w.test_start - FIRST_DAY, w.test_stop - FIRST_DAY) for w in found.test]
    assert tests == [(16, 21, 23), (18, 23, 25)]
    valids = [(w.train_start - FIRST_DAY, w.test_start - FIRST_DAY, w.test_stop - FIRST_DAY) for w in found.valid]
    assert valids == [(10, 15, 17), (12, 17, 19)]
    assert found.test[0].to_dict()["test_from"] == (date(1970, 1, 1) + timedelta(FIRST_DAY + 21)).isoformat()


@given(
    train=st.integers(1, 9),
    delay=st.integers(0, 9),
    test=st.integers(1, 9),
    folds=st.integers(1, 5),
    spare=st.integers(-3, 40),
)
def test_every_label_used_for_choosing_is_known_before_the_first_test(
    train: int, delay: int, test: int, folds: int, spare: int
) -> None:
    """Whatever the shape; train days lie in the data; the last test day is the last day; windows do not overlap."""
    shape = Shape(train_days=train, delay_days=delay, test_days=test)
    needed = train + delay + folds * test + delay + test
    n_days = needed + spare
    if spare < 0:
        with pytest.raises(BadDataError, match=f"and {needed} are needed"):
            plan(FIRST_DAY, FIRST_DAY + n_days - 1, shape, folds=folds)
        return
    found = plan(FIRST_DAY, FIRST_DAY + n_days - 1, shape, folds=folds)
    assert len(found.test) == folds
    assert 1 <= len(found.valid) <= folds
    assert found.test[-1].test_stop == FIRST_DAY + n_days
    first_test = found.test[0].test_start
    assert max(w.test_stop for w in found.valid) + delay <= first_test
    assert min(w.train_start for w in (*found.valid, *found.test)) >= FIRST_DAY
    for windows in (found.valid, found.test):
        stops = [w.test_start for w in windows[1:]]
        assert stops == [w.test_stop for w in windows[:-1]]


def test_a_short_file_says_how_many_days_are_needed() -> None:
    """And what to make shorter; a sealed model needs no folds to choose on."""
    message = r"spans 10 days, 2024-10-04 to 2024-10-13, and 13 are needed: 2 folds .* one such fold before them"
    with pytest.raises(BadDataError, match=message):
        plan(FIRST_DAY, FIRST_DAY + 9, SHAPE, folds=2)
    assert plan(FIRST_DAY, FIRST_DAY + 9, SHAPE, folds=2, chooses=False).valid == ()


def test_a_worked_example_of_removed_cards() -> None:
    """Train on days 0 to 2, wait on 3 and 4, test on 5 and 6.

    Card a has a fraud in the train days: removed. Card b's fraud on day 3 is known on day 5's end: it is tested
    on day 5 and removed on day 6. Card c's fraud on day 4 is known after the test. Card d has none.
    """
    rows = labelled(
        [1.5, 3.5, 4.5, *[5.1] * 4, *[6.1] * 4, 2.5],
        ["a", "b", "c", *"abcd", *"abcd", "d"],
        [True, True, True, *[False] * 8, False],
    )
    timeline = Timeline(rows, delay_days=2)
    fold = timeline.fold(window())
    names = np.array(rows.table["customer_id"].to_pylist())
    assert sorted(names[fold.test[timeline.day[fold.test] == FIRST_DAY + 5]]) == ["b", "c", "d"]
    assert sorted(names[fold.test[timeline.day[fold.test] == FIRST_DAY + 6]]) == ["c", "d"]
    assert (fold.n_removed_cards, fold.n_removed_rows) == (2, 3)
    assert sorted(names[fold.train]) == ["a", "d"]
    assert sorted(names[fold.waiting]) == ["b", "c"]


def _as_the_handbook_splits(frame: pd.DataFrame, shape: Shape) -> set[int]:
    """Follow the description of the handbook, chapter 5.3, day by day in pandas; return the test rows."""
    train = frame[frame.day < shape.train_days]
    known = set(train[train.fraud].customer)
    tested: set[int] = set()
    for offset in range(shape.test_days):
        test_day = shape.train_days + shape.delay_days + offset
        newly_known = frame[frame.day == shape.train_days + offset - 1]
        known |= set(newly_known[newly_known.fraud].customer)
        of_day = frame[(frame.day == test_day) & ~frame.customer.isin(known)]
        tested |= set(of_day.index)
    return tested


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), train=st.integers(1, 5), delay=st.integers(0, 5), test=st.integers(1, 5))
def test_the_test_rows_are_the_handbooks(seed: int, train: int, delay: int, test: int) -> None:
    """Random days, cards and frauds."""
    shape = Shape(train_days=train, delay_days=delay, test_days=test)
    rng = np.random.default_rng(seed)
    day = np.sort(rng.integers(0, shape.days, 200)) + rng.uniform(0.01, 0.99)
    fraud = rng.random(200) < 0.15
    fraud[day.argmin()] = True
    customer = [f"C{c}" for c in rng.integers(0, 40, 200)]
    rows = labelled(list(day), list(customer), list(fraud))
    frame = pd.DataFrame({"day": np.floor(day).astype(int), "customer": customer, "fraud": fraud})
    if frame[frame.day < train].fraud.all() or not frame[frame.day < train].fraud.any():
        return
    fold = Timeline(rows, delay_days=delay).fold(window(0, shape))
    assert set(fold.test.tolist()) == _as_the_handbook_splits(frame, shape)


def test_a_label_that_came_late_is_not_learned_and_removes_nobody() -> None:
    """Card a's fraud of day 1 was reported on day 6: legitimate to the trainer, and the card still tested on day 6."""
    rows = labelled(
        [0.5, 1.5, 5.1, 6.1, 6.9],
        ["b", "a", "a", "a", "a"],
        [True, True, False, True, True],
        labelled_day=[0.6, 6.05, None, 9.0, 9.0],
    )
    fold = Timeline(rows, delay_days=2).fold(window())
    assert fold.y_train.tolist() == [True, False]
    assert fold.test.tolist() == [2, 3, 4]
    next_day = labelled(
        [0.5, 1.5, 5.1, 6.1], ["b", "a", "a", "a"], [True, True, False, True], labelled_day=[0.6, 5.9, None, 9.0]
    )
    assert Timeline(next_day, delay_days=2).fold(window()).test.tolist() == [2]


def test_rows_that_nobody_labelled_are_neither_learned_nor_tested() -> None:
    """They still wait between train and test, where a threshold needs scores only."""
    rows = labelled([0.5, 0.6, 0.7, 3.5, 5.1, 5.2], list("abcabc"), [True, None, False, None, None, False])
    fold = Timeline(rows, delay_days=2).fold(window())
    assert fold.train.tolist() == [0, 2]
    assert fold.waiting.tolist() == [3]
    assert fold.test.tolist() == [5]


def test_frauds_before_the_train_days_remove_nobody() -> None:
    """The handbook counts the cards of the fold's own time; a customer keeps transacting on a new card."""
    rows = labelled([0.5, 7.5, 7.6, 12.1], ["a", "b", "c", "a"], [True, True, False, False])
    assert Timeline(rows, delay_days=2).fold(window(7)).test.tolist() == [3]


def test_rows_without_a_card_are_tested() -> None:
    """Nobody knows whether they are compromised."""
    rows = labelled([0.4, 0.5, 1.5, 5.1, 5.2], ["b", None, "a", None, "a"], [False, True, True, False, False])
    timeline = Timeline(rows, delay_days=2)
    assert timeline.fold(window()).test.tolist() == [3]
    assert customers(rows) is not None
    nobody = labelled([0.5, 1.5, 5.1], [None, None, None], [True, False, False])
    assert customers(nobody) is None
    assert Timeline(nobody, delay_days=2).fold(window()).test.tolist() == [2]


def test_train_days_without_frauds_are_refused() -> None:
    """With the dates and the way out."""
    rows = labelled([0.5, 1.5, 5.1], ["a", "b", "a"], [False, False, True])
    with pytest.raises(
        BadDataError, match=r"2 train rows of 2024-10-04 to 2024-10-06 hold 0 known frauds.*--train-days"
    ):
        Timeline(rows, delay_days=2).fold(window())


def test_test_days_without_rows_are_refused() -> None:
    """Here the only card that was tested is known to be compromised."""
    rows = labelled([0.5, 1.5, 5.1], ["a", "b", "a"], [True, False, True])
    with pytest.raises(BadDataError, match=r"hold no labelled rows to test on, 1 of known compromised cards"):
        Timeline(rows, delay_days=2).fold(window())
