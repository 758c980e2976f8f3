"""How much is bought on each day: seasons, weekdays, sales and pay-days, and how many customers there are."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np

from quatrain.fintech.simulation.config import HardConfig
from quatrain.fintech.simulation.draw import Bools, Floats, Ints

DAY_S = 86_400
# Days of the month on which salaries arrive; a customer has one of them.
PAY_DAYS = (1, 15, 25, 28)
# A salary lifts spending by this share at first; the lift falls by 1/e in so many days (assumed).
_PAY_LIFT = 0.4
_PAY_FADE_DAYS = 3.0
# Saturdays are the busiest, Sundays the quietest day, Monday first (assumed).
_BY_WEEKDAY = np.array([0.92, 0.94, 0.97, 1.0, 1.15, 1.25, 0.77])
# Yearly swing around the mean, highest in mid December, and the run-up to Christmas on top (assumed).
_YEARLY_SWING = 0.06
_CHRISTMAS_LIFT = 0.35
# How much more is bought online on the days of a sale (assumed).
_SALE_LIFT = 0.6


@dataclass(frozen=True, kw_only=True)
class Calendar:
    """The days of the span; arrays have one entry per day."""

    start: date
    n_days: int
    # Purchases relative to an average day.
    weight: Floats
    is_weekend: Bools
    is_sale: Bools
    # 0 to 1: how near Christmas is.
    advent: Floats
    month_day: Ints
    # (pay-days, days): how much a salary lifts spending, 1 being not at all.
    pay: Floats

    @property
    def span_s(self) -> int:
        """Length of the span in seconds."""
        return self.n_days * DAY_S


def make_calendar(config: HardConfig) -> Calendar:
    """Return the calendar of the configured span."""
    dates = [config.start + timedelta(days=day) for day in range(config.days)]
    weekday = np.array([day.weekday() for day in dates])
    year_day = np.array([day.timetuple().tm_yday for day in dates])
    advent = np.array([_advent(day) for day in dates])
    is_sale = np.array([is_sale_day(day) for day in dates])
    yearly = 1 + _YEARLY_SWING * np.cos(2 * np.pi * (year_day - 349) / 365.25)
    weight = _BY_WEEKDAY[weekday] * yearly * (1 + _CHRISTMAS_LIFT * advent) * (1 + _SALE_LIFT * is_sale)
    since_pay = np.array([[_days_since(day, pay_day) for day in dates] for pay_day in PAY_DAYS])
    return Calendar(
        start=config.start,
        n_days=config.days,
        weight=weight,
        is_weekend=weekday >= 5,  # noqa: PLR2004 - Saturday, counted from Monday
        is_sale=is_sale,
        advent=advent,
        month_day=np.array([day.day for day in dates]),
        pay=1 + _PAY_LIFT * np.exp(-since_pay / _PAY_FADE_DAYS),
    )


def is_sale_day(day: date) -> bool:
    """Return whether shops hold a sale.

    Black Friday to Cyber Monday, 11 November, the first Saturdays of January and July.
    """
    first_november = date(day.year, 11, 1)
    # Thanksgiving is the fourth Thursday (weekday 3) of November.
    friday = first_november + timedelta(days=(3 - first_november.weekday()) % 7 + 22)
    is_black = 0 <= (day - friday).days <= 3  # noqa: PLR2004 - Friday to Monday
    is_first_saturday = day.month in {1, 7} and day.weekday() == 5 and day.day <= 7  # noqa: PLR2004
    return is_black or (day.month, day.day) == (11, 11) or is_first_saturday


def _advent(day: date) -> float:
    """Return a ramp from 0 on 24 November to 1 on 23 December."""
    return float(np.clip((day - date(day.year, 11, 24)).days / 29, 0, 1)) if day <= date(day.year, 12, 23) else 0.0


def _days_since(day: date, pay_day: int) -> int:
    if day.day >= pay_day:
        return day.day - pay_day
    last = day.replace(day=1) - timedelta(days=1)
    return day.day + max(last.day - pay_day, 0)
