"""The days of a prequential evaluation: train, wait for the labels, test; then one test window further."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime

from quatrain.core.errors import BadDataError

_DAY_S = 86_400


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How many days a fold trains on, waits for labels, and is tested on."""

    train_days: int = 7
    delay_days: int = 7
    test_days: int = 7

    @property
    def days(self) -> int:
        """The length of a fold."""
        return self.train_days + self.delay_days + self.test_days


@dataclass(frozen=True, kw_only=True)
class Window:
    """The days of one fold, numbered from 1970 in UTC; each `stop` is the first day after."""

    train_start: int
    train_stop: int
    test_start: int
    test_stop: int

    def to_dict(self) -> dict[str, str]:
        """Return the dates, each part's first and last day."""
        return {
            "train_from": day_text(self.train_start),
            "train_to": day_text(self.train_stop - 1),
            "test_from": day_text(self.test_start),
            "test_to": day_text(self.test_stop - 1),
        }


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The folds that choose and the folds that measure, the earliest first."""

    valid: tuple[Window, ...]
    test: tuple[Window, ...]


def plan(first_day: int, last_day: int, shape: Shape, *, folds: int, chooses: bool = True) -> Plan:
    """Return the last `folds` test windows, and validation windows of which every label is known before them.

    A label is known `delay_days` after its day, so the validation windows end that long before the
    first test day. As many as there are test windows, or as the data still holds. Without
    `chooses` there are none. Raises BadDataError that says how many days are needed.
    """
    stop = last_day + 1
    first_test = stop - folds * shape.test_days
    test = tuple(_window(first_test + i * shape.test_days, shape) for i in range(folds))
    n_days = stop - first_day
    needed = shape.train_days + shape.delay_days + folds * shape.test_days
    n_valid = 0
    if chooses:
        spare = n_days - needed - shape.delay_days
        needed += shape.delay_days + shape.test_days
        n_valid = min(spare // shape.test_days, folds)
    if n_days < needed:
        choosing = ", and one such fold before them to choose on" if chooses else ""
        raise BadDataError(
            f"the data spans {n_days} days, {day_text(first_day)} to {day_text(last_day)}, and {needed} are needed: "
            f"{folds} folds of {shape.test_days} test days after {shape.train_days} days to train and "
            f"{shape.delay_days} to wait for labels{choosing}; "
            "give fewer --folds or shorter --train-days, --delay-days or --test-days"
        )
    last_valid = first_test - shape.delay_days
    valid = tuple(_window(last_valid - i * shape.test_days, shape) for i in range(n_valid, 0, -1))
    return Plan(valid=valid, test=test)


def day_text(day: int) -> str:
    """Return a day as YYYY-MM-DD."""
    found: date = datetime.fromtimestamp(day * _DAY_S, tz=UTC).date()
    return found.isoformat()


def _window(test_start: int, shape: Shape) -> Window:
    train_stop = test_start - shape.delay_days
    return Window(
        train_start=train_stop - shape.train_days,
        train_stop=train_stop,
        test_start=test_start,
        test_stop=test_start + shape.test_days,
    )
