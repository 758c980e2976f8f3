"""Seasons, weekdays, sales and pay-days fall where they should."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pytest

from quatrain.fintech.simulation.calendar import PAY_DAYS, is_sale_day, make_calendar
from quatrain.fintech.simulation.config import HardConfig


@pytest.mark.parametrize("friday", [date(2021, 11, 26), date(2022, 11, 25), date(2024, 11, 29), date(2025, 11, 28)])
def test_black_friday_to_cyber_monday_is_a_sale(friday: date) -> None:
    """The known dates of four years, and neither the day before nor the one after."""
    assert [is_sale_day(friday + timedelta(days=shift)) for shift in range(-1, 5)] == [False, *[True] * 4, False]


def test_december_and_saturdays_are_the_busiest() -> None:
    """Means over a year without sales: December over every month, Saturday over every weekday, Sunday under."""
    calendar = make_calendar(HardConfig(days=365, start=date(2025, 1, 1)))
    dates = [calendar.start + timedelta(days=day) for day in range(365)]
    plain = ~calendar.is_sale
    month = np.array([day.month for day in dates])
    by_month = [calendar.weight[plain & (month == one)].mean() for one in range(1, 13)]
    assert int(np.argmax(by_month)) == 11
    weekday = np.array([day.weekday() for day in dates])
    by_weekday = [calendar.weight[plain & (weekday == one)].mean() for one in range(7)]
    assert (int(np.argmax(by_weekday)), int(np.argmin(by_weekday))) == (5, 6)
    np.testing.assert_array_equal(calendar.is_weekend, weekday >= 5)


def test_a_salary_lifts_spending_on_its_day_and_fades() -> None:
    """Each pay-day's lift is highest on that day of the month and falls until the next."""
    calendar = make_calendar(HardConfig(days=120, start=date(2025, 1, 1)))
    for row, pay_day in enumerate(PAY_DAYS):
        days = np.flatnonzero(calendar.month_day == pay_day)
        assert calendar.pay[row, days] == pytest.approx(1.4)
        month = calendar.pay[row, days[0] : days[1]]
        assert (np.diff(month) < 0).all()
        assert month[-1] == pytest.approx(1, abs=0.01)
